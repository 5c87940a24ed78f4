"""Whether what a training stage made is kept: base and adapter on the same validation problems, paired.

Training can make a model worse, so a stage has to show that it does not. Its adapter is kept when it solves at least as
many validation problems as the base model, and the 95 % interval of the difference ends above -`MARGIN`. Where the
problems are too few to tell, the base model stays. Test suites have no part in it: what they say would choose what they
measure.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.errors import UserError
from app.evaluation.measurement import Engines, measure_candidates
from app.evaluation.stage import BASE, is_evaluated, labels
from app.evaluation.statistics import Comparison, compare
from app.evaluation.suites.registry import TUNING, VALIDATION
from app.files.json_files import read_json, write_json
from app.progress import say
from app.runs import Run
from app.settings import EvaluationSettings, Profile

MARGIN = 0.03
"""How much worse, in pass@1, an adapter that is kept may be at the worst: three points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a stage's adapter is kept. Made by `validate`, kept in validation/<stage>/decision.json; read by the
    report, and by whoever serves the run."""

    stage: str
    kept: bool
    reason: str
    """For a person, after "kept: " or "not kept: "."""
    comparison: Comparison | None
    """The adapter against the base model, over the problems of all suites together."""
    suites: tuple[str, ...]
    """Labels of the measurements, as under evaluation/."""
    overruled: bool = False
    """Kept by the user's word; it holds until the stage is trained anew."""


def check(settings: EvaluationSettings) -> None:
    """Raise UserError for validation by a suite that is there for something else, before any stage."""
    if chosen_by := [name for name in settings.suites if name in TUNING]:
        raise UserError(
            f"validation.suites holds {chosen_by[0]!r}, the half by which prompts and recipes are chosen: take the "
            f"other, {chosen_by[0].replace('tuning', 'validation')}"
        )
    if tests := [name for name in settings.suites if name not in VALIDATION]:
        raise UserError(
            f"validation.suites holds {tests[0]!r}, a test suite: what decides about a training can't measure it "
            f"as well; take of {', '.join(VALIDATION)}"
        )


def measured_by(profile: Profile) -> Profile:
    """The profile under which candidates are measured for a decision."""
    return profile.model_copy(update={"evaluation": profile.validation})


def is_validated(run: Run, profile: Profile, stage: str, adapter: str) -> bool:
    """Whether nothing is left to measure for the decision."""
    return run.decision(stage).exists() and is_evaluated(run, profile.validation, {BASE: "", stage: adapter})


def validate(
    run: Run,
    profile: Profile,
    stage: str,
    adapter: str,
    engines: Engines,
    *,
    keep_anyway: bool = False,
    unsafe: bool = False,
) -> Decision:
    """Measure base and adapter where that is still to be done, decide, and write the decision down.

    adapter: the stage's folder. keep_anyway: the user's word, which stands above the comparison. unsafe: run programs
    on a machine that can't confine them (`app.sandbox.tiers`).
    """
    measure_candidates(
        run, measured_by(profile), {BASE: "", stage: adapter}, engines, stage=f"validate {stage}", unsafe=unsafe
    )
    names = labels(profile.validation)
    comparison = compare(_pass_rates(run, names, BASE), _pass_rates(run, names, stage))
    kept, reason = judge(comparison)
    before = read_decision(run, stage)
    overruled = not kept and (keep_anyway or (before is not None and before.overruled))
    if overruled:
        kept, reason = True, f"{reason}; you said --keep-anyway"
    decision = Decision(
        stage=stage, kept=kept, reason=reason, comparison=comparison, suites=tuple(names), overruled=overruled
    )
    write_json(run.decision(stage), asdict(decision))
    say(f"  {stage} is {'kept' if kept else 'not kept'}: {reason}")
    return decision


def judge(comparison: Comparison | None) -> tuple[bool, str]:
    """Whether an adapter with this comparison is kept, and why."""
    if comparison is None:
        return False, "no validation problem was measured on both"
    low, high = (100 * end for end in comparison.interval_95)
    figures = (
        f"{100 * comparison.difference:+.1f} points ({low:+.1f} to {high:+.1f}) on {comparison.num_problems} "
        f"validation problems, {comparison.num_better} better and {comparison.num_worse} worse"
    )
    if comparison.difference < 0:
        return False, f"it solves fewer, {figures}"
    if comparison.interval_95[0] <= -MARGIN:
        return False, f"too few problems to tell, {figures}; the lower end has to be above -{100 * MARGIN:.0f}"
    return True, figures


def read_decision(run: Run, stage: str) -> Decision | None:
    """None where the stage was not validated: its command trains and no more."""
    path = run.decision(stage)
    if not path.exists():
        return None
    held: dict[str, Any] = read_json(path)
    try:
        if comparison := held["comparison"]:
            held["comparison"] = Comparison(**comparison | {"interval_95": tuple(comparison["interval_95"])})
        return Decision(**held | {"suites": tuple(held["suites"])})
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} can't be read as a decision ({type(error).__name__}: {error}): remove it, and `python -m app "
            "pipeline --resume` makes it anew"
        ) from None


def _pass_rates(run: Run, names: Sequence[str], candidate: str) -> dict[str, float]:
    """By problem, over all measurements: problems are told apart by their suite's name in the id."""
    rates: dict[str, float] = {}
    for name in names:
        rates |= {f"{name}: {problem}": rate for problem, rate in _stored(run, name, candidate).items()}
    return rates


def _stored(run: Run, name: str, candidate: str) -> dict[str, float]:
    rates: dict[str, float] = read_json(run.suite_result(name, candidate))["pass_rates"]
    return rates
