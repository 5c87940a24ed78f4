"""The header of a GGUF file: what the file says of itself, and where each tensor lies in it.

A GGUF comes from anywhere, so no number in it is believed: a count or a length is held against what is left of the
file before anything is read or allocated, and a tensor's place against the file's size. The `gguf` package's own
reader does neither (a list of 2^60 entries fills memory), and takes 7 s for the 150,000 tokens of a Qwen where this
takes 0.3. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Limits: little-endian files of versions 2 and 3 in one part; lists in lists are refused, as no model has any.
"""

import functools
import mmap
import struct
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Bytes to a multiple of which tensors begin, in a file that does not say."""
MAX_ENTRIES = 1 << 16
"""Metadata keys or tensors: ten times what the largest models have."""
MAX_ITEMS = 1 << 22
"""Items of one list: a vocabulary has a few hundred thousand."""
MAX_TEXT = 1 << 24
"""Bytes of one text; chat templates have some thousands."""
MAX_NAME = 1 << 10
"""Bytes of the name of a key or a tensor: ggml takes 64 of a tensor's."""
MAX_HEADER = 1 << 26
"""Bytes of a whole header: that of Qwen2.5 has six million. Held as Python's numbers it takes eight times as much."""
TEXT, LIST = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types of the format, as `struct` writes them; texts and lists are the other two."""
AGAIN = "fetch or convert it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """One tensor's place in the file.

    Example: GgufTensor(name="blk.0.attn_q.weight", shape=(896, 896), kind=12, start=5947392, num_bytes=451584)
    """

    name: str
    shape: tuple[int, ...]
    """As torch has it: rows first."""
    kind: int
    """Number of its type, as ggml counts them: 0 is F32, 12 Q4_K."""
    start: int
    """First byte in the file."""
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself. Made by `read_header`; read by the rest of this room."""

    path: Path
    metadata: Mapping[str, Any]
    """Numbers, texts, truth values and lists of them."""
    tensors: Mapping[str, GgufTensor]

    def broken(self, what: str) -> UserError:
        return UserError(f"{self.path} is broken ({what}): {AGAIN}")


def read_header(path: Path) -> GgufHeader:
    """Read and check the header. Raises UserError for a file that is not a whole GGUF in one part."""
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] != MAGIC:
            raise UserError(
                f"{path} is no GGUF file (it begins with {start[:4]!r}, not with {MAGIC!r}): give a file in that format"
            )
        _check_version(path, start[4:])
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(path, data, at=8)
            num_tensors, num_keys = cursor.count(MAX_ENTRIES, 24, "tensors"), cursor.count(MAX_ENTRIES, 13, "keys")
            metadata = _metadata(cursor, num_keys)
            _check_parts(path, metadata)
            tensors = _tensors(cursor, num_tensors, metadata)
    return GgufHeader(path=path, metadata=MappingProxyType(metadata), tensors=MappingProxyType(tensors))


def shown(value: Any) -> str:
    """A value of the metadata as a sentence can name it."""
    kinds = {type(None): "missing", list: "a list"}
    return kinds.get(type(value)) or textwrap.shorten(repr(value), 80)


def type_name(kind: int) -> str:
    """ggml's name of a tensor type; its number where this version of `gguf` has no name for it."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(kind).name if kind in set(GGMLQuantizationType) else f"number {kind}"


@functools.cache
def block_of(kind: int) -> tuple[int, int]:
    """Numbers and bytes of a type's block, once it is certain that `gguf` unpacks one.

    Raises ValueError, KeyError or NotImplementedError for a type that it does not know or not unpack.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    known = GGMLQuantizationType(kind)
    of_block, block_bytes = GGML_QUANT_SIZES[known]
    dequantize(np.zeros((1, block_bytes), np.uint8), known)
    return of_block, block_bytes


