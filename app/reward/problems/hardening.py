"""Further tests for problems with a reference: inputs mutated from given ones, answers from the reference.

Given tests are few (LeetCodeDataset has 2.5 a problem), and weak tests reward wrong programs. For each problem up to
MAX_ADDED further inputs keep to what is true of all given ones (`app.corpus.mining.inputs`, `facts`), the reference is
run on them in the sandbox, and each becomes an assertion of the given ones' own form
(`app.problem_tests.assertions`).

An input is dropped where the reference raises or takes too long, where its answer depends on chance or on the order of
a set, is not plain data, or is of a kind that no given test expects: such an input most likely breaks what the
statement takes for granted. Problems that say that several answers are right keep their given tests alone. At the end
the reference has to pass all tests, in a process that knows nothing of the recording.

Everything is drawn by hash and bounded by steps, not by seconds: the same tests come out on every machine. A program
that is called on something endless outside of Python's own steps is cut by the sandbox's time limit; that input is
dropped too.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from app.corpus.mining.inputs import call_text
from app.corpus.mining.literals import NotLiteralError, written
from app.corpus.mining.recording import Recorded, is_stable
from app.corpus.mining.records import Call, NoProblemError
from app.problem_tests.answers import NO_LITERAL, agree, answers, literal
from app.problem_tests.assertions import (
    Form,
    Seed,
    all_seeds,
    assertion,
    can_take_more,
    is_made,
    seeds_of,
    with_assertions,
)
from app.problem_tests.constraints import unchecked
from app.problem_tests.inputs import NAME, further_calls
from app.records import Problem
from app.reward.records import TrainingProblem
from app.sandbox.local import LocalJudges
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

VERSION = 1
"""To be raised when other tests are made of the same problem."""
MAX_ADDED = 40
ENOUGH = 20
"""Given tests of a problem that needs no further ones; ours have them, from inputs that are drawn for each."""
SEVERAL_ANSWERS = re.compile(
    r"\breturn(?:ed|s)?\b[^.]{0,80}\bin any (?:arbitrary )?order\b|\b(?:return|output|print) any\b"
    r"|\bfind any (?!two\b|of\b)|\bany (?:answer|solution)(?! with\b)\b[^.]*\baccepted\b",
    re.I,
)
"""What a statement says where an answer is right that is not the reference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardened:
    """A problem after hardening. Made by `hardened`; stored by `app.reward.problems.store`."""

    problem: TrainingProblem
    added: tuple[str, ...] = ()
    """The further assertions."""
    dropped: tuple[tuple[str, int], ...] = ()
    """How many inputs by the reason."""
    why_not: str = ""
    """Why it has none; empty where it has some."""


def hardened(
    problems: Iterable[TrainingProblem], settings: SandboxSettings, confined: Confinement
) -> Iterator[Hardened]:
    """The problems in their order, each with further tests where it can have them, on all of this machine's cores."""
    with closing(LocalJudges(settings, confined)) as judges:
        yield from judges.work_all(lambda supervisor, problem: harden(problem, supervisor), problems)


def harden(problem: TrainingProblem, supervisor: Supervisor) -> Hardened:
    """One problem. Never raises for what its reference does."""
    try:
        seeds = _fit_seeds(problem)
        if len(seeds) >= ENOUGH:
            raise NoProblemError("it has tests enough")
        dropped: Counter[str] = Counter()
        lines = _passing(problem, _further(problem, seeds, dropped, supervisor), dropped, supervisor)
        if not lines:
            raise NoProblemError("no further input is left")
    except NoProblemError as error:
        return Hardened(problem=problem, why_not=str(error))
    return Hardened(
        problem=dataclasses.replace(problem, problem=_with_lines(problem, lines)),
        added=tuple(lines),
        dropped=tuple(sorted(dropped.items())),
    )


def fresh(problem: TrainingProblem, supervisor: Supervisor, name: str) -> tuple[Problem, int]:
    """The problem with its given tests and others, on inputs that it was not hardened by, and how many others.

    name: what the inputs are drawn by. Raises NoProblemError, with the reason, where there are none.
    """
    seeds, dropped = _fit_seeds(problem), Counter[str]()
    known = {call_text(NAME, seed.call) for seed in all_seeds(problem.problem)}
    lines = _further(problem, seeds, dropped, supervisor, name=name, known=known)
    lines = _passing(problem, lines, dropped, supervisor)
    if not lines:
        raise NoProblemError("no input is left that its tests do not have")
    return _with_lines(problem, lines), len(lines)


def _with_lines(problem: TrainingProblem, lines: Sequence[str]) -> Problem:
    return dataclasses.replace(problem.given, tests=with_assertions(problem.given, lines))


def _fit_seeds(problem: TrainingProblem) -> list[Seed]:
    """The given assertions to begin with. Raises NoProblemError, with the reason, where there can be no more."""
    if not problem.has_tests:
        raise NoProblemError("it has no tests")
    if not problem.reference:
        raise NoProblemError("it has no reference")
    if not can_take_more(problem.given):
        raise NoProblemError("its tests are of a form to which nothing can be added")
    if SEVERAL_ANSWERS.search(problem.given.prompt):
        raise NoProblemError("its statement allows several answers")
    if line := unchecked(problem.constraints, problem.given.prompt):
        raise NoProblemError(f"it takes for granted what nothing checks: {line[:80]}")
    seeds = seeds_of(problem.given)
    if not seeds:
        raise NoProblemError("none of its tests calls it on plain values")
    if not any(seed.call.args or seed.call.kwargs for seed in seeds):
        raise NoProblemError("it takes no arguments")
    if all(seed.answers == (None,) for seed in seeds) and not seeds[0].form.expected_made_by:
        raise NoProblemError("it gives nothing back")
    return seeds


