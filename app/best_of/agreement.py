"""Which drafts give the same on all inputs: minimum Bayes risk by execution (MBR-exec, arXiv 2204.11454), which ranks
drafts without knowing what is right.

Limits: a draft that gives nothing on any input agrees with none; a program's run ends at the first input that takes too
long, and what would follow counts as no answer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from app.corpus.mining.recording import Recorded
from app.corpus.mining.records import Call, NoProblemError
from app.problem_tests.answers import NO_LITERAL, answers, literal
from app.problem_tests.assertions import Form
from app.records import Problem
from app.sandbox.supervisor import Supervisor

MAX_INPUTS = 20
"""Inputs of a problem on which its drafts are compared."""
DIGITS = 5
"""Significant ones in which floats have to agree."""
Outputs = tuple[str, ...]
"""What a program gives on each input; empty text for no answer."""


def outputs(problem: Problem, program: str, form: Form, calls: Sequence[Call], supervisor: Supervisor) -> Outputs:
    """What a program gives on each call, as an assertion of this form compares it. Never raises for what it does."""
    try:
        rows = answers(problem, program, form, calls, supervisor, max_runs=1)
    except NoProblemError:  # it wrote where its answers are
        return ("",) * len(calls)
    return tuple(map(shown, rows))


def agreement(given: Mapping[str, Outputs], votes: Mapping[str, int]) -> dict[str, float]:
    """For each program the share of all drafts that give what it gives.

    votes: how many drafts each program is of.
    """
    alike = Counter[Outputs]()
    for program, found in given.items():
        alike[found] += votes[program]
    total = sum(votes.values())
    return {program: alike[found] / total if any(found) else 0.0 for program, found in given.items()}


def shown(row: Recorded) -> str:
    """An answer as one text that nearly equal ones have too; empty for none."""
    if row.what != "ok":
        return ""
    value = literal(row.result)
    return row.result if value is NO_LITERAL else _rounded(value)


def _rounded(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_rounded, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(sorted(f'{_rounded(key)}: {_rounded(held)}' for key, held in value.items()))})"
    if isinstance(value, set | frozenset):
        return f"set({', '.join(sorted(map(_rounded, value)))})"
    return repr(value)
