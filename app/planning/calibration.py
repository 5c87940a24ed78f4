"""Speeds measured on this machine, for its plans: a few steps of training and of drafting, with random weights.

The weights are made and saved in a temporary folder and loaded as a training's are; the loop is the training's own.
What was measured is kept in calibration.json in the cache folder, by device, model and what else decides about speed,
then by rows at once. A training measured with one micro-batch speaks for others: operations a second are carried over,
not tokens.
Run: python -m app plan --profile P --calibrate
"""

import contextlib
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import hardware
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json, write_json
from app.models.sizes import GIB
from app.planning.speed import DOCUMENT, LABELLED, PROMPT, Speed, rows_at_once
from app.planning.training_choice import Choice, flops_of
from app.progress import progress, say
from app.records import IGNORE
from app.settings import GenerationSettings, ModelSettings, Profile
from app.training.memory import ALLOCATOR, Shape

WARM_UP, TIMED = 2, 3
PASSES_A_STEP = 4
"""As in a step of 16 rows: what the optimiser takes is spread over them."""
DRAFTED = 32
"""Tokens a row."""


def processor() -> str:
    """The name that measurements without a card have."""
    return f"{hardware.describe()['cpu']}, {hardware.num_cores()} cores"


def training_speed(choice: Choice, shape: Shape, device: str) -> Speed | None:
    """By what was measured on this device; None where nothing was."""
    rows, held = _nearest(_training_key(choice, device), choice.sft.micro_batch)
    if not rows:
        return None
    flops = flops_of(choice, shape)
    tokens_per_s = held["tflops"] * 1e12 / flops
    how = (
        f"measured on {device} with a micro-batch of {rows}: {held['tokens_per_s']:,.0f} tokens/s, "
        f"{held['tflops']:.3g} TFLOP/s; / {flops / 1e9:.3g} GFLOP a token = {tokens_per_s:,.0f} tokens/s"
    )
    return Speed(tokens_per_s=tokens_per_s, how=how, is_measured=True)


def drafting_speed(model: ModelSettings, settings: GenerationSettings, device: str, rows: int) -> Speed | None:
    """Tokens a second of the transformers engine, measured on this device at about this number of rows; None where
    nothing was."""
    nearest, held = _nearest(_drafting_key(model, device), rows)
    if settings.engine != "transformers" or not rows / 2 <= nearest <= rows * 2:
        return None
    how = f"measured on {device}: {held['tokens_per_s']:,.0f} tokens/s at {nearest} rows"
    return Speed(tokens_per_s=held["tokens_per_s"], how=how, is_measured=True)


def calibrate(profile: Profile, config: Any, shape: Shape, ways: list[Choice]) -> None:
    """Measures each of the ways to train, and drafting. Raises UserError where the profile wants a card and none is
    here, where the memory does not hold a way, and for weights that are cut over workers: this is one process."""
    os.environ.update(ALLOCATOR)  # before the first tensor on a card
    sft, drafts = profile.sft, profile.generation
    if sft.parallelism == "fsdp" and sft.num_workers > 1:
        what = f"--calibrate measures one worker, and sft.parallelism=fsdp cuts the weights over {sft.num_workers}"
        raise UserError(f"{what}: leave --calibrate out, or take sft.parallelism=ddp")
    device, name = _device(profile, sft.use_gpu)
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="calibration-") as folder:
        say(f"calibrating on {name}: random weights of {profile.model.name}'s shape")
        _save_random(folder, config, profile.model)
        for choice in ways:
            with _no_oom(choice.words(), "sft.micro_batch", name):
                speed = _train(folder, choice, shape, device)
            tflops = speed * flops_of(choice, shape) / 1e12
            _keep(_training_key(choice, name), choice.sft.micro_batch, tokens_per_s=speed, tflops=tflops)
            say(f"  training, {choice.words()}: {speed:,.0f} tokens/s, {tflops:.3g} TFLOP/s")
        if drafts.engine != "transformers":
            return say(f"  drafting isn't measured for generation.engine={drafts.engine}: its hours stay a projection")
        device, name = _device(profile, drafts.use_gpu)
        rows = rows_at_once(shape, profile.model, drafts, profile.evaluation.max_new_tokens)
        with _no_oom("drafting", "generation.batch_size or generation.kv_cache_bytes", name):
            speed = _draft(folder, profile, rows, device)
        _keep(_drafting_key(profile.model, name), rows, tokens_per_s=speed)
        return say(f"  drafting on {name}, {rows} rows: {speed:,.0f} tokens/s")


def _device(profile: Profile, use_gpu: bool) -> tuple[Any, str]:
    """With the name that its measurements have."""
    import torch

    if not use_gpu:
        return torch.device("cpu"), processor()
    if not torch.cuda.is_available():
        raise UserError(f"profile {profile.name} is for a card and this machine has none: run --calibrate on the card")
    return torch.device("cuda", 0), torch.cuda.get_device_name(0)


