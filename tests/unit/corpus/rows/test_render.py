"""What is trained is, to the token, what generation sees: prompts, borders, special tokens."""

import copy
from pathlib import Path
from typing import Any

import pytest

from app.corpus.examples.words import FILL
from app.corpus.records import Example
from app.corpus.rows.render import check_forms, fills_in, tokenise, tokenise_all, unrolled
from app.errors import UserError
from app.evaluation.measure import render
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.models.base import load_tokenizer
from app.prompting.fill_in import MARKS, FillIn
from app.prompting.protocols import answer, ask, chat_prompt
from app.prompting.tool_schema import SEARCH_DOCS_TOOL
from app.records import IGNORE

CALL = '<tool_call>\n{"name": "search_docs", "arguments": {"query": "x"}}\n</tool_call>'
TURNS = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is x?"},
    {"role": "assistant", "content": CALL},
    {"role": "tool", "content": "[python] x is 1."},
    {"role": "assistant", "content": "It is 1."},
)
THINKING = """{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}
{{ message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif -%}"""
"""Writes assistant turns as Qwen3's template does: an empty thought before the last one only."""


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    return load_tokenizer(smoke_model)


@pytest.fixture(scope="module")
def thinking(smoke_model: Path) -> Any:
    tokenizer = copy.deepcopy(load_tokenizer(smoke_model))
    tokenizer.chat_template = THINKING
    return tokenizer


REFUSALS = {
    "system": "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}",
    "tool": "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("role", list(REFUSALS))
def test_a_template_that_refuses_searches_is_told_before_anything_is_built(spelling: Path, role: str) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    check_forms(tokenizer, {"doc_to_code": 1.0, "tool_use": 0.1})
    tokenizer.chat_template = REFUSALS[role] + tokenizer.chat_template
    check_forms(tokenizer, {"doc_to_code": 1.0, "tool_use": 0.0})
    with pytest.raises(UserError, match="refuses a dialogue of .* set tool_use of the recipe's forms to 0"):
        check_forms(tokenizer, {"doc_to_code": 1.0, "tool_use": 0.1})


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def learnt(tokenizer: Any, example: Example) -> str:
    sample = tokenise(example, tokenizer)
    assert len(sample.labels) == len(sample.input_ids)
    return str(tokenizer.decode([label for label in sample.labels if label != IGNORE]))


def one_turn(question: str, reply: str) -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": reply})
    return Example(form="doc_to_code", turns=turns)


def test_a_trained_prompt_is_the_evaluations_prompt_to_the_token(tokenizer: Any) -> None:
    for task in humaneval.load()[:20]:
        prompt = render(tokenizer, HumanEval(), task.problem, "chat", ())
        assert prompt is not None
        given = encode(tokenizer, prompt)
        sample = tokenise(one_turn(ask(task.problem.prompt), answer("def f(): pass")), tokenizer)
        assert sample.input_ids[: len(given)] == given
        assert sample.labels[: len(given)] == [IGNORE] * len(given)
        assert sample.labels[len(given) :] == sample.input_ids[len(given) :]
        assert tokenizer.decode(sample.input_ids[len(given) :]) == "```python\ndef f(): pass\n```<|im_end|>"
        assert sample.is_whole


def test_every_assistants_turn_is_learnt_with_its_end_and_no_other(tokenizer: Any) -> None:
    example = Example(form="tool_use", turns=TURNS, tools=(SEARCH_DOCS_TOOL,))
    assert list(unrolled(example, tokenizer)) == [example]
    assert learnt(tokenizer, example) == f"{CALL}<|im_end|>It is 1.<|im_end|>"
    sample = tokenise(example, tokenizer)
    for end in (2, 4):
        given = encode(tokenizer, chat_prompt(tokenizer, TURNS[:end], tools=[SEARCH_DOCS_TOOL]))
        assert sample.input_ids[: len(given)] == given, "the served dialogue with tools"


def test_a_template_that_rewrites_earlier_turns_learns_each_turn_as_it_is_asked_for(thinking: Any) -> None:
    example = Example(form="tool_use", turns=TURNS)
    parts = list(unrolled(example, thinking))
    assert [len(part.turns) for part in parts] == [3, 5]
    assert learnt(thinking, parts[0]) == f"{CALL}<|im_end|>"
    assert learnt(thinking, parts[1]) == "It is 1.<|im_end|>", "the first call stands there without its thought"
    for part in parts:
        given = encode(thinking, chat_prompt(thinking, part.turns[:-1]))
        assert tokenise(part, thinking).input_ids[: len(given)] == given


def test_a_template_that_shows_no_answer_as_it_asks_is_refused(thinking: Any) -> None:
    thinking.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}X{% endif %}"
    )
    with pytest.raises(UserError, match="answered question unlike an open one"):
        tokenise(one_turn("a", "b"), thinking)


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "a<|im_start|>assistant\nb", "<|endoftext|>", "<file_sep>x", "\ue0003\ue001"]
)
def test_the_text_of_a_special_token_stays_text(tokenizer: Any, text: str) -> None:
    specials = set(tokenizer.added_tokens_decoder)
    for example in (one_turn(f"Q {text} Q", f"A {text} A"), Example(form="file", completion=f"s = '{text}'\n")):
        sample = tokenise(example, tokenizer)
        clean = tokenise(one_turn("Q", "A") if example.turns else Example(form="file", completion="s"), tokenizer)
        assert [i for i in sample.input_ids if i in specials] == [i for i in clean.input_ids if i in specials]
        assert text in tokenizer.decode(sample.input_ids)


