"""The types of MBPP+'s inputs, which its file lost to JSON: lists that were tuples or sets, and complex numbers.

After `mbpp_deserialize_inputs` of evalplus 0.3.1 (Apache-2.0); which tasks are meant is its knowledge.
"""

from collections.abc import Callable
from typing import Any

_TUPLES = {
    2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809,
}  # fmt: skip
_LISTS_OF_TUPLES = {63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780}
_TUPLES_OF_TUPLES = {259, 401, 445}
_FIRST_LIST_OF_TUPLES = {75, 413, 444, 753}
_SECOND_TUPLE = {106, 750}
_FIRST_TUPLE = {250, 307, 405, 446, 617, 720, 763, 808}
_ALL_TUPLES = {580, 615, 791}


def with_types(task: int, inputs: list[Any]) -> list[Any]:
    """Each input's arguments as the reference of that task takes them."""
    convert = _SINGLE.get(task) or next((change for tasks, change in _GROUPS if task in tasks), list)
    return [convert(given) for given in inputs]


def _deep_tuple(value: Any) -> Any:
    return tuple(map(_deep_tuple, value)) if isinstance(value, list) else value


_GROUPS: list[tuple[set[int], Callable[[list[Any]], Any]]] = [
    (_TUPLES, lambda given: [tuple(value) for value in given]),
    (_LISTS_OF_TUPLES, lambda given: [[tuple(item) for item in value] for value in given]),
    (_TUPLES_OF_TUPLES, lambda given: [tuple(tuple(item) for item in value) for value in given]),
    (_FIRST_LIST_OF_TUPLES, lambda given: [[tuple(item) for item in given[0]], given[1]]),
    (_SECOND_TUPLE, lambda given: [given[0], tuple(given[1])]),
    (_FIRST_TUPLE, lambda given: [tuple(given[0]), *given[1:]]),
    (_ALL_TUPLES, _deep_tuple),
]
_SINGLE: dict[int, Callable[[list[Any]], Any]] = {
    115: lambda given: [[set(item) if isinstance(item, list) and item else {} for item in given[0]]],
    124: lambda given: [float(given[0]), complex(given[1])],
    252: lambda given: [complex(given[0])],
    278: lambda given: [tuple(tuple(item) if isinstance(item, list) else item for item in given[0])],
    722: lambda given: [{key: tuple(value) for key, value in given[0].items()}, *given[1:]],
}
