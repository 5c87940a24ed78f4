"""How individuals are measured: all on the same problems, with the same sampling and the same random numbers, whatever
their genomes say, so that they differ by what they learnt alone.

    FOLDER/validation/0-0.parquet   drafts and verdicts: the first draft asked for, and which part of the problems

Where speed counts, two halves are drawn one after the other, so that it is measured twice. What is drawn here never
enters the pool.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.draws import by_hash
from app.evolution.records import Metrics
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.drafts.asking import Asked
from app.reward.drafts.drafting import judged_drafts
from app.reward.drafts.files import is_there
from app.reward.drafts.solve_rates import rates
from app.reward.records import JudgedDraft

KL_DRAFTS = 64
"""How many drafts the distance from the base is estimated by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """What everybody is measured by. Made by `app.evolution.ruler`."""

    problems: Sequence[Asked]
    """In their order; selection may take fewer than were given."""
    samples: tuple[int, ...]
    """Numbers of each problem's first drafts."""
    sampling: Sampling
    times_speed: bool
    """Whether speed counts."""
    scores_kl: bool
    """Whether the distance from the base counts; else it is told as 0."""
    base_speeds: tuple[float, ...] = ()
    """Tokens a second of the untouched model, by part; none where they were not measured."""

    @property
    def parts(self) -> int:
        return 2 if self.times_speed else 1


def measured(
    folder: Path,
    adapter: str,
    ruler: Ruler,
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any],
    samples: Sequence[int] = (),
) -> tuple[Metrics, float]:
    """What the adapter's drafts came to, and the seconds that they took.

    adapter: its path, empty for the base. samples: other drafts than the ruler's. Raises ValueError for an adapter
    whose distance from the base is no number."""
    start = time.perf_counter()
    numbers = tuple(samples) or ruler.samples
    drafts: list[JudgedDraft] = []
    speeds: list[float] = []
    for part in range(ruler.parts):
        found, speed = _part(folder, part, numbers, adapter, ruler, generator, judge, facts)
        drafts += found
        speeds += [speed] if speed else []
    of_base = ruler.base_speeds if len(speeds) == len(ruler.base_speeds) else ()  # some may have been there already
    metrics = Metrics(
        rates=rates(drafts),
        drafts=len(numbers),
        num_tokens=sum(one.draft.num_tokens for one in drafts),
        kl=kl_of(drafts, ruler, generator) if adapter and ruler.scores_kl else 0.0,
        speeds=tuple(own / base for own, base in zip(speeds, of_base, strict=False)),
    )
    return metrics, time.perf_counter() - start


def base_speeds(
    folder: Path, ruler: Ruler, generator: Generator, judge: Judge, facts: Mapping[str, Any]
) -> tuple[float, ...]:
    """Tokens a second of the untouched model, by part; none where its drafts were there already, or speed does not
    count."""
    if not ruler.times_speed:
        return ()
    found = [_part(folder, part, ruler.samples, "", ruler, generator, judge, facts)[1] for part in range(ruler.parts)]
    return tuple(found) if all(found) else ()


def kl_of(drafts: Sequence[JudgedDraft], ruler: Ruler, generator: Generator) -> float:
    """Nats a token from the base: the mean of log p - log p of the base over tokens that the policy drew, which
    estimates the reverse KL where it drew at temperature 1."""
    prompts = {one.problem.given.id: one.prompt_ids for one in ruler.problems}
    order = sorted(drafts, key=lambda one: by_hash(f"{one.draft.problem_id} {one.draft.sample}"))
    chosen = [one.draft for one in order if one.draft.token_ids][:KL_DRAFTS]
    base = generator.score_ids([(prompts[one.problem_id], one.token_ids) for one in chosen])
    gaps = [
        own - of_base
        for draft, scored in zip(chosen, base, strict=True)
        for own, of_base in zip(draft.token_logprobs, scored, strict=True)
    ]
    return math.fsum(gaps) / max(1, len(gaps))


def _part(
    folder: Path,
    part: int,
    samples: tuple[int, ...],
    adapter: str,
    ruler: Ruler,
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any],
) -> tuple[list[JudgedDraft], float]:
    """Its drafts, and tokens a second; 0 where some were there already."""
    asked = ruler.problems[part :: ruler.parts]
    if not asked:
        return [], 0.0
    path = folder / "validation" / f"{samples[0]}-{part}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts = [Prompt(id=one.problem.given.id, text=one.text, samples=samples) for one in asked]
    is_new, drawn = not is_there(path), list[float]()
    start = time.perf_counter()
    found = judged_drafts(
        path,
        [one.problem for one in asked],
        prompts,
        ruler.sampling,
        generator,
        judge,
        adapter=adapter,
        facts=facts,
        on_drawn=lambda: drawn.append(time.perf_counter()),
    )
    seconds = drawn[0] - start if drawn else 0.0
    tokens = sum(one.draft.num_tokens for one in found)
    return found, tokens / seconds if is_new and seconds else 0.0
