"""A problem becomes the prompt it should, and a completion the program it was meant to be."""

from pathlib import Path
from typing import Any

import pytest

from app.evaluation import humaneval
from app.prompts import answer, ask, chat_texts, program, render
from app.records import Problem

PROBLEMS = {task.problem.id: task.problem for task in humaneval.load()}


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smoke_model)


def test_the_completion_prompt_ends_without_a_newline(tokenizer: Any) -> None:
    for problem in PROBLEMS.values():
        assert render(problem, "completion", tokenizer).text == problem.prompt.rstrip()


def test_the_chat_prompt_is_the_models_own_template(tokenizer: Any) -> None:
    text = render(PROBLEMS["HumanEval/0"], "chat", tokenizer).text
    assert text.endswith("<|im_start|>assistant\n") and "has_close_elements" in text


def test_training_dialogues_ask_exactly_what_the_evaluation_asks(tokenizer: Any) -> None:
    problem = PROBLEMS["HumanEval/0"]
    prompt, completion = chat_texts(tokenizer, ask(problem.prompt), answer("def f(): pass"))
    assert prompt == render(problem, "chat", tokenizer).text
    assert completion == "```python\ndef f(): pass\n```<|im_end|>"


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
    assert program(_add(), "chat", reply) == wanted


def test_a_bare_body_follows_the_prompt() -> None:
    assert program(_add(), "chat", "    return x + y") == _add().prompt.rstrip() + "\n    return x + y"


def test_imports_and_helpers_of_the_prompt_stay() -> None:
    problem = PROBLEMS["HumanEval/32"]  # its prompt defines poly before find_zero
    source = program(problem, "chat", "```python\ndef find_zero(xs):\n    return 0\n```")
    assert "import math" in source and "def poly" in source and source.count("def find_zero") == 1


def _add() -> Problem:
    prompt = 'def add(x, y):\n    """Add x and y."""\n'
    return Problem(id="t/0", source="t", licence="MIT", prompt=prompt, entry_point="add", tests="")
