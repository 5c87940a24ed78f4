"""Causal language model loss over labelled tokens only, with few logits in memory at once.

The vocabulary projection is the largest activation of a small model (2,048 x 151,936 float32 logits are 1.2 GB, and
the naive path holds three copies). Positions without a label never reach it, and the rest go through in chunks that
are recomputed in the backward pass. Same result as `model(labels=...)` up to rounding.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from app.records import IGNORE


class CausalLMLoss(nn.Module):
    """Wraps a causal LM so that one forward call, which DDP can hook, gives the summed loss of a micro-batch."""

    def __init__(self, model: nn.Module, chunk: int) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        """Sum over labelled tokens of -log p(token | before), nats, float32 scalar. All inputs int64 [batch, seq].

        Position ids that start again at 0 mark a new document; the model keeps documents from attending to each other.
        """
        causal_lm = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        decoder = causal_lm.get_decoder()
        hidden = decoder(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        chosen = targets != IGNORE
        states, targets = hidden[chosen], targets[chosen]  # [labelled, width], [labelled]
        head = causal_lm.get_output_embeddings()
        total = states.float().sum() * 0  # keeps the graph when nothing is labelled
        for start in range(0, len(targets), self.chunk):
            piece = states[start : start + self.chunk], targets[start : start + self.chunk]
            if len(targets) <= self.chunk:  # everything fits at once: recomputing would only cost time
                total = total + _chunk_loss(head, *piece)
            else:
                total = total + checkpoint(_chunk_loss, head, *piece, use_reentrant=False)
        return total


def _chunk_loss(head: nn.Module, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(states).float(), targets, reduction="sum")


def count_targets(labels: torch.Tensor) -> int:
    """How many tokens of a batch [batch, seq] enter the loss."""
    return int((labels[:, 1:] != IGNORE).sum())
