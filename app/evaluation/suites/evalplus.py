"""HumanEval+ and MBPP+ (EvalPlus, arXiv 2305.01210): the two suites with many times their inputs, where a function's
answers are compared with the reference solution's. The release files, Apache-2.0, are not part of this project.

The reference runs in the judge's process, confined, once for all programs that the judge gets (`reference_pairs`);
answers are compared as evalplus 0.3.1 does (`evalplus/eval/__init__.py`, Apache-2.0), its oracles for single tasks
included. Functions marked "in the judge" go there as source; nothing of them runs in a program's process.
"""

import copy
import functools
import inspect
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.mbpp import MATCHED, MatchesAsTruth
from app.evaluation.suites.plus_inputs import with_types
from app.problem_sets.problem_files import read_tasks, rows
from app.problem_sets.task import Task
from app.progress import say
from app.records import Problem

RELEASES = "https://github.com/evalplus"
SET_EQUAL = (
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
)  # fmt: skip
"""MBPP+ tasks whose answers are compared as sets."""
ORACLES = {
    "find_zero": "is_root",  # HumanEval+; the others are of MBPP+
    "are_equivalent": "accepts_any",
    "sum_div": "accepts_zero",
    "surface_Area": "is_surface",
    "digit_distance_nums": "is_distance",
    **dict.fromkeys(SET_EQUAL, "same_set"),
    **dict.fromkeys(MATCHED, "same_truth"),
}
"""Judges of single tasks, by entry point; all others are judged by `agrees`."""
MAX_WEIGHT = 1_000_000
"""An input whose answer has more bytes is left out: 39 of HumanEval+'s 122,683 added ones, of the tasks 15, 83, 100 and
130. They test the machine's memory; EvalPlus has an edition without such extremes."""
MAX_NESTING = 24
"""An input of more dictionaries in one another is left out, since it could not cross: one of Mbpp/301."""
WRONG = {"Mbpp/164": "total + i + n / i", "Mbpp/295": "res += number / i"}
"""MBPP+ tasks that are left out where their reference holds this: it contradicts the task's own assertion."""
_TESTS = """\
def check(candidate):
    tolerance = {tolerance!r}
    for number, (given, expected) in enumerate(pairs, 1):
        answer = candidate(*copy.deepcopy(given))
        if tolerance == 0 and is_floats(expected):
            tolerance = 1e-6  # and stays so for the inputs that follow, as in EvalPlus
        assert {oracle}(answer, expected, given, tolerance), f"input {{number}} of {{len(pairs)}}"
"""


class HumanEvalPlus(HumanEval):
    name = "humaneval_plus"
    place = f"HumanEvalPlus.jsonl.gz of {RELEASES}/humanevalplus_release (Apache-2.0)"
    base_only = False
    """HumanEval's own inputs alone, without those that EvalPlus added."""

    def load(self, path: Path | None) -> list[Task]:
        return _load(self, path, "HumanEval/")


class MbppPlus(MatchesAsTruth):
    name = "mbpp_plus"
    place = f"MbppPlus.jsonl.gz of {RELEASES}/mbppplus_release (Apache-2.0)"
    base_only = False
    stop = ('\n"""', "\nassert", "\nprint(", "\nif __name__", "\n```")
    """As EvalPlus stops a model that continues the docstring with a whole function."""

    def load(self, path: Path | None) -> list[Task]:
        """The tasks; those whose reference is wrong are left out, and counted."""
        tasks = _load(self, path, "Mbpp/")
        wrong = [task for task in tasks if WRONG.get(task.problem.id, "?!") in task.canonical_solution]
        if wrong:
            names = " and ".join(task.problem.id for task in wrong)
            say(f"  {self.name}: {len(wrong)} of {len(tasks)} tasks left out, {names}, whose reference is wrong")
        return [task for task in tasks if task not in wrong]

    def evalplus(self, problem: Problem) -> str:
        return problem.prompt

    def question(self, problem: Problem) -> str:
        task = problem.prompt.strip().strip('"').strip()
        return (
            "Write a Python function for the following task. Reply with the whole function in one code block.\n" + task
        )


def _load(suite: HumanEvalPlus | MbppPlus, path: Path | None, prefix: str) -> list[Task]:
    """Raises UserError without a file, and for a file of another form."""
    if path is None:
        raise UserError(f"{suite.name} needs its release file: give {suite.place} by --problems PATH")
    make = functools.partial(_task, suite=suite.name, base_only=suite.base_only)
    tasks = read_tasks(rows(path), make, str(path), suite.name, suite.place)
    strange = [task.problem.id for task in tasks if not task.problem.id.startswith(prefix)]
    if strange or not tasks:
        held = f"{strange[0]} instead of {prefix}..." if strange else "no problem"
        raise UserError(f"{path} holds {held}: give {suite.place}")
    return tasks


def _task(row: dict[str, Any], suite: str, base_only: bool) -> Task:
    inputs = row["base_input"] + ([] if base_only else row["plus_input"] or [])  # an empty {} in release 0.1.0
    entry_point = row["entry_point"]
    if suite == "mbpp_plus":
        inputs = with_types(int(row["task_id"].rpartition("/")[2]), inputs)
    return Task(
        problem=Problem(
            id=row["task_id"],
            source=suite.replace("_plus", "-plus"),
            licence="Apache-2.0",
            prompt=row["prompt"],
            prelude=_prelude(row["prompt"] + row["canonical_solution"], entry_point, inputs, suite == "mbpp_plus"),
            entry_point=entry_point,
            tests=_TESTS.format(tolerance=row["atol"], oracle=ORACLES.get(entry_point, "agrees")),
        ),
        canonical_solution=row["canonical_solution"],
        inputs=tuple(map(repr, inputs)),
    )


