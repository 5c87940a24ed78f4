"""Values as tagged JSON: the only thing a candidate program and its judge can give each other.

None, bool, str, float and ints of up to 64 bits stand for themselves, a JSON array is a list, and every other value is
an object with one key, its tag: {"t": [1, 2]} is (1, 2). `decoder.from_json` builds the types of its table and nothing
else, by exact type, so no object with a behaviour of its own arrives (never pickle or marshal).

Conversions keep equality: what arrives is equal to exactly what the sent value was equal to. A subclass of a plain
type is sent as its base type. The one exception is a numpy array, which arrives as nested lists. A view of a dict
arrives as the view of a copy.
"""

import importlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

MAX_BYTES = 4 << 20
"""The largest message. To build the dearest of this size takes a second and 350 MB."""
MAX_DEPTH = 50
MAX_ITEMS = 500_000
"""Values in one message, containers included."""
MAX_INT_BITS = 1 << 20
MAX_FRACTION_BITS = 1 << 16
"""The largest numerator or denominator; to reduce larger ones takes seconds."""
_NATIVE_INT = 1 << 63


class WireError(ValueError):
    """A value that can't be sent, or bytes that are not a well-formed frame."""


class TooLargeError(WireError):
    """Plain data beyond the limits of size, depth or number."""


def to_json(value: Any, encoder: "Encoder | None" = None, depth: int = 0) -> Any:
    """The tagged JSON of a value. Raises WireError for what is not plain data or too large.

    encoder: that of the message which the value becomes a part of. depth: how deep it lies there.
    """
    try:
        return (encoder or Encoder()).encode(value, depth)
    except (WireError, MemoryError):
        raise
    except Exception as error:  # objects that lie about themselves
        raise WireError(f"no plain data: {type(error).__name__}") from None


