"""What is noted of each step of learning by reward, and when a run is to be stopped.

A run is stopped, and its best validated checkpoint kept, when the entropy of what it draws falls under
grm.least_entropy of its start, when its drafts are grm.most_length times as long as at its start, or when it solves
fewer of the validation's problems than its best checkpoint, by more than the paired 95 % interval (about two standard
errors). The start is the mean of the first three steps. Validations are made by `app.reward.by_reward.validation`; a
run without them keeps its last checkpoint.

What is decided depends on the noted figures alone: a run that goes on from a checkpoint gives `Watch` the figures up to
it, and decides as if it had never been ended.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.evaluation.statistics import compare
from app.records import FinishReason
from app.reward.by_reward.advantages import counts_of, groups_of
from app.reward.records import JudgedDraft
from app.settings import GrmSettings

NUM_START = 3
"""Steps of which the mean is the start."""
BY_DEFAULT = GrmSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """One step of learning by reward. Made by `step_figures`; a line of metrics.jsonl, which the report reads."""

    step: int
    """From 1."""
    num_groups: int
    num_drafts: int
    num_tokens: int
    """Drawn, the end-of-text tokens included."""
    reward_mean: float | None
    """Of the drafts that have a reward; None where none has. What drafts tell is of all that the step drew, those of
    groups without variance included."""
    share_with_variance: float
    """Of the groups: what is learnt from."""
    share_all_right: float
    share_all_wrong: float
    mean_tokens: float
    """Drawn tokens of a draft, the end-of-text token included."""
    share_truncated: float
    """Drafts that were cut at their limit of tokens."""
    entropy: float | None
    """Nats a token: minus the mean log-probability of all drawn tokens, which estimates it where the temperature is 1
    and top_p 1. None where no token was drawn."""
    mismatch: float
    """Mean over the learnt tokens of |log p of the trainer - log p of the engine|, nats."""
    clipped: float
    """Share of the learnt tokens that gave no gradient because their ratio was out of bounds."""
    kl: float | None
    """Nats a token from the base, estimated on the learnt tokens (`app.reward.by_reward.policy`): with grm.kl on all of
    them, without it on the first batch of a step whose checkpoint is kept; None where it was not measured."""
    drafting_tokens_per_second: float
    """Drawn tokens for each second of drafting; 0 where the drafts were there already."""
    training_tokens_per_second: float
    """Tokens that went through the trainer, padding included, for each second of training."""
    drafting_seconds: float
    """Until the last draft was drawn; judging goes on beside it."""
    judging_seconds: float
    """From the last draft drawn to the last verdict."""
    training_seconds: float
    learnt_tokens: int
    """Tokens that entered the loss, all updates together."""
    learning_rate: float
    grad_norm: float
    """Before clipping; of the step's last update."""
    peak_gib: float
    """The card's memory at its peak, of drafting and training; without a card the process' resident memory."""
    scoring_seconds: float = 0.0
    """Of the passes of teacher and base over what was drawn."""
    teacher_kl: float | None = None
    """Nats a drawn token from the teacher of a distillation: the reverse KL, as the step's drafts estimate it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A checkpoint measured on problems to validate by. Made by `app.reward.by_reward.validation`; a line of
    validation.jsonl."""

    step: int
    """Of the checkpoint; 0 is the model at the start."""
    rates: Mapping[str, float]
    """Share of samples that passed, by problem."""

    @property
    def mean(self) -> float:
        return math.fsum(self.rates.values()) / len(self.rates)


