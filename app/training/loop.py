"""The training loop: one function over the micro-batches of each step that runs without Ray, on one process or as one
of several workers.

`train` takes a step's micro-batches from its source, normalises the loss by their labelled tokens over all ranks,
clips, steps AdamW on a cosine schedule, and hands metrics and checkpoints to its caller. It starts again where a
`TrainState` folder says. The source of a fine-tuning is `epochs` over a corpus; self-reward has one that draws what it
yields with the adapter as it is then (`app.reward.by_reward.grpo`).
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from app.running.deadlines import NEVER, Deadline
from app.settings import SftSettings
from app.training import state
from app.training.experimental.data_dropout import Difficulty, DocumentLosses, Trained
from app.training.experimental.ranks import attach_switch
from app.training.feed import Batch, groups_of
from app.training.fused import why_plain
from app.training.loss import CausalLMLoss, FusedLoss, Weigh, count_targets
from app.training.optimiser import make_optimiser
from app.training.out_of_memory import Ladder
from app.training.parallel import accumulating, clip, first_says, from_all_ranks, sum_over_ranks, world_size
from app.training.saved_activations import Keep
from app.training.schedule import is_checkpoint, learning_rate_at, share_of_epoch
from app.training.state import Progress

if TYPE_CHECKING:
    from peft import PeftModel

Source = Callable[[Progress], Iterator[list[Batch]]]
"""Gives the micro-batches of each step from progress.step on, one list a step, until it has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step. Made by `train`; written as a line of metrics.jsonl."""

    step: int
    loss: float
    """Mean over the step's labelled tokens, nats."""
    learning_rate: float
    grad_norm: float
    """The norm of the gradients before clipping."""
    tokens: int
    """Tokens seen since the start of training, padding included, all ranks."""
    label_tokens: int
    """Tokens of this step that entered the loss, all ranks."""
    seconds: float
    effective_epochs: float
    """Examples trained since the start, for each example of the corpus."""
    flop_epochs: float
    """Tokens that went through the model, padding included, for each token of the corpus's rows: what the training cost
    in whole epochs."""


