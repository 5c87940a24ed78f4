"""Further inputs for a problem, like those of its given tests.

Changes and rules are those of mining (`app.corpus.mining.inputs`, `facts`), held more narrowly, because a benchmark's
statement often takes for granted what its tests show: a number that is the length of a list, lists of a few values
only, records of the same keys. What the statement's constraints say (`app.problem_tests.limits`) is kept too. Trees
are changed by their values and their shape (`app.problem_tests.trees`).
"""

import ast
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.corpus.draws import Draws
from app.corpus.mining.inputs import call_text, more_calls
from app.corpus.mining.literals import NotLiteralError
from app.corpus.mining.records import Call
from app.files.python_source import parse
from app.problem_tests.assertions import Place
from app.problem_tests.limits import Limits, limits_of
from app.problem_tests.trees import Shape, drawn_shape, put_together, taken_apart

NUM_TRIED = 60
"""Inputs that are made, of which some are dropped."""
MAX_TRIED = 90
MAX_TRIES = 900
NUM_RANGED, RANGE = 30, 40
"""Calls with numbers from the range that a constraint gives, and how far from its least number at least."""
FEW, OFTEN = 4, 8
"""Items that have this many values at most, and are this many at least, have no others."""
CONSTANT = 3
"""Given calls that show that an argument is always the same."""
NAME = "f"
"""By which inputs are drawn."""
_EVEN = re.compile(r"\beven\b", re.I)
_FUNCTION = next(n for n in parse("def f(): pass").body if isinstance(n, ast.FunctionDef))
"""Of which nothing is known; no argument has a default."""


def further_calls(
    given: Sequence[Call], trees: Sequence[Place], constraints: str, statement: str, name: str = NAME
) -> list[Call]:
    """Calls that keep to what is true of the given ones; the same on every machine.

    trees: arguments that are binary trees, level by level. name: what they are drawn by; others for another.
    """
    try:
        viewed = [_view(call, trees) for call in given]
    except ValueError:
        return []
    seen, shapes = [call for call, _ in viewed], [held for _, held in viewed]
    limits = limits_of(constraints, statement, seen)
    rules = _Rules(seen, statement, constraints)
    narrow = _made(seen, lambda call: limits.allow(call) and rules.allow(call), rules, name)
    wide: list[Call] = []
    if limits.is_whole:
        wide = [call for call in _in_range(seen, limits, name) if limits.allow(rules.mended(call))]
        wide += _made(seen, limits.allow, rules, name, by_rules=False)
    known = {call_text(NAME, call) for call in given}
    found: dict[str, Call] = {}
    for call in filter(None, itertools.chain.from_iterable(itertools.zip_longest(narrow, wide[:NUM_TRIED]))):
        whole = _whole(rules.mended(call), trees, shapes)
        if whole is not None and (text := _text(whole)) not in known:
            found.setdefault(text, whole)
    return [call for text, call in found.items() if text][:MAX_TRIED]


def _made(
    seen: Sequence[Call], is_fit: Callable[[Call], bool], rules: "_Rules", name: str, *, by_rules: bool = True
) -> list[Call]:
    """Changed calls. by_rules: keep to what is true of all that were seen."""
    made = more_calls(
        name if by_rules else f"{name}_wide",
        seen,
        _FUNCTION,
        wanted=NUM_TRIED + len(seen),
        tries=MAX_TRIES,
        by_rules=by_rules,
        is_fit=lambda call: is_fit(rules.mended(call)),
    )
    return made.generated


def _in_range(seen: Sequence[Call], limits: Limits, drawn_by: str) -> list[Call]:
    """Calls with numbers from all of their range, where that is told."""
    draws = Draws("\0".join(call_text(drawn_by, call) for call in seen))
    names = {name: held for name, value in seen[0].kwargs if type(value) is int and (held := limits.range_of(name))}
    if not names:
        return []
    found = []
    for _ in range(NUM_RANGED):
        base = draws.one_of(seen)
        values: dict[Place, Any] = {}
        for name, (least, most) in names.items():
            largest = max(abs(value) for call in seen for place, value in call.kwargs if place == name)
            values[name] = least + draws.below(min(most - least, max(RANGE, 2 * largest)) + 1)
        kept = draws.one_of(list(names)) if len(names) > 1 and draws.below(2) else ""
        values.pop(kept, None)
        found.append(with_values(base, values))
    return found


def places(call: Call) -> dict[Place, Any]:
    return {**dict(enumerate(call.args)), **dict(call.kwargs)}


