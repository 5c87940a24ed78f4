"""A wording takes a request's place only where nothing of the call is lost."""

import json
from typing import Any

import pytest

from app.reward.tool_use.records import ToolProblem, tool_problem
from app.reward.tool_use.rephrasing import can_be_said_anew, rephrasing_turns, said_anew, what_is_wrong

REQUEST = "I'd like to wrap a paragraph, using 72 as the width, 'sunday morning' as the text and left as the side."


def problem_of(form: Any = "simple", request: str = REQUEST, **values: Any) -> ToolProblem:
    values = values or {"width": 72, "text": "sunday morning", "side": "left"}
    possible = {name: [one] for name, one in values.items()} | {"unsaid": ["", True]}
    shared = {"kind": "any", "items": "any", "known": True}
    parameters = {name: shared | {"values": held} for name, held in possible.items()}
    call = {"name": "wrap", "required": [], "parameters": parameters}
    tests = {"expect": "calls", "language": "python", "calls": [call]}
    turns = [{"role": "system", "content": "Use tools."}, {"role": "user", "content": request}]
    return tool_problem(form, f"{form}/0", turns, [{"type": "function"}], "a reply", tests, [])


@pytest.mark.parametrize(
    ("wording", "reason"),
    [
        ("Wrap sunday morning on the left so that no line is over 72, would you?", ""),
        ("Wrap sunday morning on the left so that no line is over 73, would you?", "a value is missing"),
        ("Wrap sunday morning on the left so that no line is over 172, would you?", "a value is missing"),
        ("Wrap sunday Morning on the left so that no line is over 72, would you?", "a value is missing"),
        ("Wrap sunday morning so that no line is over 72 characters, would you?", "a value is missing"),
        ("Wrap whatever is leftover of sunday morning, no line over 72, would you?", "a value is missing"),
        ("Wrap sunday morning on the left, 3 times, no line over 72, would you?", "a number that was not said"),
        ("Wrap it, with the arguments sunday morning, left and 72, would you please?", "lists its arguments"),
        ("Wrap sunday morning on the left, width=72, would you please do that?", "lists its arguments"),
        ("Wrap sunday morning left\nso that no line is over 72, would you?", "length"),
        ("sunday morning left 72", "length"),
        (REQUEST + " " + REQUEST, "length"),
        (REQUEST, "the same words"),
    ],
)
def test_a_wording_is_refused_that_loses_changes_or_adds_a_value(wording: str, reason: str) -> None:
    assert what_is_wrong(problem_of(), wording) == reason


def test_values_of_a_list_and_quoted_words_of_a_request_without_a_call_are_looked_for() -> None:
    listed = problem_of(request="Please add up a list of numbers: [1.5, 20].", numbers=[1.5, 20])
    assert what_is_wrong(listed, "What do 1.5 and 20 add up to, all in all?") == ""
    assert what_is_wrong(listed, "What do 1.5 and 2 add up to, all in all?") == "a value is missing"
    idle = problem_of("irrelevant", 'Please close the account "old one" for 31 days.', width=31)
    assert what_is_wrong(idle, "Could the account old one be closed for 31 days?") == ""
    assert what_is_wrong(idle, "Could the old account be closed for 31 days?") == "a value is missing"


def test_truth_values_and_requests_that_leave_something_out_stay_as_they_are() -> None:
    assert can_be_said_anew(problem_of()) and can_be_said_anew(problem_of("irrelevant"))
    assert not can_be_said_anew(problem_of(side=True))
    assert not any(can_be_said_anew(problem_of(form)) for form in ("missing", "chat", "search_none", "formatted"))


def test_another_wording_changes_the_request_and_nothing_else() -> None:
    before = problem_of()
    after = said_anew(before, "Wrap sunday morning, please.")
    assert after.turns == (before.turns[0], {"role": "user", "content": "Wrap sunday morning, please."})
    assert after.problem.prompt == "Wrap sunday morning, please."
    assert json.loads(after.problem.tests) == json.loads(before.problem.tests) and after.reply == before.reply
    assert said_anew(after, REQUEST) == before


def test_a_model_is_asked_with_examples_that_would_be_taken_themselves() -> None:
    turns = rephrasing_turns(problem_of())
    assert turns[-1]["content"].endswith(REQUEST) and [one["role"] for one in turns[:2]] == ["user", "assistant"]
    for asked, answered in zip(turns[:-1:2], turns[1::2], strict=True):
        request = asked["content"].rpartition("\n\n")[2]
        assert what_is_wrong(problem_of("irrelevant", request, width=_any_number(request)), answered["content"]) == ""


def _any_number(request: str) -> Any:
    return next(word for word in ("64", "1200", "320", "monday") if word in request)