def step_figures(
    step: int,
    drafts: Sequence[JudgedDraft],
    *,
    mismatch: float,
    clipped: float,
    training_tokens: int,
    drafting_seconds: float,
    judging_seconds: float,
    training_seconds: float,
    learnt_tokens: int,
    learning_rate: float,
    grad_norm: float,
    peak_gib: float,
    kl: float | None = None,
    scoring_seconds: float = 0.0,
    teacher_kl: float | None = None,
) -> StepFigures:
    """drafts: all that the step drew, one or more. The others are as `StepFigures` has them; training_tokens: that went
    through the trainer, padding included."""
    counts = counts_of(groups_of(drafts))
    rewards = [one.reward for one in drafts if one.reward is not None]
    logprobs = [logprob for one in drafts for logprob in one.draft.token_logprobs]
    tokens = sum(one.draft.num_tokens for one in drafts)
    return StepFigures(
        step=step,
        num_groups=counts.total,
        num_drafts=len(drafts),
        num_tokens=tokens,
        reward_mean=math.fsum(rewards) / len(rewards) if rewards else None,
        share_with_variance=counts.with_variance / counts.total,
        share_all_right=counts.all_right / counts.total,
        share_all_wrong=counts.all_wrong / counts.total,
        mean_tokens=tokens / len(drafts),
        share_truncated=sum(one.draft.finish_reason == FinishReason.LENGTH for one in drafts) / len(drafts),
        entropy=-math.fsum(logprobs) / len(logprobs) if logprobs else None,
        mismatch=mismatch,
        clipped=clipped,
        kl=kl,
        drafting_tokens_per_second=tokens / drafting_seconds if drafting_seconds else 0.0,
        training_tokens_per_second=training_tokens / max(1e-9, training_seconds),
        drafting_seconds=drafting_seconds,
        judging_seconds=judging_seconds,
        training_seconds=training_seconds,
        learnt_tokens=learnt_tokens,
        learning_rate=learning_rate,
        grad_norm=grad_norm,
        peak_gib=peak_gib,
        scoring_seconds=scoring_seconds,
        teacher_kl=teacher_kl,
    )


class Watch:
    """Give it each step's figures and each validation, in their order; `reason` says whether to stop."""

    def __init__(
        self,
        figures: Iterable[StepFigures] = (),
        validations: Iterable[Validation] = (),
        settings: GrmSettings = BY_DEFAULT,
    ) -> None:
        self.figures = list(figures)
        self.validations = list(validations)
        self._settings = settings

    @property
    def reason(self) -> str:
        """Why the run is to be stopped, as a sentence's end ("the entropy ..."); empty while it may go on."""
        return _change_since_start(self.figures, self._settings) or self.fall

    @property
    def fall(self) -> str:
        """The last of these reasons: that validation fell."""
        return _fall(self.validations)

    @property
    def best_step(self) -> int | None:
        """Of the checkpoint that solved most in validation, the earliest of equals; None where none was validated."""
        return max(self.validations, key=lambda one: (one.mean, -one.step)).step if self.validations else None


def _change_since_start(figures: Sequence[StepFigures], settings: GrmSettings) -> str:
    begun, later = figures[:NUM_START], figures[NUM_START:]
    if not later:
        return ""
    entropies = [one.entropy for one in begun if one.entropy is not None]
    least = settings.least_entropy * math.fsum(entropies) / len(entropies) if entropies else 0.0
    most = settings.most_length * math.fsum(one.mean_tokens for one in begun) / len(begun)
    for one in later:
        if one.entropy is not None and one.entropy < least:
            fallen = f"under {settings.least_entropy:.0%} of its start"
            return f"the entropy fell to {one.entropy:.3f} nats in step {one.step}, {fallen}"
        if one.mean_tokens > most:
            grown = f"over {settings.most_length:g} times their start"
            return f"the drafts grew to {one.mean_tokens:.0f} tokens in step {one.step}, {grown}"
    return ""


def _fall(validations: Sequence[Validation]) -> str:
    """Whether a checkpoint solves less than the best one before it."""
    for place, one in enumerate(validations[1:], 1):
        best = max(validations[:place], key=lambda before: before.mean)
        found = compare(best.rates, one.rates)
        if found is not None and found.interval_95[1] < 0:
            return (
                f"validation fell from {best.mean:.1%} in step {best.step} to {one.mean:.1%} in step {one.step}, by "
                "more than chance"
            )
    return ""
