"""What a candidate's function gives for each input, recorded in the sandbox."""

import ast
import inspect
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.corpus.mining import recorder
from app.corpus.mining.facts import shape_of
from app.corpus.mining.inputs import Inputs, call_text
from app.corpus.mining.literals import NotLiteralError, holds_float, written
from app.corpus.mining.records import Call, Candidate, NoProblemError
from app.corpus.mining.statement import program_of, prompt_of
from app.records import Status
from app.sandbox.script import ScriptRun
from app.sandbox.supervisor import Supervisor

_RECORDER = inspect.getsource(recorder)
_FIELDS = {"number", "results", "holds", "printed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What came of one call. Made by `record_calls`."""

    number: int
    """Which of the calls that were asked for, from 0."""
    what: str
    """"ok", "raised", "slow", or "other" where the result is not plain data."""
    result: str
    """The literal of what the function gave; else why there is none."""
    is_sure: bool
    """Whether two more runs gave the same, with sets in one order and in the opposite one, or were too slow for it."""
    holds: bool | None
    """Whether the call's claim is true; None where there is none, or where it can't be said."""
    printed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A call and what came of it. Made by `recorded`; read by the tests and the docstring's examples."""

    call: str
    value: Any
    result: str
    """The value's literal."""
    args: tuple[str, ...]
    """Literals of the arguments."""
    shape: tuple[tuple[str, str], ...]
    """Names and types of the arguments."""
    given: bool
    """Whether somebody wrote the call down; else it was generated."""


def recorded(candidate: Candidate, inputs: Inputs, supervisor: Supervisor) -> list[Pair]:
    """Inputs whose result is plain data, in their order; probes are left out.

    Raises NoProblemError for a function that does not do what its docstring's examples say, that depends on the
    order of a set or on chance, or that prints.
    """
    program = program_of(candidate, prompt_of(candidate))
    calls, num_given = inputs.all, len(inputs.given)
    rows, run = record_calls(program, candidate.entry_point, calls, supervisor)
    if not rows:
        raise NoProblemError(f"does not run alone: {run.status}: {run.detail}"[:200])
    if run.status != Status.PASSED and len(rows) < num_given:
        raise NoProblemError(f"an example does not end: {run.status}: {run.detail}"[:200])
    pairs = []
    for row in rows:
        number, call, result = row.number, calls[row.number], row.result
        _refuse(row, call, candidate)
        if row.what != "ok" or number >= num_given + len(inputs.generated):
            continue
        try:
            value = ast.literal_eval(result)
            if written(value) == result:
                text = call_text(candidate.entry_point, call)
                args = tuple(written(argument) for argument in (*call.args, *dict(call.kwargs).values()))
                pair = Pair(
                    call=text, value=value, result=result, args=args, shape=shape_of(call), given=number < num_given
                )
                pairs.append(pair)
        except (ValueError, SyntaxError, NotLiteralError, MemoryError, RecursionError):
            continue  # nan, surrogates and the like
    return pairs


def record_calls(
    program: str, entry_point: str, calls: Sequence[Call], supervisor: Supervisor
) -> tuple[list[Recorded], ScriptRun]:
    """What the program's function gives for each call, up to the one at which a limit ended the run, and the run.

    Raises NoProblemError where the function has written between: what it says is not taken for the recorder's word.
    """
    job = {
        "source": program,
        "entry_point": entry_point,
        "calls": [
            [[written(arg) for arg in call.args], [[key, written(value)] for key, value in call.kwargs], call.claim]
            for call in calls
        ],
    }
    run = supervisor.run_script(f"{_RECORDER}\n\nrecord(json.loads({json.dumps(job)!r}))\n")
    return list(_rows(run.output, len(calls))), run


def _rows(output: str, num_calls: int) -> Iterator[Recorded]:
    """What the recorder wrote, up to where the output was cut for its size."""
    for number, line in enumerate(output.split("\n")):
        if number == num_calls or not line.endswith("}"):
            return
        try:
            row = json.loads(line)
        except ValueError:
            return
        try:
            if row.keys() != _FIELDS or row["number"] != number:
                raise ValueError
            (what, result), forwards, backwards = row["results"]
        except (AttributeError, TypeError, ValueError):
            raise NoProblemError("writes to the standard output behind Python's back") from None
        yield Recorded(
            number=number,
            what=str(what),
            result=str(result),
            is_sure=forwards == backwards and (forwards == [what, result] or forwards[0] == "slow"),
            holds=row["holds"],
            printed=bool(row["printed"]),
        )


def _refuse(row: Recorded, call: Call, candidate: Candidate) -> None:
    text = call_text(candidate.entry_point, call)[:100]
    if row.printed:
        raise NoProblemError(f"prints: {text}")
    if call.from_docstring and row.holds is not True:
        raise NoProblemError(f"its docstring is wrong: {call.claim[:150]}")
    if candidate.undecorated and row.holds is False:
        raise NoProblemError(f"differs without its decorators: {call.claim[:150]}")
    if not row.is_sure:
        raise NoProblemError(f"depends on chance or on the order of a set: {text}")
    if row.what == "ok" and " at 0x" in row.result:
        raise NoProblemError(f"shows an address: {text}")


def assertion(pair: Pair) -> str:
    """A line of the hidden tests; floats are compared with a tolerance."""
    if isinstance(pair.value, float):
        return f"assert math.isclose({pair.call}, {pair.result}, rel_tol=1e-06, abs_tol=1e-09)"
    if holds_float(pair.value):
        return f"assert is_close({pair.call}, {pair.result})"
    if pair.value is None or isinstance(pair.value, bool):
        return f"assert {pair.call} is {pair.result}"
    return f"assert {pair.call} == {pair.result}"


def is_stable(value: Any) -> bool:
    """Whether a float in it is so large or small that another order of operations gives another one."""
    if isinstance(value, float):
        return value == 0 or 1e-8 < abs(value) < 1e15
    if isinstance(value, complex):
        return math.isfinite(abs(value))
    if isinstance(value, dict):
        return all(map(is_stable, value.values()))
    return all(map(is_stable, value)) if isinstance(value, list | tuple | set | frozenset) else True


IS_CLOSE = '''def is_close(a, b):
    """Equal, floats inside nearly so."""
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(is_close(x, y) for x, y in zip(a, b))
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(is_close(a[key], b[key]) for key in b)
    if isinstance(b, (float, complex)):
        return isinstance(a, (int, float, complex)) and abs(a - b) <= max(1e-06 * max(abs(a), abs(b)), 1e-09)
    return a == b
'''


def tests_of(pairs: Sequence[Pair]) -> str:
    lines = [assertion(pair) for pair in pairs]
    head = "import math\n\n" if any("math.isclose(" in line[:20] for line in lines) else ""
    if any(line.startswith("assert is_close(") for line in lines):
        head += IS_CLOSE + "\n"
    return head + "".join(line + "\n" for line in lines)
