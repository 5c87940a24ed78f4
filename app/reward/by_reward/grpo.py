"""GRPO (arXiv 2402.03300) with executed tests, and on-policy distillation: each step draws drafts with the adapter as
it is then, judges them, and gives the training loop those that teach something (`app.reward.by_reward.credit`).

    problems -> prompts of the step -> drafts and verdicts -> advantages -> batches -> `app.training.loop`
                      ^------ again, in place of problems that teach nothing

A step's drafts lie in a file of their own, so a training that is started again at a step learns from the same drafts
that it had. The adapter that it comes to there again may differ in rounding, as a card's kernels do; the importance
weights cover that, as they cover what lies between trainer and engine. Runs without Ray; generator and judge are
protocols of `app.records`.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.draws import by_hash, uniform
from app.errors import NothingToLearnError
from app.progress import say
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.by_reward.controls import rewarded
from app.reward.by_reward.credit import Credit, Credited
from app.reward.by_reward.rows import batches_of
from app.reward.drafts.asking import Asked
from app.reward.drafts.drafting import judged_drafts
from app.reward.records import JudgedDraft
from app.settings import SftSettings
from app.stage_settings.grm import GrmSettings
from app.training.feed import Batch
from app.training.state import Progress

FRUITLESS = 4
"""Times that a step is drawn anew with other problems before it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a step drew. Made by `Rollouts`; its figures are noted once it is learnt from."""

    step: int
    """From 1."""
    drafts: list[JudgedDraft]
    """All of them, those of groups that teach nothing included."""
    draft_seconds: float
    """Until the last draft was drawn; judging goes on beside it."""
    judge_seconds: float
    """From there until the last verdict."""
    scoring_seconds: float
    """Of the passes of teacher and base over what was drawn."""
    teacher_kl: float | None
    """Nats a drawn token: the mean of log p student - log p teacher, which estimates the reverse KL; None without a
    teacher."""


def order_of(
    problems: Sequence[Asked], seed: int, salt: str = "", weights: Mapping[str, float] = {}
) -> Iterator[Asked]:
    """The problems without end, about as many an epoch as there are, in an order of the epoch's own.

    weights: by id, 1 where nothing is said; where all are alike, each problem comes once an epoch. One whose weight is
    w times the mean comes w times on average: in each epoch the whole part of w, and once more in a share of the epochs
    that is the rest of w, which of them is drawn by hash. What comes several times in an epoch lies evenly apart there,
    so that few steps meet it twice. Raises ValueError for a weight below 0, and where all are 0.
    """
    shares = _shares(problems, weights)
    for epoch in itertools.count():
        places = list[tuple[int, Asked]]()
        for one, share in zip(problems, shares, strict=True):
            name = one.problem.given.id
            times = _times(share, epoch, f"{seed} {salt} {name}")
            at = int.from_bytes(by_hash(f"{seed} {salt} {epoch} {name}"), "big")
            places += [(((turn << 256) + at) // times, one) for turn in range(times)]
        yield from (one for _, one in sorted(places, key=lambda place: place[0]))


def _shares(problems: Sequence[Asked], weights: Mapping[str, float]) -> list[float]:
    """How often each of the problems comes in an epoch, on average."""
    held = [weights.get(one.problem.given.id, 1.0) for one in problems]
    if not all(0 <= weight < math.inf for weight in held) or not any(held):
        raise ValueError(f"no problem comes up by the weights {held[:9]}: give finite ones of 0 or more, one above 0")
    if len(set(held)) == 1:
        return [1.0] * len(held)
    _, power = math.frexp(max(held))  # by a power of two, which rounds nothing: no mean is 0 or beyond all floats
    held = [math.ldexp(weight, -power) for weight in held]
    mean = math.fsum(held) / len(held)
    return [weight / mean for weight in held]


def _times(share: float, epoch: int, key: str) -> int:
    """How often a problem comes in an epoch; the sum of E epochs is share * E to within 1."""
    whole = math.floor(share)
    rest = share - whole
    start = uniform(key) if rest else 0.0
    return whole + math.floor(rest * (epoch + 1) + start) - math.floor(rest * epoch + start)


def training_settings(sft: SftSettings, grm: GrmSettings) -> SftSettings:
    """How `app.training.loop` is to train: the machine's part of `sft`, the rest of `grm`."""
    return sft.model_copy(
        update={
            "lora_r": grm.lora_r,
            "lora_alpha": grm.lora_alpha,
            "lora_dropout": 0.0,
            "nested_ranks": (),
            "rank_dropout": 0.0,
            "parallelism": "ddp",
            "num_workers": 1,
            "data_dropout": "none",
            "learning_rate": grm.learning_rate,
            "warmup_fraction": min(0.5, grm.warmup_steps / grm.steps),
            "final_lr_fraction": 1.0,
            "micro_batch": grm.micro_batch,
            "checkpoint_every": grm.checkpoint_every * grm.updates_per_step,
        }
    )


