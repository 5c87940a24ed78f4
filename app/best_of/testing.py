"""Drafts of one question, run on its examples and on further inputs like theirs.

That a draft passes the examples is the judge's word, which a program can't forge, unless the examples can't be told
apart from it (`f(1)(2) == 3`, tier `in_process`: `docs/security.md`). What it gave instead, and what it
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
    """An example that a draft fails. Made by `run_draft`; told to the model that repairs it, and to people.

    Example: FailedExample(call="f([3, 1])", expected="[1, 3]", got="[3, 1]", error="")
    """

    call: str
    expected: str
    """Empty where the example does not compare a call with one value; `call` is then the whole example."""
    got: str
    """What the draft gave; empty where it gave nothing that can be shown."""
    error: str
    """Why it gave nothing, or the judge's word where nothing more is known."""

    @property
    def example(self) -> str:
        """As a line of code. Empty where it is not known which one it is."""
        return f"{self.call} == {self.expected}" if self.call and self.expected else self.call


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftOutcome:
    """What came of one program. Made by `run_draft`; read by the choice."""

    status: Status | None
    """The judge's verdict on all examples; None where there is none."""
    num_passed: int
    """Examples that it passes; all of them exactly where the judge says so."""
    failed: FailedExample | None
    runs: bool
    """Whether it begins, and has what is to be called."""
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
    """Examples that look at the same of an answer; how near a float has to be may differ."""
    further: tuple[Call, ...]
    """Inputs like theirs."""

    @property
    def calls(self) -> list[Call]:
        return [*(seed.call for seed in self.seeds), *self.further]


def trial_of(stated: Stated) -> Trial:
    """Further inputs keep to what the question says of them."""
    looked_at = [seed.form.subject for seed in stated.seeds]
    if not looked_at:
        return Trial(stated=stated, form=None, seeds=(), further=())
    most = max(looked_at, key=looked_at.count)
    seeds = tuple(seed for seed in stated.seeds if seed.form.subject == most)
    form = seeds[0].form
    names = stated.asked.parameters
    given = [_named(seed.call, names) for seed in seeds]  # statements speak of arguments by their names
    question = stated.problem.prompt
    made = further_calls(given, (), constraints_in(question), question)
    further = [_by_place(call, names) for call in made[: max(0, MAX_INPUTS - len(given))]]
    return Trial(stated=stated, form=form, seeds=seeds, further=tuple(further))


def _named(call: Call, names: Sequence[str]) -> Call:
    if call.kwargs or len(call.args) != len(names):
        return call
    return Call(args=(), kwargs=tuple(zip(names, call.args, strict=True)))


def _by_place(call: Call, names: Sequence[str]) -> Call:
    held = dict(call.kwargs)
    return call if call.args or held.keys() != set(names) else Call(args=tuple(held[name] for name in names))


def run_draft(trial: Trial, program: str, supervisor: Supervisor) -> DraftOutcome:
    """Never raises for what the program does."""
    stated = trial.stated
    if not stated.num_examples:
        run = supervisor.run_script(f"{program}\n\n{stated.asked.entry_point}\n")
        return DraftOutcome(
            status=None, num_passed=0, failed=None, runs=run.status == Status.PASSED, outputs=(), tier=run.tier
        )
    verdict = supervisor.judge(stated.problem, program)
    rows = _recorded(trial, program, supervisor) if verdict.status != Status.LOAD_ERROR else []
    num_passed, failed = stated.num_examples, None
    if verdict.status != Status.PASSED:
        num_passed, failed = _weighed(trial, rows, verdict.detail or str(verdict.status))
    return DraftOutcome(
        status=verdict.status,
        num_passed=num_passed,
        failed=failed,
        runs=verdict.status != Status.LOAD_ERROR,
        outputs=tuple(map(shown, rows)),
        tier=verdict.tier,
    )


def _weighed(trial: Trial, rows: Sequence[Recorded], detail: str) -> tuple[int, FailedExample]:
    """How many examples a program passes that does not pass them all, and the first that it fails."""
    num_passed, failed = 0, None
    known = [(seed, row) for seed, row in zip(trial.seeds, rows, strict=False) if seed.answers]
    if not rows and trial.seeds:
        failed = _failed(trial, trial.seeds[0], None, detail)
    for seed, row in known:
        if _holds(seed, row):
            num_passed += 1
        elif failed is None:
            failed = _failed(trial, seed, row, detail)
    if failed is None:
        failed = FailedExample(call="", expected="", got="", error=detail)
    return min(num_passed, trial.stated.num_examples - 1), failed


def run_drafts(trial: Trial, programs: Sequence[str], supervisor: Supervisor) -> dict[str, DraftOutcome]:
    """Each program once."""
    return {program: run_draft(trial, program, supervisor) for program in dict.fromkeys(programs)}


def _recorded(trial: Trial, program: str, supervisor: Supervisor) -> list[Recorded]:
    if trial.form is None:
        return []
    try:
        return answers(trial.stated.problem, program, trial.form, trial.calls, supervisor, max_runs=1)
    except NoProblemError:  # it wrote where its answers are
        return []


def _holds(seed: Seed, row: Recorded) -> bool:
    return row.what == "ok" and agree(row.result, written(seed.answers[0]), seed.form)


def _failed(trial: Trial, seed: Seed, row: Recorded | None, detail: str) -> FailedExample:
    """detail: the judge's word; row: None for a program that does not begin."""
    asked = trial.stated.asked
    call = call_text(asked.entry_point, seed.call)
    if seed.form.subject not in ("__call__", "bool(__call__)"):
        call = seed.form.subject.replace("__call__", call)
    expected = written(seed.answers[0]) if seed.answers else ""
    if row is None or row.what == "not run":
        return FailedExample(call=call, expected=expected, got="", error=detail)
    if row.what == "ok":
        return FailedExample(call=call, expected=expected, got=row.result, error="")
    words = {"slow": "it takes too long", "other": f"it gives {row.result}"}
    return FailedExample(call=call, expected=expected, got="", error=words.get(row.what, row.result))
