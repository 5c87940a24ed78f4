"""The arms' trainings on Ray Train, one worker each: `learning.learn`, which calls the Generator and the judges, and
`imitation.imitate`, whose drafts are there already.

Checkpoints go through `ray.train.report`, so a worker that is lost costs the steps since the last one, and the drafts
of those steps are there still. The figures of each step go to metrics.jsonl and TensorBoard as they come.
"""

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
import ray.train.torch
from ray.util.queue import Queue

from app.files.json_files import read_json_lines
from app.progress import forward_to
from app.records import Generator, Judge
from app.reward.by_reward.learning import learn
from app.reward.by_reward.outlets import Board, MetricsFile, progress_of, read_figures, told
from app.reward.by_reward.watch import StepFigures
from app.reward.imitation.lessons import read_lessons
from app.reward.imitation.training import imitate, imitation_settings, total_steps
from app.reward.problems import store as problem_store
from app.reward.records import TrainingProblem
from app.reward.turns import CARD_OF_TRAINER, take_turns, trainer_gib
from app.running import metrics
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.runs import Run
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from app.training import reports
from app.training.memory import give_back
from app.training.ray_train import fit, last_checkpoint, replace_folder, salvage, set_up_device
from app.training.reports import REPORT_EVERY_S, MetricsPlaces, Reporter, send, shown
from app.training.state import ADAPTER

if TYPE_CHECKING:
    import torch


def learn_on_ray(
    run: Run,
    profile: Profile,
    ids: Sequence[str],
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any],
    held_out: Sequence[TrainingProblem] = (),
    deadline: Deadline = NEVER,
) -> None:
    """Learn from the run's hardened problems of these ids, which puts the adapter into the arm's place.

    generator, judge: clients of actors, which the worker gets a copy of. facts, held_out: as `learning.learn` has them.
    """
    at = run.arm(profile.grm.arm)
    if at.adapter.exists():
        return
    read_figures(at.metrics)  # a broken line is told before anything starts
    config = {
        "run": str(run.root),
        "profile": profile.model_dump_json(),
        "ids": list(ids),
        "generator": generator,
        "judge": judge,
        "facts": dict(facts),
        "held_out": list(held_out),
        "deadline": deadline,
    }
    with shown("grm", profile.grm.steps, _told) as channel:
        _fit(learn_loop, config, run, profile, at, channel)


def imitate_on_ray(run: Run, profile: Profile, generator: Generator, deadline: Deadline, at: ArmPaths) -> None:
    """Train the adapter of an arm, or of one of its rounds, on its lessons. generator: sleeps meanwhile on a card."""
    read_json_lines(at.metrics)
    steps = total_steps(len(read_lessons(at.lessons)), profile)
    if take_turns(profile):
        generator.sleep()
    config = {
        "run": run.root.name,
        "folder": str(at.folder),
        "profile": profile.model_dump_json(),
        "deadline": deadline,
    }
    with shown(f"grm: {at.folder.name}", steps, reports.told) as channel:
        checkpoint = _fit(imitate_loop, config, run, profile, at, channel)
    replace_folder(checkpoint / ADAPTER, at.adapter)


def _fit(
    loop: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    run: Run,
    profile: Profile,
    at: ArmPaths,
    channel: Queue,
) -> Path:
    """Run one worker to its end; returns the last checkpoint."""
    work = run.grm_work / at.folder.name
    salvage(work)
    resources = {"CPU": 1.0, "GPU": CARD_OF_TRAINER} if profile.sft.use_gpu else {"CPU": 1.0}
    scaling = ray.train.ScalingConfig(num_workers=1, use_gpu=profile.sft.use_gpu, resources_per_worker=resources)
    return Path(fit(loop, config, work, channel, scaling).checkpoint.path)


def learn_loop(config: dict[str, Any]) -> None:
    """The worker of `learn_on_ray`."""
    run, profile, device = Run(Path(config["run"])), *_set_up(config)
    takes_turns = take_turns(profile)
    if takes_turns:  # the engine has drawn the solve rates, or the drafts of a worker that was lost
        config["generator"].sleep()
    wanted = set(config["ids"])
    problems = [one.problem for one in problem_store.read_all(run.grm_problems) if one.problem.given.id in wanted]
    at = run.arm(profile.grm.arm)
    outlet = _Reports(at, profile.grm, last_checkpoint(config))
    with metrics.tagged(run=run.root.name, stage="grm"), contextlib.closing(outlet):
        learn(
            at.folder,
            profile,
            problems,
            config["generator"],
            config["judge"],
            device,
            outlet,
            held_out=config["held_out"],
            facts=config["facts"],
            engine_sleeps=takes_turns,
            deadline=config["deadline"],
        )
    give_back()


def imitate_loop(config: dict[str, Any]) -> None:
    """The worker of `imitate_on_ray`."""
    at, profile, device = ArmPaths(Path(config["folder"])), *_set_up(config)
    lessons, settings = read_lessons(at.lessons), imitation_settings(profile)
    checkpoint = last_checkpoint(config)
    places = MetricsPlaces(label=profile.grm.arm, metrics=at.metrics, tensorboard=at.tensorboard)
    steps = total_steps(len(lessons), profile)
    with (
        metrics.tagged(run=config["run"], stage="grm"),
        contextlib.closing(Reporter(places, checkpoint, settings, steps, device)) as reporter,
    ):
        imitate(
            profile,
            lessons,
            device,
            deadline=config["deadline"],
            on_step=reporter.on_step,
            on_checkpoint=reporter.on_checkpoint,
            resume_from=checkpoint,
        )
    give_back()


def _set_up(config: dict[str, Any]) -> tuple[Profile, "torch.device"]:
    """Make a worker ready."""
    profile, device = Profile.model_validate_json(config["profile"]), ray.train.torch.get_device()
    set_up_device(device, trainer_gib(profile))
    forward_to(functools.partial(send, config["channel"]))
    return profile, device


class _Reports:
    """An `outlets.Outlet` of the worker of `learn_on_ray`."""

    def __init__(self, at: ArmPaths, settings: GrmSettings, last: Path | None) -> None:
        """last: the checkpoint to go on from."""
        self._last = last
        self._settings, self._path = settings, at.metrics
        taken = progress_of(self._last).step // settings.updates_per_step
        self._metrics = MetricsFile(at.metrics, taken)
        self._board = Board(at.tensorboard, settings.arm, taken)
        self._time = time.monotonic()
        self._latest: StepFigures | None = None

    def last(self) -> Path | None:
        return self._last

    def figures(self) -> list[StepFigures]:
        return read_figures(self._path)

    def on_figures(self, figures: StepFigures) -> None:
        self._latest = figures
        self._metrics.append(figures)
        self._board.append(figures)
        is_checkpoint = figures.step % self._settings.checkpoint_every == 0 or figures.step == self._settings.steps
        if not is_checkpoint and time.monotonic() - self._time >= REPORT_EVERY_S:
            self._report(None)

    def on_checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            self._report(ray.train.Checkpoint.from_directory(folder))

    def go_back(self, step: int, state: Path | None) -> None:
        self._metrics.go_back(step)
        self._board.go_back(step)

    def close(self) -> None:
        self._board.close()

    def _report(self, checkpoint: ray.train.Checkpoint | None) -> None:
        assert self._latest is not None, "a step comes before its checkpoint"
        self._time = time.monotonic()
        ray.train.report(asdict(self._latest) | {"memory_gib": self._latest.peak_gib}, checkpoint=checkpoint)


def _told(report: dict[str, Any]) -> str:
    return told(StepFigures(**{name: value for name, value in report.items() if name != "memory_gib"}))
