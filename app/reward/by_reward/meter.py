"""Puts a step's figures together: what was drawn, and what the training made of it."""

from collections.abc import Callable, Sequence

import torch

from app.models.sizes import GIB
from app.reward.by_reward.grpo import Drawn
from app.reward.by_reward.policy import Policy
from app.reward.by_reward.watch import StepFigures, step_figures
from app.running import metrics
from app.training.loop import StepMetrics
from app.training.memory import peak_bytes


class Meter:
    """Hears of drafts and of updates, and tells its listeners of each step."""

    def __init__(
        self,
        updates: int,
        tokens: int,
        policy: Policy,
        device: torch.device,
        listeners: Sequence[Callable[[StepFigures], None]],
    ) -> None:
        """updates: of a step. tokens: that the training has seen before."""
        self._updates, self._policy, self._device, self._listeners = updates, policy, device, listeners
        self._drawn: Drawn | None = None
        self._seconds, self._tokens, self._learnt, self._tokens_before = 0.0, 0, 0, tokens

    def on_drawn(self, drawn: Drawn) -> None:
        self._drawn, self._seconds, self._tokens, self._learnt = drawn, 0.0, 0, 0

    def on_step(self, taken: StepMetrics) -> None:
        drawn = self._drawn
        assert drawn is not None, "drafts come before what is learnt from them"
        self._seconds += taken.seconds
        self._tokens += taken.tokens - self._tokens_before
        self._learnt += taken.label_tokens
        self._tokens_before = taken.tokens
        if taken.step % self._updates:
            return
        of_policy = self._policy.figures()
        figures = step_figures(
            drawn.step,
            drawn.drafts,
            mismatch=of_policy.mismatch,
            clipped=of_policy.clipped,
            kl=of_policy.kl,
            training_tokens=self._tokens,
            drafting_seconds=drawn.draft_seconds,
            judging_seconds=drawn.judge_seconds,
            scoring_seconds=drawn.scoring_seconds,
            training_seconds=self._seconds,
            learnt_tokens=self._learnt,
            learning_rate=taken.learning_rate,
            grad_norm=taken.grad_norm,
            peak_gib=peak_bytes(self._device) / GIB,
            teacher_kl=drawn.teacher_kl,
        )
        metrics.report(
            step=figures.step,
            reward=figures.reward_mean,
            training_tokens_per_second=figures.training_tokens_per_second,
            drafting_tokens_per_second=figures.drafting_tokens_per_second,
            peak_memory_gib=figures.peak_gib,
        )
        for listener in self._listeners:
            listener(figures)
