"""What a benchmark is to this project: problems, the words they are asked in, and what its replies are judged by.

Each suite is one small file that derives from `Suite`; `registry.py` knows them by name. Most are `ProgramSuite`s: one
question, one program, run against tests in the sandbox.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.problem_sets.task import Task
from app.prompting.protocols import SOURCE_STOP, Message, ask
from app.prompting.replies import called_by, code_block
from app.records import Problem, Verdict


class Suite:
    """One benchmark, in which nothing is run unless `program` is given. `replies` are what the model has said of one
    problem so far, thoughts taken out; a suite of one question has no next turn once there is a reply."""

    name = ""
    place = ""
    """Where the problems come from and under which licence, in words: for a file that is missing."""
    stop: tuple[str, ...] = ()
    """The completion protocol ends before the first of these texts."""

    def load(self, path: Path | None) -> list[Task]:
        """The problems, in the suite's order. path: a file or folder of the user's; None: where the suite itself finds
        them (a package, this repository, or the Hub).

        Raises UserError naming what is missing or wrong, and where to get it.
        """
        raise NotImplementedError

    def chat(self, problem: Problem, replies: Sequence[str]) -> list[Message] | None:
        """The dialogue up to the model's next turn; None when it has had its last."""
        raise NotImplementedError

    def completion(self, problem: Problem, replies: Sequence[str]) -> str | None:
        """The text to continue; None when the model has had its last turn."""
        raise NotImplementedError

    def evalplus(self, problem: Problem) -> str:
        """What the protocol evalplus shows of the problem. Raises UserError for a suite that EvalPlus does not ask."""
        raise UserError(
            f"the protocol evalplus asks for functions as EvalPlus does, and {self.name} asks for something else: take "
            "it for humaneval, humaneval_plus, mbpp, mbpp_sanitized or mbpp_plus"
        )

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        """The program in a reply, to be run against the problem's tests; empty where none is run."""
        return ""

    def given_program(self, problem: Problem, completion: str) -> str:
        """The program of a sample that somebody else drew, of its field `completion`."""
        return ""

    def whole_program(self, problem: Problem, solution: str) -> str:
        """The program of such a sample's field `solution`, with what the suite's own harness adds to it."""
        return solution

    def verdict(self, problem: Problem, protocol: str, replies: Sequence[str]) -> Verdict | None:
        """What the replies come to, for a suite scored by structure; None: run `program` in the sandbox."""
        return None


class ProgramSuite(Suite):
    """A suite of one question and one program a problem, after HumanEval; the others change what differs."""

    stop: tuple[str, ...] = SOURCE_STOP

    def question(self, problem: Problem) -> str:
        """The user's turn."""
        return ask(problem.prompt)

    def text(self, problem: Problem) -> str:
        """What a base model continues."""
        return problem.prompt

    def program(self, problem: Problem, protocol: str, reply: str) -> str:
        if protocol == "completion":
            return problem.prompt.rstrip() + reply
        return function_in(reply, problem, protocol)

    def given_program(self, problem: Problem, completion: str) -> str:
        return problem.prompt + completion

    def chat(self, problem: Problem, replies: Sequence[str]) -> list[Message] | None:
        return None if replies else [{"role": "user", "content": self.question(problem)}]

    def completion(self, problem: Problem, replies: Sequence[str]) -> str | None:
        return None if replies else self.text(problem)


def function_in(reply: str, problem: Problem, protocol: str, given: str = "") -> str:
    """The program in a reply that was asked for a function. given: what will stand before it."""
    code = code_block(reply, problem.entry_point, given=given)
    return called_by(code, problem.entry_point) if protocol == "evalplus" else code


def structural_verdict(problem: Problem, status: Any, detail: str) -> Verdict:
    """A verdict on what was said, where nothing was run."""
    return Verdict(problem_id=problem.id, status=status, detail=detail, tier="structure")