def _prelude(reference: str, entry_point: str, inputs: list[Any], of_mbpp: bool) -> str:
    """What the judge executes before the tests. The inputs are a Python literal: JSON has no tuple and no complex."""
    truth_only = of_mbpp and entry_point in MATCHED
    return (
        "import copy, math, sys, types\nfrom typing import Any\ninf, nan = math.inf, math.nan\n"
        f"MAX_WEIGHT, MAX_NESTING = {MAX_WEIGHT}, {MAX_NESTING}\n"
        + "\n".join(inspect.getsource(function) for function in _IN_JUDGE)
        + f"pairs = reference_pairs({reference!r}, {entry_point!r}, lambda: {inputs!r}, {truth_only})\n"
    )


def reference_pairs(source: str, name: str, make_inputs: Any, truth_only: bool) -> list[tuple[Any, Any]]:
    """In the judge: each input with the reference's answer. A module keeps them for the next program: all drafts of a
    problem are judged by one process, and some references take seconds."""
    if "reference" not in sys.modules:
        module: Any = types.ModuleType("reference")
        exec(source, module.__dict__)
        answer, module.pairs = module.__dict__[name], []
        for given in make_inputs():
            if nesting(given) > MAX_NESTING:
                continue
            try:
                expected = answer(*copy.deepcopy(given))
            except MemoryError:  # heavier than any that may cross
                continue
            if weight(expected) < MAX_WEIGHT:
                module.pairs.append((given, expected is not None if truth_only else expected))
        sys.modules["reference"] = module
    return sys.modules["reference"].pairs


def nesting(value: Any) -> int:
    """In the judge: how many dictionaries are in one another."""
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    return max(map(nesting, value), default=0) if isinstance(value, list | tuple) else 0


def weight(answer: Any) -> int:
    """In the judge: about the bytes that a program would have to send for this answer."""
    if isinstance(answer, str):
        return 10 + len(answer)
    if isinstance(answer, int):
        return 10 + answer.bit_length()  # its bits have a limit of their own, about as high
    if isinstance(answer, dict):
        return 10 + sum(weight(key) + weight(value) for key, value in answer.items())
    if isinstance(answer, list | tuple | set | frozenset):
        return 10 + sum(map(weight, answer))
    return 24


def agrees(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge: the rule of most tasks."""
    return answer == expected or is_close(answer, expected, tolerance)


def is_floats(expected: Any) -> bool:
    """In the judge: a float, or a list or tuple of nothing else."""
    values = expected if isinstance(expected, list | tuple) else [expected]
    return bool(values) and all(isinstance(value, float) for value in values)


def is_close(answer: Any, expected: Any, tolerance: float) -> bool:
    """In the judge: what np.allclose(answer, expected, rtol=1e-7, atol=tolerance) says of one type and length."""
    if tolerance == 0 or type(answer) is not type(expected):
        return False
    return near(answer, expected, tolerance)


def near(answer: Any, expected: Any, tolerance: float) -> bool:
    """In the judge: numbers within the tolerance, in lists of the same shape."""
    if isinstance(expected, list | tuple):
        if not isinstance(answer, list | tuple) or len(answer) != len(expected):
            return False
        return all(near(a, e, tolerance) for a, e in zip(answer, expected, strict=True))
    if not isinstance(answer, int | float | complex) or not isinstance(expected, int | float | complex):
        return False
    return answer == expected or (
        math.isfinite(abs(expected)) and abs(answer - expected) <= tolerance + 1e-7 * abs(expected)
    )


def is_root(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge, HumanEval/32: any root of the polynomial."""
    return abs(sum(factor * math.pow(answer, power) for power, factor in enumerate(given[0]))) <= tolerance


def accepts_any(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge, Mbpp/164: its statement admits any answer."""
    return True


def accepts_zero(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge, Mbpp/295."""
    return answer == 0 or agrees(answer, expected, given, tolerance)


def is_surface(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge, Mbpp/581: of a pyramid whose height is that of its apex over the base, or of its faces."""
    base, height = given
    other = round(base**2 + 2 * base * math.sqrt((base / 2) ** 2 + height**2))
    return agrees(answer, expected, given, tolerance) or abs(answer - other) <= tolerance


def is_distance(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge, Mbpp/558: digit by digit with the shorter number padded, or the digits of the difference."""
    one, two = map(str, given)
    width = max(len(one), len(two))
    padded = zip(one.zfill(width), two.zfill(width), strict=True)
    return agrees(answer, expected, given, tolerance) or answer == sum(abs(int(a) - int(b)) for a, b in padded)


def same_set(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge: in any order."""
    return set(answer) == set(expected) or is_close(answer, expected, tolerance)


def same_truth(answer: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """In the judge: `expected` says whether the reference found something."""
    return (answer if isinstance(answer, bool) else answer is not None) == expected


_IN_JUDGE: tuple[Callable[..., Any], ...] = (
    reference_pairs, nesting, weight, is_floats, agrees, is_close, near,
    is_root, accepts_any, accepts_zero, is_surface, is_distance, same_set, same_truth,
)  # fmt: skip
