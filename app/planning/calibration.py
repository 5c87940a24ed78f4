"""Speeds measured on this machine, for its plans: a few steps of training and of drafting, with random weights.

The weights are made and saved in a temporary folder and loaded as a training's are; the loop is the training's own.
What was measured is kept in calibration.json in the cache folder, by device, model and what else decides about speed. A
training measured with one micro-batch speaks for others: operations a second are carried over, not tokens.
Run: python -m app plan --profile P --calibrate
"""

import contextlib
import dataclasses
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
from app.planning.cards import find_card
from app.planning.draft_cost import PROMPT, rows_at_once
from app.planning.throughput import DOCUMENT, LABELLED, Speed
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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement. Made by `calibrate`, kept in calibration.json, read by `training_speed` and `drafting_speed`."""

    device: str
    tokens_per_s: float
    tflops: float
    """10^12 operations a second that the tokens came to; 0 for drafting."""
    utilisation: float
    """Of the card's datasheet; 0 where that is not known."""
    micro_batch: int
    """Rows at once."""
    seq_len: int
    reserved_gib: float
    """What torch's allocator took of the card at most; 0 without one."""


def processor() -> str:
    """The name that measurements without a card have."""
    return f"{hardware.describe()['cpu']}, {hardware.num_cores()} cores"


def training_speed(choice: Choice, shape: Shape, device: str) -> Speed | None:
    """By what was measured on this device; None where nothing was."""
    held = _read().get(_training_key(choice, device))
    if not held:
        return None
    found = [Measured(**fields) for fields in held.values()]
    nearest = min(found, key=lambda one: abs(one.micro_batch - choice.sft.micro_batch))
    flops = flops_of(choice, shape)
    tokens_per_s = nearest.tflops * 1e12 / flops
    share = f", {nearest.utilisation:.1%} of its datasheet" if nearest.utilisation else ""
    how = (
        f"measured on {device} with a micro-batch of {nearest.micro_batch}: {nearest.tokens_per_s:,.0f} tokens/s, "
        f"{nearest.tflops:.3g} TFLOP/s{share}; / {flops / 1e9:.3g} GFLOP a token = {tokens_per_s:,.0f} tokens/s"
    )
    return Speed(tokens_per_s=tokens_per_s, flops=flops, how=how, is_measured=True)


def drafting_speed(
    model: ModelSettings, settings: GenerationSettings, device: str, rows: int
) -> tuple[float, str] | None:
    """Tokens a second of the transformers engine, measured on this device at about as many rows; None where nothing
    was."""
    found = [Measured(**fields) for fields in _read().get(_drafting_key(model, device), {}).values()]
    one = min(found, key=lambda each: abs(each.micro_batch - rows), default=None)
    if one is None or settings.engine != "transformers" or not rows / 2 <= one.micro_batch <= rows * 2:
        return None
    return one.tokens_per_s, f"measured on {device}: {one.tokens_per_s:,.0f} tokens/s at {one.micro_batch} rows"


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
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="calibration-") as held:
        say(f"calibrating on {name}: random weights of {profile.model.name}'s shape")
        folder = _save_random(Path(held), config, profile.model)
        for choice in ways:
            with _no_oom(choice.words(), "sft.micro_batch", name):
                measured = _train(folder, choice, shape, name, device)
            _keep(_training_key(choice, name), str(choice.sft.micro_batch), measured)
            say(f"  training, {choice.words()}: {measured.tokens_per_s:,.0f} tokens/s, {measured.tflops:.3g} TFLOP/s")
        if drafts.engine != "transformers":
            return say(f"  drafting isn't measured for generation.engine={drafts.engine}: its hours stay a projection")
        device, name = _device(profile, drafts.use_gpu)
        with _no_oom("drafting", "generation.batch_size or generation.kv_cache_bytes", name):
            measured = _draft(folder, profile, shape, name, device)
        _keep(_drafting_key(profile.model, name), str(measured.micro_batch), measured)
        return say(f"  drafting on {name}, {measured.micro_batch} rows: {measured.tokens_per_s:,.0f} tokens/s")


def _device(profile: Profile, use_gpu: bool) -> tuple[Any, str]:
    """With the name that its measurements have."""
    import torch

    if not use_gpu:
        return torch.device("cpu"), processor()
    if not torch.cuda.is_available():
        raise UserError(f"profile {profile.name} is for a card and this machine has none: run --calibrate on the card")
    device = torch.device("cuda", 0)
    return device, torch.cuda.get_device_name(device)


@contextlib.contextmanager
def _no_oom(what: str, lower: str, name: str) -> Iterator[None]:
    """One sentence where memory runs out, even if a training goes on with smaller pieces
    (`app.training.out_of_memory`): that speed isn't the one asked for."""
    import torch

    before = _times_out_of_memory()
    try:
        yield
    except torch.OutOfMemoryError:
        pass
    else:
        if _times_out_of_memory() == before:
            return
    raise UserError(f"{what} runs out of memory on {name}: free the card or lower {lower}") from None


