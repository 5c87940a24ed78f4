"""How many steps a training takes, and the learning rate at each. Needs neither torch nor Ray."""

import math

from app.settings import SftSettings


def learning_rate_at(step: int, total: int, settings: SftSettings) -> float:
    """Linear warm-up, then a cosine to final_lr_fraction (arXiv 1608.03983). Steps count from 0."""
    warmup = math.ceil(round(settings.warmup_fraction * total, 6))  # 7 / 100 * 100 is a little more than 7
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_lr_fraction + (1 - settings.final_lr_fraction) * cosine)


def total_steps(num_rows: int, settings: SftSettings) -> int:
    """Optimiser steps for the whole training."""
    steps = sum(epoch_steps(num_rows, settings, epoch) for epoch in range(settings.epochs))
    return min(steps, settings.max_steps) if settings.max_steps else steps


def is_checkpoint(step: int, total: int, settings: SftSettings) -> bool:
    """Whether a checkpoint follows a step, counted from 1."""
    return step % settings.checkpoint_every == 0 or step == total


def epoch_steps(num_rows: int, settings: SftSettings, epoch: int) -> int:
    """Steps of one epoch, counted from 0; its last rows that fill no step are left out."""
    size = rows_a_step(settings)
    return max(min(1, num_rows // size), int(num_rows * share_of_epoch(settings, epoch)) // size)


def rows_a_step(settings: SftSettings) -> int:
    """Rows that all workers together take a step."""
    return settings.micro_batch * settings.grad_accumulation * settings.num_workers


def share_of_epoch(settings: SftSettings, epoch: int) -> float:
    """The share of the corpus's rows that the epoch trains: all but with data dropout, and then all in the first and
    the last. There is one more full one where what was kept fills fewer rows than planned."""
    if settings.data_dropout == "none" or epoch == 0 or epoch >= settings.epochs - 1:
        return 1.0
    return settings.data_dropout_keep**epoch if settings.data_dropout == "srd" else settings.data_dropout_keep
