"""How likely the model without its adapter finds the tokens that a batch learns: the other end of the KL.

One more pass without gradients, through transformers' and PEFT's layers as they are. The trainer's fused ones differ
from them in rounding, so with bfloat16 weights the KL of an adapter that adds nothing comes out a little above 0.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from app.records import IGNORE
from app.reward.by_reward.policy import BASE
from app.training.feed import Batch
from app.training.loss import CausalLMLoss
from app.training.out_of_memory import Ladder

COPIES = 5
"""What plain layers take for a logit, in 16 bits, in 32 and as a log-probability, as against the fused ones' 16 bits:
with as large a chunk a 1.5B in bfloat16 had no room for one row within 8 GiB (docs/log)."""


@torch.no_grad()
def with_base(model: Any, batches: Sequence[Batch], chunk: int, ladder: Ladder) -> list[Batch]:
    """The batches with a column BASE: log p of each label by the model with its adapter off, nats, 0 where nothing is
    learnt. model: PEFT's; chunk: labels whose logits the fused layers have at once; ladder: for where a card's memory
    runs out, of this pass alone."""
    loss = CausalLMLoss(model, max(1, chunk // COPIES))

    def column_of(batch: Batch) -> Tensor:
        columns = []
        for piece in ladder.pieces(batch):
            loss(piece["input_ids"], piece["labels"], piece["position_ids"])
            column = torch.zeros(piece["labels"].shape)
            column[:, 1:][piece["labels"][:, 1:] != IGNORE] = -loss.token_losses.cpu()
            columns.append(column)
        return torch.cat(columns)

    found = []
    with model.disable_adapter():
        for batch in batches:
            column = ladder.descend(functools.partial(column_of, batch), batch, "the pass of the base")
            found.append(batch | {BASE: column})
    return found
