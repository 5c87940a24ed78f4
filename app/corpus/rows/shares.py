"""How much of each form is learnt: the recipe's shares, counted in learnt tokens over the whole corpus.

A form with share 1 is shown wherever it can be. Every other form is at most its share of all learnt tokens; where there
is less material, all of it is taken, and `shortfalls` says so. Where no form with share 1 has material the shares count
relative to each other, and the form with the largest one is used up.

Which examples those are is drawn by hash: each has a draw, a form's examples come in the order of their draws until the
form's part is full, and plain files end where it is. So the choice depends on the examples and the seed alone, and one
share changed leaves the order within all forms as it was.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

CUT_FORM = "file"
"""The form of plain text that goes on from row to row anyway: its last example is cut to what is left of the share."""
MIN_CUT = 64
"""Learnt tokens of a piece at the least: less of a file is not worth one."""
TOLERANCE = 0.01
"""Part of all learnt tokens; a share that is short by less is met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The examples that are learnt. Made by `choose`; read by the build."""

    rows: tuple[NDArray[np.int64], ...]
    """The rows that are taken of each file of samples, ascending."""
    cuts: tuple[dict[int, int], ...]
    """How many tokens are learnt of the rows that are not learnt to their end, file by file."""
    material: dict[str, int]
    """Learnt tokens that could be shown, by form."""


def quotas(material: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, float]:
    """Learnt tokens to take of each form that has a share and material."""
    given = {form: share for form, share in shares.items() if share > 0 and material.get(form, 0) > 0}
    whole = {form: float(material[form]) for form, share in given.items() if share >= 1}
    if not whole:
        total = sum(given.values())
        given = {form: share / total for form, share in given.items()}
        largest = max(given.values(), default=0.0)
        size = min((material[form] / share for form, share in given.items() if share == largest), default=0.0)
    else:
        size = _size({form: float(material[form]) for form in given}, given)
    return {form: min(material[form], share * size) if share < 1 else material[form] for form, share in given.items()}


def _size(material: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """The largest total in which every form is at most its share of it: from above, one form after the other is held to
    its share, which makes the total smaller, until none is above its own any more."""
    held: set[str] = set()
    while True:
        free = sum(amount for form, amount in material.items() if form not in held)
        size = free / (1 - sum(shares[form] for form in held))
        above = {form for form, amount in material.items() if shares[form] < 1 and amount > shares[form] * size}
        if above <= held:
            return size
        held |= above


def choose(paths: Sequence[Path], shares: Mapping[str, float]) -> Chosen:
    """The examples to learn out of files of samples (`app.corpus.rows.samples`)."""
    names = list(shares)
    columns = [_columns(path, names) for path in paths]
    starts = np.cumsum([0, *(len(column[0]) for column in columns)])
    form, draw, size = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in zip(_NONE, *columns, strict=True))
    material = {name: int(size[form == number].sum()) for number, name in enumerate(names)}
    taken = np.zeros(starts[-1], bool)
    cuts: tuple[dict[int, int], ...] = tuple({} for _ in paths)
    for name, quota in quotas(material, shares).items():
        own = np.flatnonzero(form == names.index(name))
        order = own[np.argsort(draw[own], kind="stable")]
        whole, rest = _filled(size[order], round(quota))
        taken[order[:whole]] = True
        if whole == len(order):
            continue
        last = order[whole]
        if name == CUT_FORM and rest >= MIN_CUT:
            taken[last] = True
            file = int(np.searchsorted(starts, last, side="right")) - 1
            cuts[file][int(last - starts[file])] = rest
        elif name != CUT_FORM:
            taken[last] = 2 * rest >= size[last]
    rows = tuple(np.flatnonzero(taken[a:b]) for a, b in itertools.pairwise(starts))
    return Chosen(rows=rows, cuts=cuts, material={name: count for name, count in material.items() if count})


_NONE = (np.zeros(0, np.int64),) * 3


def _columns(path: Path, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number of the form, draw, and learnt tokens of each example of a file."""
    table = pq.read_table(path, columns=["form", "draw", "learnt"])
    forms = pc.index_in(table["form"], value_set=pa.array(names, pa.string()))
    return tuple(column.to_numpy().astype(np.int64) for column in (forms, table["draw"], table["learnt"]))


def _filled(sizes: NDArray[np.int64], quota: int) -> tuple[int, int]:
    """How many of the examples fit into the quota, and what of it is left."""
    ends = np.cumsum(sizes)
    whole = int(np.searchsorted(ends, quota, side="right"))
    return whole, quota - (int(ends[whole - 1]) if whole else 0)


def shortfalls(learnt: Mapping[str, int], shares: Mapping[str, float]) -> Iterator[str]:
    """A sentence for each form that has less than its share of what is learnt. learnt: tokens by form."""
    total = sum(learnt.values())
    given = {form: share for form, share in shares.items() if share > 0}
    if not any(share >= 1 and learnt.get(form) for form, share in given.items()):
        given = {form: share / sum(given.values()) for form, share in given.items()}
    for form, share in given.items():
        missing = round(share * total) - learnt.get(form, 0)
        if share < 1 and missing > TOLERANCE * total:
            yield (
                f"{form}: {learnt.get(form, 0) / max(1, total):.1%} of the learnt tokens, {share:.1%} asked: "
                f"{missing:,} tokens short, there is no more material"
            )
