"""Build values of the tagged JSON that `values` makes: in the other process, from what may be anything."""

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from app.sandbox.values import MAX_FRACTION_BITS, MAX_INT_BITS, TYPES, WireError, library

MAX_SAME_HASH = 100
"""Elements of a set or keys of a dict; a table of equal hashes takes quadratic time to build."""
_HEX = re.compile(r"-?0x[0-9a-f]+")


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
    if len(_text(payload)) > MAX_INT_BITS // 4 + 4 or not _HEX.fullmatch(payload):
        raise ValueError("no hexadecimal int of allowed length")
    return int(payload, 16)


def _numbers(payload: Any, kind: type, count: int) -> list[Any]:
    values = _list(payload)
    if len(values) != count or any(type(value) is not kind for value in values):
        raise TypeError(f"{count} of {kind.__name__} were expected")
    return values


def _distinct(values: list[Any]) -> list[Any]:
    """The elements of a set or keys of a dict, each once and hashed apart."""
    if len(values) > MAX_SAME_HASH and max(Counter(map(hash, values)).values()) > MAX_SAME_HASH:
        raise ValueError("too many equal hashes")
    if len(set(values)) != len(values):
        raise ValueError("an element stands twice")
    return values


def _mapping(payload: Any, kind: type) -> Any:
    if type(payload) is not list or any(type(pair) is not list or len(pair) != 2 for pair in payload):
        raise TypeError("pairs were expected")
    keys = _distinct([from_json(pair[0]) for pair in payload])
    made = kind()
    for key, pair in zip(keys, payload, strict=True):
        made[key] = from_json(pair[1])
    return made


def _fraction(payload: Any) -> Any:
    numerator, denominator = _numbers(payload, int, 2)
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_FRACTION_BITS:
        raise ValueError("too long to reduce")
    return library("fractions", "Fraction")(numerator, denominator)


def _moment_of(kind: str, payload: Any) -> Any:
    text, *parts = _list(payload)
    value = library("datetime", kind).fromisoformat(_text(text))
    if value.tzinfo is not None:
        raise ValueError("the offset stands apart")
    if not parts:
        return value
    offset = library("datetime", "timedelta")(*_numbers(parts, int, 3))
    return value.replace(tzinfo=library("datetime", "timezone")(offset))


def _proxy(payload: Any) -> Any:
    value = from_json(payload)
    if type(value) is not dict:
        raise TypeError("a dict was expected")
    return MappingProxyType(value)


def _array(payload: Any) -> Any:
    typecode, items = payload
    return library("array", "array")(_text(typecode), _list(items))


def _deque(payload: Any) -> deque[Any]:
    length, items = payload
    if length is not None and (type(length) is not int or length < 0):
        raise TypeError("a length was expected")
    return deque(_list(items), length)


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "i": _large_int,
    "t": lambda payload: tuple(_list(payload)),
    "s": lambda payload: set(_distinct(_list(payload))),
    "fs": lambda payload: frozenset(_distinct(_list(payload))),
    "d": lambda payload: _mapping(payload, dict),
    "u": lambda payload: bytes.fromhex(_text(payload)).decode("utf-8", "surrogatepass"),
    "b": lambda payload: bytes.fromhex(_text(payload)),
    "ba": lambda payload: bytearray.fromhex(_text(payload)),
    "c": lambda payload: complex(*_numbers(payload, float, 2)),
    "range": lambda payload: range(*_numbers(payload, int, 3)),
    "Fraction": _fraction,
    "Decimal": lambda payload: library("decimal", "Decimal")(_text(payload)),
    "deque": _deque,
    "Counter": lambda payload: _mapping(payload, Counter),
    "OrderedDict": lambda payload: _mapping(payload, OrderedDict),
    "datetime": lambda payload: _moment_of("datetime", payload),
    "date": lambda payload: library("datetime", "date").fromisoformat(_text(payload)),
    "time": lambda payload: _moment_of("time", payload),
    "timedelta": lambda payload: library("datetime", "timedelta")(*_numbers(payload, int, 3)),
    "array": _array,
    "proxy": _proxy,
    "keys": lambda payload: dict.fromkeys(_distinct(_list(payload))).keys(),
    "values": lambda payload: dict(enumerate(_list(payload))).values(),
    "items": lambda payload: _mapping(payload, dict).items(),
    "type": lambda payload: TYPES[_text(payload)],
}