class _Cursor:
    """A place in the mapped file that moves forward, never past the file's end."""

    def __init__(self, path: Path, data: mmap.mmap, at: int) -> None:
        self.path, self.data, self.at, self.size = path, data, at, len(data)

    def skip(self, num_bytes: int) -> int:
        """Go on by this many bytes; the place before."""
        before = self.at
        if before + num_bytes > MAX_HEADER:
            raise UserError(f"{self.path} is broken (its header is longer than {MAX_HEADER:,} bytes): {AGAIN}")
        if num_bytes > self.size - before:
            raise UserError(
                f"{self.path} is cut short (its header goes on after byte {self.size:,}, where the file ends): {AGAIN}"
            )
        self.at = before + num_bytes
        return before

    def number(self, form: str) -> Any:
        form = f"<{form}"
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))[0]

    def count(self, most: int, width: int, what: str) -> int:
        """A number of things of at least `width` bytes each that follow, all of which must fit into the file."""
        count = self.number("Q")
        if count > most:
            raise UserError(f"{self.path} is broken (it announces {count:,} {what}): {AGAIN}")
        if count * width > self.size - self.at:
            self.skip(count * width)
        return int(count)

    def text(self, most: int = MAX_TEXT) -> str:
        length = self.count(most, 1, "bytes of one text")
        start = self.skip(length)
        try:
            return self.data[start : start + length].decode()
        except UnicodeDecodeError:
            raise UserError(f"{self.path} is broken (the text at byte {start:,} is no UTF-8): {AGAIN}") from None

    def value(self, kind: int, *, in_list: bool = False) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == TEXT:
            return self.text()
        if kind != LIST or in_list:
            raise UserError(f"{self.path} is broken (a value of type {kind} at byte {self.at:,}): {AGAIN}")
        inner = self.number("I")
        width = struct.calcsize(f"<{NUMBERS.get(inner, 'Q')}")
        count = self.count(MAX_ITEMS, width, "items of one list")
        if inner in NUMBERS:
            return list(struct.unpack_from(f"<{count}{NUMBERS[inner]}", self.data, self.skip(count * width)))
        return [self.value(inner, in_list=True) for _ in range(count)]


def _check_version(path: Path, field: bytes) -> None:
    if len(field) < 4:
        raise UserError(f"{path} is cut short (it ends after its first bytes): {AGAIN}")
    (version,) = struct.unpack("<I", field)
    if version in VERSIONS:
        return
    if struct.unpack(">I", field)[0] in VERSIONS:
        raise UserError(f"{path} is big-endian: take the little-endian file, which all others are")
    raise UserError(f"{path} is GGUF of version {version}, and versions 2 and 3 are read: convert it anew")


def _metadata(cursor: _Cursor, num_keys: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text(MAX_NAME)
        if key in found:
            raise UserError(f"{cursor.path} is broken (it has the key {key!r} twice): {AGAIN}")
        found[key] = cursor.value(cursor.number("I"))
    return found


def _check_parts(path: Path, metadata: Mapping[str, Any]) -> None:
    parts = metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise UserError(
            f"{path} is one of {parts} parts of a model: join them with `llama-gguf-split --merge`, or take a file "
            "that holds the whole model"
        )


def _tensors(cursor: _Cursor, num_tensors: int, metadata: Mapping[str, Any]) -> dict[str, GgufTensor]:
    entries = [_entry(cursor) for _ in range(num_tensors)]
    step = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(step, int) or not 0 < step <= MAX_TEXT or step & (step - 1):
        raise UserError(f"{cursor.path} is broken (general.alignment is {shown(step)}): {AGAIN}")
    start, found = -(-cursor.at // step) * step, {}
    for name, shape, kind, offset in entries:
        if name in found:
            raise UserError(f"{cursor.path} is broken (it has the tensor {name!r} twice): {AGAIN}")
        num_bytes = _num_bytes(cursor.path, name, shape, kind)
        if (end := start + offset + num_bytes) > cursor.size:
            raise UserError(
                f"{cursor.path} is cut short (tensor {name!r} ends at byte {end:,}, the file at {cursor.size:,}): "
                f"{AGAIN}"
            )
        found[name] = GgufTensor(name=name, shape=shape, kind=kind, start=start + offset, num_bytes=num_bytes)
    return found


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type and place (after the header) of the next tensor in the table."""
    name, num_dims = cursor.text(MAX_NAME), cursor.number("I")
    if not 1 <= num_dims <= 4:
        raise UserError(f"{cursor.path} is broken (tensor {name!r} has {num_dims:,} dimensions): {AGAIN}")
    shape = tuple(reversed([cursor.number("Q") for _ in range(num_dims)]))
    if 0 in shape:
        raise UserError(f"{cursor.path} is broken (tensor {name!r} is empty): {AGAIN}")
    return name, shape, cursor.number("I"), cursor.number("Q")


def _num_bytes(path: Path, name: str, shape: tuple[int, ...], kind: int) -> int:
    """Bytes that a tensor takes in the file. Raises UserError for a type that nothing here unpacks."""
    try:
        of_block, block_bytes = block_of(kind)
    except (ValueError, KeyError, NotImplementedError):
        raise UserError(
            f"{path} has tensor {name!r} in the type {type_name(kind)}, which can't be unpacked: take a file with "
            "F16, BF16, Q8_0, Q4_0 or K types (Q4_K_M, ...)"
        ) from None
    if shape[-1] % of_block:
        raise UserError(f"{path} is broken (rows of tensor {name!r} do not divide into blocks): {AGAIN}")
    return prod(shape) // of_block * block_bytes
