"""JSON schemas of a client's that lead nowhere: a reference that comes back to itself before anything may be written.

Their grammar lets no token through, and the engine fails at the first one. What recurs through a property or an item is
another matter: something is written on the way.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
IDLE = ("$defs", "definitions")
"""What lies there counts only where a reference leads to it."""
NO_SCHEMAS = ("const", "enum", "default", "examples")
CHOICES = ("anyOf", "oneOf")


def leads_nowhere(root: Schema) -> bool:
    """Whether some part of the schema that may be needed can't be written at all. In time linear in its size."""
    parts = list(_parts(root, idle=True))
    known = set(map(id, parts))  # a reference into a constant is nobody's schema
    needs = {id(part): [one for one in _needs(part, root) if known.issuperset(one)] for part in parts}
    waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)
    open_needs = {number: len(lists) for number, lists in needs.items()}
    met: set[tuple[int, int]] = set()
    for number, lists in needs.items():
        for place, choice in enumerate(lists):
            for wanted in choice:
                waiting[wanted].append((number, place))
    ready = [number for number, count in open_needs.items() if count == 0]
    while ready:
        for number, place in waiting.pop(ready.pop(), ()):
            if (number, place) not in met:
                met.add((number, place))
                open_needs[number] -= 1
                if open_needs[number] == 0:
                    ready.append(number)
    return any(open_needs[id(part)] for part in _parts(root, idle=False))


def _parts(root: Schema, *, idle: bool) -> Iterator[Schema]:
    """Every object of the schema; idle: those too that only a reference leads to."""
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            yield node
            left_out = NO_SCHEMAS if idle else (*NO_SCHEMAS, *IDLE)
            pending.extend(value for name, value in node.items() if name not in left_out)


def _needs(part: Schema, root: Schema) -> list[list[int]]:
    """What has to be written for this part to be: one of each list."""
    if isinstance(part.get("$ref"), str):
        target = _found(part["$ref"], root)
        return [[id(target)]] if isinstance(target, dict) else []
    choices = [part[name] for name in CHOICES if isinstance(part.get(name), list)]
    together = part["allOf"] if isinstance(part.get("allOf"), list) else []
    lists = [[id(one) for one in choice] for choice in choices if choice and all(isinstance(x, dict) for x in choice)]
    return lists + [[id(one)] for one in together if isinstance(one, dict)]


def _found(reference: str, root: Schema) -> Any:
    """What a reference within the schema leads to; None for any other, and for one that leads to nothing."""
    if not reference.startswith("#"):
        return None
    node: Any = root
    for step in reference[1:].split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdigit() and int(step[:9]) < len(node):
            node = node[int(step[:9])]
        else:
            return None
    return node
