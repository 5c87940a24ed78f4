"""Problems in which functions are called: right by the suite's own rules, mixed as said, and the same for a seed."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from app.errors import UserError
from app.prompting.tool_calls import parse_calls
from app.reward.tool_use.judge import graded
from app.reward.tool_use.making import SHARES, made_problems, side_of
from app.reward.tool_use.records import NO_CALL, ToolProblem, read_problems, write_problems
from tests.unit.reward.tool_use.made import TOOLS


@pytest.fixture(scope="module")
def problems() -> list[ToolProblem]:
    return made_problems(TOOLS, 400, seed=3)


def test_each_reply_is_exact_and_no_other_problems_reply_is(problems: list[ToolProblem]) -> None:
    for one in problems:
        tests = json.loads(one.problem.tests)
        assert graded(one.reply, tests).points == 1, one
        if one.form not in NO_CALL:
            assert graded("None of the functions fits.", tests).points == 0
    calls = [one for one in problems if one.form not in NO_CALL]
    elsewhere = [graded(other.reply, json.loads(one.problem.tests)).points for one, other in itertools.pairwise(calls)]
    assert sum(points == 1 for points in elsewhere) < 0.02 * len(elsewhere)


def test_every_wanted_value_is_in_the_request(problems: list[ToolProblem]) -> None:
    for one in problems:
        if one.form in NO_CALL:
            continue
        for call in parse_calls(one.reply):
            for value in call.arguments.values():
                said = value if isinstance(value, list) else [value]
                for entry in said:
                    if isinstance(entry, bool):
                        continue
                    text = entry if isinstance(entry, str) else str(entry)
                    assert text in one.problem.prompt or json.dumps(text)[1:-1] in one.problem.prompt, one


def test_a_request_tells_a_value_at_least_where_a_call_is_wanted(problems: list[ToolProblem]) -> None:
    for one in problems:
        if one.form not in NO_CALL:
            assert all(call.arguments for call in parse_calls(one.reply)), one
        assert "with ." not in one.problem.prompt and ". ." not in one.problem.prompt


def test_a_missing_value_is_not_in_the_request(problems: list[ToolProblem]) -> None:
    """Of a function that has one parameter the request then tells no value."""
    (alone,) = (tool for tool in TOOLS if len(tool.parameters) == 1)
    asked = [one for one in problems if one.form == "missing"]
    told = [one.problem.prompt for one in asked if alone.task in one.problem.prompt.lower()]
    assert told and all("'" not in text and '"' not in text and not any(map(str.isdigit, text)) for text in told)


def test_the_forms_come_in_their_shares(problems: list[ToolProblem]) -> None:
    counts = Counter(one.form for one in problems)
    total = sum(SHARES.values())
    for form, share in SHARES.items():
        assert abs(counts[form] / len(problems) - share / total) < 0.03, counts


def test_what_does_not_fit_is_not_offered(problems: list[ToolProblem]) -> None:
    for one in problems:
        names = [tool["function"]["name"] for tool in one.tools]
        assert 1 <= len(names) == len(set(names)) <= 6
        assert not {"shorten_line", "cut_text"} <= set(names), "either would do"
        if one.form == "irrelevant":
            assert not any(
                tool["function"]["description"].partition(" ")[2].rstrip(".") in one.problem.prompt
                for tool in one.tools
            )
        elif one.form != "chat":
            assert one.form == "missing" or {call.name for call in parse_calls(one.reply)} <= set(names)


def test_a_seed_gives_the_same_problems_whatever_the_order_of_the_functions(problems: list[ToolProblem]) -> None:
    assert made_problems(TOOLS, 400, seed=3) == problems
    assert made_problems(TOOLS, 400, seed=4) != problems


def test_without_functions_there_is_a_sentence() -> None:
    with pytest.raises(UserError, match="none of the functions that were read makes a tool: read more files"):
        made_problems([], 10, seed=0)


def test_a_functions_side_goes_by_its_name_alone() -> None:
    sides = Counter(side_of(one.name, seed) for one in TOOLS for seed in range(100))
    assert 0.06 < sides["validation"] / sides.total() < 0.18


def test_problems_come_back_from_their_file_and_a_broken_line_is_named(
    problems: list[ToolProblem], tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    write_problems(path, problems)
    assert read_problems(path) == problems
    path.write_text(path.read_text() + '{"form": "simple"}\n')
    with pytest.raises(UserError, match=f"line {len(problems) + 1}"):
        read_problems(path)
