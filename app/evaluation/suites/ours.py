"""Small problems of this project's own, for a fresh clone in which no other problems are: functions and classes, from
one plain line to a short algorithm, under datasets/problems (README.md there tells the form; --problems takes a file or
folder of the same form).

A suite's problems are those for validation. The others are there to learn from, and measured nowhere.
"""

import ast
from pathlib import Path

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite
from app.files.python_source import parse
from app.problem_sets.own import FOLDER, tasks_of
from app.problem_sets.task import Task
from app.prompting.protocols import ask
from app.prompting.replies import code_block, defines
from app.records import Problem


class Ours(ProgramSuite):
    name = "ours"
    place = "datasets/problems of this repository (MIT)"

    def load(self, path: Path | None) -> list[Task]:
        chosen = [task for task in tasks_of(path or FOLDER) if task.problem.split == "validation"]
        if not chosen:
            raise UserError(f"{path or FOLDER} holds no problem for validation: give one that says `split: validation`")
        return chosen

    def question(self, problem: Problem) -> str:
        return ask(problem.prompt, "class" if problem.prompt.startswith("class ") else "function")

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        if protocol == "completion":
            return problem.prompt.rstrip() + reply
        name = defined_name(problem.prompt)
        code = code_block(reply, name)
        return code if defines(code, name) else f"{problem.prompt.rstrip()}\n{code}"  # only the body came back


def defined_name(prompt: str) -> str:
    """The function or class that is asked for; a class' problem calls another function (`app.problem_sets.own`)."""
    (node,) = parse(prompt).body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return node.name