class Rollouts:
    """The source of a training on drafts of its own (`app.training.loop.Source`)."""

    def __init__(
        self,
        problems: Sequence[Asked],
        settings: GrmSettings,
        folder: Path,
        generator: Generator,
        judge: Judge,
        credit: Credit,
        *,
        save_adapter: Callable[[Path], None],
        pad_id: int = 0,
        seed: int = 0,
        facts: Mapping[str, Any] = {},
        on_drawn: Callable[[Drawn], None] = lambda drawn: None,
        before_drafts: Callable[[], None] = lambda: None,
        after_drafts: Callable[[], None] = lambda: None,
        with_more: Callable[[int, list[Batch]], list[Batch]] = lambda step, batches: batches,
        is_over: Callable[[], bool] = lambda: False,
        weights: Mapping[str, float] = {},
    ) -> None:
        """folder: where drafts are kept. credit: what of them is learnt. save_adapter(folder) writes the adapter as it
        is now. facts: what else decides what is drawn and how it is judged. before_drafts, after_drafts: trainer and
        engine take turns on a card. with_more(step, batches): a step's batches with further columns, steps from 1.
        is_over: asked before each step, whether the training is to end there. weights: how often a problem comes up, as
        `order_of` has them; a step asks none twice."""
        self._problems, self._settings, self._folder = problems, settings, folder
        self._generator, self._judge, self._credit = generator, judge, credit
        self._save_adapter, self._on_drawn = save_adapter, on_drawn
        self._before, self._after, self._with_more, self._is_over = before_drafts, after_drafts, with_more, is_over
        self._pad_id, self._seed, self._facts, self._weights = pad_id, seed, facts, weights

    def __call__(self, progress: Progress) -> Iterator[list[Batch]]:
        updates = self._settings.updates_per_step
        first, taken = divmod(progress.step, updates)
        for step in range(first, self._settings.steps):
            if self._is_over():
                return
            batches = self._batches(step)
            if not batches:
                return
            for _ in range(taken, updates):
                yield batches
            taken = 0

    def _batches(self, step: int) -> list[Batch]:
        """A step's drafts that teach something, in batches; none where a model that has learnt can learn no more from
        these problems. Raises NothingToLearnError where there was nothing from the first step on."""
        settings = self._settings
        adapter = self._folder / "now"
        self._save_adapter(adapter)
        self._before()
        waves = [self._wave(step, 0, settings.prompts_per_step, adapter)]
        if again := round(settings.refill * (settings.prompts_per_step - waves[0].varied)):
            waves.append(self._wave(step, 1, again, adapter))
        while not any(wave.varied for wave in waves) and len(waves) < FRUITLESS:
            waves.append(self._wave(step, len(waves), settings.prompts_per_step, adapter))
        self._after()
        samples = [one for wave in waves for learnt in wave.credited.samples.values() for one in learnt]
        if not samples:
            what = f"{sum(wave.problems for wave in waves)} groups were drawn in which all drafts failed or all passed"
            if step == 0:
                raise NothingToLearnError(
                    f"{what}, so there is nothing to learn: give other problems by grm.problems, or raise "
                    "grm.num_drafts"
                )
            say(f"  step {step + 1}: {what}, so there is nothing more to learn")
            return []
        start = time.perf_counter()
        batches = batches_of(samples, settings.seq_len, settings.micro_batch, self._pad_id)
        batches = self._with_more(step + 1, batches)
        self._on_drawn(_drawn(step + 1, waves, time.perf_counter() - start))
        return batches

    def _wave(self, step: int, number: int, size: int, adapter: Path) -> "_Wave":
        """Drafts of `size` problems: the step's own share of an endless order, later waves of another. A problem that
        an earlier wave of the step asked for too is drawn by other numbers, so from other random streams."""
        settings = self._settings
        start = step * settings.prompts_per_step
        order = order_of(self._problems, self._seed, salt=f"wave {number}", weights=self._weights)
        chosen = list(itertools.islice(order, start, start + size))
        chosen = list({one.problem.given.id: one for one in chosen}.values())
        samples = tuple(range(number * settings.num_drafts, (number + 1) * settings.num_drafts))
        prompts = [Prompt(id=one.problem.given.id, text=one.text, samples=samples) for one in chosen]
        sampling = Sampling(
            max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, seed=self._seed + step + 1
        )
        path = self._folder / f"step-{step + 1:05}-{number}.parquet"
        clock = _Clock()
        judged = judged_drafts(
            path,
            [one.problem for one in chosen],
            prompts,
            sampling,
            self._generator,
            self._judge,
            adapter=str(adapter),
            drawn_by=f"the adapter before step {step + 1}",
            facts=self._facts,
            on_drawn=clock.drawn,
        )
        clock.judged()
        by_id = {one.problem.given.id: one.problem for one in chosen}
        judged = rewarded(judged, by_id, settings.reward, seed=self._seed + step)
        credited = self._credit({one.problem.given.id: one.prompt_ids for one in chosen}, judged)
        return _Wave(problems=len(chosen), drafts=judged, credited=credited, clock=clock)


class _Clock:
    """When a wave was drawn and judged."""

    def __init__(self) -> None:
        self._start = self._drawn = time.perf_counter()
        self.draft_seconds = self.judge_seconds = 0.0

    def drawn(self) -> None:
        self._drawn = time.perf_counter()
        self.draft_seconds = self._drawn - self._start

    def judged(self) -> None:
        self.judge_seconds = time.perf_counter() - self._drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wave:
    """Drafts of some problems that were drawn together."""

    problems: int
    drafts: list[JudgedDraft]
    credited: Credited
    clock: _Clock

    @property
    def varied(self) -> int:
        """Problems that teach something."""
        return len(self.credited.samples)


def _drawn(step: int, waves: Sequence[_Wave], seconds: float) -> Drawn:
    """seconds: that more columns took."""
    gaps = [gap for wave in waves for gap in wave.credited.teacher_gaps]
    return Drawn(
        step=step,
        drafts=[one for wave in waves for one in wave.drafts],
        draft_seconds=sum(wave.clock.draft_seconds for wave in waves),
        judge_seconds=sum(wave.clock.judge_seconds for wave in waves),
        scoring_seconds=seconds + sum(wave.credited.seconds for wave in waves),
        teacher_kl=math.fsum(gaps) / len(gaps) if gaps else None,
    )
