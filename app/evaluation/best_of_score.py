"""The score of best of n with tests (`app.evaluation.best_of`) beside pass@1: measured, kept and read as any other.

    evaluation/best-of/<measurement>/<candidate>/   settings.json drafts.jsonl repairs.jsonl choices.jsonl samples.jsonl
                                                    result.json

A sample is a problem's chosen answer, and its tokens are all that were drawn for it. Run: python -m app evaluate
--best-of 8 --suite humaneval (--run DIR | --model NAME_OR_PATH)
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from app.errors import UserError
from app.evaluation.best_of import PROTOCOL, Chosen, chosen
from app.evaluation.measure import Measurement, PlannedMeasurement, measure_candidate, plan_measurement
from app.evaluation.stage import label, read_result
from app.evaluation.statistics import Comparison, compare
from app.evaluation.suites.registry import evenly_spaced
from app.evaluation.suites.suite import ProgramSuite, Suite
from app.files.json_files import read_json, read_json_lines, write_json_lines
from app.problem_sets.task import Task
from app.progress import say
from app.records import Draft, Generator, Judge, Prompt, Sampling, Score
from app.runs import Run
from app.sandbox.local import Judges, LocalJudges
from app.sandbox.tiers import Confinement
from app.settings import EvaluationSettings, Profile, SandboxSettings

FOLDER = "best-of"
"""Under evaluation/: the score of a system is not listed among those of models."""
CHOICES = "choices.jsonl"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SystemScore:
    """Best of n of one candidate on one suite. Made by `read_scores`; shown by the command.

    Example: SystemScore(suite="humaneval", candidate="base", num_drafts=8, score=Score(...), against_pass_at_1=None,
                         tokens_a_problem=2210.4, pass_at_1_tokens_a_problem=231.0, chosen_by={"examples": 101, ...},
                         with_examples=154)
    """

    suite: str
    candidate: str
    num_drafts: int
    score: Score
    against_pass_at_1: Comparison | None
    """The system against one answer of the same candidate, where that was measured on the same problems."""
    tokens_a_problem: float
    """Drawn for one answer of the system: all drafts, and the repair."""
    pass_at_1_tokens_a_problem: float | None
    chosen_by: dict[str, int]
    """Problems by `app.best_of.choice.ChosenBy`."""
    with_examples: int
    """Problems whose question states an example that was found."""


class ChosenDrafts:
    """A `records.Generator` that draws n drafts of each prompt's problem and gives the chosen one: `measure_candidate`
    judges it as any other model's. What is asked is the question of each problem's id."""

    def __init__(
        self, run: Run, what: Measurement, num_drafts: int, tokenizer: Any, generator: Generator, judges: Judges
    ) -> None:
        self._folder = run.suite_samples(what.label, what.candidate).parent
        self._what, self._num_drafts = what, num_drafts
        self._tokenizer, self._generator, self._judges = tokenizer, generator, judges

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        wanted = {prompt.id for prompt in prompts}
        found = chosen(
            self._folder,
            self._what.suite,
            [task.problem for task in self._what.tasks],
            self._num_drafts,
            sampling,
            self._tokenizer,
            self._generator,
            self._judges,
            adapter,
        )
        write_json_lines(self._folder / CHOICES, [_told(one) for one in found])
        for one in found:
            if one.problem_id in wanted:
                yield dataclasses.replace(one.drafts[one.index], sample=0, num_tokens=one.num_tokens)


def _told(one: Chosen) -> dict[str, Any]:
    choice = dataclasses.asdict(one.choice) if one.choice else None
    return {"problem_id": one.problem_id, "choice": choice, "num_tokens": one.num_tokens}


def check(settings: EvaluationSettings, suites: Mapping[str, tuple[Suite, list[Task]]]) -> None:
    """Raises UserError where there is nothing to choose by."""
    if PROTOCOL not in settings.protocols:
        raise UserError(f"--best-of asks in the protocol {PROTOCOL}: leave it in evaluation.protocols")
    for name, (suite, _) in suites.items():
        if not isinstance(suite, ProgramSuite):
            raise UserError(f"--best-of chooses among programs, and {name} asks for something else: leave it out")


def plans(
    run: Run, profile: Profile, candidates: Mapping[str, str], suites: Mapping[str, tuple[Suite, list[Task]]],
    tokenizer: Any, facts: Mapping[str, Any],
) -> list[PlannedMeasurement]:  # fmt: skip
    """facts: what else decides the outcome (`app.evaluation.stage.facts_of`). Raises UserError where the run holds the
    measurement under other settings."""
    settings = profile.evaluation
    sampling = Sampling(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.best_of_temperature,
        top_p=settings.top_p,
        seed=profile.seed,
    )
    return [
        plan_measurement(
            run,
            Measurement(
                label=label_of(suite.name, settings),
                suite=suite,
                protocol=PROTOCOL,
                candidate=candidate,
                adapter=adapter,
                tasks=evenly_spaced(tasks, settings.num_problems),
                sampling=sampling,
                num_samples=1,
            ),
            {**facts, "best_of": settings.best_of},
            tokenizer,
        )
        for candidate, adapter in candidates.items()
        for suite, tasks in suites.values()
    ]


def label_of(suite: str, settings: EvaluationSettings) -> str:
    """Folder of the measurement, under evaluation/."""
    count = f"-{settings.num_problems}" if settings.num_problems else ""
    return f"{FOLDER}/{suite}-{PROTOCOL}{count}-n{settings.best_of}-t{settings.best_of_temperature:g}"


def measure(
    run: Run, planned: Sequence[PlannedMeasurement], num_drafts: int, tokenizer: Any, generator: Generator,
    judge: Judge, sandbox: SandboxSettings, confined: Confinement,
) -> None:  # fmt: skip
    """What has no result yet. The examples run in supervisors of this process, hidden tests where `judge` is."""
    missing = [one for one in planned if not run.suite_result(one.what.label, one.what.candidate).exists()]
    if not missing:
        return
    with closing(LocalJudges(sandbox, confined)) as judges:
        for one in missing:
            choosing: Any = ChosenDrafts(run, one.what, num_drafts, tokenizer, generator, judges)
            measure_candidate(run, one, {}, tokenizer, choosing, judge)


def is_measured(run: Run, settings: EvaluationSettings, candidates: Mapping[str, str]) -> bool:
    names = [label_of(suite, settings) for suite in settings.suites] if settings.best_of else []
    return all(run.suite_result(name, candidate).exists() for name in names for candidate in candidates)


def read_scores(run: Run, settings: EvaluationSettings, candidates: Mapping[str, str]) -> list[SystemScore]:
    """Empty where best of n was not asked for."""
    if not settings.best_of:
        return []
    return [_score(run, settings, suite, candidate) for candidate in candidates for suite in settings.suites]


def _score(run: Run, settings: EvaluationSettings, suite: str, candidate: str) -> SystemScore:
    path = run.suite_result(label_of(suite, settings), candidate)
    single = run.suite_result(label(suite, PROTOCOL, settings), candidate)
    result, choices = read_result(path), read_json_lines(path.with_name(CHOICES))
    one, against = None, None
    if single.exists():
        one = read_result(single)
        against = compare(read_json(single)["pass_rates"], read_json(path)["pass_rates"])
    held = [row["choice"] for row in choices]
    return SystemScore(
        suite=suite,
        candidate=candidate,
        num_drafts=settings.best_of or 0,
        score=result.pass_at["1"],
        against_pass_at_1=against,
        tokens_a_problem=result.num_tokens / max(1, len(choices)),
        pass_at_1_tokens_a_problem=one.num_tokens / max(1, one.num_samples) if one else None,
        chosen_by=dict(Counter(row["chosen_by"] if row else "first" for row in held)),
        with_examples=sum(bool(row and row["examples"]) for row in held),
    )


def describe(one: SystemScore) -> str:
    """One line: the system's score never without pass@1 and the tokens of both."""
    low, high = one.score.interval_95
    text = (
        f"{one.suite}, {one.candidate}: best of {one.num_drafts} with tests {100 * one.score.value:.1f} % "
        f"(95 %: {100 * low:.1f} to {100 * high:.1f}) at {one.tokens_a_problem:,.0f} tokens a problem"
    )
    if one.against_pass_at_1 and one.pass_at_1_tokens_a_problem is not None:
        low, high = one.against_pass_at_1.interval_95
        text += (
            f", {100 * one.against_pass_at_1.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) to pass@1 "
            f"at {one.pass_at_1_tokens_a_problem:,.0f}"
        )
    stages = ", ".join(f"{count} by {name}" for name, count in sorted(one.chosen_by.items()))
    return f"{text}; {one.with_examples} questions state an example; chosen: {stages}"


def say_scores(scores: Sequence[SystemScore]) -> None:
    for one in scores:
        say(f"  {describe(one)}")
