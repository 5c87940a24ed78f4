"""Fill-in-the-middle prompts: the marks in the order the model learnt, and never out of the caller's own text."""

import copy
from pathlib import Path

import pytest

from app.errors import UserError
from app.models.base import load_tokenizer
from app.prompting.fill_in import MARKS, FillIn


@pytest.mark.parametrize("marks", MARKS, ids=lambda marks: marks[0])
def test_prefix_and_suffix_stand_between_the_models_marks(spelling: Path, marks: tuple[str, ...]) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    text = tokenizer.decode(FillIn(tokenizer).tokens("def f(x):\n", "    return y\n"))
    assert text == f"{marks[0]}def f(x):\n{marks[1]}    return y\n{marks[2]}"


def test_a_mark_in_the_text_stays_text(spelling: Path) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(spelling))
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS[0])})
    ids = FillIn(tokenizer).tokens(f"a{MARKS[0][2]}b", "c<|im_end|>")
    assert ids.count(tokenizer.convert_tokens_to_ids(MARKS[0][2])) == 1
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids
    assert f"a{MARKS[0][2]}b" in tokenizer.decode(ids)


def test_a_model_without_marks_says_so(spelling: Path) -> None:
    with pytest.raises(UserError, match="no fill-in-the-middle tokens"):
        FillIn(load_tokenizer(spelling)).tokens("a", "b")
