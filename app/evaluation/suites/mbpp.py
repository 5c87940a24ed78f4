"""MBPP (arXiv 2108.07732): 974 short tasks, each with three assertions, and its sanitized half, checked by hand. The
files are not part of this project: google-research's repository or its data set on the Hub, CC BY 4.0, for evaluation
only.

A suite's problems are the test split, tasks 11 to 510. `challenge_test_list` is not run: published scores leave it out.
"""

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.problem_files import hub_rows, reading, rows, with_texts
from app.evaluation.suites.suite import ProgramSuite, Task
from app.prompting.replies import code_block
from app.records import Problem, ProblemStyle

SPLITS = {range(1, 11): "few_shot", range(11, 511): "test", range(511, 601): "validation", range(601, 975): "train"}
"""By task id, as the paper divides them."""
SHOTS = ("MBPP/2", "MBPP/3", "MBPP/4")
"""The paper's examples for the completion protocol."""
HUB = "google-research-datasets/mbpp"
END = "[DONE]"
MATCHED = ("check_str", "text_match_three", "text_starta_endb")
"""Functions whose reference in the sanitized tasks returns a match object, of which the tests want the truth only."""


class Mbpp(ProgramSuite):
    name = "mbpp"
    place = f"mbpp.jsonl of google-research's repository, or {HUB} on the Hub (CC BY 4.0)"
    stop = (END,)
    text_field = "text"
    hub_folder = "full"

    def __init__(self) -> None:
        self._shots: list[Task] = []

    def load(self, path: Path | None) -> list[Task]:
        """The test split; tasks 2 to 4 of the same source are kept as examples for the completion protocol."""
        if path is not None:
            tasks = load(path, self.text_field)
        else:
            files = [f"{self.hub_folder}/{part}-00000-of-00001.parquet" for part in ("prompt", "test")]
            read = (row for file in files for row in hub_rows(self.name, HUB, file))
            tasks = _tasks(read, HUB, self.text_field)
        self._shots = [task for task in tasks if task.problem.id in SHOTS]
        chosen = [task for task in tasks if task.problem.split == "test"]
        if not chosen:
            raise UserError(f"{path or HUB} holds none of MBPP's tasks 11 to 510: give {self.place}")
        return chosen

    def question(self, problem: Problem) -> str:
        """Zero-shot; the assertions tell the function's name and arguments."""
        return (
            "Write a Python function for the following task. Reply with the whole function in one code block.\n"
            f"{problem.prompt}\nThe function has to pass these tests:\n```python\n{problem.tests}\n```"
        )

    def text(self, problem: Problem) -> str:
        """The paper's frame, three examples first. Raises UserError when the source lacks them."""
        if len(self._shots) != len(SHOTS):
            raise UserError(
                f"the completion protocol of {self.name} shows tasks 2, 3 and 4 first, and the file has "
                f"{len(self._shots)} of them: give a file with all splits, or take the chat protocol"
            )
        shots = [f"{frame(task.problem)}\n{task.canonical_solution}\n{END}" for task in self._shots]
        return "\n\n".join([*shots, frame(problem)])

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        return reply if protocol == "completion" else code_block(reply, problem.entry_point)

    def given_program(self, problem: Problem, completion: str) -> str:
        """MBPP's prompt is no Python: a completion is the program. A docstring before it, as EvalPlus has, is fine."""
        return completion


class MbppSanitized(Mbpp):
    name = "mbpp_sanitized"
    place = f"sanitized-mbpp.json of google-research's repository, or {HUB} on the Hub (CC BY 4.0)"
    text_field = "prompt"
    hub_folder = "sanitized"

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        return with_truth_of_matches(problem, super().program(problem, protocol, reply))

    def given_program(self, problem: Problem, completion: str) -> str:
        return with_truth_of_matches(problem, completion)

    def whole_program(self, problem: Problem, solution: str) -> str:
        return with_truth_of_matches(problem, solution)


def with_truth_of_matches(problem: Problem, program: str) -> str:
    """The program, whose match objects become True: no match object crosses from a program to its tests."""
    name = problem.entry_point
    if name not in MATCHED:
        return program
    return f"""{program}

_answer = {name}
def {name}(*args):
    import re
    answer = _answer(*args)
    return True if isinstance(answer, re.Match) else answer
"""


def load(path: Path, text_field: str | None = None) -> list[Task]:
    """Every task of the file, all splits. text_field: insist on the whole (text) or the sanitized (prompt) form.

    Raises UserError when it is no such file.
    """
    return _tasks(rows(path), str(path), text_field)


def _tasks(read: Iterable[dict[str, Any]], place: str, text_field: str | None) -> list[Task]:
    form = "sanitized MBPP (sanitized-mbpp.json)" if text_field == "prompt" else "MBPP (mbpp.jsonl)"
    source = "the file of https://github.com/google-research/google-research/tree/master/mbpp"
    tasks = []
    for number, row in enumerate(read, 1):
        with reading(place, number, row.get("task_id"), form, source):
            tasks.append(with_texts(_task(row, text_field or ("text" if "text" in row else "prompt"))))
    return tasks


def _task(row: dict[str, Any], text_field: str) -> Task:
    tests = [_unix(test) for test in row["test_list"]]
    code = _unix(row["code"])
    return Task(
        problem=Problem(
            id=f"MBPP/{row['task_id']}",
            source="mbpp",
            licence="CC-BY-4.0",
            prompt=_unix(row[text_field]),
            entry_point=_entry_point(code, tests),
            tests="\n".join(tests),
            style=ProblemStyle.ASSERTIONS,
            setup=_unix(row["test_setup_code"]) if text_field == "text" else "\n".join(row["test_imports"]),
            split=_split(row["task_id"]),
        ),
        canonical_solution=code,
    )


def _split(task_id: Any) -> str:
    for ids, split in SPLITS.items():
        if task_id in ids:
            return split
    raise ValueError(f"task_id {task_id!r} is not one of 1 to 974")


def _unix(text: str) -> str:
    """The file's strings hold \\r\\n, which a prompt should not."""
    return text.replace("\r\n", "\n")


def frame(problem: Problem) -> str:
    """What the completion protocol asks of each problem."""
    return (
        f"You are an expert Python programmer, and here is your task: {problem.prompt} "
        f"Your code should pass these tests:\n\n{problem.tests}\n[BEGIN]"
    )


def _entry_point(code: str, tests: list[str]) -> str:
    """The function of the reference solution that the assertions call."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    called = [
        node.func.id
        for node in ast.walk(ast.parse("\n".join(tests)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for name in called:
        if name in defined:
            return name
    raise ValueError("its tests call no function that its code defines")
