"""A completion's prompt reaches vLLM in a form that it takes, whatever form OpenAI's API allows."""

import copy
from pathlib import Path
from typing import Any

import pytest

from app.models.base import load_tokenizer
from app.prompting.fill_in import MARKS
from app.serving.completion_prompts import SEPARATOR, Prompts
from app.serving.errors import ApiError


@pytest.fixture(scope="module")
def tokenizer(spelling: Path) -> Any:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS[0])})
    return tokenizer


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]], ids=str)
def test_a_prompt_that_says_something_stays_as_it_is(tokenizer: Any, prompt: Any) -> None:
    body = {"model": "m", "prompt": prompt, "n": 2}
    assert Prompts(tokenizer).prepare(body) == body


def test_nothing_begins_a_new_document(tokenizer: Any) -> None:
    assert Prompts(tokenizer).prepare({"prompt": ""})["prompt"] == SEPARATOR
    assert Prompts(tokenizer).prepare({"prompt": ["a", ""]})["prompt"] == ["a", SEPARATOR]


def test_a_model_without_such_a_token_says_so() -> None:
    class Bare:
        bos_token = None

        def get_vocab(self) -> dict[str, int]:
            return {}

    with pytest.raises(ApiError) as caught:
        Prompts(Bare()).prepare({"prompt": ""})
    assert (caught.value.status, caught.value.param) == (422, "prompt")


def test_a_gap_may_lie_at_the_top_of_a_file(tokenizer: Any) -> None:
    prepared = Prompts(tokenizer).prepare({"prompt": "", "suffix": "def f():\n"})
    assert tokenizer.decode(prepared["prompt"]) == f"{MARKS[0][0]}{MARKS[0][1]}def f():\n{MARKS[0][2]}"
    assert "suffix" not in prepared


def test_several_gaps_become_a_list_of_token_lists(tokenizer: Any) -> None:
    prepared = Prompts(tokenizer).prepare({"prompt": ["a = ", ""], "suffix": "\n"})
    assert [tokenizer.decode(ids) for ids in prepared["prompt"]] == [
        f"{MARKS[0][0]}{prefix}{MARKS[0][1]}\n{MARKS[0][2]}" for prefix in ("a = ", "")
    ]


def test_a_suffix_for_a_model_without_such_tokens_is_refused_by_name(spelling: Path) -> None:
    with pytest.raises(ApiError) as caught:
        Prompts(load_tokenizer(spelling)).prepare({"prompt": "a", "suffix": "b"})
    assert (caught.value.status, caught.value.param) == (422, "suffix")
