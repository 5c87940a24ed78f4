"""A problem becomes the prompt it should, and a completion the program it was meant to be."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.measure import render, spoken
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.mbpp import Mbpp
from app.evaluation.suites.registry import get_suite
from app.models.base import load_tokenizer
from app.prompting.protocols import chat_prompt, without_thought
from app.prompting.replies import code_block
from app.records import Problem

SUITE = HumanEval()
PROBLEMS = {task.problem.id: task.problem for task in humaneval.load()}


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    return load_tokenizer(smoke_model)


def test_the_completion_prompt_ends_without_a_newline(tokenizer: Any) -> None:
    for problem in PROBLEMS.values():
        assert render(tokenizer, SUITE, problem, "completion", ()) == problem.prompt.rstrip()


def test_the_chat_prompt_is_the_models_own_template(tokenizer: Any) -> None:
    text = render(tokenizer, SUITE, PROBLEMS["HumanEval/0"], "chat", ())
    assert text is not None
    assert text.endswith("<|im_start|>assistant\n") and "has_close_elements" in text


def test_the_protocol_evalplus_asks_as_evalplus_does_and_begins_the_answer(tokenizer: Any) -> None:
    problem = PROBLEMS["HumanEval/23"]
    text = render(tokenizer, SUITE, problem, "evalplus", ())
    assert text is not None
    assert text.endswith(
        "<|im_start|>user\nPlease provide a self-contained Python script that solves the following problem in a "
        f"markdown code block:\n```\n{problem.prompt.strip()}\n```\n<|im_end|>\n<|im_start|>assistant\nBelow is a "
        "Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
        "```python\n"
    )
    assert render(tokenizer, SUITE, problem, "evalplus", ("",)) is None


def test_a_reply_to_evalplus_goes_on_in_the_block_that_its_prompt_began() -> None:
    source = "def add(x, y):\n    return x + y\n"
    for reply in (source, source + "```\nIt adds.", source + "\nassert add(1, 2) == 4\nadd(1,"):
        assert SUITE.program(_add(), "evalplus", spoken("evalplus", reply, "...```python\n")) == source.rstrip()


def test_mbpp_is_shown_to_evalplus_as_a_docstring_with_its_first_assertion() -> None:
    problem = dataclasses.replace(
        _add(), prompt="Add two numbers.", tests="assert add(1, 2) == 3\nassert add(0, 0) == 0"
    )
    assert Mbpp().evalplus(problem) == '"""\nAdd two numbers.\nassert add(1, 2) == 3\n"""\n'


def test_a_suite_that_evalplus_does_not_ask_refuses_its_protocol(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="the protocol evalplus asks for functions as EvalPlus does, and repo asks for"):
        render(tokenizer, get_suite("repo"), _add(), "evalplus", ())


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Sure!\n```python\ndef add(x, y):\n    return x + y\n```\nIt adds.", "def add(x, y):\n    return x + y\n"),
        ("```\ndef add(x, y):\n    return x + y\n```", "def add(x, y):\n    return x + y\n"),
        ("```python3\ndef add(x, y):\n    return x + y\n```\nIt adds.", "def add(x, y):\n    return x + y\n"),
        ("```python\nprint(1)\n```\n```python\ndef add(x, y):\n    return 2\n```", "def add(x, y):\n    return 2\n"),
        ("```python\ndef add(x, y):\n    return x +", "def add(x, y):\n    return x +"),
    ],
    ids=["fenced", "no language", "other name", "second block", "cut off"],
)
def test_code_is_taken_from_the_block_that_defines_the_function(reply: str, wanted: str) -> None:
    assert SUITE.program(_add(), "chat", reply) == wanted


def test_a_bare_body_follows_the_prompt() -> None:
    assert SUITE.program(_add(), "chat", "    return x + y") == _add().prompt.rstrip() + "\n    return x + y"


def test_imports_and_helpers_of_the_prompt_stay() -> None:
    problem = PROBLEMS["HumanEval/32"]  # its prompt defines poly before find_zero
    source = SUITE.program(problem, "chat", "```python\ndef find_zero(xs):\n    return 0\n```")
    assert "import math" in source and "def poly" in source and source.count("def find_zero") == 1


@pytest.mark.parametrize(
    ("prompt", "reply", "wanted"),
    [
        ("", "<think>\nx</think>\n\nyes", "yes"),
        ("assistant\n<think>\n", "hm</think>yes", "yes"),  # a template that opens the thought itself
        ("assistant\n<think>\n", "draft ```python\nf```", ""),
        ("", "yes", "yes"),
        ("", "<think>never ended", ""),
        ("", "code </think> and prose", "code </think> and prose"),  # no thought was begun
    ],
)
def test_a_thought_is_no_part_of_the_reply(prompt: str, reply: str, wanted: str) -> None:
    assert without_thought(reply, prompt) == wanted


def test_a_thought_that_quotes_code_does_not_become_the_program() -> None:
    reply = (
        "<think>\n```python\ndef add(x, y):\n    return 0\n```\n</think>\n```python\ndef add(x, y):\n    return 1\n```"
    )
    assert "return 1" in code_block(without_thought(reply, ""), "def add")


TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def test_a_template_without_tools_is_told_of_them_in_the_system_turn(tokenizer: Any) -> None:
    dialogue = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    for messages in (dialogue, dialogue[1:]):
        text = chat_prompt(tokenizer, messages, tools=[TOOL])
        assert text.count("look_up") == 1 and text.count("<|im_start|>system") == 1 and "<tool_call>" in text
    assert "Be brief." in chat_prompt(tokenizer, dialogue, tools=[TOOL])


def test_a_template_that_refuses_a_system_turn_gets_one_sentence(tokenizer: Any) -> None:
    strict = copy.copy(tokenizer)
    strict.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    with pytest.raises(UserError, match="refuses a dialogue of user with tools .no system.: take the completion"):
        chat_prompt(strict, [{"role": "user", "content": "hello"}], tools=[TOOL])


def test_a_template_that_knows_tools_renders_them_itself(tokenizer: Any) -> None:
    own = copy.copy(tokenizer)
    own.chat_template = "{% for t in tools or [] %}TOOL {{ t.function.name }}{% endfor %}{{ messages[-1].content }}"
    assert chat_prompt(own, [{"role": "user", "content": "hello"}], tools=[TOOL]) == "TOOL look_uphello"


def _add() -> Problem:
    prompt = 'def add(x, y):\n    """Add x and y."""\n'
    return Problem(id="t/0", source="t", licence="MIT", prompt=prompt, entry_point="add", tests="")
