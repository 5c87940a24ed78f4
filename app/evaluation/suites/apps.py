"""APPS (arXiv 2105.09938): 5,000 training and 5,000 test problems of programming contests, in three grades; most read
standard input, some are functions. The data are not part of this project: codeparrot/apps on the Hub, MIT; the
statements' own terms are those of the sites they come from.

Functions are judged as the official harness does (hendrycks/apps, `eval/testing_util.py`, MIT). A script's output is
compared by lines, then by words and numbers (`app.sandbox.stdio`): stricter than the official last resorts, which
compare lines as sets of words. docs/evaluation.md lists what differs.
"""

from pathlib import Path

from app.errors import UserError
from app.evaluation.suites.suite import ProgramSuite
from app.problem_sets.apps import HUB, IMPORTS, tasks_of
from app.problem_sets.problem_files import hub_rows, rows
from app.problem_sets.task import Task
from app.progress import say
from app.prompting.questions import apps_frame, apps_question
from app.prompting.replies import code_block
from app.records import Problem, ProblemStyle


class Apps(ProgramSuite):
    name = "apps"
    place = f"test.jsonl of {HUB} on the Hub (MIT)"
    stop = ("\nQUESTION:", "\nANSWER:")
    difficulty = ""

    def load(self, path: Path | None) -> list[Task]:
        """The problems of this suite's grade; those without readable tests are left out, and counted."""
        read = rows(path) if path is not None else hub_rows(self.name, HUB, "test.jsonl")
        tasks, num_untested = tasks_of(read, str(path or HUB), self.difficulty)
        if num_untested:
            say(f"  {self.name}: {num_untested} problems without readable tests left out")
        if not tasks:
            raise UserError(f"{path or HUB} holds no problem of {self.name} that has tests: give {self.place}")
        return tasks

    def question(self, problem: Problem) -> str:
        return apps_question(problem)

    def text(self, problem: Problem) -> str:
        return apps_frame(problem)

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
