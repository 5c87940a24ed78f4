"""How likely a transformers model finds given tokens, with few logits in memory at once.

The tokens are taken as they are: text that is encoded anew may fall into other tokens than those that were drawn.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from app.errors import UserError
from app.generation.kv_cache import in_place_cache

POSITIONS = 512
"""Positions whose logits exist at once: 512 x 151,936 in float32 are 0.3 GB."""
Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt, and of what follows it."""


@torch.inference_mode()
def log_probabilities(
    model: Any, pairs: Sequence[Pair], *, batch_size: int, max_tokens: int, pad_id: int = 0
) -> list[list[float]]:
    """log p(token | before) of every token that follows a prompt, nats; a list for each pair.

    batch_size: rows of a pass, at most; max_tokens: of a pass, padding included. A token's probability is its share
    among all rows of the model's head, those that pad the vocabulary included: they hardly count.
    """
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))  # alike lengths pad each other least
    scores: dict[int, list[float]] = {}
    while order:
        width = sum(map(len, pairs[order[0]]))
        num_rows = max(1, min(batch_size, max_tokens // max(1, width)))
        batch, order = order[:num_rows], order[num_rows:]
        scores |= zip(batch, _of_batch(model, [pairs[i] for i in batch], max_tokens, pad_id), strict=True)
    return [scores[i] for i in range(len(pairs))]


def _of_batch(model: Any, pairs: Sequence[Pair], max_tokens: int, pad_id: int) -> list[list[float]]:
    """Padded right: what follows a token does not reach it."""
    rows = [[*prompt, *following] for prompt, following in pairs]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    wanted = torch.zeros(len(rows), width - 1, dtype=torch.bool)  # position t predicts token t + 1
    for mask, (prompt, following) in zip(wanted, pairs, strict=True):
        mask[len(prompt) - 1 : len(prompt) + len(following) - 1] = True
    head, found = model.get_output_embeddings(), list[float]()
    device = head.weight.device
    states = _states(model, ids.to(device), max_tokens)
    states, targets = states[:, :-1][wanted.to(device)], ids[:, 1:][wanted].to(device)
    for start in range(0, len(targets), POSITIONS):
        logits = head(states[start : start + POSITIONS]).float()
        chosen = logits.gather(1, targets[start : start + POSITIONS, None])[:, 0]
        found += (chosen - logits.logsumexp(dim=-1)).tolist()
    values = iter(found)
    return [list(islice(values, len(following))) for _, following in pairs]


def _states(model: Any, ids: torch.Tensor, max_tokens: int) -> torch.Tensor:
    """ids [rows, tokens] -> states [rows, tokens, width]; a row that is too long goes in parts."""
    decoder = model.get_decoder()
    if ids.shape[1] <= max_tokens:
        return decoder(input_ids=ids, use_cache=False).last_hidden_state
    cache = in_place_cache(model.config)
    parts = ids.split(max_tokens, dim=1)
    states = [decoder(input_ids=part, past_key_values=cache, use_cache=True).last_hidden_state for part in parts]
    return torch.cat(states, dim=1)


def check_scored(pairs: Sequence[Pair], limit: int) -> None:
    """Raise UserError for a pair that can't be scored."""
    for number, (prompt, following) in enumerate(pairs):
        if not prompt:
            raise UserError(f"pair {number} to score has an empty prompt: its first token would have no probability")
        if (length := len(prompt) + len(following)) > limit:
            raise UserError(
                f"pair {number} to score has {length} tokens and the model takes {limit}: "
                "raise generation.max_model_len or shorten it"
            )
