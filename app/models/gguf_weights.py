"""The tensors of a GGUF file, unpacked on all cores into the safetensors files that everything here loads.

Tensors are cut into pieces of rows. A worker reads the bytes of one, unpacks them with the `gguf` package and writes
them to their place in a file that has its full length from the start: a large tensor is never whole in memory, and the
disk is full at the start or not at all. The file format: https://huggingface.co/docs/safetensors (its package writes
only what is in memory).
"""

import contextlib
import json
import multiprocessing
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from app.errors import UserError
from app.hardware import can_share_locks, num_cores
from app.models.gguf_header import block_of
from app.models.gguf_layout import Placed
from app.models.sizes import BYTES
from app.progress import progress

STORED = {"float32": "F32", "bfloat16": "BF16"}
"""safetensors' names of dtypes, by model.dtype."""
SHARD_BYTES = 1 << 30
"""Bytes of one file at most, unless a single tensor is larger: files are checksummed one a core."""
PIECE = 1 << 20
"""Numbers that are unpacked at once, at most, except where rows have to be put in order: 4 MiB in float32, and the
unpacking of some types takes five times as much."""
ALONE = 1 << 23
"""A model of no more numbers is unpacked here, in the time that a worker takes to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one tensor: where they lie, how they are packed, and where they belong."""

    source: Path
    start: int
    num_bytes: int
    kind: int
    rows: int
    heads: int
    """As in `Placed`."""
    target: Path
    offset: int
    dtype: str

    @property
    def numbers(self) -> int:
        of_block, block_bytes = block_of(self.kind)
        return self.num_bytes // block_bytes * of_block


def write_weights(source: Path, places: Sequence[Placed], folder: Path, dtype: str) -> None:
    """Unpack every tensor into the folder, in `dtype`.

    Raises OSError naming the file for a disk that is full.
    """
    pieces = [piece for shard in _shards(places, folder, dtype) for piece in _laid_out(source, *shard, dtype)]
    total, done = sum(piece.numbers for piece in pieces), 0
    with progress("unpacking", total >> 20, "million weights") as update, _unpacked(pieces, total) as sizes:
        for size in sizes:
            done += size
            update(done >> 20)


@contextlib.contextmanager
def _unpacked(pieces: Sequence[Piece], total: int) -> Iterator[Iterator[int]]:
    """The size of each piece when it is done."""
    if total <= ALONE or not can_share_locks():
        yield map(unpack_piece, pieces)
        return
    # Fresh interpreters: this one may run threads (torch, Ray) that a fork would leave in the middle of something.
    workers = min(num_cores(), len(pieces))
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool.map(unpack_piece, pieces, chunksize=4)
    except BrokenProcessPool:
        raise UserError(
            f"a process that unpacks {pieces[0].source} was killed, as happens when memory is full: end other programs "
            "and pull again"
        ) from None


def unpack_piece(piece: Piece) -> int:
    """Unpack the rows and write them to their place; how many numbers they were."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    packed = np.fromfile(piece.source, np.uint8, piece.num_bytes, offset=piece.start)
    if packed.size < piece.num_bytes:
        raise UserError(f"{piece.source} became shorter while it was unpacked: pull again")
    values = dequantize(packed.reshape(piece.rows, -1), GGMLQuantizationType(piece.kind))
    if piece.heads:
        in_pairs = values.reshape(piece.heads, -1, 2, values.shape[-1])
        values = np.ascontiguousarray(in_pairs.swapaxes(1, 2))
    if piece.dtype == "bfloat16":
        values = quantize(values, GGMLQuantizationType.BF16)
    with _naming(piece.target), open(piece.target, "r+b") as file:
        file.seek(piece.offset)
        file.write(np.ascontiguousarray(values).data)
    return piece.numbers


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an OSError the file that it is about, which those of a write lack."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None


def _shards(places: Sequence[Placed], folder: Path, dtype: str) -> list[tuple[Path, list[Placed]]]:
    """Which tensors go into which file; with several files their index is written too."""
    from huggingface_hub import split_state_dict_into_shards_factory

    by_name = {place.name: place for place in places}
    split = split_state_dict_into_shards_factory(
        by_name,
        get_storage_size=lambda place: prod(place.tensor.shape) * BYTES[dtype],
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=SHARD_BYTES,
    )
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return [(folder / file, [by_name[name] for name in names]) for file, names in split.filename_to_tensors.items()]


def _laid_out(source: Path, target: Path, places: Sequence[Placed], dtype: str) -> Iterator[Piece]:
    """Make the file, as long as it will be, with its header; the pieces that fill it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    ends = [0]
    for place in places:
        ends.append(ends[-1] + prod(place.tensor.shape) * BYTES[dtype])
        shape = list(place.tensor.shape)
        entries[place.name] = {"dtype": STORED[dtype], "shape": shape, "data_offsets": ends[-2:]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    first = 8 + len(header)
    with _naming(target), open(target, "xb") as file:
        os.posix_fallocate(file.fileno(), 0, first + ends[-1])
        file.write(struct.pack("<Q", len(header)) + header)
    for place, start in zip(places, ends, strict=False):
        yield from _pieces(source, place, target, first + start, dtype)


def _pieces(source: Path, place: Placed, target: Path, offset: int, dtype: str) -> Iterator[Piece]:
    tensor = place.tensor
    rows, columns = (1, tensor.shape[0]) if len(tensor.shape) == 1 else (tensor.shape[0], prod(tensor.shape[1:]))
    at_once = rows if place.heads else max(1, PIECE // columns)
    row_bytes = tensor.num_bytes // rows
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        yield Piece(
            source=source,
            start=tensor.start + first * row_bytes,
            num_bytes=count * row_bytes,
            kind=tensor.kind,
            rows=count,
            heads=place.heads,
            target=target,
            offset=offset + first * columns * BYTES[dtype],
            dtype=dtype,
        )
