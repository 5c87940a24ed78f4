"""Arms that call tools: what can be read of a reply, what a model is held to, and a report by category."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from app.prompting.tool_calls import Call, call_text
from app.reward.tool_use.making import SHARES
from app.reward.tool_use.records import NO_CALL
from app.reward.tool_use.searches import CYCLE
from benchmarks.tool_arms import FORMATTED, SEARCHES, report, share_of, with_shares
from benchmarks.tool_form import calls_schema, shape_of
from tests.unit.reward.tool_use.made import TOOLS

TOOL = TOOLS[0].schema()
RIGHT = {"name": "shorten_line", "arguments": {"line": "a b"}}


def test_the_forms_shares_are_of_a_hundred_of_which_a_quarter_wants_no_call() -> None:
    assert sum(SHARES.values()) + 100 * (SEARCHES + FORMATTED) == pytest.approx(100)
    searched = 100 * SEARCHES * CYCLE.count("none") / len(CYCLE)
    assert sum(SHARES.get(form, 0) for form in NO_CALL) + searched == pytest.approx(26)


@pytest.mark.parametrize(
    ("reply", "shape"),
    [
        (call_text([Call(name="shorten_line", arguments={"line": "a", "width": 3})]), "calls as offered"),
        (json.dumps(RIGHT), "calls as offered, without tags"),
        (json.dumps(RIGHT | {"arguments": {}}), "calls with other arguments"),
        (json.dumps(RIGHT | {"arguments": {"line": "a", "size": 3}}), "calls with other arguments"),
        (json.dumps(RIGHT | {"name": "cut"}), "calls another function"),
        ("<tool_call>{", "malformed"),
        ("[]", "words"),
        ("  ", "nothing"),
    ],
)
def test_what_can_be_read_of_a_reply_is_told(reply: str, shape: str) -> None:
    assert shape_of(reply, [TOOL]) == shape


def test_a_model_is_held_to_calls_of_what_is_offered_or_to_none() -> None:
    schema = calls_schema([TOOL, TOOLS[1].schema()])
    for right in ([], [RIGHT], [RIGHT, {"name": "count_vowels", "arguments": {"word": "ab"}}]):
        jsonschema.validate(right, schema)
    for change in (
        {"name": "cut"},
        {"arguments": {}},
        {"arguments": {"line": "a", "size": 1}},
        {"arguments": {"line": 1}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([RIGHT | change], schema)


def result(out: Path, candidate: str, rates: dict[str, float]) -> None:
    folder = out / "measure-0" / "evaluation" / "tooluse-chat" / candidate
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"pass_rates": rates}))


def test_the_report_is_paired_and_by_category(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        "bfcl/live_simple_7-3-0",
        "bfcl/live_simple_8-3-1",
        "bfcl/irrelevance_4",
        "bfcl/parallel_12",
        "search_docs/a",
    ]
    result(tmp_path, "base", dict.fromkeys(names, 0.0) | {"bfcl/irrelevance_4": 1.0})
    result(tmp_path, "sft", dict.fromkeys(names, 1.0) | {"bfcl/irrelevance_4": 0.0})
    report(argparse.Namespace(out=tmp_path, step=report))
    told = json.loads(capsys.readouterr().out)
    found = {name: (one["problems"], one["difference"]) for name, one in told["by_category"].items()}
    assert found == {
        "calls": (3, 100.0), "live_simple": (2, 100.0), "parallel": (1, 100.0), "irrelevance": (1, -100.0),
        "no call": (1, -100.0), "search_docs": (1, 100.0),
    }  # fmt: skip


def test_a_share_of_a_form_takes_its_first_and_leaves_the_others_as_they_were() -> None:
    made: list[Any] = [SimpleNamespace(form="chat" if number % 3 else "simple", number=number) for number in range(12)]
    calls = [one for one in made if one.form == "simple"]
    assert with_shares(made, {}) == with_shares(made, {"chat": 1, "missing": 0}) == made
    assert with_shares(made, {"chat": 0}) == calls
    half = with_shares(made, {"chat": 0.5})
    assert [one.number for one in half] == [0, 1, 2, 3, 4, 5, 6, 9]
    assert share_of("chat=0.25") == ("chat", 0.25)
    for text in ("chat", "chat=-0.1", "chat=1.1", "chat=nan", "talk=0.5", "=1", "chat=half"):
        with pytest.raises(ValueError):
            share_of(text)