def test_plain_text_is_learnt_whole_and_ends(tokenizer: Any) -> None:
    sample = tokenise(Example(form="completion", completion="def f():\n    return 1\n"), tokenizer)
    assert sample.input_ids == [*encode(tokenizer, "def f():\n    return 1\n"), tokenizer.eos_token_id]
    assert sample.labels == sample.input_ids and not sample.is_whole


def test_prompt_and_completion_are_tokenised_apart_as_generation_has_them(tokenizer: Any) -> None:
    sample = tokenise(Example(form="problem", prompt="x [BEGIN]", completion="\ny\n[DONE]"), tokenizer)
    given = encode(tokenizer, "x [BEGIN]")
    rest = [*encode(tokenizer, "\ny\n[DONE]"), tokenizer.eos_token_id]
    assert sample.input_ids == given + rest and sample.labels == [IGNORE] * len(given) + rest and sample.is_whole


def test_missing_code_is_asked_for_in_the_served_form(smoke_model: Path, tokenizer: Any) -> None:
    assert not fills_in(tokenizer)
    filling = copy.deepcopy(load_tokenizer(smoke_model))
    filling.add_special_tokens({"additional_special_tokens": list(MARKS[0])})
    assert fills_in(filling)
    example = Example(form="fill_in", prompt=f"def f(x):\n    y ={FILL}\n    return y", completion=" <|fim_middle|>")
    sample = tokenise(example, filling)
    given = FillIn(filling).tokens("def f(x):\n    y =", "\n    return y")
    assert sample.input_ids[: len(given)] == given and sample.labels[: len(given)] == [IGNORE] * len(given)
    assert learnt(filling, example) == " <|fim_middle|><|im_end|>"
    assert sample.input_ids.count(filling.convert_tokens_to_ids("<|fim_middle|>")) == 1


def test_many_at_once_are_the_same_as_one_by_one_in_their_order(tokenizer: Any) -> None:
    examples = [one_turn(f"q{n % 7}", f"a{n}") for n in range(1100)] + [Example(form="file", completion="x = 1\n")]
    assert tokenise_all(examples, tokenizer) == [tokenise(example, tokenizer) for example in examples]
    assert tokenise_all([], tokenizer) == []
