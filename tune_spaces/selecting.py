"""Who selects while an experiment runs.

Tune pickles its scheduler into the experiment's folder, and a restored one comes from there. What selects holds clients
of actors, which do not outlive their Ray; so it is not given to the scheduler but to this process, while it runs.
"""

import contextlib
from collections.abc import Iterator

from app.evolution.lineage import Succession
from app.running.deadlines import NEVER, Deadline

_given: list[tuple[Succession, Deadline]] = []


@contextlib.contextmanager
def selected_by(succession: Succession, deadline: Deadline = NEVER) -> Iterator[None]:
    """Have it select in the experiments that this process runs within the block, until the deadline: the generation
    that it falls into is their last one."""
    _given.append((succession, deadline))
    try:
        yield
    finally:
        _given.pop()


def selecting() -> Succession | None:
    """None: individuals are ranked by their scores."""
    return _given[-1][0] if _given else None


def is_over() -> bool:
    return bool(_given) and _given[-1][1].is_over()
