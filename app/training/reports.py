"""What a training tells while it runs: each step to metrics.jsonl and TensorBoard, figures and warnings to the driver.

worker: loop.train -> Reporter -> ray.train.report -> Ray's controller: ProgressCallback -> queue -> driver: shown
        say -> queue -> driver: shown
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray.exceptions import RayError
from ray.util.queue import Queue

from app.errors import UserError
from app.files.json_files import append_json_line, read_json, read_json_lines, write_json_lines
from app.models.sizes import GIB
from app.progress import progress, say
from app.running import metrics
from app.settings import SftSettings
from app.training.memory import peak_bytes
from app.training.schedule import is_checkpoint

if TYPE_CHECKING:
    import torch

    from app.training.loop import StepMetrics

REPORT_EVERY_S = 5.0
"""Seconds from report to report between checkpoints. A worker with two reports that Ray's controller has not taken
waits for it."""
MAX_FAILURES = 3
"""How often a training goes on from its last checkpoint after a worker was lost. Preempted nodes are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What `ray.train.report` carries. Made by `Reporter`; shown by the driver and in Ray's dashboard."""

    step: int
    loss: float
    """The step's mean over its labelled tokens, nats."""
    tokens_per_second: float
    """Since the report before, checkpoints included; all workers, padding included."""
    memory_gib: float
    """The peak since the worker's start: what torch has reserved of the card, without one the resident memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPlaces:
    """Where a training's metrics go. Made by its stage; read by `MetricsRecorder`."""

    label: str
    """What their names in TensorBoard begin with."""
    metrics: Path
    tensorboard: Path
    held_out: Path | None = None
    """None, where no held-out loss is measured."""


class Reporter:
    """A worker's side, for `loop.train` to call. Every worker makes one: a report waits for all of them.

    places: where the first worker keeps its metrics. checkpoint: what the training goes on from.
    """

    def __init__(
        self, places: MetricsPlaces, checkpoint: Path | None, settings: SftSettings, steps: int, device: "torch.device"
    ) -> None:
        state = read_json(checkpoint / "state.json") if checkpoint else {"step": 0, "tokens": 0}
        self._settings, self._steps, self._device = settings, steps, device
        self._is_first = ray.train.get_context().get_world_rank() == 0
        self._recorder = MetricsRecorder(places, state["step"]) if self._is_first else None
        self._tokens, self._time = state["tokens"], time.monotonic()
        self._latest: StepMetrics | None = None

    def on_step(self, metrics: "StepMetrics") -> None:
        self._latest = metrics
        if self._recorder:
            self._recorder.write(metrics)
        if not is_checkpoint(metrics.step, self._steps, self._settings) and self._is_due():
            self._report(None)

    def on_checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        if not self._is_first:
            return self._report(None)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            return self._report(ray.train.Checkpoint.from_directory(folder))

    def on_held_out(self, step: int, loss: float) -> None:
        if self._recorder:
            self._recorder.write_held_out(step, loss)

    def close(self) -> None:
        if self._recorder:
            self._recorder.close()

    def _is_due(self) -> bool:
        """Whether a report is due, by the first worker's clock, on all workers alike."""
        from app.training.parallel import first_says

        return first_says(lambda: time.monotonic() - self._time >= REPORT_EVERY_S, self._device)

    def _report(self, checkpoint: ray.train.Checkpoint | None) -> None:
        assert self._latest is not None, "a step comes before its checkpoint"
        now, latest = time.monotonic(), self._latest
        figures = Figures(
            step=latest.step,
            loss=latest.loss,
            tokens_per_second=(latest.tokens - self._tokens) / max(1e-9, now - self._time),
            memory_gib=peak_bytes(self._device) / GIB,
        )
        self._tokens, self._time = latest.tokens, now
        if self._is_first:
            metrics.report(
                step=figures.step,
                loss=figures.loss,
                training_tokens_per_second=figures.tokens_per_second,
                peak_memory_gib=figures.memory_gib,
            )
        ray.train.report(asdict(figures), checkpoint=checkpoint)


class MetricsRecorder:
    """metrics.jsonl, held_out.jsonl and TensorBoard, written by the first worker; on resume, steps after the checkpoint
    are dropped."""

    def __init__(self, places: MetricsPlaces, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._places = places
        for path in filter(None, (places.metrics, places.held_out)):
            write_json_lines(path, [row for row in read_json_lines(path) if row["step"] <= last_step])
        self._board = SummaryWriter(str(places.tensorboard), purge_step=last_step + 1)

    def write(self, metrics: "StepMetrics") -> None:
        row = asdict(metrics)
        append_json_line(self._places.metrics, row)
        for name in ("loss", "learning_rate", "grad_norm", "tokens", "seconds", "effective_epochs", "flop_epochs"):
            self._board.add_scalar(f"{self._places.label}/{name}", row[name], metrics.step)

    def write_held_out(self, step: int, loss: float) -> None:
        place = self._places.held_out
        assert place is not None, "a held-out loss has a place"
        told = [row for row in read_json_lines(place) if row["step"] < step]
        write_json_lines(place, [*told, {"step": step, "loss": loss}])
        self._board.add_scalar(f"{self._places.label}/held_out_loss", loss, step)

    def close(self) -> None:
        self._board.close()


class ProgressCallback(ray.train.UserCallback):
    """The controller's side: hands what workers report to the driver, and ends what another try can't mend."""

    def __init__(self, channel: Queue) -> None:
        self._channel = channel

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        peak = max(worker["memory_gib"] for worker in metrics)
        send(self._channel, metrics[0] | {"memory_gib": peak})

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the error that each try would meet again: Ray then ends the training instead of retrying."""
        for error in worker_exceptions.values():
            if isinstance(error, UserError | FloatingPointError):
                raise error
        rank, error = next(iter(worker_exceptions.items()))
        send(
            self._channel,
            f"  training worker {rank} was lost ({type(error).__name__}): training goes on from its last checkpoint, "
            f"{MAX_FAILURES} times at most",
        )


def send(channel: Queue, told: dict[str, Any] | str | None) -> None:
    """Tell the driver, in plain data: the queue's process would load Ray Train and its like for an object of ours.
    Where nobody listens any more, nothing happens: a training doesn't end for that."""
    with contextlib.suppress(RayError):
        channel.put(told)


@contextlib.contextmanager
def shown(label: str, steps: int, told_of: Callable[[dict[str, Any]], str], *, unit: str = "steps") -> Iterator[Queue]:
    """The driver's side: a queue whose figures and lines are shown until the block ends.

    steps: how many of the unit there are to be. told_of: what a report says, for a person; it has the step, and the
    rest as the stage's workers report it.
    """
    channel = Queue(actor_options={"num_cpus": 0})
    watcher = threading.Thread(target=_show, args=(channel, label, steps, told_of, unit), daemon=True)
    watcher.start()
    try:
        yield channel
    finally:
        send(channel, None)
        watcher.join()
        channel.shutdown()


def _show(channel: Queue, label: str, steps: int, told_of: Callable[[dict[str, Any]], str], unit: str) -> None:
    with progress(label, steps, unit) as update, contextlib.suppress(RayError):
        while (figures := channel.get()) is not None:
            if isinstance(figures, str):
                say(figures)
            else:
                update(figures["step"], told_of(figures))


def told(report: dict[str, Any]) -> str:
    figures = Figures(**report)
    return f"loss {figures.loss:.3f}, {figures.tokens_per_second:.0f} tokens/s, {figures.memory_gib:.2f} GiB"