def _times_out_of_memory() -> int:
    import torch

    return torch.cuda.memory_stats().get("num_ooms", 0) if torch.cuda.is_available() else 0


def _save_random(folder: Path, config: Any, model: ModelSettings) -> Path:
    """Made in main memory: a card need not hold all of a model that is offloaded."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype)).save_pretrained(folder)
    return folder


def _limit(device: Any, share: float) -> None:
    """Of a card's memory, which counts anew from here."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)
        torch.cuda.reset_peak_memory_stats()


def _train(folder: Path, choice: Choice, shape: Shape, name: str, device: Any) -> Measured:
    import torch

    from app.training import loop, lora

    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        _limit(device, min(1.0, choice.sft.vram_gib * GIB / total))
    torch.set_float32_matmul_precision("high")
    sft = choice.sft.model_copy(update={"grad_accumulation": PASSES_A_STEP, "data_dropout": "none"})
    source = choice.model.model_copy(update={"source": "path", "name": str(folder)})
    rows = _rows(shape, choice)
    seconds: list[float] = []

    def batches(epoch: int) -> Iterator[dict[str, Any]]:
        yield from (rows for _ in range((WARM_UP + TIMED) * PASSES_A_STEP))

    model = lora.load_for_training(folder, source, sft, 0, device)
    with progress("calibration", WARM_UP + TIMED, "steps") as update:

        def on_step(metrics: Any) -> None:
            seconds.append(metrics.seconds)
            update(len(seconds))

        loop.train(
            model, batches, sft, WARM_UP + TIMED, device=device, on_step=on_step,
            on_checkpoint=lambda step, save: None, keep=choice.keep,
        )  # fmt: skip
    reserved = torch.cuda.max_memory_reserved() / GIB if device.type == "cuda" else 0.0
    del model
    _empty(device)
    middle = sorted(seconds[WARM_UP:])[TIMED // 2]
    tokens_per_s = PASSES_A_STEP * sft.micro_batch * choice.seq_len / middle
    tflops = tokens_per_s * flops_of(choice, shape) / 1e12
    card = find_card(name)
    return Measured(
        device=name,
        tokens_per_s=tokens_per_s,
        tflops=tflops,
        utilisation=tflops / card.tflops if card else 0.0,
        micro_batch=sft.micro_batch,
        seq_len=choice.seq_len,
        reserved_gib=reserved,
    )


def _rows(shape: Shape, choice: Choice) -> dict[str, Any]:
    """A micro-batch of random documents, full to the last token, as many of them labelled as in a corpus."""
    import torch

    size = (choice.sft.micro_batch, choice.seq_len)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(shape.vocabulary, size, generator=drawn)
    positions = torch.arange(choice.seq_len).remainder(DOCUMENT).expand(size).contiguous()
    prompts = positions < (1 - LABELLED) * min(DOCUMENT, choice.seq_len)
    return {"input_ids": ids, "labels": ids.masked_fill(prompts, IGNORE), "position_ids": positions}


def _draft(folder: Path, profile: Profile, shape: Shape, name: str, device: Any) -> Measured:
    """The transformers engine's steps, for rows that all draw to the end."""
    import torch

    from app.generation.decoding import DecodeState
    from app.generation.kv_cache import use_grouped_attention
    from app.models.base import load_model
    from app.records import Sampling

    _limit(device, 1.0)
    source = profile.model.model_copy(update={"source": "path", "name": str(folder)})
    model = load_model(folder, source, device).eval()
    use_grouped_attention(model)
    state = DecodeState(model, device, 0, profile.generation.max_num_batched_tokens)
    rows = rows_at_once(shape, profile.model, profile.generation, profile.evaluation.max_new_tokens)
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
    seconds = time.perf_counter() - start
    reserved = torch.cuda.max_memory_reserved() / GIB if device.type == "cuda" else 0.0
    del model, state
    _empty(device)
    return Measured(
        device=name, tokens_per_s=rows * DRAFTED / seconds, tflops=0.0, utilisation=0.0, micro_batch=rows,
        seq_len=prompt, reserved_gib=reserved,
    )  # fmt: skip


def _empty(device: Any) -> None:
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _training_key(choice: Choice, device: str) -> str:
    way = "fused" if choice.keep else "plain, offloaded" if choice.sft.offload else "plain"
    base = f"{choice.model.dtype}, {choice.model.quantization}"
    return f"training | {device} | {choice.model.name} | {base} | {way} | r {choice.sft.lora_r} | rows {choice.seq_len}"


def _drafting_key(model: ModelSettings, device: str) -> str:
    return f"drafting | {device} | {model.name} | {model.dtype}"


def _path() -> Path:
    return cache_root() / "calibration.json"


def _read() -> dict[str, Any]:
    return read_json(_path()) if _path().exists() else {}


def _keep(key: str, micro_batch: str, measured: Measured) -> None:
    held = _read()
    held.setdefault(key, {})[micro_batch] = dataclasses.asdict(measured)
    write_json(_path(), held)
