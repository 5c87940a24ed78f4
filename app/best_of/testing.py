"""Drafts of one question, run on its examples and on further inputs like theirs.

That a draft passes the examples is the judge's word, which a program can't forge. What it gave instead, and what it
gives on inputs that nobody knows the answer to, it says itself (`app.corpus.mining.recording`): a draft that lies there
is repaired for nothing, or agrees with none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.best_of.agreement import MAX_INPUTS, Outputs, shown
from app.best_of.stated import Stated
from app.corpus.mining.inputs import call_text
from app.corpus.mining.literals import written
from app.corpus.mining.recording import Recorded
from app.corpus.mining.records import Call, NoProblemError
from app.problem_sets.leetcode import constraints_in
from app.problem_tests.answers import agree, answers
from app.problem_tests.assertions import Form, Seed
from app.problem_tests.inputs import further_calls
from app.records import Status
from app.sandbox.supervisor import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedExample:
    """An example that a draft fails. Made by `tested`; told to the model that repairs it, and to people.

    Example: FailedExample(call="f([3, 1])", expected="[1, 3]", got="[3, 1]", error="")
    """

    call: str
    expected: str
    """Empty where the example is no comparison with one value; then `call` is all of it."""
    got: str
    """What the draft gave; empty where it gave nothing that can be shown."""
    error: str
    """Why it gave nothing, or the judge's word where nothing more is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What came of one program. Made by `tested`; read by the choice."""

    status: Status | None
    """The judge's verdict on all examples; None where there is none."""
    num_passed: int
    """Examples that it passes; all of them exactly where the judge says so."""
    failed: FailedExample | None
    outputs: Outputs
    """What it gives on the examples' inputs and the further ones."""
    tier: str
    """How it was confined; empty where nothing was run."""

    @property
    def passes(self) -> bool:
        return self.status == Status.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the drafts of a question are run on. Made by `trial_of`."""

    stated: Stated
    form: Form | None
    """How most examples ask; None where no input is known."""
    seeds: tuple[Seed, ...]
    """Examples of this form."""
    further: tuple[Call, ...]
    """Inputs like theirs."""

    @property
    def calls(self) -> list[Call]:
        return [*(seed.call for seed in self.seeds), *self.further]


def trial_of(stated: Stated) -> Trial:
    """Further inputs keep to what the question says of them."""
    forms = [seed.form for seed in stated.seeds]
    if not forms:
        return Trial(stated=stated, form=None, seeds=(), further=())
    form = max(forms, key=forms.count)
    seeds = tuple(seed for seed in stated.seeds if seed.form == form)
    given = [seed.call for seed in seeds]
    question = stated.problem.prompt
    further = further_calls(given, (), constraints_in(question), question)
    room = max(0, MAX_INPUTS - len(given))
    return Trial(stated=stated, form=form, seeds=seeds, further=tuple(further[:room]))


def tested(trial: Trial, program: str, supervisor: Supervisor) -> Tested:
    """Never raises for what the program does."""
    stated = trial.stated
    verdict = supervisor.judge(stated.problem, program) if stated.num_examples else None
    rows = _recorded(trial, program, supervisor)
    tier = verdict.tier if verdict else supervisor.tier if rows else ""
    outputs = tuple(map(shown, rows))
    if verdict is None:
        return Tested(status=None, num_passed=0, failed=None, outputs=outputs, tier=tier)
    if verdict.status == Status.PASSED:
        return Tested(status=verdict.status, num_passed=stated.num_examples, failed=None, outputs=outputs, tier=tier)
    num_passed, failed = 0, None
    for seed, row in zip(trial.seeds, rows, strict=False):
        if _holds(seed, row):
            num_passed += 1
        elif failed is None:
            failed = _failed(trial, seed, row, verdict.detail)
    if failed is None:
        failed = FailedExample(call="", expected="", got="", error=verdict.detail or str(verdict.status))
    return Tested(
        status=verdict.status,
        num_passed=min(num_passed, stated.num_examples - 1),
        failed=failed,
        outputs=outputs,
        tier=tier,
    )


def tested_all(trial: Trial, programs: Sequence[str], supervisor: Supervisor) -> dict[str, Tested]:
    """Each program once."""
    return {program: tested(trial, program, supervisor) for program in dict.fromkeys(programs)}


def _recorded(trial: Trial, program: str, supervisor: Supervisor) -> list[Recorded]:
    if trial.form is None:
        return []
    try:
        return answers(trial.stated.problem, program, trial.form, trial.calls, supervisor, max_runs=1)
    except NoProblemError:  # it wrote where its answers are
        return []


def _holds(seed: Seed, row: Recorded) -> bool:
    return row.what == "ok" and bool(seed.answers) and agree(row.result, written(seed.answers[0]), seed.form)


def _failed(trial: Trial, seed: Seed, row: Recorded, detail: str) -> FailedExample:
    """detail: the judge's word, of a program that does not even begin."""
    asked = trial.stated.asked
    call = call_text(asked.entry_point, seed.call)
    if seed.form.subject not in ("__call__", "bool(__call__)"):
        call = seed.form.subject.replace("__call__", call)
    expected = written(seed.answers[0]) if seed.answers else ""
    words = {"slow": "it takes too long", "not run": detail or "it does not run", "other": f"it gives {row.result}"}
    error = "" if row.what == "ok" else words.get(row.what, row.result)
    return FailedExample(call=call, expected=expected, got=row.result if row.what == "ok" else "", error=error)
