"""Binary trees as LeetCodeDataset writes them, taken apart for changes: the values in their order from left to right,
and the shape. A search tree's values are a rising list, which changes of lists keep so.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from app.corpus.draws import Draws

Shape = tuple[tuple[int, int], ...]
"""Left and right child of each node, level by level, as places in this tuple; -1 for none."""
MAX_DRAWN = 16


def taken_apart(levels: Sequence[Any]) -> tuple[list[Any], Shape]:
    """Values from left to right and shape of a tree written level by level, with None for a child that is not there.

    Raises ValueError for a list that is no tree.
    """
    if not levels:
        return [], ()
    values, children, place = [levels[0]], [[-1, -1]], 1
    for node in children:  # grows on the way
        for side in (0, 1):
            if place < len(levels) and levels[place] is not None:
                node[side] = len(values)
                values.append(levels[place])
                children.append([-1, -1])
            place += 1
    if levels[0] is None or len(values) != sum(value is not None for value in levels):
        raise ValueError("no tree")
    shape = tuple((left, right) for left, right in children)
    return [values[node] for node in _in_order(shape)], shape


def put_together(values: Sequence[Any], shape: Shape) -> list[Any]:
    """The reverse; as many values as nodes."""
    if not shape:
        return []
    held = dict(zip(_in_order(shape), values, strict=True))
    levels, queue = [held[0]], [0]
    for node in queue:  # grows on the way
        for child in shape[node]:
            levels.append(None if child < 0 else held[child])
            queue += [child] if child >= 0 else []
    while levels[-1] is None:
        levels.pop()
    return levels


def drawn_shape(count: int, seen: Sequence[Shape], draws: Draws) -> Shape | None:
    """A shape of so many nodes of which all is true that is true of all that were seen; None where none was drawn."""
    facts = frozenset.intersection(*map(facts_of, seen)) if seen else frozenset()
    alike = [shape for shape in seen if len(shape) == count]
    if alike and draws.below(2):
        return draws.one_of(alike)
    for number in range(MAX_DRAWN):
        shape = _filled(count) if number == MAX_DRAWN - 1 else _grown(count, draws)
        if facts <= facts_of(shape):
            return shape
    return draws.one_of(alike) if alike else None


def facts_of(shape: Shape) -> frozenset[str]:
    heights: list[int] = [0] * len(shape)
    is_balanced = True
    for node in reversed(range(len(shape))):
        left, right = (heights[child] if child >= 0 else 0 for child in shape[node])
        heights[node] = 1 + max(left, right)
        is_balanced &= abs(left - right) <= 1
    found = {"balanced"} if is_balanced else set()
    found |= {"complete"} if shape == _filled(len(shape)) else set()
    found |= {"perfect"} if shape == _filled(len(shape)) and (len(shape) + 1).bit_count() == 1 else set()
    found |= {"no only child"} if all((left < 0) == (right < 0) for left, right in shape) else set()
    return frozenset(found)


def _in_order(shape: Shape) -> Iterator[int]:
    """The nodes from left to right."""
    above: list[int] = []
    node = 0
    while above or node >= 0:
        while node >= 0:
            above.append(node)
            node = shape[node][0]
        last = above.pop()
        yield last
        node = shape[last][1]


def _grown(count: int, draws: Draws) -> Shape:
    """Nodes put one after the other at a free place."""
    children = [[-1, -1]] if count else []
    free = [(0, 0), (0, 1)]
    for node in range(1, count):
        parent, side = free.pop(draws.below(len(free)))
        children[parent][side] = node
        children.append([-1, -1])
        free += [(node, 0), (node, 1)]
    return _by_level(children)


def _filled(count: int) -> Shape:
    """Every level full but the last, which is filled from the left."""
    return tuple(tuple(c if c < count else -1 for c in (2 * n + 1, 2 * n + 2)) for n in range(count))  # type: ignore


def _by_level(children: Sequence[Sequence[int]]) -> Shape:
    """The same tree with its nodes numbered level by level."""
    order = [0] if children else []
    for node in order:  # grows on the way
        order += [child for child in children[node] if child >= 0]
    place = {node: number for number, node in enumerate(order)} | {-1: -1}
    return tuple((place[children[node][0]], place[children[node][1]]) for node in order)
