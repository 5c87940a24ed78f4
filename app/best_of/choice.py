"""Which of a question's drafts is the answer, by what came of running them.

1. Drafts that pass all examples of the question go before all others.
2. Of these, or of all where the question has no example, the largest group that gives the same on all inputs
   (`app.best_of.agreement`); of a group, and of equal groups, the draft that was drawn first.
3. Where no draft passes all examples, the one that passes most of them is repaired once, if it can be; the repaired
   one is the answer where it passes more than any draft.

Hidden tests are nowhere in it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.best_of.agreement import agreement
from app.best_of.testing import DraftOutcome, FailedExample, Trial


class ChosenBy(StrEnum):
    EXAMPLES = "examples"
    """The examples left one draft, or drafts that agree."""
    AGREEMENT = "agreement"
    """The inputs decided between drafts that the examples do not tell apart."""
    REPAIR = "repair"
    FIRST = "first"
    """Nothing told the drafts apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Made by `choose`; read by serving, evaluation and the benchmark."""

    index: int
    """Which of the drafts is the answer, from 0; one more than the last draft's for the repaired one."""
    chosen_by: ChosenBy
    examples: int
    passed: int
    """Examples that the answer passes."""
    drafts_passed: int
    """Drafts, without a repaired one, that pass all examples."""
    inputs: int
    """Inputs on which drafts were compared."""
    agreeing: int
    """Drafts that give what the answer gives on all inputs, itself included."""
    failed: FailedExample | None
    """The first example that the answer fails."""
    tier: str

    @property
    def wants_repair(self) -> bool:
        """Whether the answer fails an example."""
        return self.examples > 0 and self.passed < self.examples


def choose(trial: Trial, programs: Sequence[str], found: Mapping[str, DraftOutcome]) -> Choice:
    """programs: of the drafts, in the order in which they were drawn. found: what came of each."""
    votes = Counter(programs)
    results = [found[program] for program in programs]
    most = max(result.num_passed for result in results)
    best = [index for index, result in enumerate(results) if result.num_passed == most]
    best = [index for index in best if results[index].runs] or best
    among = {programs[index]: found[programs[index]].outputs for index in best}
    shares = agreement(among, votes)
    index = max(best, key=lambda place: (shares[programs[place]], -place))
    winner = results[index]
    groups = len({outputs for outputs in among.values() if any(outputs)})
    has_compared = len(among) > 1 and groups > 0
    chosen_by = ChosenBy.FIRST
    if has_compared and (groups > 1 or not all(any(outputs) for outputs in among.values())):
        chosen_by = ChosenBy.AGREEMENT
    elif len(best) < len(programs) and trial.stated.num_examples:
        chosen_by = ChosenBy.EXAMPLES
    alike = sum(any(result.outputs) and result.outputs == winner.outputs for result in results)
    return Choice(
        index=index,
        chosen_by=chosen_by,
        examples=trial.stated.num_examples,
        passed=winner.num_passed,
        drafts_passed=sum(result.passes for result in results),
        inputs=len(trial.calls) if has_compared else 0,
        agreeing=max(1, alike),
        failed=winner.failed,
        tier=winner.tier,
    )


def with_repaired(choice: Choice, repaired: DraftOutcome, num_drafts: int) -> Choice:
    """The choice when the repaired draft was run, whose index is `num_drafts`."""
    if repaired.num_passed <= choice.passed:
        return choice
    return Choice(
        index=num_drafts,
        chosen_by=ChosenBy.REPAIR,
        examples=choice.examples,
        passed=repaired.num_passed,
        drafts_passed=choice.drafts_passed,
        inputs=choice.inputs,
        agreeing=1,
        failed=repaired.failed,
        tier=repaired.tier,
    )
