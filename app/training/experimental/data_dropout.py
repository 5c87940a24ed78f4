"""Progressive Data Dropout: the epochs between the first and the last train a part of the examples only.

Three ways to choose it (Progressive Data Dropout, arXiv 2505.22342, section 3), all by share of tokens:
dbpd  the hardest, but for the few hardest of all, which are taken for noise (`sft.data_dropout_noise`);
smrd  any, as much as dbpd would take: shows what knowing the difficulty is worth;
srd   any, fewer with each epoch: `sft.data_dropout_keep` to the power of the epoch.
The paper scores each epoch by a forward pass over all examples, which eats much of what is saved. Here difficulty is
the mean completion loss of an example when it was last trained, which costs nothing: so the first epoch is always
full, and the last one is too, as in the paper ("revision").

An example is a document of the packed rows, known by a hash of its tokens. What is kept is packed anew.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.corpus.rows.packing import Sample, pack
from app.records import IGNORE
from app.settings import SftSettings

Row = dict[str, NDArray[np.int32]]
"""input_ids, labels, position_ids: [seq_len]."""
WINDOW = 256
"""Rows' worth of documents that are packed together: 99 % full, and 42 MB of lists for rows of 2,048 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What is known of a document from its last training."""

    loss: float
    """Mean over its completion's tokens, nats."""
    num_tokens: int
    """All tokens, the prompt's as well."""


class Difficulty:
    """What is known of every document. Written by the training loop, read by `chosen`."""

    def __init__(self) -> None:
        self.known: dict[int, Trained] = {}
        """Documents by key, as of the beginning of this epoch: what it trains follows from that alone."""
        self.fresh: dict[int, Trained] = {}
        """Documents by key, as this epoch has found them until now."""

    def end_epoch(self, found: Iterable[dict[int, Trained]]) -> None:
        """Take what an epoch found for known. found: `fresh` of every worker."""
        for part in found:
            self.known.update(part)
        self.fresh = {}

    def save(self, path: Path, found: Iterable[dict[int, Trained]]) -> None:
        """Write what is known, and what the epoch has found. found: as for `end_epoch`."""
        from safetensors.numpy import save_file

        fresh: dict[int, Trained] = {}
        for part in found:
            fresh.update(part)
        tensors = {}
        for name, held in (("known", self.known), ("fresh", fresh)):
            tensors[f"{name}.keys"] = np.fromiter(held, np.int64, len(held))
            tensors[f"{name}.losses"] = np.fromiter((one.loss for one in held.values()), np.float64, len(held))
            tensors[f"{name}.tokens"] = np.fromiter((one.num_tokens for one in held.values()), np.int64, len(held))
        save_file(tensors, path)

    def load(self, path: Path) -> None:
        from safetensors.numpy import load_file

        tensors = load_file(path)
        for name, held in (("known", self.known), ("fresh", self.fresh)):
            columns = (tensors[f"{name}.{column}"].tolist() for column in ("keys", "losses", "tokens"))
            for key, loss, num_tokens in zip(*columns, strict=True):
                held[key] = Trained(loss=loss, num_tokens=num_tokens)


class DocumentLosses:
    """The losses of a step's documents, gathered pass by pass; nothing waits for a card before `trained`."""

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._labelled: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, keys: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Add the losses of a pass. keys: int64 [rows, seq_len], each token's document; labels: the same shape; losses:
        float32 [labelled], of the tokens that are predicted, in their order."""
        self._keys.append(keys.reshape(-1))
        self._labelled.append(keys[:, 1:][labels[:, 1:] != IGNORE])
        self._losses.append(losses)

    def trained(self) -> dict[int, Trained]:
        """What the step says of its documents, by key; those without a label are left out."""
        if not self._keys:
            return {}
        keys, places = np.unique(torch.cat(self._labelled).numpy(), return_inverse=True)
        sums = np.bincount(places, torch.cat(self._losses).cpu().numpy(), len(keys))
        means = sums / np.bincount(places, minlength=len(keys))
        every, counts = np.unique(torch.cat(self._keys).numpy(), return_counts=True)
        sizes = counts[np.searchsorted(every, keys)]
        return {
            key: Trained(loss=loss, num_tokens=size)
            for key, loss, size in zip(keys.tolist(), means.tolist(), sizes.tolist(), strict=True)
        }


def chosen(known: dict[int, Trained], settings: SftSettings, num_tokens: int, seed: int) -> set[int]:
    """Keys of the documents that an epoch trains, of this number of tokens or a few more."""
    keys = sorted(known)  # in no order that depends on the workers
    if settings.data_dropout == "dbpd":
        keys.sort(key=lambda key: -known[key].loss)
        noise = int(settings.data_dropout_noise * len(keys))
        keys = keys[noise:] + keys[:noise][::-1]  # what is taken for noise comes in where nothing else is left
    else:
        np.random.default_rng(seed).shuffle(keys)
    kept, total = set(), 0
    for key in keys:
        if total >= num_tokens:
            break
        kept.add(key)
        total += known[key].num_tokens
    return kept


def repack(rows: Iterable[Row], kept: set[int], seq_len: int, seed: int) -> Iterator[Row]:
    """The rows' documents whose keys are kept, in new rows, mixed within each window."""
    random = np.random.default_rng(seed)
    held: list[Sample] = []
    size = 0
    for row in rows:
        for start, end, key in documents(row):
            if key in kept:
                held.append(
                    Sample(input_ids=row["input_ids"][start:end].tolist(), labels=row["labels"][start:end].tolist())
                )
                size += end - start
        if size >= WINDOW * seq_len:
            yield from _packed(held, seq_len, random)
            held, size = [], 0
    yield from _packed(held, seq_len, random)


def _packed(samples: list[Sample], seq_len: int, random: np.random.Generator) -> Iterator[Row]:
    packed = pack(samples, seq_len, pad_id=0)  # nothing attends to padding, and no loss is taken of it
    for index in random.permutation(len(packed)):
        row = packed[index]
        yield {"input_ids": row.input_ids, "labels": row.labels, "position_ids": row.position_ids}


def documents(row: Row) -> Iterator[tuple[int, int, int]]:
    """Start, end and key of each document of a row, without the padding."""
    starts = np.flatnonzero(row["position_ids"] == 0).tolist()
    for start, end in zip(starts, [*starts[1:], len(row["position_ids"])], strict=True):
        if (row["labels"][start + 1 : end] != IGNORE).any():
            ids = np.ascontiguousarray(row["input_ids"][start:end], np.int32)
            key = int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little", signed=True)
            yield start, end, key


def keys_of(row: Row) -> NDArray[np.int64]:
    """The key of each token's document, 0 for padding: [seq_len]."""
    keys = np.zeros(len(row["input_ids"]), np.int64)
    for start, end, key in documents(row):
        keys[start:end] = key
    return keys
