"""Who selects while an experiment runs.

Tune pickles its scheduler into the experiment's folder, and a restored one comes from there. What selects holds clients
of actors, which do not outlive their Ray; so it is not given to the scheduler but to this process, while it runs.
"""

import contextlib
from collections.abc import Iterator

from app.evolution.lineage import Succession

_given: list[Succession] = []


@contextlib.contextmanager
def selected_by(succession: Succession) -> Iterator[None]:
    """Have it select in the experiments that this process runs within the block."""
    _given.append(succession)
    try:
        yield
    finally:
        _given.pop()


def selecting() -> Succession | None:
    """None: individuals are ranked by their scores."""
    return _given[-1] if _given else None
