"""A call is right exactly if BFCL's rules say so, and what is wrong with it is named."""

from typing import Any

import pytest

from app.evaluation.suites.tooluse import ToolUse, bfcl_task
from app.problem_sets.task import Task
from app.prompting.tool_calls import Call, call_text
from app.records import Status


def function(name: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"{name}.",
        "parameters": {"type": "dict", "properties": properties, "required": required},
    }


FLIGHT = function(
    "air.book",
    {
        "city": {"type": "string", "description": "Where to."},
        "seats": {"type": "integer", "description": "How many."},
        "price": {"type": "float", "description": "At most."},
        "window": {"type": "boolean", "description": "Or aisle.", "optional": True},
        "days": {"type": "array", "items": {"type": "integer"}},
        "point": {"type": "tuple", "items": {"type": "float"}},
        "food": {"type": "dict", "properties": {"main": {"type": "string"}, "drink": {"type": "any"}}},
        "legs": {"type": "array", "items": {"type": "dict"}},
    },
    ["city", "seats"],
)
ANSWER = {
    "city": ["New York, NY", "NYC"],
    "seats": [2],
    "price": ["", 99.0],
    "window": ["", True],
    "days": ["", [1, 2]],
    "point": ["", [1.0, 2.5]],
    "food": ["", {"main": ["fish", "rice"], "drink": ["", 1]}],
    "legs": ["", [{"to": ["Oslo"]}, {"to": ["Rome"]}]],
}
HOTEL = function("hotel", {"city": {"type": "string"}}, ["city"])
JAVA = function(
    "Box.fill",
    {
        "ids": {"type": "ArrayList", "items": {"type": "long"}, "description": "The ids."},
        "options": {"type": "HashMap", "description": "Options."},
        "count": {"type": "long", "description": "How many."},
        "target": {"type": "any", "description": "What."},
    },
    ["ids", "count"],
)
JAVASCRIPT = function(
    "fill",
    {"ids": {"type": "array", "items": {"type": "String"}}, "options": {"type": "dict"}, "on": {"type": "Boolean"}},
    ["ids"],
)


def judge(task: Task, *calls: Call, text: str | None = None) -> tuple[Status, str]:
    verdict = ToolUse().verdict(task.problem, "chat", [call_text(calls) if text is None else text])
    assert verdict.tier == "structure" and verdict.problem_id == task.problem.id
    return verdict.status, verdict.detail


def book(**arguments: Any) -> Call:
    return Call(name="air.book", arguments={"city": "nyc", "seats": 2} | arguments)


@pytest.fixture
def task() -> Task:
    row = {"id": "x", "question": [[{"role": "user", "content": "Book."}]], "function": [FLIGHT]}
    return bfcl_task(row, "simple_python", [{"air.book": ANSWER}])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"city": "new york ny"},
        {"city": "New-York, NY."},
        {"price": 99},
        {"price": 99.0, "window": True},
        {"days": [1, 2], "point": [1, 2.5]},
        {"food": {"main": "Fish"}},
        {"food": {"main": "rice", "drink": 1}},
        {"legs": [{"to": "oslo"}, {"to": "rome"}]},
    ],
)
def test_bfcls_leeway_is_kept(arguments: dict[str, Any], task: Task) -> None:
    assert judge(task, book(**arguments)) == (Status.PASSED, "")
    underscored = Call(name="air_book", arguments=book(**arguments).arguments)
    assert judge(task, underscored) == (Status.PASSED, "")


@pytest.mark.parametrize(
    ("rule", "calls"),
    [
        ("did not call", []),
        ("wrong number of calls", [book(), book()]),
        ("wrong function", [Call(name="book", arguments={"city": "nyc", "seats": 2})]),
        ("missing parameter: 'seats'", [Call(name="air.book", arguments={"city": "nyc"})]),
        ("unexpected parameter: 'class'", [book(**{"class": "first"})]),
        ("wrong value: 'city'", [book(city="Boston")]),
        ("wrong value: 'seats'", [book(seats=3)]),
        ("wrong type: 'seats'", [book(seats="2")]),
        ("wrong type: 'seats'", [book(seats=2.0)]),
        ("wrong type: 'seats'", [book(seats=True)]),
        ("wrong type: 'price'", [book(price=True)]),
        ("wrong value: 'window'", [book(window=False)]),
        ("wrong type: 'window'", [book(window=1)]),
        ("wrong value: 'days'", [book(days=[2, 1])]),
        ("wrong type: 'days'", [book(days=["1", "2"])]),
        ("wrong type: 'days'", [book(days="1, 2")]),
        ("wrong value: 'food'", [book(food={"main": "meat"})]),
        ("wrong value: 'food'", [book(food={"drink": 1})]),
        ("wrong value: 'food'", [book(food={"main": "fish", "drink": True})]),
        ("wrong value: 'food'", [book(food={"main": "fish", "dessert": "ice"})]),
        ("wrong value: 'legs'", [book(legs=[{"to": "Oslo"}])]),
    ],
)
def test_the_verdict_names_the_rule_that_failed(rule: str, calls: list[Call], task: Task) -> None:
    status, detail = judge(task, *calls)
    assert status == Status.WRONG_ANSWER
    assert detail.startswith(rule)
