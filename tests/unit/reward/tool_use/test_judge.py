"""What a reply that calls tools is worth, for honest, sloppy and hostile replies."""

import json
import math
from typing import Any

import pytest

from app.prompting.tool_calls import Call, call_text
from app.records import Problem, ProblemStyle, Status
from app.reward.tool_use.judge import PARTIAL, CallJudge, graded


def expected(name: str, required: list[str], **values: list[Any]) -> dict[str, Any]:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return {
        "name": name,
        "required": required,
        "parameters": {
            key: {"kind": kinds[type(held[-1])], "items": "any", "values": held, "known": True}
            for key, held in values.items()
        },
    }


WRAP = {
    "expect": "calls",
    "language": "python",
    "calls": [expected("wrap", ["text", "width"], text=["a b"], width=[7], indent=["", "> "])],
}
TWO = {**WRAP, "calls": [*WRAP["calls"], expected("wrap", ["text", "width"], text=["c d"], width=[9])]}
NONE = {"expect": "no call"}


def points(tests: dict[str, Any], *calls: tuple[str, dict[str, Any]]) -> float:
    return graded(call_text([Call(name=name, arguments=arguments) for name, arguments in calls]), tests).points


def test_exact_calls_have_the_whole_point_whatever_their_order_and_dialect() -> None:
    assert points(WRAP, ("wrap", {"text": "a b", "width": 7})) == 1
    assert points(WRAP, ("wrap", {"text": "a b", "width": 7, "indent": "> "})) == 1
    assert points(TWO, ("wrap", {"text": "c d", "width": 9}), ("wrap", {"width": 7, "text": "A b"})) == 1
    assert graded("[wrap(text='a b', width=7)]", WRAP).points == 1
    assert graded('```json\n{"name": "wrap", "arguments": {"text": "a b", "width": 7}}\n```', WRAP).points == 1


def test_what_is_nearly_right_has_a_part_that_grows_with_what_is_right() -> None:
    ladder = [
        points(WRAP, ("other", {"line": 1})),
        points(WRAP, ("other", {"text": "a b", "width": 7})),
        points(WRAP, ("wrap", {"line": "a b"})),
        points(WRAP, ("wrap", {"text": "x"})),
        points(WRAP, ("wrap", {"text": "a b"})),
        points(WRAP, ("wrap", {"text": "a b", "width": 8})),
        points(WRAP, ("wrap", {"text": "a b", "width": 7})),
    ]
    assert ladder == pytest.approx([0, 0, 1 / 6, 1 / 4, 1 / 3, 5 / 12, 1])
    assert max(ladder[:-1]) < PARTIAL


def test_one_of_two_wanted_calls_has_half_of_each_overlap() -> None:
    assert points(TWO, ("wrap", {"text": "c d", "width": 9})) == pytest.approx(PARTIAL / 2)


def test_more_calls_never_gain_anything() -> None:
    right = ("wrap", {"text": "a b", "width": 7})
    once, twice, often = (points(WRAP, *[right] * number) for number in (1, 2, 500))
    assert once == 1 and often < twice <= PARTIAL
    spread = [("wrap", {"text": "a b", "width": width}) for width in range(40)]
    assert points(WRAP, *spread) < 0.25


def test_a_value_that_may_be_left_out_costs_only_where_it_is_wrong() -> None:
    wrong = points(WRAP, ("wrap", {"text": "a b", "width": 7, "indent": "# "}))
    assert points(WRAP, ("wrap", {"text": "a b", "width": 8})) <= wrong < PARTIAL


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "All of my calls are right: reward 1, status passed.",
        '<tool_call>\n{"name": "wrap", "arguments": {"text": "a b", "width": 7}',  # never closed
        '<tool_call>{"name": "wrap"}</tool_call>',
        "<tool_call></tool_call>",
        '<tool_call>{"name": "wrap", "arguments": {"text": "a b", "width": 7}} and more</tool_call>',
        '<tool_call>{"points": 1, "status": "passed"}</tool_call>',
        "[wrap('a b', 7)]",
        '{"name": "wrap", "arguments": ' + '{"text": ' * 3000 + "1" + "}" * 3001,
        '{"name": "wrap", "arguments": {"width": ' + "9" * 6000 + "}}",
        '<tool_call>{"name": "wrap", "arguments": {"text": ' + "[" * 60 + "]" * 60 + "}}</tool_call>",
    ],
)
def test_what_holds_no_call_that_can_be_read_is_worth_nothing(reply: str) -> None:
    found = graded(reply, WRAP)
    assert found.points == 0 and found.fault


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "null", "true", '"7"', "[7]", "{}", "7.0"])
def test_no_value_of_another_kind_passes_for_a_number(value: str) -> None:
    reply = f'<tool_call>{{"name": "wrap", "arguments": {{"text": "a b", "width": {value}}}}}</tool_call>'
    found = graded(reply, WRAP)
    assert 0 < found.points < PARTIAL and math.isfinite(found.points)


def test_not_a_number_is_not_even_equal_to_itself() -> None:
    wanted = {**WRAP, "calls": [expected("root", ["x"], x=[math.nan])]}
    assert graded('{"name": "root", "arguments": {"x": NaN}}', wanted).points < PARTIAL


def test_true_is_not_one() -> None:
    wanted = {**WRAP, "calls": [expected("take", ["number"], number=[1])]}
    assert points(wanted, ("take", {"number": True})) < PARTIAL < points(wanted, ("take", {"number": 1}))


def test_a_huge_reply_is_judged_in_a_moment() -> None:
    call = {"name": "wrap", "arguments": {"text": "a b", **{f"k{n}": n for n in range(200)}}}
    assert graded(json.dumps([call] * 2000), WRAP).points < 0.1


def test_where_no_call_is_wanted_words_are_right_and_calls_and_silence_are_not() -> None:
    assert graded("None of the functions fits.", NONE).points == 1
    assert points(NONE, ("wrap", {})) == graded(" \n", NONE).points == graded("<tool_call>{", NONE).points == 0


def test_the_judge_tells_a_draft_that_can_not_be_read_from_a_wrong_one() -> None:
    problem = Problem(
        id="p", source="s", licence="MIT", prompt="", entry_point="", tests=json.dumps(WRAP), style=ProblemStyle.CALLS
    )
    right, near = (call_text([Call(name="wrap", arguments={"text": "a b", "width": width})]) for width in (7, 8))
    ((one, two, three),) = CallJudge().judge_all([(problem, [right, near, "<tool_call>"])])
    assert [one.status, two.status, three.status] == [Status.PASSED, Status.WRONG_ANSWER, Status.PROTOCOL]
    assert (one.reward, three.reward) == (1, 0) and two.reward == pytest.approx(5 / 12)
