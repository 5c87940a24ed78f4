"""When a stage that trains has to end: its share of the days that a run may take. Loops ask for it between steps.

    the days     schedule.days of the whole run, all attempts together
    its share    what others have left of them, by the plan's times of this stage and of those that follow
    at its end   the step is finished, its best checkpoint kept, and the next stage begins

Each training takes one step at the least, so that there is something to keep. Corpus and measurements are not cut: what
they come to is decided by settings and seed alone. The time that they take is missed by those that train.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_BEGUN = time.time() - time.monotonic()


def now() -> float:
    """Seconds since 1970, which go on evenly within a process, whatever is done to the machine's clock."""
    return _BEGUN + time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Made by `deadline_of`; asked by training loops, in whatever process and on whatever machine.

    Example: Deadline(at=1789000000.0, share_s=43200.0)
    """

    at: float = math.inf
    """In `now`'s seconds."""
    share_s: float = math.inf
    """Seconds that the stage has, in all its attempts."""

    def is_over(self) -> bool:
        return now() >= self.at

    def words(self) -> str:
        return f"the {time_words(self.share_s)} of its share"


NEVER = Deadline()


def deadline_of(
    stage: str,
    stages: Sequence[str],
    planned_s: Mapping[str, float],
    used_s: Mapping[str, float],
    total_s: float,
) -> Deadline:
    """The deadline of a stage that begins now, or goes on.

    stages: those that are not complete, in their order, this one among them. planned_s, used_s: seconds by stage; what
    complete ones took is in used_s. A stage for which no time was planned has all that others have left.
    """
    others = sum(seconds for name, seconds in used_s.items() if name != stage)
    own, later = planned_s.get(stage, 0.0), sum(planned_s.get(name, 0.0) for name in _after(stage, stages))
    share_s = max(0.0, total_s - others) * (own / (own + later) if own else 1.0)
    return Deadline(at=now() + share_s - used_s.get(stage, 0.0), share_s=share_s)


def _after(stage: str, stages: Sequence[str]) -> Sequence[str]:
    return stages[stages.index(stage) + 1 :]


def cut_short(steps: int, of: int, deadline: Deadline) -> str:
    """What a stage says that its deadline has ended: a sentence's end. of: steps that it was to take."""
    return f"after {steps} of {of} steps, because {deadline.words()} were over"


def time_words(seconds: float) -> str:
    """A time in the unit that suits it: 45 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"