class Encoder:
    """The encoder of one message's values, within what a message may hold."""

    def __init__(self) -> None:
        self._items = MAX_ITEMS
        self._bytes = MAX_BYTES

    @property
    def is_half_full(self) -> bool:
        return self._items < MAX_ITEMS // 2 or self._bytes - 8 * (MAX_ITEMS - self._items) < MAX_BYTES // 2

    def encode(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._items -= 1
        if self._items < 0:
            raise TooLargeError(f"more than {MAX_ITEMS} items")
        if kind is int:
            return value if -_NATIVE_INT <= value < _NATIVE_INT else self._large_int(value)
        if kind is str:
            self._take(len(value))
            return value if value.isascii() else _text_or_tag(value)
        if value is None or kind is bool or kind is float:
            return value
        if depth >= MAX_DEPTH:
            raise TooLargeError(f"nested deeper than {MAX_DEPTH}")
        if kind is list:
            return self._sequence(value, depth)
        tagger = _TAGGERS.get(kind) or _library_tagger(kind)
        if tagger is not None:
            return tagger(self, value, depth)
        return self.encode(_as_plain(value, kind), depth)

    def _large_int(self, value: int) -> dict[str, str]:
        if value.bit_length() > MAX_INT_BITS:
            raise TooLargeError(f"an int of more than {MAX_INT_BITS} bits")
        self._take(value.bit_length() // 4)
        return {"i": hex(value)}

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        if len(value) > self._items:
            raise TooLargeError(f"more than {MAX_ITEMS} items")
        return [self.encode(item, depth + 1) for item in value]

    def _pairs(self, value: Any, depth: int) -> list[Any]:
        items = OrderedDict.items(value) if isinstance(value, OrderedDict) else dict.items(value)
        return [self._sequence(pair, depth + 1) for pair in items]

    def _items_of(self, view: Any, depth: int) -> list[Any]:
        return [self._sequence(pair, depth + 1) for pair in view]

    def _bytes_of(self, value: bytes | bytearray) -> str:
        self._take(2 * len(value))
        return value.hex()

    def _take(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise TooLargeError(f"more than {MAX_BYTES} bytes of data")


def _text_or_tag(value: str) -> Any:
    """JSON would make one character of two surrogates side by side."""
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return {"u": value.encode("utf-8", "surrogatepass").hex()}


def _parts(*names: str) -> Callable[[Encoder, Any, int], list[Any]]:
    return lambda encoder, value, depth: [encoder.encode(getattr(value, name), depth + 1) for name in names]


def _tag(tag: str, payload: Callable[[Encoder, Any, int], Any]) -> Callable[[Encoder, Any, int], dict[str, Any]]:
    return lambda encoder, value, depth: {tag: payload(encoder, value, depth)}


_TAGGERS: dict[type, Callable[[Encoder, Any, int], Any]] = {
    tuple: _tag("t", Encoder._sequence),
    set: _tag("s", Encoder._sequence),
    frozenset: _tag("fs", Encoder._sequence),
    dict: _tag("d", Encoder._pairs),
    bytes: _tag("b", lambda encoder, value, _: encoder._bytes_of(value)),
    bytearray: _tag("ba", lambda encoder, value, _: encoder._bytes_of(value)),
    complex: _tag("c", _parts("real", "imag")),
    range: _tag("range", _parts("start", "stop", "step")),
    deque: _tag("deque", lambda encoder, value, depth: [value.maxlen, encoder._sequence(value, depth)]),
    Counter: _tag("Counter", Encoder._pairs),
    OrderedDict: _tag("OrderedDict", Encoder._pairs),
    MappingProxyType: _tag("proxy", lambda encoder, value, depth: encoder.encode(dict(value), depth)),
    **{type(kind().keys()): _tag("keys", Encoder._sequence) for kind in (dict, OrderedDict)},
    **{type(kind().values()): _tag("values", Encoder._sequence) for kind in (dict, OrderedDict)},
    **{type(kind().items()): _tag("items", Encoder._items_of) for kind in (dict, OrderedDict)},
    type: lambda encoder, value, depth: _type_name(value),
}
_LIBRARY_TAGGERS: dict[tuple[str, str], Callable[[Encoder, Any, int], Any]] = {
    ("fractions", "Fraction"): _tag(
        "Fraction", lambda encoder, value, depth: encoder._sequence(_short_fraction(value), depth)
    ),
    ("decimal", "Decimal"): _tag("Decimal", lambda encoder, value, depth: encoder.encode(str(value), depth)),
    ("datetime", "datetime"): _tag("datetime", lambda encoder, value, depth: _moment(value)),
    ("datetime", "date"): _tag("date", lambda encoder, value, depth: value.isoformat()),
    ("datetime", "time"): _tag("time", lambda encoder, value, depth: _moment(value)),
    ("datetime", "timedelta"): _tag("timedelta", _parts("days", "seconds", "microseconds")),
    ("array", "array"): _tag("array", lambda encoder, value, depth: [value.typecode, encoder._sequence(value, depth)]),
}
"""Types of modules that are loaded only when such a value is met: each loaded module makes every fork slower."""
TYPES = {kind.__name__: kind for kind in (int, float, complex, str, bytes, bool, list, tuple, set, frozenset, dict)}
"""Types themselves, as an argument (MBPP/533)."""
_BASES: tuple[type, ...] = (
    int, float, str, complex, bytes, bytearray, list, tuple, set, frozenset, Counter, OrderedDict, dict, deque,
)  # fmt: skip


def _type_name(value: type) -> dict[str, str]:
    if TYPES.get(value.__name__) is not value:
        raise WireError(f"the class {value.__name__} is no plain data")
    return {"type": value.__name__}


def _moment(value: Any) -> list[Any]:
    """The naive time in ISO 8601 and its offset's parts: `fromisoformat` reads an offset below a second as UTC."""
    offset = value.utcoffset()
    parts = [] if offset is None else [offset.days, offset.seconds, offset.microseconds]
    return [value.replace(tzinfo=None).isoformat(), *parts]


def _short_fraction(value: Any) -> tuple[int, int]:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_FRACTION_BITS:
        raise TooLargeError(f"a fraction of more than {MAX_FRACTION_BITS} bits")
    return value.numerator, value.denominator


def _library_tagger(kind: type) -> Callable[[Encoder, Any, int], Any] | None:
    tagger = _LIBRARY_TAGGERS.get((kind.__module__, kind.__qualname__))
    return tagger if tagger and library(kind.__module__, kind.__qualname__) is kind else None


def library(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _as_plain(value: Any, kind: type) -> Any:
    """The plain value behind a subclass or a numpy object. Raises WireError when there is none."""
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        if type(plain) is not kind:
            return plain
    for base in _BASES:
        if issubclass(kind, base):
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
    if issubclass(base, dict):
        return base(dict(base.items(value)))
    return base(base.__iter__(value))  # type: ignore[attr-defined, call-arg]
