"""How much there is to learn: how often the untouched model solves each problem, and which problems that leaves.

A problem whose drafts all fail or all pass teaches nothing, so what is learnt from is chosen by `grm.rate_band`. The
drafts are kept, and drawn once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import NothingToLearnError
from app.progress import progress, say
from app.records import Generator, Judge, Prompt, Sampling, Score
from app.reward.drafts.asking import Asked
from app.reward.drafts.drafting import stream_judged_drafts
from app.reward.drafts.solve_rates import Rates, bands, pass_at, rates
from app.stage_settings.grm import GrmSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What the untouched model solves. Made by `measured`; kept in grm/meta.json."""

    num_drafts: int
    """Of a problem."""
    solved: Rates
    """Drafts that passed and drafts that count, by problem."""
    bands: Mapping[str, int]
    """Problems by their solve rate, the hardest first (`solve_rates.BANDS`)."""
    pass_at_1: Score | None
    pass_at_n: Score | None
    """Of all the drafts; None where no problem has as many that count."""


def measured(
    path: Path,
    problems: Sequence[Asked],
    settings: GrmSettings,
    generator: Generator,
    judge: Judge,
    *,
    seed: int,
    facts: Mapping[str, Any],
) -> Headroom:
    """Draw and judge `settings.rate_drafts` of each problem, or read them where `path` has them, and say what came of
    it."""
    number = settings.rate_drafts
    prompts = [Prompt(id=one.problem.given.id, text=one.text, samples=tuple(range(number))) for one in problems]
    sampling = Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=seed)
    asked = [one.problem for one in problems]
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts = stream_judged_drafts(path, asked, prompts, sampling, generator, judge, facts=facts)
    with progress("grm: the untouched model's drafts", number * len(problems), "drafts") as update:
        found = rates(one for done, one in enumerate(drafts, 1) if update(done) is None)
    headroom = Headroom(
        num_drafts=number,
        solved=found,
        bands=bands(passed / counted for passed, counted in found.values()),
        pass_at_1=pass_at(found, 1),
        pass_at_n=pass_at(found, number),
    )
    say(f"  the untouched model, {number} drafts a problem: {told(headroom)}")
    return headroom


def told(headroom: Headroom) -> str:
    """For a person."""
    scores = {1: headroom.pass_at_1, headroom.num_drafts: headroom.pass_at_n}
    passes = [f"pass@{k} {score.value:.1%}" for k, score in scores.items() if score is not None]
    return ", ".join(passes) + "; problems by solve rate: " + _in_bands(headroom)


def _in_bands(headroom: Headroom) -> str:
    return ", ".join(f"{name}: {count}" for name, count in headroom.bands.items())


def learnable(problems: Sequence[Asked], headroom: Headroom, band: tuple[float, float]) -> list[Asked]:
    """The problems whose solve rate lies within the band, its ends left out. Raises NothingToLearnError where none
    is."""
    low, high = band
    rate = {name: passed / counted for name, (passed, counted) in headroom.solved.items()}
    kept = [one for one in problems if low < rate.get(one.problem.given.id, -1.0) < high]
    if not kept:
        raise NothingToLearnError(
            f"none of {len(problems)} problems has a solve rate above {low:g} and below {high:g} (problems by solve "
            f"rate: {_in_bands(headroom)}), so there is nothing to learn: give others by grm.problems, raise "
            "grm.rate_drafts or grm.max_new_tokens, or learn from all of them with grm.rate_drafts=0"
        )
    return kept
