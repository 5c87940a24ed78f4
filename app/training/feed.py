"""Rows of the corpus on their way into a training: split over workers, left out, put together as micro-batches.

Every worker reads all rows in the same order and takes every num_workers-th: none is lost or repeated whatever the
workers' pace, and a training that is started again sees the same ones.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch

from app.settings import Profile
from app.training.experimental.data_dropout import Difficulty, Row, chosen, keys_of, repack
from app.training.schedule import epoch_steps, rows_a_step, share_of_epoch

T = TypeVar("T")
Batch = dict[str, torch.Tensor]
"""input_ids, labels, position_ids: int64 [micro_batch, seq_len]; with data dropout also `documents`, the key of each
token's document."""


def micro_batches(
    rows: Iterable[Row],
    profile: Profile,
    epoch: int,
    num_rows: int,
    worker: int = 0,
    difficulty: Difficulty | None = None,
) -> Iterator[Batch]:
    """One worker's batches of an epoch. rows: the corpus's, in the epoch's order; num_rows: how many these are."""
    options = profile.sft
    size = rows_a_step(options)
    wanted = epoch_steps(num_rows, options, epoch) * size
    if share_of_epoch(options, epoch) < 1 and difficulty is not None:
        seed, seq_len = profile.seed + epoch, profile.corpus.seq_len
        kept = chosen(difficulty.known, options, wanted * seq_len, seed)
        rows = repack(rows, kept, seq_len, seed)
    whole_steps = itertools.chain.from_iterable(groups_of(itertools.islice(rows, wanted), size))
    own = itertools.islice(whole_steps, worker, None, options.num_workers)  # as many for each worker
    for batch in groups_of(own, options.micro_batch):
        columns = {name: np.stack([row[name] for row in batch]).astype(np.int64) for name in batch[0]}
        if difficulty is not None:
            columns["documents"] = np.stack([keys_of(row) for row in batch])
        yield {name: torch.from_numpy(column) for name, column in columns.items()}


def groups_of(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in groups of this size, without a last group that is not whole."""
    iterator = iter(things)
    while len(group := list(itertools.islice(iterator, size))) == size:
        yield group
