"""The record of a problem in which tools are at hand."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from app.corpus.records import Origin
from app.errors import UserError
from app.files.json_files import numbered_json_lines, write_json_lines
from app.files.text import one_line
from app.prompting.protocols import Message
from app.records import Problem, ProblemStyle
from app.reward.records import TrainingProblem

Form = Literal[
    "simple", "multiple", "parallel", "parallel_multiple", "irrelevant", "missing", "chat", "formatted",
    "search_call", "search_answer", "search_none",
]  # fmt: skip
"""simple: one function is offered and called once; multiple: several are offered, one is called; parallel: one is
called several times; parallel_multiple: several are called; irrelevant: none fits; missing: a value that is needed is
not said; chat: none is needed; formatted: one is called, with a value in the form that its description asks for;
search_*: documentation is searched, its results are answered from, or nothing needs them."""
NO_CALL: tuple[Form, ...] = ("irrelevant", "missing", "chat", "search_none")
"""A call is wrong there, whatever has been said before."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ToolProblem:
    """A dialogue with tools up to the model's turn, and that turn. Made by `making`, `formats` and `searches`; learnt
    from by imitation, and where it has tests by reward.

    Example: ToolProblem(form="simple", problem=Problem(..., tools='[{"type": "function", ...}]', tests='{"expect":
    "calls", ...}'), turns=({"role": "user", "content": "Wrap 'a b' at 7."},), reply="<tool_call>...", origins=(...,))
    """

    form: Form
    problem: Problem
    """Its `tests` are those of the suite `tooluse`; empty where nothing tells a right reply from another."""
    turns: tuple[Message, ...]
    reply: str
    origins: tuple[Origin, ...]
    """Whose functions and passages it is made of."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.problem.tools)
        return found

    @property
    def training_problem(self) -> TrainingProblem:
        return TrainingProblem(
            suite="tooluse", given=self.problem, problem=self.problem, reference=self.reply, question=self.turns
        )


def tool_problem(
    form: Form,
    name: str,
    turns: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    reply: str,
    tests: Mapping[str, Any] | None,
    origins: Sequence[Origin],
) -> ToolProblem:
    """name: what its id ends with."""
    licences = sorted({origin.licence for origin in origins}) or ["MIT"]  # of words that are ours alone
    problem = Problem(
        id=f"tools/{name}",
        source="tools",
        licence=" AND ".join(f"({one})" if " " in one else one for one in licences),
        prompt=next(turn["content"] for turn in reversed(turns) if turn["role"] == "user"),
        entry_point="",
        tests=json.dumps(tests, ensure_ascii=False) if tests else "",
        style=ProblemStyle.CALLS,
        tools=json.dumps(list(tools), ensure_ascii=False),
        difficulty=form,
        split="train",
    )
    return ToolProblem(form=form, problem=problem, turns=tuple(turns), reply=reply, origins=tuple(origins))


def write_problems(path: Path, problems: Sequence[ToolProblem]) -> None:
    write_json_lines(path, [dataclasses.asdict(one) for one in problems])


def read_problems(path: Path) -> list[ToolProblem]:
    """Raises UserError naming the line of a file of another kind."""
    found = []
    for number, row in numbered_json_lines(path):
        try:
            origins = tuple(Origin(**origin) for origin in row["origins"])
            problem = Problem(**row["problem"] | {"style": ProblemStyle(row["problem"]["style"])})
            found.append(
                ToolProblem(
                    form=row["form"], problem=problem, turns=tuple(row["turns"]), reply=row["reply"], origins=origins
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}, line {number} is no problem with tools ({one_line(repr(error))}): make the file anew with "
                "`python -m benchmarks.tool_arms rows`"
            ) from None
    return found
