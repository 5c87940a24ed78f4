"""Causal language model loss over labelled tokens only, with few logits in memory at once.

The vocabulary projection is the largest activation of a small model (2,048 x 151,936 float32 logits are 1.2 GB, and
the naive path holds three copies). Positions without a label never reach it, and the rest go through in chunks.
`CausalLMLoss` runs the model as it is and computes chunks again in the backward pass; `FusedLoss` runs the fused
layers and makes a chunk's gradient at once, in the memory of its logits (Liger Kernel, arXiv 2410.10989, section 3.2).
Same result as `model(labels=...)` up to rounding.

Either can weigh tokens: the loss is then the sum of each token's coefficient times -log p, whose gradient is that of
imitation (coefficients 1), of a policy gradient (advantages) or of distillation, whatever `Weigh` makes of the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from app.records import IGNORE
from app.training import kernels
from app.training.attention import to_device
from app.training.fused import FusedDecoder
from app.training.saved_activations import Keep

Weigh = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""weigh(losses, columns): the coefficients of labelled tokens, by their losses -log p and by what the batch says of
each beside its label. All float32 [labelled], coefficients without a gradient."""


class CausalLMLoss(nn.Module):
    """The loss of a causal LM, wrapped so that one forward call, which DDP can hook, gives a micro-batch's sum."""

    def __init__(self, model: nn.Module, chunk: int, weigh: Weigh | None = None) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk
        self.weigh = weigh
        self.token_losses = torch.empty(0)
        """Losses of the last call: float32 [labelled], in the order of the rows."""

    def refresh(self) -> None:
        """Do nothing: the model is asked for its parameters each time."""

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor, **columns: torch.Tensor
    ) -> torch.Tensor:
        """Sum over labelled tokens of -log p(token | before), nats, float32 scalar on the model's device. All inputs
        [batch, seq], int64 but for columns, best on the host: what is asked of them there stops no card.

        Position ids that start again at 0 mark a new document; the model keeps documents from attending to each other.
        columns: what `weigh` is told of each token, float32, in the place of its label.
        """
        causal_lm = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        decoder = causal_lm.get_decoder()
        device = causal_lm.get_output_embeddings().weight.device
        input_ids, labels, position_ids = (to_device(ids, device) for ids in (input_ids, labels, position_ids))
        hidden = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        chosen = targets != IGNORE
        states, targets = hidden[chosen], targets[chosen]  # [labelled, width], [labelled]
        head = causal_lm.get_output_embeddings()
        losses = [states.float().sum()[None] * 0]  # keeps the graph when nothing is labelled
        for start in range(0, len(targets), self.chunk):
            piece = states[start : start + self.chunk], targets[start : start + self.chunk]
            if len(targets) <= self.chunk:  # everything fits at once: recomputing would only cost time
                losses.append(_chunk_losses(head, *piece))
            else:
                losses.append(checkpoint(_chunk_losses, head, *piece, use_reentrant=False))
        every = torch.cat(losses)
        self.token_losses = every[1:].detach()
        if self.weigh is None:
            return every.sum()
        told = {name: to_device(column, device)[:, 1:][chosen] for name, column in columns.items()}
        return (every[1:] * self.weigh(self.token_losses, told)).sum() + every[0]


def _chunk_losses(head: nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(states).float(), targets, reduction="none")


class FusedLoss(nn.Module):
    """What `CausalLMLoss` gives, by `app.training.fused`. Raises ValueError for a model that can't go that way."""

    def __init__(self, model: nn.Module, chunk: int, keep: Sequence[Keep] = (), weigh: Weigh | None = None) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk
        self.weigh = weigh
        self.decoder = FusedDecoder(model, keep)
        self.token_losses = torch.empty(0)
        """Losses of the last call, as in `CausalLMLoss.token_losses`."""

    def refresh(self) -> None:
        """Take the adapter as it is now: before each step."""
        self.decoder.refresh()

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor, **columns: torch.Tensor
    ) -> torch.Tensor:
        """The sum that `CausalLMLoss.forward` gives."""
        causal_lm: Any = self.model.get_base_model()
        norm, head = causal_lm.get_decoder().norm, causal_lm.get_output_embeddings()
        following = functional.pad(labels[:, 1:], (0, 1), value=IGNORE).reshape(-1)
        places = torch.nonzero(following != IGNORE)[:, 0]
        targets = to_device(following[places], head.weight.device)
        told = {
            name: to_device(functional.pad(column[:, 1:], (0, 1)).reshape(-1)[places], head.weight.device)
            for name, column in columns.items()
        }
        places = to_device(places, head.weight.device)
        hidden = self.decoder(input_ids, position_ids)
        eps = causal_lm.config.rms_norm_eps
        loss: torch.Tensor
        loss, self.token_losses = _HeadLoss.apply(
            hidden, places, targets, norm.weight, head.weight, eps, self.chunk, self.weigh, told
        )
        return loss


class _HeadLoss(torch.autograd.Function):
    """Last norm, head and loss of the rows `places` of [tokens, width]: their sum, and each; the gradient is made on
    the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        places: torch.Tensor,
        targets: torch.Tensor,
        norm: torch.Tensor,
        head: torch.Tensor,
        eps: float,
        chunk: int,
        weigh: Weigh | None,
        columns: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = hidden[places]
        normed = torch.empty_like(states)
        scale = kernels.rms_norm(states, norm, eps, normed)
        losses = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(normed)
        for start in range(0, len(targets), chunk):
            piece = slice(start, start + chunk)
            logits = normed[piece] @ head.t()
            losses[piece] = kernels.cross_entropy_(logits, targets[piece])
            torch.mm(logits, head, out=gradient[piece])
            del logits
        total = losses.sum()
        if weigh is not None:
            coefficients = weigh(losses, columns)
            total = (losses * coefficients).sum()
            gradient *= coefficients[:, None]
        ctx.save_for_backward(kernels.rms_norm_backward(gradient, states, scale, norm, None), places)
        ctx.num_tokens = len(hidden)
        ctx.mark_non_differentiable(losses)
        return total, losses

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, _: Any) -> Any:
        gradient, places = ctx.saved_tensors
        whole = gradient.new_zeros(ctx.num_tokens, gradient.shape[1])
        whole[places] = gradient * grad
        return whole, *[None] * 8


def count_targets(labels: torch.Tensor) -> int:
    """How many tokens of a batch [batch, seq] enter the loss."""
    return int((labels[:, 1:] != IGNORE).sum())
