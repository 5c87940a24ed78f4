"""APPS (arXiv 2105.09938): 5,000 training and 5,000 test problems of programming contests, in three grades; most read
standard input, some are functions. The data are not part of this project: codeparrot/apps on the Hub, MIT; the
statements' own terms are those of the sites they come from.

Functions are judged as the official harness does (hendrycks/apps, `eval/testing_util.py`, MIT). A script's output is
compared by lines, then by words and numbers (`app.sandbox.stdio`): stricter than the official last resorts, which
compare lines as sets of words. docs/evaluation.md lists what differs.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.problem_files import hub_rows, reading, rows, with_texts
from app.evaluation.suites.suite import ProgramSuite, Task
from app.progress import say
from app.prompting.replies import code_block
from app.records import Problem, ProblemStyle

HUB = "codeparrot/apps"
IMPORTS = """\
import sys, time, itertools, collections, math, fractions, random, heapq
from itertools import accumulate, product, permutations, combinations
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2
from typing import List, Tuple
from heapq import *
"""
"""What the official harness puts before each program, but for numpy, which takes longer to load than most tests."""
_PRELUDE = """\
from math import inf, nan


def same(answer, expected):
    if isinstance(answer, tuple):
        answer = list(answer)
    wrapped = expected[0] if isinstance(expected, list) and expected else expected
    if answer == expected or answer == wrapped:
        return True
    tuples = isinstance(answer, list) and answer and isinstance(answer[0], tuple)
    return bool(tuples) and [list(item) for item in answer] == wrapped


"""
_TESTS = """\
def check(candidate):
    for number, (given, expected) in enumerate(CASES, 1):
        assert same(candidate(*given), expected), f"input {number} of {len(CASES)}"
"""


class Apps(ProgramSuite):
    name = "apps"
    place = f"test.jsonl of {HUB} on the Hub (MIT)"
    stop = ("\nQUESTION:", "\nANSWER:")
    difficulty = ""

    def load(self, path: Path | None) -> list[Task]:
        """The problems of this suite's grade; those without readable tests are left out, and counted."""
        read = rows(path) if path is not None else hub_rows(self.name, HUB, "test.jsonl")
        tasks, num_untested = _tasks(read, str(path or HUB), self.difficulty)
        if num_untested:
            say(f"  {self.name}: {num_untested} problems without readable tests left out")
        if not tasks:
            raise UserError(f"{path or HUB} holds no problem of {self.name} that has tests: give {self.place}")
        return tasks

    def question(self, problem: Problem) -> str:
        if problem.style == ProblemStyle.STDIO:
            form = "a Python program that reads from standard input and prints its answer"
        else:
            form = f"Python code that defines {problem.entry_point}, beginning with the code given at the end"
        return f"Solve this problem with {form}. Reply with the whole program in one code block.\n\n{problem.prompt}"

    def text(self, problem: Problem) -> str:
        """The paper's frame, without an example."""
        form = "Standard Input" if problem.style == ProblemStyle.STDIO else "Call-Based"
        return f"QUESTION:\n{problem.prompt}\nUse {form} format\nANSWER:"

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        is_script = problem.style == ProblemStyle.STDIO
        return self.given_program(problem, code_block(reply, problem.entry_point, given=IMPORTS, is_script=is_script))

    def given_program(self, problem: Problem, completion: str) -> str:
        """With the harness's imports, and the function out of the class Solution where there is one."""
        program = completion if "from __future__" in completion else IMPORTS + completion
        if problem.style == ProblemStyle.CHECK and "class Solution" in completion:
            program += f"\n{problem.entry_point} = Solution().{problem.entry_point}\n"
        return program

    def whole_program(self, problem: Problem, solution: str) -> str:
        return self.given_program(problem, solution)


class AppsIntroductory(Apps):
    name = "apps_introductory"
    difficulty = "introductory"


class AppsInterview(Apps):
    name = "apps_interview"
    difficulty = "interview"


class AppsCompetition(Apps):
    name = "apps_competition"
    difficulty = "competition"


def _tasks(read: Iterable[dict[str, Any]], place: str, difficulty: str) -> tuple[list[Task], int]:
    """Tasks of a grade (of all for an empty one), and how many of it have no readable tests."""
    tasks, num_untested = [], 0
    for number, row in enumerate(read, 1):
        with reading(place, number, row.get("problem_id"), "APPS", f"test.jsonl or train.jsonl of {HUB}"):
            if difficulty and row["difficulty"] != difficulty:
                continue
            in_out = _tests_of(row["input_output"])
            if in_out.get("inputs"):
                tasks.append(with_texts(_task(row, in_out)))
            else:
                num_untested += 1
    return tasks, num_untested


def _task(row: dict[str, Any], in_out: dict[str, Any]) -> Task:
    name = in_out.get("fn_name") or ""
    solutions = json.loads(row["solutions"] or "[]") if isinstance(row["solutions"], str) else row["solutions"]
    pairs = list(zip(in_out["inputs"], in_out["outputs"], strict=False))
    cases = [_keys_restored(*pair) for pair in pairs] if name else []
    return Task(
        problem=Problem(
            id=f"APPS/{row['problem_id']}",
            source="apps",
            licence="MIT",
            prompt="\n".join(part for part in (row["question"].strip(), row["starter_code"].rstrip()) if part),
            entry_point=name,
            prelude=f"{_PRELUDE}CASES = {cases!r}\n" if name else "",
            tests=_TESTS if name else json.dumps([(_lines(given), _lines(expected)) for given, expected in pairs]),
            style=ProblemStyle.CHECK if name else ProblemStyle.STDIO,
            difficulty=row["difficulty"],
        ),
        canonical_solution=solutions[0] if solutions else "",
    )


def _tests_of(value: Any) -> dict[str, Any]:
    """The field holds JSON as text, in some copies the value itself. An empty text says that there are no tests, and a
    number of more than 4,300 digits, which Python reads no more, that they can't be had."""
    try:
        return (json.loads(value) if isinstance(value, str) else value) or {}
    except ValueError:
        return {}


def _lines(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _keys_restored(given: Any, expected: Any) -> tuple[Any, Any]:
    """Dicts with the int keys that JSON made texts of, where the harness restores them."""
    if isinstance(given, list) and given and isinstance(given[0], dict):
        given = [_with_int_keys(given[0])] if _with_int_keys(given[0]) is not given[0] else given
    if isinstance(expected, dict):
        expected = [_with_int_keys(expected)]
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        expected = [_with_int_keys(expected[0])]
    return given, expected


def _with_int_keys(value: dict[str, Any]) -> dict[Any, Any]:
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return value