def train(
    model: "PeftModel",
    source: Source,
    settings: SftSettings,
    steps: int,
    *,
    device: torch.device,
    on_step: Callable[[StepMetrics], None],
    on_checkpoint: Callable[[int, Callable[[Path], None]], None],
    resume_from: Path | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    keep: Sequence[Keep] = (),
    weigh: Weigh | None = None,
    corpus_rows: int = 0,
    difficulty: Difficulty | None = None,
    held_out: Sequence[Batch] = (),
    on_held_out: Callable[[int, float], None] = lambda step, loss: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Train to `steps`, or to where the source ends; source: where the steps' micro-batches come from, as `epochs`.

    on_checkpoint(step, save) is called every checkpoint_every steps and at the end; save(folder) writes the TrainState.
    is_stopped(): whether to end after this step, with a checkpoint; that one rank says so will do. keep: what each
    fused layer keeps for its backward pass; its input, if nothing is said. weigh: how much each token's loss counts
    (`loss.Weigh`); all alike, if nothing is said. corpus_rows: of a full epoch; left out, epochs aren't counted.
    difficulty: learns the losses of the batches' documents. held_out: batches of what is not trained on, whose mean
    loss on_held_out(step, loss) is told before the first step and after the last.
    """
    if resume_from:
        state.restore_adapter(model, resume_from)
    stepper = _Stepper(model, settings, device, wrap, keep, weigh)
    progress = state.restore(stepper.optimiser, difficulty, resume_from) if resume_from else Progress()

    def save() -> None:
        on_checkpoint(progress.step, state.gather(model, stepper.optimiser, progress, difficulty).save)

    if held_out and progress.step == 0:
        on_held_out(0, stepper.mean_loss(held_out))
    saved = True  # there may be no step to take
    for micro_batches in source(progress):
        start = time.perf_counter()
        rate = learning_rate_at(progress.step, steps, settings)
        taken = stepper.take(micro_batches, progress.step, rate)
        _count(progress, taken, micro_batches, settings, difficulty, corpus_rows, device)
        corpus_tokens = corpus_rows * micro_batches[0]["labels"].shape[1]
        on_step(_metrics(progress, taken, rate, time.perf_counter() - start, corpus_tokens))
        stops = sum_over_ranks(float(is_stopped()), device) > 0
        if saved := stops or is_checkpoint(progress.step, steps, settings):
            save()
        if stops:
            return
    if not saved:
        save()
    if held_out:
        on_held_out(progress.step, stepper.mean_loss(held_out))


def _count(
    progress: Progress,
    taken: "_Taken",
    micro_batches: Sequence[Batch],
    settings: SftSettings,
    difficulty: Difficulty | None,
    corpus_rows: int,
    device: torch.device,
) -> None:
    """Add a step to the progress, and its documents' losses to what is known of them."""
    examples, corpus_examples = sum(len(batch["labels"]) for batch in micro_batches), corpus_rows
    if difficulty is not None:
        difficulty.fresh.update(taken.documents)
        if share_of_epoch(settings, progress.epoch) < 1:  # before, how many there are isn't known
            examples, corpus_examples = len(taken.documents), len(difficulty.known)
    progress.step += 1
    progress.tokens += sum(batch["labels"].numel() for batch in micro_batches) * world_size()
    progress.effective_epochs += sum_over_ranks(examples, device) / max(1, corpus_examples)


def _metrics(progress: Progress, taken: "_Taken", rate: float, seconds: float, corpus_tokens: int) -> StepMetrics:
    """Of the step that was counted last. corpus_tokens: of a full epoch; 0: epochs aren't counted."""
    return StepMetrics(
        step=progress.step,
        loss=taken.loss,
        learning_rate=rate,
        grad_norm=taken.grad_norm,
        tokens=progress.tokens,
        label_tokens=taken.label_tokens,
        seconds=seconds,
        effective_epochs=progress.effective_epochs if corpus_tokens else 0.0,
        flop_epochs=progress.tokens / corpus_tokens if corpus_tokens else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What one optimiser step came to, over all ranks but for the documents."""

    loss: float
    grad_norm: float
    label_tokens: int
    documents: dict[int, Trained]


class _Stepper:
    """The optimiser steps of a training."""

    def __init__(
        self,
        model: "PeftModel",
        settings: SftSettings,
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module],
        keep: Sequence[Keep],
        weigh: Weigh | None,
    ) -> None:
        self._settings, self._device = settings, device
        self._loss = _loss(model, settings, keep, weigh)
        self._module = wrap(self._loss)
        # what follows takes the parameters as they are now: wrapping may have put others in their place
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self._parameters, settings, device)
        self._switch = attach_switch(model, settings)
        self._ladder = Ladder(getattr(self._loss, "decoder", None), cuts=weigh is None)
        model.train()

    def take(self, micro_batches: list[Batch], step: int, rate: float) -> _Taken:
        """Take one optimiser step. Raises FloatingPointError for a loss that isn't finite."""
        torch.manual_seed(step)  # dropout does not depend on where the training was interrupted
        if self._switch:
            self._switch.draw(step)
        self._loss.refresh()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        labelled = sum_over_ranks(sum(count_targets(batch["labels"]) for batch in micro_batches), self._device)
        # Gradients are averaged over ranks; the factor makes that a sum over all labelled tokens.
        factor = world_size() / max(1.0, labelled)
        loss_sum, documents = self._ladder.descend(
            lambda: self._passes(micro_batches, factor), micro_batches[0], "the step", self.optimiser.zero_grad
        )
        grad_norm = clip(self._parameters, self._settings.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        loss = sum_over_ranks(loss_sum.item(), self._device) / max(1.0, labelled)
        if not math.isfinite(loss):
            rate = self._settings.learning_rate
            raise FloatingPointError(f"loss is {loss} at step {step + 1}: lower the learning rate, now {rate}")
        return _Taken(loss=loss, grad_norm=grad_norm, label_tokens=int(labelled), documents=documents.trained())

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """Nats a labelled token, nothing learnt. Every worker takes all batches: under FSDP each holds a share of the
        weights."""
        if self._switch:
            self._switch.whole()
        self._loss.refresh()
        self._module.eval()
        with torch.no_grad():
            total = math.fsum(float(self._module(**batch)) for batch in batches)
        self._module.train()
        return total / max(1, sum(count_targets(batch["labels"]) for batch in batches))

    def _passes(self, micro_batches: list[Batch], factor: float) -> tuple[torch.Tensor, DocumentLosses]:
        """Add the gradients of a step's batches and return the sum of their losses, and what each document's is."""
        total, documents = 0.0, DocumentLosses()
        for number, batch in enumerate(micro_batches, 1):
            for piece in self._ladder.pieces(batch):
                keys = piece.pop("documents", None)
                with accumulating(self._module, number == len(micro_batches)):
                    loss = self._module(**piece)
                    (loss * factor).backward()
                total = total + loss.detach()
                if keys is not None:
                    documents.add(keys, piece["labels"], self._loss.token_losses)
        return torch.as_tensor(total), documents


def _loss(
    model: "PeftModel", settings: SftSettings, keep: Sequence[Keep], weigh: Weigh | None
) -> CausalLMLoss | FusedLoss:
    """The loss of a model, by fused layers where model and settings can go that way."""
    chunk = settings.loss_chunk
    return CausalLMLoss(model, chunk, weigh) if why_plain(model, settings) else FusedLoss(model, chunk, keep, weigh)


def until(source: Source, deadline: Deadline, device: torch.device) -> Source:
    """The source, which ends at the deadline: all workers ask the first one before each step but the very first, so
    that something is learnt."""

    def batches(progress: Progress) -> Iterator[list[Batch]]:
        for micro_batches in source(progress):
            if progress.step and first_says(deadline.is_over, device):
                return
            yield micro_batches

    return source if deadline == NEVER else batches


def epochs(
    batches: Callable[[int], Iterator[Batch]],
    settings: SftSettings,
    steps: int,
    difficulty: Difficulty | None = None,
) -> Source:
    """The source of a training on a corpus: batches(epoch) gives an epoch's micro-batches, the same ones each time it
    is called, of which a step takes `grad_accumulation`."""
    return lambda progress: _epochs(batches, settings, progress, steps, difficulty)


def _epochs(
    batches: Callable[[int], Iterator[Batch]],
    settings: SftSettings,
    progress: Progress,
    last: int,
    difficulty: Difficulty | None,
) -> Iterator[list[Batch]]:
    """The micro-batches of each step from progress.step to last - 1; the caller counts. Steps of the epoch that were
    taken before are read past."""
    size = settings.grad_accumulation
    while progress.step < last:
        groups = groups_of(batches(progress.epoch), size)
        for group in itertools.islice(groups, progress.step - progress.epoch_start, None):
            yield group
            if progress.step == last:
                return
        if progress.step == progress.epoch_start and share_of_epoch(settings, progress.epoch) == 1:
            raise ValueError(f"an epoch holds fewer than {size} micro-batches, so no step can be made")
        if difficulty is not None:
            difficulty.end_epoch(from_all_ranks(difficulty.fresh))
        progress.epoch, progress.epoch_start = progress.epoch + 1, progress.step
