"""A draft stops where the model's own chat template ends a turn, and training teaches that token."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from app.corpus.examples.words import FILL
from app.corpus.records import Example
from app.corpus.rows.render import check_forms, tokenise
from app.errors import UserError
from app.evaluation.measure import render
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.generation.transformers_engine import TransformersEngine
from app.models.base import load_tokenizer
from app.prompting.protocols import chat_prompt
from app.prompting.turn_ends import check_chat, is_taught_to_answer, stop_ids, text_end, turn_end
from app.records import IGNORE, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings

LOOP = "{% for m in messages %}BODY{% endfor %}"
OPEN = "{% if add_generation_prompt %}GENERATE{% endif %}"


def template(body: str, opening: str) -> str:
    return LOOP.replace("BODY", body) + OPEN.replace("GENERATE", opening)


TEMPLATES = {
    "qwen": (
        template("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n", "<|im_start|>assistant\n"),
        "<|im_end|>",
    ),
    "llama": (
        template(
            "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        "<|eot_id|>",
    ),
    "gemma": (
        template(
            "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n",
            "<start_of_turn>model\n",
        ),
        "<end_of_turn>",
    ),
    "mistral": (
        template(
            "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}", ""
        ),
        "</s>",
    ),
    "phi": (template("<|{{ m.role }}|>\n{{ m.content }}<|end|>\n", "<|assistant|>\n"), "<|end|>"),
    "deepseek": (
        template(
            "{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>"
            "{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}",
            "<｜Assistant｜>",
        ),
        "<｜end▁of▁sentence｜>",
    ),
    "deepseek-coder": (
        template(
            "### {{ m.role }}:\n{{ m.content }}\n{% if m.role == 'assistant' %}<|EOT|>\n{% endif %}", "### assistant:\n"
        ),
        "<|EOT|>",
    ),
}
TOKENS = "<|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> <start_of_turn> <end_of_turn> </s>"
TOKENS += " <|user|> <|assistant|> <|end|> <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> <|EOT|> <think> </think>"
PLAIN = template("{{ m.role }}: {{ m.content }}\n", "assistant: ")
GLM = template("<|{{ m.role }}|>\n{{ m.content }}", "<|assistant|>\n")
"""Ends an answer with the token that begins the next question."""


def with_template(folder: Path, text: str, *, special: bool = True) -> Any:
    tokenizer = copy.deepcopy(load_tokenizer(folder))
    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in TOKENS.split()])
    tokenizer.add_tokens([AddedToken("\n\n\n", normalized=False)])
    tokenizer.chat_template = text
    return tokenizer


@pytest.mark.parametrize(("name", "special"), [*((name, True) for name in TEMPLATES), ("qwen", False), ("phi", False)])
def test_the_end_of_a_turn_is_found_in_the_template_and_learnt(spelling: Path, name: str, special: bool) -> None:
    text, end = TEMPLATES[name]
    tokenizer = with_template(spelling, text, special=special)
    tokenizer.eos_token = "<|endoftext|>"
    assert turn_end(tokenizer) == end
    number, text_id = tokenizer.convert_tokens_to_ids([end, "<|endoftext|>"])
    assert stop_ids(tokenizer) == {number, text_id}
    assert stop_ids(tokenizer, 7, [8, 9], None) == {number, text_id, 7, 8, 9}
    turns = ({"role": "user", "content": f"q {end}"}, {"role": "assistant", "content": f"answer, no {end}, and so on"})
    sample = tokenise(Example(form="doc_to_code", turns=turns), tokenizer)
    learnt = [label for label in sample.labels if label != IGNORE]
    assert learnt[-1] == number and learnt.count(number) == 1
    assert tokenizer.decode(learnt).replace("\n", "").strip() == f"{turns[1]['content']}{end}"
    check_forms(tokenizer, {"doc_to_code": 1.0, "file": 0.5})


@pytest.mark.parametrize(
    ("body", "text_end", "taught"),
    [
        ("qwen", "<|im_end|>", True),
        ("qwen", "<|endoftext|>", False),  # the base model of the family brings the same template
        ("llama", "<|eot_id|>", True),
        ("mistral", "</s>", True),
        ("gemma", "<|endoftext|>", False),
    ],
)
def test_an_instruct_model_is_told_by_where_its_text_ends(
    spelling: Path, body: str, text_end: str, taught: bool
) -> None:
    tokenizer = with_template(spelling, TEMPLATES[body][0])
    tokenizer.eos_token = text_end
    assert is_taught_to_answer(tokenizer) is taught
    tokenizer.chat_template = None
    assert not is_taught_to_answer(tokenizer)
    tokenizer.chat_template, tokenizer.eos_token = PLAIN, ""
    assert not is_taught_to_answer(tokenizer)  # neither end is there


def test_a_thought_before_the_answer_is_not_its_end(spelling: Path) -> None:
    thought = "<think>\n\n</think>\n\n"
    body = f"{{% if loop.last and m.role == 'assistant' %}}{thought}{{% endif %}}{{{{ m.content }}}}<|im_end|>\n"
    opening = f"<|im_start|>assistant\n{{% if enable_thinking is false %}}{thought}{{% endif %}}"
    thinking = template("<|im_start|>{{ m.role }}\n" + body, opening)
    assert turn_end(with_template(spelling, thinking, special=False)) == "<|im_end|>"


def test_a_token_that_begins_the_next_turn_ends_a_draft_and_is_not_learnt(spelling: Path) -> None:
    tokenizer = with_template(spelling, GLM)
    assert turn_end(tokenizer) == ""
    assert tokenizer.convert_tokens_to_ids("<|user|>") in stop_ids(tokenizer)
    check_chat(tokenizer, "x", "y")
    with pytest.raises(UserError, match="no token of the tokenizer, so its end can't be learnt"):
        check_forms(tokenizer, {"problem": 1.0, "completion": 0.0, "file": 0.0})


def test_a_template_without_an_end_gets_one_sentence(spelling: Path) -> None:
    tokenizer = with_template(spelling, PLAIN)
    assert turn_end(tokenizer) == "" and stop_ids(tokenizer) == {tokenizer.eos_token_id}
    problem = humaneval.load()[0].problem
    with pytest.raises(UserError, match="with no token .*protocol 'chat' needs.*take the protocol completion"):
        render(tokenizer, HumanEval(), problem, "chat", ())
    assert render(tokenizer, HumanEval(), problem, "completion", ())
    with pytest.raises(UserError, match="its dialogues: problem.*set those forms of the recipe to 0"):
        check_forms(tokenizer, {"problem": 1.0, "completion": 1.0, "file": 0.0})
    turns = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "answer"})
    with pytest.raises(UserError, match="its end can't be learnt"):
        tokenise(Example(form="problem", turns=turns), tokenizer)


@pytest.mark.parametrize("end", ["<|no_such_token|>", "</answer>", "\n\n\n"])
def test_an_end_of_plain_text_or_of_several_tokens_is_none(spelling: Path, end: str) -> None:
    tokenizer = with_template(spelling, template(f"{{{{ m.role }}}}: {{{{ m.content }}}}{end}", "assistant: "))
    assert turn_end(tokenizer) == ""


def test_a_model_without_a_chat_template_gets_one_sentence(spelling: Path) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    tokenizer.chat_template = None
    problem = humaneval.load()[0].problem
    with pytest.raises(UserError, match="no chat template, which the protocol 'thinking' needs: take the protocol"):
        render(tokenizer, HumanEval(), problem, "thinking", ())
    with pytest.raises(UserError, match=r"no chat template, which the corpus \(its dialogues: doc_to_code\) needs"):
        check_forms(tokenizer, {"doc_to_code": 0.1, "completion": 1.0, "file": 0.0})
    with pytest.raises(UserError, match="no chat template"):
        chat_prompt(tokenizer, [{"role": "user", "content": "q"}])
    check_forms(tokenizer, {"doc_to_code": 0.0, "completion": 1.0, "file": 1.0})
    assert stop_ids(tokenizer) == {tokenizer.eos_token_id}
    sample = tokenise(Example(form="completion", completion="x = 1\n"), tokenizer)
    assert sample.labels[-1] == text_end(tokenizer) == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-text token"):
        check_forms(tokenizer, {"doc_to_code": 0.0, "completion": 1.0, "file": 1.0})


def test_no_form_of_a_dialogue_no_template(spelling: Path) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]})
    tokenizer.chat_template = None
    check_forms(tokenizer, {"fill_in": 1.0, "completion": 0.0, "file": 0.0})
    sample = tokenise(Example(form="fill_in", prompt=f"a{FILL}b", completion="c"), tokenizer)
    assert sample.labels[-1] == tokenizer.eos_token_id


def relabelled(weights: Path, folder: Path, drawn: int) -> Path:
    """The model under folder, which says <|im_end|> where it said the token `drawn`; its configs name another end."""
    shutil.copytree(weights, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end = load_tokenizer(folder).convert_tokens_to_ids("<|im_end|>")
    rows = model.get_input_embeddings().weight.detach().clone()
    rows[[end, drawn]] = rows[[drawn, end]]
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(rows)
    model.save_pretrained(folder)
    other = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    for name, change in (
        ("tokenizer_config", other),
        ("config", {"eos_token_id": 0}),
        ("generation_config", {"eos_token_id": 0}),
    ):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return folder


def first_token(folder: Path, prompt: str) -> int:
    """What the model draws first."""
    ids = load_tokenizer(folder)(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return int(model(ids).logits[0, -1].argmax())


def test_a_draft_stops_at_the_templates_end_whatever_the_configs_say(smoke_model: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings, text = GenerationSettings(batch_size=2), "def add(a, b):"
    folder = relabelled(smoke_model, tmp_path / "base", first_token(smoke_model, text))
    ends = {smoke_model: (FinishReason.LENGTH, 8), folder: (FinishReason.STOP, 1)}
    for model, wanted in ends.items():
        engine = TransformersEngine(ModelSettings(source="path", name=str(model)), settings)
        draft = engine.generate([Prompt(id="x", text=text)], Sampling(max_new_tokens=8))[0]
        assert (draft.finish_reason, draft.num_tokens) == wanted
    assert draft.text == ""
