"""Answers that were checked by tests, as the server tells of them (`best_of` of an answer, and of a chunk's delta)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

WORKING = {"drafting": "Drawing drafts", "testing": "Running them", "repairing": "Repairing the best one"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The first example that an answer fails."""

    example: str = ""
    call: str = ""
    expected: str = ""
    got: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """What was drawn and run for an answer. Made by `best_of_from`; shown beside the conversation.

    Example: BestOf(drafts=8, examples=3, passed=3, drafts_passed=2, inputs=20, agreeing=5, chosen_by="agreement")
    """

    stage: str = ""
    """drafting, testing or repairing while it is worked on; empty at the end."""
    drafts: int = 0
    examples: int = 0
    """Found in the question."""
    passed: int = 0
    """Of them, by the answer."""
    drafts_passed: int = 0
    """Drafts that pass all examples."""
    inputs: int = 0
    """On which drafts were compared; 0 where they were not."""
    agreeing: int = 0
    """Drafts that give what the answer gives on all of them."""
    chosen_by: str = ""
    """examples, agreement, repair or first."""
    repaired: bool = False
    failed: Failed | None = None
    tokens: int = 0
    """Drawn, all drafts and the repair."""

    @property
    def sentence(self) -> str:
        """What the reader is to know of the answer, in one sentence."""
        if self.stage:
            of = f", {_counted(self.examples, 'example')} in the question" if self.examples else ""
            return f"{WORKING.get(self.stage, self.stage)}: {_counted(self.drafts, 'draft')}{of}."
        found = f"Best of {self.drafts}: "
        if not self.examples:
            found += "the question states no example, so nothing was held against it"
        elif self.passed == self.examples:
            found += f"passes {_all(self.examples)} of the question"
        else:
            found += f"passes {self.passed} of {_counted(self.examples, 'example')} of the question"
        notes = [f"{self.drafts_passed} of {_counted(self.drafts, 'draft')} did"] if self.drafts_passed else []
        if self.repaired:
            notes.append("repaired once")
        if self.inputs:
            notes.append(f"{_counted(self.agreeing, 'draft')} alike on {_counted(self.inputs, 'input')}")
        return f"{found} ({'; '.join(notes)})." if notes else f"{found}."

    @property
    def is_good(self) -> bool:
        """Whether examples were run, and all hold."""
        return not self.stage and self.examples > 0 and self.passed == self.examples


def best_of_from(held: Mapping[str, Any]) -> BestOf:
    """From the server's JSON, whose further fields are left out."""
    known = {field.name for field in fields(BestOf)} - {"failed"}
    failed = held.get("failed")
    names = {field.name for field in fields(Failed)}
    return BestOf(
        **{name: value for name, value in held.items() if name in known and value is not None},
        failed=Failed(**{k: str(v) for k, v in failed.items() if k in names and v is not None}) if failed else None,
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _all(number: int) -> str:
    return "the one example" if number == 1 else f"all {number} examples"