def _further(
    problem: TrainingProblem,
    seeds: Sequence[Seed],
    dropped: Counter[str],
    supervisor: Supervisor,
    *,
    name: str = NAME,
    known: Container[str] = (),
) -> list[str]:
    """Assertions on further inputs, those of different answers first. name: what they are drawn by; known: calls that
    are left out."""
    form, given = seeds[0].form, [seed.call for seed in seeds]
    trees = [place for place, maker in form.made_by if maker == "tree_node"]
    calls = further_calls(given, trees, problem.constraints, problem.given.prompt, name)
    calls = [call for call in calls if call_text(NAME, call) not in known]
    rows = answers(problem.given, problem.reference, form, [*given, *calls], supervisor)
    _check_given(seeds, rows[: len(seeds)])
    kinds = {kind for seed in seeds for answer in seed.answers for kind in _kinds(answer)}
    disagreed = _disagreed(problem, seeds, calls, rows[len(seeds) :], supervisor)
    found: list[tuple[int, int, str]] = []
    seen: Counter[str] = Counter()
    for place, (call, row) in enumerate(zip(calls, rows[len(seeds) :], strict=True)):
        reason, value = _answer_of(row, kinds, form)
        if not reason and place in disagreed:
            reason = "two solutions disagree"
        if reason:
            dropped[reason] += 1
        else:
            found.append((seen[row.result], place, assertion(form, call, value)))
            seen[row.result] += 1
    if len(seen) < 2 and {written(a) for seed in seeds for a in seed.answers} <= set(seen):
        raise NoProblemError("all inputs have one answer")
    return [line for *_, line in sorted(found)][:MAX_ADDED]


def _check_given(seeds: Sequence[Seed], rows: Sequence[Recorded]) -> None:
    """Raises NoProblemError where the reference does not give what the given tests expect. A given input may take too
    long to be recorded, but not all of them."""
    if not any(row.what == "ok" for row in rows):
        raise NoProblemError(
            f"its reference can't be recorded on a given input: {rows[0].what} {rows[0].result}".strip()
        )
    for seed, row in zip(seeds, rows, strict=True):
        call = call_text("f", seed.call)[:80]
        if row.what == "raised":
            raise NoProblemError(f"its reference raises on a given input: {row.result}: {call}")
        if row.what == "ok" and seed.answers and not agree(row.result, written(seed.answers[0]), seed.form):
            raise NoProblemError(f"its reference gives something else than a given test expects: {call}")


def _disagreed(
    problem: TrainingProblem,
    seeds: Sequence[Seed],
    calls: Sequence[Call],
    rows: Sequence[Recorded],
    supervisor: Supervisor,
) -> set[int]:
    """Numbers of the calls for which the source's second solution gives something else than the reference; none where
    it does not give what the given tests expect."""
    form = seeds[0].form
    if not problem.second:
        return set()
    try:
        asked = [*(seed.call for seed in seeds), *calls]
        others = answers(problem.given, problem.second, form, asked, supervisor)
        _check_given(seeds, others[: len(seeds)])
    except NoProblemError:
        return set()
    pairs = enumerate(zip(rows, others[len(seeds) :], strict=True))
    return {number for number, (one, other) in pairs if other.what != "ok" or not agree(one.result, other.result, form)}


def _answer_of(row: Recorded, kinds: set[str], form: Form) -> tuple[str, Any]:
    """Why the input is dropped, or its answer."""
    if row.what == "raised":
        return "the reference raises", None
    if row.what != "ok":
        return {"slow": "the reference takes too long", "not run": "not run"}.get(row.what, "no plain answer"), None
    if not row.is_sure:
        return "depends on chance or on the order of a set", None
    value = literal(row.result)
    if value is None and form.expected_made_by:
        return "", []
    try:
        if value is NO_LITERAL or written(value) != row.result or not is_stable(value) or not is_made(form, value):
            return "no plain answer", None
    except NotLiteralError:
        return "no plain answer", None
    if kinds and not set(_kinds(value)) <= kinds:
        return "an answer of another kind than the given ones", None
    return "", value


def _kinds(value: Any) -> Iterator[str]:
    """What the value is made of. An empty list is a list."""
    if isinstance(value, list | tuple | set | frozenset | dict):
        yield type(value).__name__
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        for item in inner:
            yield from (f"in {type(value).__name__}: {kind}" for kind in _kinds(item))
    else:
        yield "number" if type(value) in (int, float) else type(value).__name__


def _passing(
    problem: TrainingProblem, lines: Sequence[str], dropped: Counter[str], supervisor: Supervisor
) -> list[str]:
    """Those of the assertions that the reference passes when it is judged as any program is.

    Raises NoProblemError where it fails the given tests, or where its verdicts count for nothing.
    """

    def passes(held: Sequence[str]) -> bool:
        verdict = supervisor.judge(_with_lines(problem, held) if held else problem.given, problem.reference)
        return verdict.reward == 1

    if passes(lines):
        return list(lines)
    if not passes([]):
        raise NoProblemError("its reference does not pass the given tests where programs are judged")
    left = _split(list(lines), passes)
    dropped["the reference fails its own answer"] += len(lines) - len(left)
    return left if left and passes(left) else []


def _split(lines: list[str], passes: Any) -> list[str]:
    """The lines of those halves of halves that pass."""
    if not lines or passes(lines):
        return lines
    if len(lines) == 1:
        return []
    half = len(lines) // 2
    return _split(lines[:half], passes) + _split(lines[half:], passes)
