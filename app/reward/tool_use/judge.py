"""What a reply that calls tools is worth: all for exact calls, a part for what is nearly right (after ToolRL, arXiv
2504.13958).

    0      a call that can't be read, no call where one is wanted, a call where none is, an empty answer
    to 0.5 half of the mean of three overlaps, each 0 to 1: names of functions, names of arguments (both Jaccard, as
           multisets over all calls), and values that are right
    1      exact calls by the rules of the suite `tooluse` (`call_matching`); words where no call is wanted

ToolRL adds the mean to a point for exactness; here the sum is halved, so that 1 is a right draft as everywhere else in
this room. Nothing is run. What a reply says of itself counts for nothing: only its calls do.
Limit: where no call is wanted any words are right, and not only those that decline.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.evaluation.suites.call_matching import (
    CALLED,
    DID_NOT_CALL,
    Expected,
    mismatch_of_calls,
    mismatch_of_value,
    same_name,
)
from app.evaluation.suites.suite import structural_verdict
from app.prompting.tool_calls import Call, MalformedCallError, parse_calls
from app.records import Problem, Status, Verdict

PARTIAL = 0.5
"""The most that calls are worth which are not exact."""
NO_WORDS = "said nothing"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What a reply came to. Made by `graded`."""

    points: float
    """0 to 1."""
    fault: str
    """The rule that it breaks, for people; empty for an exact one."""
    is_readable: bool = True


class CallJudge:
    """A `records.Judge` of replies; `app.reward.drafts` hands it the whole reply as the program."""

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, replies in jobs:
            yield [verdict_on(problem, reply) for reply in replies]


def verdict_on(problem: Problem, reply: str) -> Verdict:
    """problem: one whose tests are those of the suite `tooluse`."""
    found = graded(reply, json.loads(problem.tests))
    status = Status.PASSED if not found.fault else Status.WRONG_ANSWER if found.is_readable else Status.PROTOCOL
    return dataclasses.replace(structural_verdict(problem, status, found.fault), points=found.points)


def graded(reply: str, tests: Mapping[str, Any]) -> Graded:
    """tests: {"expect": "calls", "calls": [Expected], "language"} or {"expect": "no call"}."""
    try:
        calls = parse_calls(reply)
    except MalformedCallError as error:
        return Graded(points=0.0, fault=str(error), is_readable=False)
    if tests["expect"] == "no call":
        if calls:
            return Graded(points=0.0, fault=f"{CALLED}: {calls[0].name[:120]!r}")
        return Graded(points=float(bool(reply.strip())), fault="" if reply.strip() else NO_WORDS)
    wanted, language = tests["calls"], tests["language"]
    if not calls:
        return Graded(points=0.0, fault=DID_NOT_CALL)
    fault = mismatch_of_calls(calls, wanted, language)
    if fault is None:
        return Graded(points=1.0, fault="")
    return Graded(points=PARTIAL * overlap(calls, wanted, language), fault=fault)


def overlap(calls: Sequence[Call], wanted: Sequence[Expected], language: str = "python") -> float:
    """The mean of three overlaps, 0 to 1."""
    pairs = _pairs(calls, wanted, language)
    return (name_overlap(calls, wanted) + key_overlap(calls, wanted, pairs) + value_share(wanted, pairs, language)) / 3


def name_overlap(calls: Sequence[Call], wanted: Sequence[Expected]) -> float:
    """Jaccard over names of functions, each as often as it is there: a call made twice is one too many."""
    return _jaccard(
        Counter(_plain(call.name) for call in calls), Counter(_plain(expected["name"]) for expected in wanted)
    )


Pairs = Sequence[tuple[Call, Expected]]
"""Calls with the wanted ones that they are held against."""


def key_overlap(calls: Sequence[Call], wanted: Sequence[Expected], pairs: Pairs) -> float:
    """Jaccard over the arguments' names of all calls. What may be left out counts neither for nor against."""
    paired = {id(call) for call, _ in pairs}
    given = Counter[tuple[str, str]]()
    for call, expected in pairs:
        free = _known(expected) - _must(expected)
        given.update((_plain(call.name), key) for key in call.arguments if key not in free)
    for call in calls:
        if id(call) not in paired:
            given.update((_plain(call.name), key) for key in call.arguments)
    asked = Counter((_plain(expected["name"]), key) for expected in wanted for key in _must(expected))
    if not asked and not given:
        return float(bool(pairs))
    return _jaccard(given, asked)


def value_share(wanted: Sequence[Expected], pairs: Pairs, language: str = "python") -> float:
    """The share of right values among the arguments that are wanted, or given beyond them and known."""
    right = total = 0
    for expected in wanted:
        call = next((one for one, other in pairs if other is expected), None)
        must = _must(expected)
        given = set(call.arguments) & _known(expected) if call else set()
        total += len(must | given)
        right += sum(_is_right(call, key, expected, language) for key in given) if call else 0
    return right / total if total else float(bool(pairs))


def _pairs(calls: Sequence[Call], wanted: Sequence[Expected], language: str) -> Pairs:
    """Each wanted call with one of its name, the most alike first; a call is taken once."""
    found = sorted(
        (
            (-sum(_is_right(call, key, expected, language) for key in call.arguments), place, number)
            for place, expected in enumerate(wanted)
            for number, call in enumerate(calls)
            if same_name(call.name, expected["name"])
        ),
    )
    taken: dict[int, int] = {}
    used = set[int]()
    for _, place, number in found:
        if place not in taken and number not in used:
            taken[place] = number
            used.add(number)
    return [(calls[number], wanted[place]) for place, number in taken.items()]


def _is_right(call: Call | None, key: str, expected: Expected, language: str) -> bool:
    parameter = expected["parameters"].get(key)
    if call is None or parameter is None or not parameter["known"]:
        return False
    return mismatch_of_value(key, call.arguments[key], parameter, language) is None


def _must(expected: Expected) -> set[str]:
    """Arguments that a right call has."""
    parameters = expected["parameters"]
    told = {key for key, parameter in parameters.items() if parameter["known"] and "" not in parameter["values"]}
    return told | set(expected["required"])


def _known(expected: Expected) -> set[str]:
    return {key for key, parameter in expected["parameters"].items() if parameter["known"]}


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _jaccard(one: Counter[Any], other: Counter[Any]) -> float:
    union = (one | other).total()
    return (one & other).total() / union if union else 0.0
