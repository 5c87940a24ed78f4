"""What crosses the border between a candidate program and its judge: frames of tagged JSON, plain data only.

A frame is a 4-byte little-endian length and that many bytes of ASCII JSON. None, bool, str, float and ints of up to 64
bits stand for themselves, a JSON array is a list, and every other value is an object with one key, its tag:
{"t": [1, 2]} is (1, 2). The decoder builds the types of `_BUILDERS` and nothing else, by exact type, so no object with
a behaviour of its own arrives (never pickle or marshal). Size, depth and number of items are checked before anything
is encoded and before anything is decoded. Both directions are fuzzed in tests/unit/test_wire.py.

Conversions keep equality: what arrives is equal to exactly what the sent value was equal to. A subclass of a plain
type is sent as its base type. The one exception is a numpy array, which arrives as nested lists.
"""

import datetime as dt
import json
import os
import re
import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_FRAME = 1 << 20
"""Bytes of a frame's JSON."""
MAX_DEPTH = 50
MAX_ITEMS = 100_000
"""Values in one frame, containers included."""
_NATIVE_INT = 1 << 63
_HEADER = struct.Struct("<I")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_HEX = re.compile(r"-?0x[0-9a-f]{1,300000}")
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().decode


class WireError(ValueError):
    """A value that can't be sent, or bytes that are no well-formed frame."""


class Frames:
    """Frames over a pair of blocking pipe ends."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        """Raises WireError for a frame that is too large, OSError when nobody reads any more."""
        send_bytes(self._write_fd, pack(message))

    def receive(self) -> Any:
        """The next frame's JSON. Raises EOFError at the end, WireError for anything but a frame."""
        while len(self._buffer) < _HEADER.size:
            self._fill()
        size = _HEADER.unpack_from(self._buffer)[0]
        if size > MAX_FRAME:
            raise WireError(f"a frame of {size} bytes, {MAX_FRAME} are allowed")
        while len(self._buffer) < _HEADER.size + size:
            self._fill()
        payload = self._buffer[_HEADER.size : _HEADER.size + size]
        self._buffer = self._buffer[_HEADER.size + size :]
        return unpack(payload)

    @property
    def has_unread(self) -> bool:
        """Whether bytes came after the last frame that was received, as far as they were read."""
        return bool(self._buffer)

    def _fill(self) -> None:
        data = os.read(self._read_fd, 1 << 16)
        if not data:
            raise EOFError("the other side closed the channel")
        self._buffer += data


