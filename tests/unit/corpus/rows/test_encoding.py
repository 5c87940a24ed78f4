"""Fast encoding gives the tokenizer's own ids, or leaves a text to the tokenizer."""

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.corpus.rows.encoding import Encoder, PatientEncoder, encoder_of
from app.models.base import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    return load_tokenizer(smoke_model)


def slow(tokenizer: Any, text: str, is_plain: bool) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=is_plain).input_ids


def test_the_fast_encoder_takes_the_tokenizer_that_is_trained_here(tokenizer: Any) -> None:
    assert Encoder(tokenizer).is_fast


def test_source_files_get_the_tokenizers_own_ids(tokenizer: Any) -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]
    texts = [file.read_text(encoding="utf-8") for file in files]
    found = encoder_of(tokenizer).encode([(text, True) for text in texts])
    assert all(found[text, True] == slow(tokenizer, text, True) for text in texts)


@given(text=st.text(max_size=200), is_plain=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_text_gets_the_tokenizers_own_ids(tokenizer: Any, text: str, is_plain: bool) -> None:
    marked = f"{text}<|im_end|>\n{text}<|im_start|>"
    found = encoder_of(tokenizer).encode([(text, is_plain), (marked, is_plain)])
    assert found == {(each, is_plain): slow(tokenizer, each, is_plain) for each in (text, marked)}


@given(text=st.text("0 1\n22٣９½Ⅻ一𑽐a<|>", max_size=40))
@settings(max_examples=300, deadline=None)
def test_digits_of_any_script_get_the_tokenizers_own_ids(tokenizer: Any, text: str) -> None:
    assert encoder_of(tokenizer).encode([(text, True)]) == {(text, True): slow(tokenizer, text, True)}


def test_bytes_that_the_vocabulary_lacks_are_left_to_the_tokenizer(tokenizer: Any) -> None:
    text = "a\x04b\x00c"
    assert encoder_of(tokenizer).encode([(text, True)])[text, True] == slow(tokenizer, text, True)


def test_a_tokenizer_that_the_fast_one_refuses_is_used_itself(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.corpus.rows.encoding._fast_encoder", lambda *_: (None, False))
    encoder = Encoder(tokenizer)
    assert not encoder.is_fast
    assert encoder.encode([("def f():", True)]) == {("def f():", True): slow(tokenizer, "def f():", True)}


def test_the_fast_encoder_is_made_for_many_letters_in_one_call_or_in_several(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[Any]()
    monkeypatch.setattr("app.corpus.rows.encoding.FEW_LETTERS", 100)
    monkeypatch.setattr("app.corpus.rows.encoding.encoder_of", lambda one: made.append(one) or encoder_of(one))
    texts = [f"<|im_start|> a{number} " * 4 for number in range(3)]
    expected = [{(text, is_plain): slow(tokenizer, text, is_plain)} for text in texts for is_plain in (True, False)]
    patient = PatientEncoder(tokenizer)
    assert [patient.encode([*one]) for one in expected[:1]] == expected[:1] and not made
    assert [patient.encode([*one]) for one in expected[1:]] == expected[1:] and made == [tokenizer] * 5
