"""Run a catalogue of programs, hostile and honest, and compare each verdict with the one expected.

A case is a JSON line {"id", "input", "expected"}: `input` is the source of a program whose f(x) must return sorted(x),
`expected` one verdict or several ("wrong_answer", "timeout|memory", "died or protocol"; `pass` means `passed`).
Run: python -m app sandbox --cases FILE.jsonl [--json]
"""

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.table_rows import read_lines
from app.progress import progress
from app.records import Problem, Status
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

_VALUES: tuple[list[Any], ...] = (
    [3, 1, 2],
    [],
    [1],
    [2, 2, 1],
    [0, -5, 10, -5],
    list(range(20, 0, -1)),
    [1.5, -2.5, 0.0],
    ["b", "a", "c"],
)
FIXTURE = Problem(
    id="fixture",
    source="catalogue",
    licence="MIT",
    prompt="",
    entry_point="f",
    tests="def check(candidate):\n"
    + "".join(f"    assert candidate({value!r}) == {sorted(value)!r}\n" for value in _VALUES),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One program and the verdicts that are right for it."""

    id: str
    program: str
    expected: tuple[Status, ...]


def read_cases(path: Path) -> list[Case]:
    """Raises UserError naming the line that is not a case."""
    cases = []
    for number, row in read_lines(path, "--cases"):
        try:
            cases.append(Case(id=str(row["id"]), program=str(row["input"]), expected=_statuses(row["expected"])))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is no case ({type(error).__name__}: {error}): a case is one JSON object with "
                f"id, input and expected, one or several of {', '.join(Status)}"
            ) from None
    if not cases:
        raise UserError(f"{path} holds no case: give a file of JSON lines with id, input and expected")
    return cases


def run_catalogue(cases: list[Case], settings: SandboxSettings, confined: Confinement) -> dict[str, Any]:
    """{"total", "as_expected", "differing": [{"id", "expected", "verdict", "detail"}], "tier"}."""
    differing = []
    with (
        contextlib.closing(LocalJudges(settings, confined)) as judges,
        progress("sandbox", len(cases), "cases") as update,
    ):
        verdicts = judges.judge_all((FIXTURE, [case.program]) for case in cases)
        for done, (case, (verdict,)) in enumerate(zip(cases, verdicts, strict=True), 1):
            if verdict.status not in case.expected:
                row = {"id": case.id, "expected": list(case.expected), "verdict": verdict.status}
                differing.append(row | {"detail": verdict.detail})
            update(done)
    return {
        "total": len(cases),
        "as_expected": len(cases) - len(differing),
        "differing": differing,
        "tier": confined.tier,
    }


def _statuses(expected: str) -> tuple[Status, ...]:
    words = [word.strip() for word in re.split(r"\||\bor\b", expected)]
    return tuple(Status("passed" if word == "pass" else word) for word in words)
