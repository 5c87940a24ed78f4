"""Where a training by reward puts its figures and checkpoints: an Outlet. `Files` keeps them in a folder; the stage on
Ray Train reports them (`app.reward.ray_learning`).

    FOLDER/checkpoints/00005/   a TrainState (`app.training.state`); the last two are kept
    FOLDER/metrics.jsonl        a line a step: what was drawn, what the training made of it
    FOLDER/tensorboard/         the same as curves
    FOLDER/fallen.jsonl         lines of steps that a training went back from
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from app.files.json_files import append_json_line, read_json, read_json_lines, write_json_lines
from app.progress import say
from app.reward.by_reward.keeping import make_whole, numbered
from app.reward.by_reward.watch import StepFigures
from app.training.loop import StepMetrics
from app.training.state import PROGRESS, Progress, is_whole

KEPT = 2
"""Checkpoints that are kept."""


class Outlet(Protocol):
    """Where a training's checkpoints and figures go."""

    def last(self) -> Path | None:
        """The checkpoint that the training goes on from."""
        ...

    def figures(self) -> list[StepFigures]:
        """Those of the steps that are taken."""
        ...

    def on_figures(self, figures: StepFigures) -> None: ...

    def on_checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """As `loop.train` has it: a step is an update."""
        ...

    def go_back(self, step: int, state: Path | None) -> None:
        """Set aside what came of later steps, which are taken anew, and otherwise. state: the checkpoint of the step;
        None for the start."""
        ...


class MetricsFile:
    """metrics.jsonl: a line a step. Lines after the checkpoint that a training goes on from are dropped."""

    def __init__(self, path: Path, taken: int) -> None:
        """taken: steps that the checkpoint holds."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            write_json_lines(path, [row for row in read_json_lines(path) if row["step"] <= taken])

    def append(self, figures: StepFigures | StepMetrics) -> None:
        append_json_line(self._path, asdict(figures))

    def go_back(self, step: int) -> None:
        """Move the lines of later steps to fallen.jsonl, where none were moved there before."""
        rows, fallen = read_json_lines(self._path), self._path.with_name("fallen.jsonl")
        later = [row for row in rows if row["step"] > step]
        if later and not fallen.exists():
            write_json_lines(fallen, later)
        if later:
            write_json_lines(self._path, [row for row in rows if row["step"] <= step])


class Board:
    """A training's figures as TensorBoard shows them, a curve each. What is after the checkpoint that it goes on from
    is dropped."""

    def __init__(self, folder: Path, label: str, taken: int) -> None:
        """label: what the curves' names begin with. taken: as `MetricsFile` has it."""
        self._folder, self._label = folder, label
        self._writer = self._after(taken)

    def append(self, figures: StepFigures | StepMetrics) -> None:
        for name, value in asdict(figures).items():
            if name != "step" and value is not None:
                self._writer.add_scalar(f"{self._label}/{name}", value, figures.step)

    def go_back(self, step: int) -> None:
        self._writer.close()
        self._writer = self._after(step)

    def close(self) -> None:
        self._writer.close()

    def _after(self, step: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=step + 1)


def read_figures(path: Path) -> list[StepFigures]:
    """Those of metrics.jsonl."""
    return [StepFigures(**row) for row in read_json_lines(path)]


def progress_of(checkpoint: Path | None) -> Progress:
    return Progress(**read_json(checkpoint / PROGRESS)) if checkpoint else Progress()


class Files:
    """An Outlet that keeps everything in a folder. Checkpoints appear whole."""

    def __init__(self, folder: Path, updates_per_step: int, start: Path | None = None, *, label: str = "") -> None:
        """start: a TrainState of another training, to go on from until there is a checkpoint. label: of its curves in
        TensorBoard; none, if nothing is said."""
        self._start = start
        self._folder, self._metrics_path = folder / "checkpoints", folder / "metrics.jsonl"
        self._updates = updates_per_step
        taken = progress_of(self.last()).step // updates_per_step
        self._metrics = MetricsFile(self._metrics_path, taken)
        self._board = Board(folder / "tensorboard", label, taken) if label else None

    def last(self) -> Path | None:
        for found in reversed(numbered(self._folder)):
            if is_whole(found):
                return found
            say(f"  {found} was cut off: the training goes on from the checkpoint before")
            shutil.rmtree(found)
        return self._start

    def figures(self) -> list[StepFigures]:
        return read_figures(self._metrics_path)

    def on_figures(self, figures: StepFigures) -> None:
        self._metrics.append(figures)
        if self._board:
            self._board.append(figures)
        say(f"  step {figures.step}: {told(figures)}")

    def on_checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        make_whole(self._folder / f"{step:05}", save)
        for old in numbered(self._folder)[:-KEPT]:
            shutil.rmtree(old)

    def go_back(self, step: int, state: Path | None) -> None:
        self._metrics.go_back(step)
        if self._board:
            self._board.go_back(step)
        update = step * self._updates
        if state is not None:  # before the later ones go: the lines up to a last checkpoint are those that stay
            make_whole(self._folder / f"{update:05}", lambda place: shutil.copytree(state, place, dirs_exist_ok=True))
        for path in numbered(self._folder):
            if int(path.name) > update:
                shutil.rmtree(path)

    def close(self) -> None:
        if self._board:
            self._board.close()


def told(figures: StepFigures) -> str:
    """For a person."""
    teacher = "" if figures.teacher_kl is None else f", {figures.teacher_kl:.3f} nats a token from the teacher"
    base = "" if figures.kl is None else f", {figures.kl:.4f} from the base"
    reward = "-" if figures.reward_mean is None else f"{figures.reward_mean:.3f}"
    return (
        f"reward {reward}, {figures.share_with_variance:.0%} of {figures.num_groups} groups "
        f"vary, {figures.mean_tokens:.0f} tokens a draft, entropy {figures.entropy or 0:.2f}{teacher}{base}; drawn in "
        f"{figures.drafting_seconds:.1f} s, judged {figures.judging_seconds:.1f} s later, learnt in "
        f"{figures.training_seconds:.1f} s"
    )
