"""How many drafts of a problem give the same as a draft on all inputs (`app.best_of.agreement`), for problems of which
tests or examples tell inputs.

Inputs are those of the problem's tests, further ones included, without what is expected of them. A problem without
tests has those of its docstring's examples, and others made of them as hardening makes them
(`app.problem_tests.inputs`). Programs run in the sandbox, one a core. Limit: drafts of a problem without inputs all
score 0.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from app.best_of.agreement import MAX_INPUTS, Outputs, agreement, outputs
from app.corpus.mining.docstring_examples import from_docstring
from app.corpus.mining.records import Call
from app.files.python_source import parsed
from app.problem_tests.assertions import Form, seeds_of
from app.problem_tests.inputs import further_calls
from app.records import Problem, ProblemStyle
from app.reward.records import JudgedDraft, TrainingProblem
from app.sandbox.local import LocalJudges
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

Scores = dict[tuple[str, str], float]
"""By a problem's id and a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Calls on which drafts of a problem are compared, and how its tests ask. Made by `inputs_of`."""

    form: Form
    calls: tuple[Call, ...]


def inputs_of(problem: TrainingProblem) -> Inputs | None:
    """None for a problem of which no call is known."""
    tested = problem.problem
    if tested.tests and tested.style in (ProblemStyle.CHECK, ProblemStyle.ASSERTIONS):
        seeds = seeds_of(tested)
        if not seeds:
            return None
        return Inputs(form=seeds[0].form, calls=tuple(_spread([seed.call for seed in seeds])))
    if tested.tests:
        return None
    calls = from_docstring(tested.entry_point, _docstring(tested)).calls
    if not calls:
        return None
    given = [Call(args=call.args, kwargs=call.kwargs) for call in calls]
    further = further_calls(given, (), problem.constraints, tested.prompt)
    form = Form(callee=tested.entry_point, subject="__call__", test="", made_by=(), expected_made_by="")
    return Inputs(form=form, calls=tuple([*given, *further][:MAX_INPUTS]))


def agreements(
    problems: Mapping[str, TrainingProblem],
    drafts: Iterable[JudgedDraft],
    settings: SandboxSettings,
    confined: Confinement,
) -> Scores:
    """For each draft the share of its problem's drafts that give the same on all inputs, itself included.

    problems: by their ids, those of all drafts.
    """
    votes: dict[str, Counter[str]] = {}
    for one in drafts:
        votes.setdefault(one.draft.problem_id, Counter()).update([one.program])
    asked = {name: found for name in votes if (found := inputs_of(problems[name])) is not None}
    jobs = [(name, program) for name in asked for program in votes[name]]

    def run(supervisor: Supervisor, job: tuple[str, str]) -> Outputs:
        name, program = job
        return outputs(problems[name].problem, program, asked[name].form, asked[name].calls, supervisor)

    scores = {(name, program): 0.0 for name, programs in votes.items() for program in programs}
    with closing(LocalJudges(settings, confined)) as judges:
        given = dict(zip(jobs, judges.work_all(run, jobs), strict=True))
    for name in asked:
        shares = agreement({program: given[name, program] for program in votes[name]}, votes[name])
        scores |= {(name, program): share for program, share in shares.items()}
    return scores


def _spread(calls: Sequence[Call]) -> list[Call]:
    """MAX_INPUTS of the calls at most, evenly: given ones come first, and made ones by how their answers differ."""
    number = min(MAX_INPUTS, len(calls))
    return [calls[place * len(calls) // number] for place in range(number)]


def _docstring(problem: Problem) -> str:
    """That of the function which the prompt begins; empty where there is none."""
    tree = parsed(f"{problem.prompt.rstrip()}\n    pass\n")
    nodes = ast.walk(tree) if tree else ()
    functions = (n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == problem.entry_point)
    return next((text for node in functions if (text := ast.get_docstring(node))), "")
