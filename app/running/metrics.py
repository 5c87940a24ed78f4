"""Figures of a run for Ray's metrics agent, which Prometheus asks (docs/operations.md): training, drafts, verdicts,
evolution and its slots.

Where no Ray is connected, as in a training without it, nothing happens. A process that works for a stage says so once
by `tagged`, so that who reports need not know. Ray collects by itself, every ten seconds: a call here sets a number.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

PREFIX = "pocketcoder_"
"""Ray puts ray_ before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    kind: Literal["gauge", "counter"]
    about: str
    tags: tuple[str, ...] = ("stage",)
    """Beside the run's name, which every figure has."""

    @property
    def tag_keys(self) -> tuple[str, ...]:
        return ("run", *self.tags)


METRICS = {
    "step": Metric(kind="gauge", about="Steps that the training has taken", tags=("stage", "individual")),
    "loss": Metric(kind="gauge", about="Loss of the last step, nats a labelled token"),
    "reward": Metric(kind="gauge", about="Mean reward of a step's drafts", tags=("stage", "individual")),
    "training_tokens_per_second": Metric(kind="gauge", about="Tokens through the trainer, padding included"),
    "drafting_tokens_per_second": Metric(kind="gauge", about="Tokens drawn for a step, a second"),
    "peak_memory_gib": Metric(kind="gauge", about="Peak of the trainer: reserved of the card, or resident without one"),
    "drafts_total": Metric(kind="counter", about="Drafts drawn"),
    "drafted_tokens_total": Metric(kind="counter", about="Tokens of these drafts"),
    "verdicts_total": Metric(kind="counter", about="Verdicts of the judges", tags=("stage", "status")),
    "fitness": Metric(kind="gauge", about="Of an individual in a generation", tags=("individual", "generation")),
    "slots": Metric(kind="gauge", about="Trainings of evolution that may run at once", tags=()),
    "slots_held": Metric(kind="gauge", about="1 while this process holds a slot", tags=()),
}
"""By name, without PREFIX."""

_tags: dict[str, str] = {}
_made: dict[str, Any] = {}


@contextlib.contextmanager
def tagged(**tags: str) -> Iterator[None]:
    """What this process reports within the block is of this stage, of this individual, and so on."""
    before = dict(_tags)
    _tags.update(tags)
    try:
        yield
    finally:
        _tags.clear()
        _tags.update(before)


def report(**figures: float | None) -> None:
    """Set gauges, by their names; None is left out."""
    for name, value in figures.items():
        if value is not None and (metric := _metric(name)):
            metric.set(value, _tags_of(name, {}))


def count(name: str, by: float = 1.0, **tags: str) -> None:
    """Add to a counter."""
    if by and (metric := _metric(name)):
        metric.inc(by, _tags_of(name, tags))


def report_fitness(individual: str, generation: int, value: float) -> None:
    if metric := _metric("fitness"):
        metric.set(value, _tags_of("fitness", {"individual": individual, "generation": str(generation)}))


def _metric(name: str) -> Any:
    """Ray's, made when it is first asked for; None where no Ray is connected."""
    declared, ray = METRICS[name], sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    if name not in _made:
        from ray.util.metrics import Counter, Gauge

        kind = Gauge if declared.kind == "gauge" else Counter
        _made[name] = kind(PREFIX + name, description=declared.about, tag_keys=declared.tag_keys)
    return _made[name]


def _tags_of(name: str, more: dict[str, str]) -> dict[str, str]:
    held = _tags | more
    return {key: held.get(key, "") for key in METRICS[name].tag_keys}