@contextlib.contextmanager
def _no_oom(what: str, lower: str, name: str) -> Iterator[None]:
    """One sentence where memory runs out, even if a training goes on with smaller pieces
    (`app.training.out_of_memory`): that speed isn't the one asked for. Memory is free again afterwards."""
    import torch

    before = _times_out_of_memory()
    try:
        yield
    except torch.OutOfMemoryError:
        pass
    else:
        if _times_out_of_memory() == before:
            return
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    raise UserError(f"{what} runs out of memory on {name}: free the card or lower {lower}") from None


def _times_out_of_memory() -> int:
    import torch

    return torch.cuda.memory_stats().get("num_ooms", 0) if torch.cuda.is_available() else 0


def _save_random(folder: str, config: Any, model: ModelSettings) -> None:
    """Made in main memory: a card need not hold all of a model that is offloaded."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype)).save_pretrained(folder)


def _train(folder: str, choice: Choice, shape: Shape, device: Any) -> float:
    """Tokens a second."""
    import torch

    from app.training import loop, lora

    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, choice.sft.vram_gib * GIB / total), device)
    torch.set_float32_matmul_precision("high")
    sft = choice.sft.model_copy(update={"grad_accumulation": PASSES_A_STEP, "data_dropout": "none"})
    source = choice.model.model_copy(update={"source": "path", "name": folder})
    rows = _rows(shape, choice)
    seconds: list[float] = []

    def batches(epoch: int) -> Iterator[dict[str, Any]]:
        yield from (rows for _ in range((WARM_UP + TIMED) * PASSES_A_STEP))

    model = lora.load_for_training(Path(folder), source, sft, 0, device)
    with progress("calibration", WARM_UP + TIMED, "steps") as update:

        def on_step(metrics: Any) -> None:
            seconds.append(metrics.seconds)
            update(len(seconds))

        loop.train(
            model, batches, sft, WARM_UP + TIMED, device=device, on_step=on_step,
            on_checkpoint=lambda step, save: None, keep=choice.keep,
        )  # fmt: skip
    return PASSES_A_STEP * sft.micro_batch * choice.seq_len / sorted(seconds[WARM_UP:])[TIMED // 2]


def _rows(shape: Shape, choice: Choice) -> dict[str, Any]:
    """A micro-batch of random documents, full to the last token, with the share of labels that a corpus has."""
    import torch

    size = (choice.sft.micro_batch, choice.seq_len)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(shape.vocabulary, size, generator=drawn)
    positions = torch.arange(choice.seq_len).remainder(DOCUMENT).expand(size).contiguous()
    prompts = positions < (1 - LABELLED) * min(DOCUMENT, choice.seq_len)
    return {"input_ids": ids, "labels": ids.masked_fill(prompts, IGNORE), "position_ids": positions}


def _draft(folder: str, profile: Profile, rows: int, device: Any) -> float:
    """Tokens a second of the transformers engine's steps, for rows that all draw to the end."""
    import torch

    from app.generation.decoding import DecodeState
    from app.generation.kv_cache import use_grouped_attention
    from app.models.base import load_model
    from app.records import Sampling

    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    source = profile.model.model_copy(update={"source": "path", "name": folder})
    model = load_model(Path(folder), source, device).eval()
    use_grouped_attention(model)
    state = DecodeState(model, device, 0, profile.generation.max_num_batched_tokens)
    prompt = min(PROMPT, model.config.max_position_embeddings // 2)
    sampling = Sampling(max_new_tokens=DRAFTED, temperature=0.0, top_p=1.0, seed=0, stop=())
    ids = torch.randint(model.config.vocab_size, (rows, prompt), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.inference_mode():
        size = max(1, profile.generation.max_num_batched_tokens // prompt)
        for first in range(0, rows, size):
            joining = ids[first : first + size]
            state.join(joining, [1] * len(joining))
        for step in range(DRAFTED + 4):
            if step == 4:  # the first ones compile and allocate
                start = time.perf_counter()
            state.choose(sampling, ())
            state.step()
    return rows * DRAFTED / (time.perf_counter() - start)


def _training_key(choice: Choice, device: str) -> str:
    way = "fused" if choice.keep else "plain, offloaded" if choice.sft.offload else "plain"
    base = f"{choice.model.dtype}, {choice.model.quantization}"
    return f"training | {device} | {choice.model.name} | {base} | {way} | r {choice.sft.lora_r} | rows {choice.seq_len}"


def _drafting_key(model: ModelSettings, device: str) -> str:
    return f"drafting | {device} | {model.name} | {model.dtype}"


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    path = cache_root() / "calibration.json"
    return read_json(path) if path.exists() else {}


def _nearest(key: str, rows: int) -> tuple[int, dict[str, Any]]:
    """Rows at once of the measurement that comes nearest, and its figures; 0 and nothing where there is none."""
    held = _read().get(key, {})
    nearest = min(map(int, held), key=lambda measured: abs(measured - rows), default=0)
    return nearest, held.get(str(nearest), {})


def _keep(key: str, rows: int, **figures: float) -> None:
    held = _read()
    held.setdefault(key, {})[str(rows)] = figures
    write_json(cache_root() / "calibration.json", held)
