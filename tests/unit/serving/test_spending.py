"""What an answer costs is read while it passes by, and clients get the stream that they asked for."""

import json
from typing import Any

import pytest

from app.serving.spending import Spending, with_counts


def event(choices: list[dict[str, Any]], prompt: int, answer: int, separators: Any = (",", ":")) -> bytes:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}
    usage |= {"prompt_tokens_details": {"cached_tokens": 3}}  # type: ignore[dict-item]
    return f"data: {json.dumps({'id': 'a', 'choices': choices, 'usage': usage}, separators=separators)}\n\n".encode()


def choice(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}}


TRICKY = 'said: {"x":1,"usage":{"prompt_tokens":99,"completion_tokens":99}}'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_counts_are_taken_out_wherever_the_parts_end_and_text_that_looks_like_them_stays(
    size: int, separators: Any
) -> None:
    events = [event([choice(0, TRICKY)], 5, number, separators) for number in (1, 2)]
    stream = b"".join(events) + event([], 5, 2, separators) + DONE
    spending = Spending()
    parts = [stream[at : at + size] for at in range(0, len(stream), size)]
    passed = b"".join(spending.read_events(part, keep_total=False) for part in parts) + spending.rest()
    *chunks, done = passed.removesuffix(b"\n\n").split(b"\n\n")
    assert [json.loads(chunk[6:]) for chunk in chunks] == [{"id": "a", "choices": [choice(0, TRICKY)]}] * 2
    assert done + b"\n\n" == DONE and (spending.prompt, spending.answer) == (5, 2)


def test_who_asked_for_the_sum_gets_it() -> None:
    total = event([], 5, 2)
    assert Spending().read_events(total + DONE, keep_total=True) == total + DONE


def test_a_stream_that_is_left_early_is_counted_by_choice() -> None:
    spending = Spending()
    for index, answer in ((0, 1), (1, 1), (0, 4), (1, 2)):
        spending.read_events(event([choice(index, "x")], 7, answer), keep_total=False)
    assert (spending.prompt, spending.answer) == (7, 6)


def test_answers_of_several_rounds_add_up() -> None:
    spending = Spending()
    for body in (b'{"id":"a","usage":{"prompt_tokens":4,"completion_tokens":2}}', b'{"id":"b"}'):
        spending.begin()
        spending.read_whole(body)
    spending.begin()
    spending.read_events(event([], 10, 3), keep_total=True)
    assert (spending.prompt, spending.answer) == (14, 5)


def test_only_streams_are_asked_for_counts_in_each_piece() -> None:
    assert with_counts({"model": "m"}) == {"model": "m"}
    assert with_counts({"stream": True})["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