def with_values(call: Call, values: dict[Place, Any]) -> Call:
    """The call with some arguments exchanged."""
    return Call(
        args=tuple(values.get(place, value) for place, value in enumerate(call.args)),
        kwargs=tuple((name, values.get(name, value)) for name, value in call.kwargs),
    )


def _text(call: Call) -> str:
    """Empty where the call can't be read back as literals."""
    try:
        text = call_text(NAME, call)
        for value in places(call).values():
            ast.literal_eval(repr(value))
    except (NotLiteralError, ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return text


def _view(call: Call, trees: Sequence[Place]) -> tuple[Call, dict[Place, Shape]]:
    """The call with the values of its trees from left to right, and their shapes. Raises ValueError."""
    values = places(call)
    apart = {place: taken_apart(values[place]) for place in trees if place in values}
    changed = with_values(call, {place: held for place, (held, _) in apart.items()})
    return changed, {place: shape for place, (_, shape) in apart.items()}


def _whole(call: Call, trees: Sequence[Place], shapes: Sequence[dict[Place, Shape]]) -> Call | None:
    """The reverse, with shapes like those that were seen; None where there is none."""
    values, made = places(call), {}
    draws = Draws(call_text(NAME, call))
    for place in trees:
        if place in values:
            seen = [held[place] for held in shapes if place in held]
            shape = drawn_shape(len(values[place]), seen, draws)
            if shape is None:
                return None
            made[place] = put_together(values[place], shape)
    return with_values(call, made)


class _Rules:
    """What is true of all given calls beyond `app.corpus.mining.facts`."""

    def __init__(self, seen: Sequence[Call], statement: str, constraints: str) -> None:
        held = [places(call) for call in seen]
        common = [place for place in held[0] if all(place in values for values in held)]
        self._lengths = [
            (number, sized, less)
            for number in common
            for sized in common
            for less in (0, 1)
            if all(_is_length(values[number], values[sized], less) for values in held)
            and len({values[number] for values in held}) > 1
        ]
        """Numbers that are the length of another argument, or one less."""
        self._constant = {
            place: held[0][place]
            for place in common
            if len(held) >= CONSTANT and len(common) > 1 and not re.search(rf"\b{place}\b", constraints)
            if len({repr(values[place]) for values in held}) == 1
        }
        """Arguments that are never another, such as the first place of a list, where no constraint speaks of them."""
        self._values = {place: _few([values[place] for values in held]) for place in common}
        self._keys = {place: _keys_of([values[place] for values in held]) for place in common}
        self._even = [
            place
            for place in common
            if _EVEN.search(f"{statement}\n{constraints}")
            and all(isinstance(v[place], list | str) and len(v[place]) % 2 == 0 for v in held)
        ]
        """Arguments of an even length, where the statement speaks of even things."""

    def mended(self, call: Call) -> Call:
        """The call with the lengths that its arguments have now."""
        values = places(call)
        return with_values(call, {n: len(values[sized]) - less for n, sized, less in self._lengths if sized in values})

    def allow(self, call: Call) -> bool:
        values = places(call)
        if any(len(values[place]) % 2 for place in self._even if place in values):
            return False
        if any(values.get(place, value) != value for place, value in self._constant.items()):
            return False
        for place, value in values.items():
            few, keys = self._values.get(place), self._keys.get(place)
            if few and not set(map(repr, _leaves(value))) <= few:
                return False
            if keys and any(frozenset(record) != keys for record in _records(value)):
                return False
        return True


def _is_length(number: Any, sized: Any, less: int) -> bool:
    return type(number) is int and isinstance(sized, str | list | tuple) and number == len(sized) - less


def _leaves(value: Any) -> Iterator[Any]:
    """The numbers and texts inside of lists; nothing of what is no list."""
    if isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, list | tuple):
                yield from _leaves(item)
            else:
                yield item


def _few(seen: Sequence[Any]) -> frozenset[str]:
    """The values that items have, where they are few and seen often; empty for no such rule."""
    leaves = [repr(leaf) for value in seen for leaf in _leaves(value)]
    return frozenset(leaves) if len(leaves) >= OFTEN and len(set(leaves)) <= min(FEW, len(leaves) // 3) else frozenset()


def _records(value: Any) -> list[dict[Any, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def _keys_of(seen: Sequence[Any]) -> frozenset[Any]:
    """The keys that all tables in lists have; empty where they differ."""
    keys = {frozenset(record) for value in seen for record in _records(value)}
    return next(iter(keys)) if len(keys) == 1 else frozenset()
