"""Drafts as batches for the training loop: the tokens that the engine drew, packed into rows, each with its advantage.

Nothing is encoded anew: another way to cut the same text into tokens would be learnt in place of what was drawn.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from app.corpus.draws import by_hash
from app.corpus.rows.packing import Sample, pack
from app.records import IGNORE, Draft
from app.reward.by_reward.policy import ADVANTAGES, DRAWN
from app.training.feed import Batch
from app.training.loop import Source
from app.training.state import Progress


def sample_of(prompt_ids: Sequence[int], draft: Draft, advantage: float | Sequence[float]) -> Sample:
    """A prompt and the tokens drawn after it, of which these are learnt. advantage: of all drawn tokens, or one for
    each."""
    unknown, drawn = [0.0] * len(prompt_ids), list(draft.token_ids)
    gains = [advantage] * len(drawn) if isinstance(advantage, float | int) else advantage
    assert len(gains) == len(drawn), f"{len(gains)} advantages for {len(drawn)} tokens"
    return Sample(
        input_ids=[*prompt_ids, *drawn],
        labels=[*[IGNORE] * len(prompt_ids), *drawn],
        is_whole=True,
        columns={
            ADVANTAGES: [*unknown, *gains],
            DRAWN: [*unknown, *draft.token_logprobs],
        },
    )


def batches_of(samples: Sequence[Sample], seq_len: int, micro_batch: int, pad_id: int) -> list[Batch]:
    """All samples in rows of seq_len, at most micro_batch of them a batch. Raises ValueError for a sample longer than a
    row."""
    rows = pack(samples, seq_len, pad_id)
    batches = []
    for start in range(0, len(rows), micro_batch):
        held = rows[start : start + micro_batch]
        batch = {
            name: torch.from_numpy(np.stack([getattr(row, name) for row in held]).astype(np.int64))
            for name in ("input_ids", "labels", "position_ids")
        }
        batch |= {name: torch.from_numpy(np.stack([row.columns[name] for row in held])) for name in held[0].columns}
        batches.append(batch)
    return batches


def steps_an_epoch(samples: int, batch: int) -> int:
    """Each takes as many samples as the others, or one less, and about `batch`."""
    return max(1, round(samples / batch))


def epochs_of(
    samples: Sequence[Sample], epochs: int, batch: int, *, seq_len: int, micro_batch: int, pad_id: int, seed: int
) -> Source:
    """All samples once an epoch, in an order of the epoch's own, in `steps_an_epoch` steps. Which ones a step takes
    depends on its number and the seed alone, so a training that was ended goes on exactly. Raises ValueError for a
    sample longer than a row."""
    number = steps_an_epoch(len(samples), batch)

    def batches(progress: Progress) -> Iterator[list[Batch]]:
        for step in range(progress.step, epochs * number):
            epoch, place = divmod(step, number)
            order = sorted(range(len(samples)), key=lambda one: by_hash(f"{seed} {epoch} {one}"))
            start, end = (at * len(samples) // number for at in (place, place + 1))
            yield batches_of([samples[one] for one in order[start:end]], seq_len, micro_batch, pad_id)

    return batches
