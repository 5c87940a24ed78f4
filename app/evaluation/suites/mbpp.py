"""MBPP (arXiv 2108.07732): 974 short tasks, each with three assertions, and its sanitized half, checked by hand. The
files are not part of this project: google-research's repository or its data set on the Hub, CC BY 4.0, for evaluation
only.

The suites' problems are the test split, tasks 11 to 510. `challenge_test_list` is not run: published scores leave it
out.
"""

from pathlib import Path

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite, function_in
from app.problem_sets.mbpp import HUB, SPLITS, tasks_of
from app.problem_sets.problem_files import hub_rows, rows
from app.problem_sets.task import Task
from app.prompting.questions import MBPP_END, mbpp_frame, mbpp_question
from app.records import Problem

SHOTS = ("MBPP/2", "MBPP/3", "MBPP/4")
"""The paper's examples for the completion protocol."""
MATCHED = ("check_str", "text_match_three", "text_starta_endb")
"""Functions whose reference in the sanitized tasks returns a match object, of which the tests want the truth only."""


class Mbpp(ProgramSuite):
    name = "mbpp"
    place = f"mbpp.jsonl of google-research's repository, or {HUB} on the Hub (CC BY 4.0)"
    stop = (MBPP_END,)
    text_field = "text"
    hub_folder = "full"
    split = "test"

    def __init__(self) -> None:
        self._shots: list[Task] = []

    def load(self, path: Path | None) -> list[Task]:
        """The suite's split; tasks 2 to 4 of the same source are kept as examples for the completion protocol."""
        files = [f"{self.hub_folder}/{part}-00000-of-00001.parquet" for part in ("prompt", self.split)]
        read = rows(path) if path else (row for file in files for row in hub_rows(self.name, HUB, file))
        tasks = tasks_of(read, str(path or HUB), self.text_field)
        self._shots = [task for task in tasks if task.problem.id in SHOTS]
        chosen = [task for task in tasks if task.problem.split == self.split]
        if not chosen:
            ids = next(ids for ids, split in SPLITS.items() if split == self.split)
            raise UserError(f"{path or HUB} holds none of MBPP's tasks {ids[0]} to {ids[-1]}: give {self.place}")
        return chosen

    def question(self, problem: Problem) -> str:
        return mbpp_question(problem.prompt, problem.tests)

    def evalplus(self, problem: Problem) -> str:
        """The task and its first assertion as a docstring, the form of MBPP+'s prompts."""
        return f'"""\n{problem.prompt.strip()}\n{problem.tests.splitlines()[0]}\n"""\n'

    def text(self, problem: Problem) -> str:
        """The paper's frame, three examples first. Raises UserError when the source lacks them."""
        if len(self._shots) != len(SHOTS):
            raise UserError(
                f"the completion protocol of {self.name} shows tasks 2, 3 and 4 first, and the file has "
                f"{len(self._shots)} of them: give a file with all splits, or take the chat protocol"
            )
        shots = [f"{_frame(task.problem)}\n{task.canonical_solution}\n{MBPP_END}" for task in self._shots]
        return "\n\n".join([*shots, _frame(problem)])

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        return reply if protocol == "completion" else function_in(reply, problem, protocol)

    def given_program(self, problem: Problem, completion: str) -> str:
        """MBPP's prompt is no Python: a completion is the program. A docstring before it, as EvalPlus has, is fine."""
        return completion


class MatchesAsTruth(ProgramSuite):
    """A suite whose tests want the truth only of a match object."""

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        return with_truth_of_matches(problem, super().program(problem, protocol, reply))

    def given_program(self, problem: Problem, completion: str) -> str:
        return with_truth_of_matches(problem, super().given_program(problem, completion))

    def whole_program(self, problem: Problem, solution: str) -> str:
        return with_truth_of_matches(problem, super().whole_program(problem, solution))


class MbppSanitized(MatchesAsTruth, Mbpp):
    name = "mbpp_sanitized"
    place = f"sanitized-mbpp.json of google-research's repository, or {HUB} on the Hub (CC BY 4.0)"
    text_field = "prompt"
    hub_folder = "sanitized"


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


def _frame(problem: Problem) -> str:
    return mbpp_frame(problem.prompt, problem.tests)
