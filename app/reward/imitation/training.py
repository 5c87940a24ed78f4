"""The training of the arms that imitate: the loop and the loss of fine-tuning on lessons
(`app.reward.imitation.lessons`).

Which lessons a step takes depends on its number and the seed alone, so a training that was ended goes on exactly.
`imitate` runs anywhere; `imitate_in_files` keeps all in a folder, without Ray.
"""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from app.corpus.rows.packing import Sample
from app.models.base import ensure_model, load_tokenizer
from app.records import IGNORE
from app.reward.by_reward.grpo import training_settings
from app.reward.by_reward.keeping import make_whole
from app.reward.by_reward.learning import keep_of
from app.reward.by_reward.outlets import Board, Files, MetricsFile, progress_of
from app.reward.by_reward.rows import epochs_of, steps_an_epoch
from app.reward.imitation.lessons import read_lessons
from app.reward.records import Lesson
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile, SftSettings
from app.training import loop, lora
from app.training.loop import Source, StepMetrics
from app.training.state import ADAPTER


def imitation_settings(profile: Profile) -> SftSettings:
    """How `app.training.loop` is to train."""
    how = profile.grm.imitate
    return training_settings(profile.sft, profile.grm).model_copy(
        update={
            "learning_rate": how.learning_rate,
            "warmup_fraction": how.warmup_fraction,
            "final_lr_fraction": profile.sft.final_lr_fraction,
            "checkpoint_every": profile.grm.checkpoint_every,
        }
    )


def total_steps(lessons: int, profile: Profile) -> int:
    how = profile.grm.imitate
    return how.epochs * steps_an_epoch(lessons, how.batch)


def source_of(lessons: Sequence[Lesson], profile: Profile, pad_id: int) -> Source:
    """All lessons once an epoch (`rows.epochs_of`)."""
    grm, samples = profile.grm, [_sample(one) for one in lessons]
    return epochs_of(
        samples,
        grm.imitate.epochs,
        grm.imitate.batch,
        seq_len=grm.seq_len,
        micro_batch=grm.micro_batch,
        pad_id=pad_id,
        seed=profile.seed,
    )


def imitate(
    profile: Profile,
    lessons: Sequence[Lesson],
    device: torch.device,
    *,
    deadline: Deadline = NEVER,
    on_step: Callable[[StepMetrics], None],
    on_checkpoint: Callable[[int, Callable[[Path], None]], None],
    resume_from: Path | None = None,
) -> None:
    """Train a new adapter of the base on the lessons by `grm.imitate`, to the deadline at most. The rest is as
    `loop.train` has it."""
    base, settings = ensure_model(profile.model), imitation_settings(profile)
    model = lora.load_for_training(base, profile.model, settings, profile.seed, device)
    loop.train(
        model,
        loop.until(source_of(lessons, profile, load_tokenizer(base).pad_token_id or 0), deadline, device),
        settings,
        total_steps(len(lessons), profile),
        device=device,
        on_step=on_step,
        on_checkpoint=on_checkpoint,
        resume_from=resume_from,
        keep=keep_of(model, profile, settings.micro_batch, device),
    )


def imitate_in_files(at: ArmPaths, profile: Profile, device: torch.device, deadline: Deadline = NEVER) -> None:
    """Train `at.adapter` on `at.lessons`, with checkpoints and a line of metrics a step beside them; go on where an
    earlier call was ended."""
    files = Files(at.folder, updates_per_step=1)
    last = files.last()
    taken = progress_of(last).step
    metrics = MetricsFile(at.metrics, taken)
    with contextlib.closing(Board(at.tensorboard, "imitation", taken)) as board:

        def on_step(taken: StepMetrics) -> None:
            metrics.append(taken)
            board.append(taken)

        imitate(
            profile,
            read_lessons(at.lessons),
            device,
            deadline=deadline,
            on_step=on_step,
            on_checkpoint=files.on_checkpoint,
            resume_from=last,
        )
    done = files.last()
    assert done is not None, "the last step is always a checkpoint"
    make_whole(at.adapter, lambda place: shutil.copytree(done / ADAPTER, place, dirs_exist_ok=True))


def _sample(one: Lesson) -> Sample:
    asked, learnt = list(one.prompt_ids), list(one.learnt_ids)
    return Sample(input_ids=asked + learnt, labels=[IGNORE] * len(asked) + learnt, is_whole=True)