def send_bytes(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def pack(message: dict[str, Any]) -> bytes:
    """The frame of a JSON object whose values went through `to_json`."""
    payload = _encode(message).encode("ascii")
    if len(payload) > MAX_FRAME:
        raise WireError(f"{len(payload)} bytes of data, {MAX_FRAME} can be sent")
    return _HEADER.pack(len(payload)) + payload


def unpack(payload: bytes) -> Any:
    """The JSON of a frame without its header; `from_json` makes values of its parts. Raises WireError."""
    try:
        text = payload.decode("ascii")
        _check_shape(text)
        return _decode(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise WireError(f"no frame: {str(error)[:100]}") from None


def _check_shape(text: str) -> None:
    """Refuse too many items or too deep nesting before a parser builds them."""
    opened = text.count("[") + text.count("{")
    if opened <= 2 * MAX_DEPTH and text.count(",") + opened <= MAX_ITEMS:
        return
    bare = _TEXT.sub("", text)
    if bare.count(",") + bare.count("[") + bare.count("{") > 3 * MAX_ITEMS:  # an item costs up to three: {"t":[,
        raise WireError(f"more than {MAX_ITEMS} items")
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > 2 * MAX_DEPTH + 4:  # a tag doubles the depth; the message itself adds a little
            raise WireError(f"nested deeper than {MAX_DEPTH}")


def to_json(value: Any) -> Any:
    """The tagged JSON of a value. Raises WireError for what is not plain data or too large."""
    return _Encoder().encode(value, 0)


class _Encoder:
    def __init__(self) -> None:
        self._items = MAX_ITEMS
        self._bytes = MAX_FRAME

    def encode(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._items -= 1
        if self._items < 0:
            raise WireError(f"more than {MAX_ITEMS} items")
        if kind is int:
            return value if -_NATIVE_INT <= value < _NATIVE_INT else self._large_int(value)
        if kind is str:
            self._take(len(value))
            return value
        if value is None or kind is bool or kind is float:
            return value
        if depth >= MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        if kind is list:
            return self._sequence(value, depth)
        tagger = _TAGGERS.get(kind)
        if tagger is not None:
            return tagger(self, value, depth)
        return self.encode(_as_plain(value, kind), depth)

    def _large_int(self, value: int) -> dict[str, str]:
        self._take(value.bit_length() // 4)
        return {"i": hex(value)}

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        if len(value) > self._items:
            raise WireError(f"more than {MAX_ITEMS} items")
        return [self.encode(item, depth + 1) for item in value]

    def _pairs(self, value: Any, depth: int) -> list[Any]:
        return [self._sequence(pair, depth + 1) for pair in dict.items(value)]

    def _bytes_of(self, value: bytes | bytearray) -> str:
        self._take(2 * len(value))
        return value.hex()

    def _take(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise WireError(f"more than {MAX_FRAME} bytes of data")


def _parts(*names: str) -> Callable[[_Encoder, Any, int], list[Any]]:
    return lambda encoder, value, depth: [encoder.encode(getattr(value, name), depth + 1) for name in names]


def _tag(tag: str, payload: Callable[[_Encoder, Any, int], Any]) -> Callable[[_Encoder, Any, int], dict[str, Any]]:
    return lambda encoder, value, depth: {tag: payload(encoder, value, depth)}


_TAGGERS: dict[type, Callable[[_Encoder, Any, int], Any]] = {
    tuple: _tag("t", _Encoder._sequence),
    set: _tag("s", _Encoder._sequence),
    frozenset: _tag("fs", _Encoder._sequence),
    dict: _tag("d", _Encoder._pairs),
    bytes: _tag("b", lambda encoder, value, _: encoder._bytes_of(value)),
    bytearray: _tag("ba", lambda encoder, value, _: encoder._bytes_of(value)),
    complex: _tag("c", _parts("real", "imag")),
    range: _tag("range", _parts("start", "stop", "step")),
    Fraction: _tag("Fraction", _parts("numerator", "denominator")),
    Decimal: _tag("Decimal", lambda encoder, value, depth: encoder.encode(str(value), depth)),
    deque: _tag("deque", lambda encoder, value, depth: [value.maxlen, encoder._sequence(value, depth)]),
    Counter: _tag("Counter", _Encoder._pairs),
    OrderedDict: _tag("OrderedDict", _Encoder._pairs),
    dt.datetime: _tag("datetime", lambda encoder, value, depth: value.isoformat()),
    dt.date: _tag("date", lambda encoder, value, depth: value.isoformat()),
    dt.time: _tag("time", lambda encoder, value, depth: value.isoformat()),
    dt.timedelta: _tag("timedelta", _parts("days", "seconds", "microseconds")),
    type: lambda encoder, value, depth: _type_name(value),
}
_TYPES = {kind.__name__: kind for kind in (int, float, complex, str, bytes, bool, list, tuple, set, frozenset, dict)}
"""Types themselves, as an argument (MBPP/533)."""
_BASES: tuple[type, ...] = (
    int, float, str, complex, bytes, bytearray, list, tuple, set, frozenset, Counter, OrderedDict, dict, deque,
)  # fmt: skip


def _type_name(value: type) -> dict[str, str]:
    if _TYPES.get(value.__name__) is not value:
        raise WireError(f"the class {value.__name__} is no plain data")
    return {"type": value.__name__}


def _as_plain(value: Any, kind: type) -> Any:
    """The plain value behind a subclass or a numpy object. Raises WireError when there is none."""
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    for base in _BASES:
        if issubclass(kind, base):
            if issubclass(base, dict) and base is not dict:
                return base(dict(dict.items(value)))
            return _flatten(value, base)
    raise WireError(f"a {kind.__name__} is no plain data")


def _flatten(value: Any, base: type) -> Any:
    """What the base type's own methods see, whatever the subclass overrides."""
    if base is int:
        return int.__add__(value, 0)
    if base is float:
        return float.__add__(value, 0.0)
    if base is complex:
        return complex.__add__(value, 0)
    if base is str:
        return str.__str__(value)
    if base is dict:
        return dict(dict.items(value))
    return base(base.__iter__(value))  # type: ignore[attr-defined]


def from_json(tree: Any) -> Any:
    """The value of tagged JSON. Raises WireError for anything but the encoder's forms."""
    kind = type(tree)
    if tree is None or kind is int or kind is str or kind is float or kind is bool:
        return tree
    if kind is list:
        return [from_json(item) for item in tree]
    if len(tree) != 1:
        raise WireError("a value with more or fewer than one tag")
    ((tag, payload),) = tree.items()
    try:
        return _BUILDERS[tag](payload)
    except (KeyError, ValueError, TypeError, ArithmeticError, OverflowError) as error:
        raise WireError(f"no value of tag {tag[:20]!r}: {type(error).__name__}") from None


def _list(payload: Any) -> list[Any]:
    if type(payload) is not list:
        raise TypeError("an array was expected")
    return [from_json(item) for item in payload]


def _text(payload: Any) -> str:
    if type(payload) is not str:
        raise TypeError("a text was expected")
    return payload


def _large_int(payload: Any) -> int:
    if not _HEX.fullmatch(_text(payload)):
        raise ValueError("no hexadecimal int")
    return int(payload, 16)


def _numbers(payload: Any, kind: type, count: int) -> list[Any]:
    values = _list(payload)
    if len(values) != count or any(type(value) is not kind for value in values):
        raise TypeError(f"{count} of {kind.__name__} were expected")
    return values


def _distinct(payload: Any, kind: type) -> Any:
    values = _list(payload)
    made = kind(values)
    if len(made) != len(values) and all(value == value for value in values):  # several NaN are distinct or one
        raise ValueError("an element stands twice")
    return made


def _mapping(payload: Any, kind: type) -> Any:
    made = kind()
    for pair in payload if type(payload) is list else [payload]:
        if type(pair) is not list or len(pair) != 2:
            raise TypeError("pairs were expected")
        made[from_json(pair[0])] = from_json(pair[1])
    return made


def _deque(payload: Any) -> deque[Any]:
    length, items = payload
    if length is not None and (type(length) is not int or length < 0):
        raise TypeError("a length was expected")
    return deque(_list(items), length)


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "i": _large_int,
    "t": lambda payload: tuple(_list(payload)),
    "s": lambda payload: _distinct(payload, set),
    "fs": lambda payload: _distinct(payload, frozenset),
    "d": lambda payload: _mapping(payload, dict),
    "b": lambda payload: bytes.fromhex(_text(payload)),
    "ba": lambda payload: bytearray.fromhex(_text(payload)),
    "c": lambda payload: complex(*_numbers(payload, float, 2)),
    "range": lambda payload: range(*_numbers(payload, int, 3)),
    "Fraction": lambda payload: Fraction(*_numbers(payload, int, 2)),
    "Decimal": lambda payload: Decimal(_text(payload)),
    "deque": _deque,
    "Counter": lambda payload: _mapping(payload, Counter),
    "OrderedDict": lambda payload: _mapping(payload, OrderedDict),
    "datetime": lambda payload: dt.datetime.fromisoformat(_text(payload)),
    "date": lambda payload: dt.date.fromisoformat(_text(payload)),
    "time": lambda payload: dt.time.fromisoformat(_text(payload)),
    "timedelta": lambda payload: dt.timedelta(*_numbers(payload, int, 3)),
    "type": lambda payload: _TYPES[_text(payload)],
}
