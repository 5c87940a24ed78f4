"""The policy gradient as coefficients of tokens, for `app.training.loss`: PPO's clipped surrogate (arXiv 1707.06347,
equation 7) with DAPO's two bounds (arXiv 2503.14476, section 3.1).

The policy that drew is the engine's, which differs from the trainer's in rounding (bf16 kernels, an NF4 base) and, from
a batch's second update on, in weights. One ratio covers both, with the log-probabilities that the engine reported; it
is cut at a cap, so that a token that the engine took for unlikely can't outweigh a batch (truncated importance
sampling, Espeholt et al., arXiv 1802.01561, section 4.1). Limit: both probabilities are those of temperature 1, so that
drafts were drawn at another one is not weighed.

A policy can be held near the model at the start. With a coefficient, each token that says what the base finds of it
(`BASE`, of `app.reward.by_reward.base`) adds the KL from the base to the loss, estimated as k3 = r - 1 - log r, r = p
base / p policy: never negative, and of less variance than -log r (Schulman, "Approximating KL Divergence", 2020; GRPO,
arXiv 2402.03300, equation 4). By log p its gradient is 1 - r, whose mean over the policy's own tokens is the gradient
of KL(base || policy), not of KL(policy || base) (Tang and Munos, arXiv 2506.09477): both are 0 at the base alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ADVANTAGES, DRAWN, BASE = "advantages", "drawn", "base"
"""Columns of a batch: each token's advantage, and its log-probability as the engine reported it and, where it was
measured, under the base without the adapter, nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What the tokens of some passes came to. Made by `Policy.figures`."""

    mismatch: float
    """Mean of |log p trainer - log p engine|, nats a token."""
    clipped: float
    """Share of tokens that gave no gradient because their ratio was out of bounds."""
    kl: float | None
    """Nats a token from the base, by k3; None where no token said what the base finds of it."""


class Policy:
    """Weigh tokens by PPO's clipped surrogate; keeps count of what it saw (`figures`)."""

    def __init__(self, *, clip_low: float = 0.2, clip_high: float = 0.28, cap: float = 2.0, kl: float = 0.0) -> None:
        """kl: the coefficient of the KL from the base."""
        self._low, self._high, self._cap, self._kl = 1 - clip_low, 1 + clip_high, cap, kl
        self._sums = torch.zeros(5)

    def __call__(self, losses: Tensor, columns: Mapping[str, Tensor]) -> Tensor:
        """The coefficient of each token's -log p: its advantage times its ratio, or 0 where the ratio has already gone
        as far as the advantage may drive it; and what holds it near the base."""
        advantages, log_ratio = columns[ADVANTAGES], -losses - columns[DRAWN]
        ratio = log_ratio.exp()
        is_out = torch.where(advantages > 0, ratio > self._high, ratio < self._low)
        one, none = torch.ones_like(losses).sum(), losses.new_zeros(())
        coefficients = torch.where(is_out, 0.0, advantages * ratio.clamp(max=self._cap))
        of_kl = [none, none]
        if BASE in columns:
            above = columns[BASE] + losses  # log p base - log p policy
            of_kl = [(above.expm1() - above).sum(), one]
            if self._kl:
                coefficients = coefficients + self._kl * above.expm1()
        seen = torch.stack([log_ratio.abs().sum(), is_out.sum(), one, *of_kl])
        self._sums = self._sums.to(seen.device) + seen  # stays on the card: asking for it would stop the pass
        return coefficients

    def figures(self) -> PolicyFigures:
        """Of all tokens since the last time."""
        mismatch, clipped, number, kl, measured = self._sums.tolist()
        self._sums = torch.zeros(5)
        return PolicyFigures(
            mismatch=mismatch / max(1.0, number),
            clipped=clipped / max(1.0, number),
            kl=kl / measured if measured else None,
        )
