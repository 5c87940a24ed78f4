"""The supervised fine-tuning loop: one function over batches that runs without Ray, on one process or as a DDP rank.

`train` draws micro-batches, takes `grad_accumulation` of them a step, normalises the loss by the step's labelled
tokens over all ranks, clips, steps AdamW on a cosine schedule, and hands metrics and checkpoints to its caller. It
starts again where a `TrainState` folder says.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import nn

from app.progress import say
from app.settings import SftSettings
from app.training import lora
from app.training.fused import why_not
from app.training.keep import Keep
from app.training.ladder import Ladder
from app.training.loss import CausalLMLoss, FusedLoss, count_targets
from app.training.ranks import attach_switch
from app.training.schedule import learning_rate_at

Batch = dict[str, torch.Tensor]
"""input_ids, labels, position_ids: int64 [micro_batch, seq_len]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step. Made by `train`; written as a line of metrics.jsonl."""

    step: int
    loss: float
    """Mean over the step's labelled tokens, nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    """Tokens seen since the start of training, padding included, all ranks."""
    label_tokens: int
    """Of this step, the tokens that entered the loss, all ranks."""
    seconds: float


def train(
    model: PeftModel,
    batches: Callable[[int], Iterator[Batch]],
    settings: SftSettings,
    steps: int,
    *,
    device: torch.device,
    on_step: Callable[[StepMetrics], None],
    on_checkpoint: Callable[[int, Callable[[Path], None]], None],
    resume_from: Path | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    keep: Sequence[Keep] = (),
) -> None:
    """Train to `steps`. batches(epoch) gives an epoch's micro-batches, the same ones each time it is called.

    on_checkpoint(step, save) is called every checkpoint_every steps and at the end; save(folder) writes the TrainState.
    keep: what each fused layer keeps for its backward pass; its input, if nothing is said.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=device.type == "cuda"
    )
    first, tokens = _restore(model, optimiser, resume_from) if resume_from else (0, 0)
    switch = attach_switch(model, settings)
    loss = _loss(model, settings.loss_chunk, keep)
    loss_module = wrap(loss)
    ladder = Ladder(getattr(loss, "decoder", None))
    model.train()
    for step, micro_batches in _steps(batches, settings.grad_accumulation, first, steps):
        start = time.perf_counter()
        torch.manual_seed(step)  # dropout does not depend on where the training was interrupted
        if switch:
            switch.draw(step)
        loss.refresh()
        rate = learning_rate_at(step, steps, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        label_tokens = _sum_over_ranks(float(sum(count_targets(batch["labels"]) for batch in micro_batches)), device)
        # DDP averages gradients over ranks; the factor makes that a sum over all labelled tokens.
        factor = _world_size() / max(1.0, label_tokens)
        while (loss_sum := _gradients(loss_module, micro_batches, factor, ladder)) is None:
            optimiser.zero_grad()
        tokens += sum(batch["input_ids"].numel() for batch in micro_batches) * _world_size()
        grad_norm = nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad()
        mean_loss = _sum_over_ranks(loss_sum.item(), device) / max(1.0, label_tokens)
        _refuse_infinite(mean_loss, step, settings)
        on_step(
            StepMetrics(
                step=step + 1,
                loss=mean_loss,
                learning_rate=rate,
                grad_norm=float(grad_norm),
                tokens=tokens,
                label_tokens=int(label_tokens),
                seconds=time.perf_counter() - start,
            )
        )
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == steps:
            on_checkpoint(step + 1, functools.partial(_save, model, optimiser, step + 1, tokens))


def _refuse_infinite(loss: float, step: int, settings: SftSettings) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"loss is {loss} at step {step + 1}: lower sft.learning_rate, now {settings.learning_rate}"
        )


def _gradients(
    loss_module: nn.Module, micro_batches: list[Batch], factor: float, ladder: Ladder
) -> torch.Tensor | None:
    """Adds the gradients of a step's batches and returns the sum of their losses. None where memory ran out: then the
    ladder is a rung lower, and gradients are to be made anew. Raises torch.OutOfMemoryError on the lowest rung, and
    where several workers train: one alone can't go another way."""
    total = 0.0
    try:
        for batch in micro_batches:
            for piece in ladder.pieces(batch):
                loss = loss_module(**piece)
                (loss * factor).backward()
                total = total + loss.detach()
        return torch.as_tensor(total)
    except torch.OutOfMemoryError:
        said = "" if _world_size() > 1 else ladder.lower(micro_batches[0])
        if not said:
            raise
    # out of the handler: the error held the tensors of the failed pass
    torch.cuda.empty_cache()
    say(f"  the card's memory ran out, so the step is made again: {said}")
    return None


def _loss(model: PeftModel, chunk: int, keep: Sequence[Keep]) -> CausalLMLoss | FusedLoss:
    """By fused layers where the model can go that way."""
    return CausalLMLoss(model, chunk) if why_not(model) else FusedLoss(model, chunk, keep)


def _steps(
    batches: Callable[[int], Iterator[Batch]], size: int, first: int, last: int
) -> Iterator[tuple[int, list[Batch]]]:
    """The micro-batches of steps first..last-1. Epochs before `first` are read past, not trained."""
    step, epoch = 0, 0
    while step < last:
        group: list[Batch] = []
        before = step
        for batch in batches(epoch):
            group.append(batch)
            if len(group) == size:
                if step >= first:
                    yield step, group
                group = []
                step += 1
                if step == last:
                    return
        if step == before:
            raise ValueError(f"an epoch holds fewer than {size} micro-batches, so no step can be made")
        epoch += 1


def _save(model: PeftModel, optimiser: torch.optim.Optimizer, step: int, tokens: int, folder: Path) -> None:
    """TrainState: adapter/, optimiser.safetensors, state.json."""
    from safetensors.torch import save_file

    lora.save(model, folder / "adapter")
    state = optimiser.state_dict()["state"]
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }
    save_file(tensors, folder / "optimiser.safetensors")
    (folder / "state.json").write_text(json.dumps({"step": step, "tokens": tokens}))


def _restore(model: PeftModel, optimiser: torch.optim.Optimizer, folder: Path) -> tuple[int, int]:
    from safetensors.torch import load_file

    lora.restore(model, folder / "adapter")
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(folder / "optimiser.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    done = json.loads((folder / "state.json").read_text())
    return done["step"], done["tokens"]


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _sum_over_ranks(value: float, device: torch.device) -> float:
    if _world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()
