"""The records between the steps of mining; a finished problem is an `app.corpus.records.SolvedProblem`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.corpus.records import PROBLEM, Origin, Rejected, SolvedProblem

STAGES = ("seen", "seeds", "self-contained", "outputs recorded", "original passes twice", "a mutant fails")
"""Stages of the funnel, in order: module-level functions; those with examples or test calls; ..."""


class NoProblemError(ValueError):
    """The function becomes no problem; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a function on plain data, found in a docstring or a test. Made by `seeds`; read by the recording."""

    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    claim: str = ""
    """Python expression over the call that its author says is true, such as "sorted(f([2, 1])) == [1, 2]"; empty where
    nobody says what comes out."""
    from_docstring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A function that stands alone, with calls of it; nothing has been run yet. Made by `find_candidates`, read by
    `check_candidates`; plain data, so that it travels between processes."""

    id: str
    origin: Origin
    split: str
    entry_point: str
    prelude: str
    """Imports, constants, helper functions and classes that it uses, in the order of its module; empty for none."""
    signature: str
    """Source from the first decorator to the colon."""
    docstring: str
    """Text as `inspect.cleandoc` gives it, without the examples that need more than the function."""
    body: str
    """Indented source after the docstring."""
    calls: tuple[Call, ...]
    digest: str
    """Hash of the normalised function, without its name and docstring: equal for copies."""

    undecorated: bool = False
    """Whether its decorators were left out: then all claims have to hold, those of the tests too."""

    @property
    def text(self) -> str:
        """All that a problem of it will show: to be held against the benchmarks."""
        return f"{self.prelude}\n{self.signature}\n{self.docstring}\n{self.body}"

    def refused(self, reason: str) -> Rejected:
        return Rejected(origin=self.origin, name=self.entry_point, what=PROBLEM, reason=reason)


@dataclass(slots=True, kw_only=True)
class Mined:
    """What one step gave. `counts` is by STAGES, and adds up over steps and distributions."""

    candidates: list[Candidate] = field(default_factory=list)
    problems: list[SolvedProblem] = field(default_factory=list)
    rejections: list[Rejected] = field(default_factory=list)
    copyright: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Copyright lines of files' heads, by path."""
    counts: Counter[str] = field(default_factory=Counter)
