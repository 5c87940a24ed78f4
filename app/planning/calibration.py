"""The training speed of this machine, measured for its plans: a few steps with random weights.

The weights are made and saved in a temporary folder and loaded as a training's are; the loop is the training's own.
What was measured is kept in calibration.json in the cache folder, by device, model and what else decides about speed,
then by rows at once. A training measured with one micro-batch speaks for others: operations a second are carried over,
not tokens.
Run: python -m app plan --profile P --calibrate
"""

import contextlib
import gc
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app import hardware
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json, write_json
from app.models.sizes import GIB
from app.planning.speed import DOCUMENT, LABELLED, flops_of
from app.planning.training_choice import Choice
from app.progress import progress, say
from app.records import IGNORE
from app.settings import Profile
from app.training.memory import Shape, use_segments

WARM_UP, TIMED = 2, 3
PASSES_A_STEP = 4
"""Passes of a step, as in one of 16 rows: what the optimiser takes is spread over them."""


def processor() -> str:
    """The name that measurements without a card have."""
    return f"{hardware.describe()['cpu']}, {hardware.num_cores()} cores"


def measured_speed(shape: Shape, choice: Choice, device: str) -> float | None:
    """Tokens a second of one worker, by the measurement on this device that comes nearest in rows at once; None where
    there is none."""
    held = _read().get(_key(choice, device))
    if not held:
        return None
    nearest = min(held, key=lambda rows: abs(int(rows) - choice.profile.sft.micro_batch))
    return held[nearest]["tflops"] * 1e12 / flops_of(shape, choice)


def calibrate(profile: Profile, config: Any, shape: Shape, ways: Sequence[Choice]) -> None:
    """Measure each of the ways to train. Raises UserError where the profile wants a card and none is here, where the
    memory does not hold a way, and for weights that are cut over workers: this is one process."""
    use_segments()  # before the first tensor on a card
    import torch
    from transformers import AutoModelForCausalLM

    sft = profile.sft
    if sft.parallelism == "fsdp" and sft.num_workers > 1:
        what = f"--calibrate measures one worker, and sft.parallelism=fsdp cuts the weights over {sft.num_workers}"
        raise UserError(f"{what}: leave --calibrate out, or take sft.parallelism=ddp")
    if sft.use_gpu and not torch.cuda.is_available():
        raise UserError(f"profile {profile.name} is for a card and this machine has none: run --calibrate on the card")
    device, name = torch.device("cuda:0" if sft.use_gpu else "cpu"), processor()
    if sft.use_gpu:
        name = torch.cuda.get_device_name(device)
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="calibration-") as folder:
        say(f"calibrating on {name}: random weights of {profile.model.name}'s shape")
        torch.manual_seed(0)  # made in main memory: a card need not hold all of a model that is offloaded
        AutoModelForCausalLM.from_config(config, dtype=getattr(torch, profile.model.dtype)).save_pretrained(folder)
        for choice in ways:
            speed = 0.0
            with contextlib.suppress(torch.OutOfMemoryError):
                speed = _train(folder, shape, choice, device)
            if not speed or _times_out_of_memory():  # or it went on with smaller pieces (`app.training.out_of_memory`)
                what = f"{choice.words()} runs out of memory on {name}"
                raise UserError(f"{what}: free the card or lower sft.micro_batch")
            gc.collect()
            torch.cuda.empty_cache()
            figures = {"tokens_per_s": speed, "tflops": speed * flops_of(shape, choice) / 1e12}
            held = _read()
            held.setdefault(_key(choice, name), {})[str(choice.profile.sft.micro_batch)] = figures
            write_json(cache_root() / "calibration.json", held)
            say(f"  training, {choice.words()}: {speed:,.0f} tokens/s, {figures['tflops']:.3g} TFLOP/s")


def _times_out_of_memory() -> int:
    import torch

    return torch.cuda.memory_stats().get("num_ooms", 0) if torch.cuda.is_available() else 0


def _train(folder: str, shape: Shape, choice: Choice, device: Any) -> float:
    """Tokens a second of a training of a few steps."""
    import torch

    from app.training import loop, lora

    profile = choice.profile
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, profile.sft.vram_gib * GIB / total), device)
    torch.set_float32_matmul_precision("high")
    sft = profile.sft.model_copy(update={"grad_accumulation": PASSES_A_STEP, "data_dropout": "none"})
    source = profile.model.model_copy(update={"source": "path", "name": folder})
    rows = _rows(shape.vocabulary, sft.micro_batch, profile.corpus.seq_len)
    seconds: list[float] = []

    def batches(epoch: int) -> Iterator[dict[str, Any]]:
        yield from (rows for _ in range((WARM_UP + TIMED) * PASSES_A_STEP))

    model = lora.load_for_training(Path(folder), source, sft, 0, device)
    with progress("calibration", WARM_UP + TIMED, "steps") as update:

        def on_step(metrics: Any) -> None:
            seconds.append(metrics.seconds)
            update(len(seconds))

        loop.train(
            model, loop.epochs(batches, sft, WARM_UP + TIMED), sft, WARM_UP + TIMED, device=device, on_step=on_step,
            on_checkpoint=lambda step, save: None, keep=choice.keep,
        )  # fmt: skip
    return PASSES_A_STEP * rows["labels"].numel() / sorted(seconds[WARM_UP:])[TIMED // 2]


def _rows(vocabulary: int, micro_batch: int, seq_len: int) -> dict[str, Any]:
    """A micro-batch of random documents, full to the last token, with the share of labels that a corpus has."""
    import torch

    ids = torch.randint(vocabulary, (micro_batch, seq_len), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(seq_len).remainder(DOCUMENT).expand(ids.shape).contiguous()
    prompts = positions < (1 - LABELLED) * min(DOCUMENT, seq_len)
    return {"input_ids": ids, "labels": ids.masked_fill(prompts, IGNORE), "position_ids": positions}


def _key(choice: Choice, device: str) -> str:
    model, sft, seq_len = choice.profile.model, choice.profile.sft, choice.profile.corpus.seq_len
    way = "fused" if choice.keep else "plain, offloaded" if sft.offload else "plain"
    base = f"{model.dtype}, {model.quantization}"
    return f"training | {device} | {model.name} | {base} | {way} | r {sft.lora_r} | rows {seq_len}"


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    path = cache_root() / "calibration.json"
    return read_json(path) if path.exists() else {}
