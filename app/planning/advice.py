"""What a plan advises: the `--set` options of the fastest training that fits, what to change where something doesn't,
and how much training the days hold."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from app.evaluation.suites.registry import NUM_PROBLEMS
from app.models.sizes import GIB
from app.planning.cards import CONTEXT_GIB, find_card
from app.planning.plan import (
    CORPUS_WORKER_GIB,
    MAX_CORPUS_RAM_GIB,
    MAX_DAYS,
    MAX_RAM_GIB,
    RAY_GIB,
    SFT_START_S,
    Inputs,
    Phase,
    evaluate,
    limit_of_card,
    sft_tokens,
    training_speed,
)
from app.planning.speed import MEASURED, MEASURED_CARD, PLAIN_SHARE, reference
from app.planning.training_choice import BASES, Choice, choices, goes_fused, set_options
from app.settings import Profile
from app.training.schedule import rows_a_step, total_steps

BARELY = 1.02
"""A plan that is faster by less than this is no news."""


def total_days(phases: Sequence[Phase]) -> float:
    return sum(phase.hours for phase in phases) / 24


def too_much(inputs: Inputs, phases: Sequence[Phase]) -> list[str]:
    """One sentence for everything that passes a limit, with what to change; empty where all fits."""
    found = []
    limit = limit_of_card(inputs)
    for phase in phases:
        if phase.problem:
            found.append(f"{phase.name}: {phase.problem}")
        elif phase.peak_vram_gib > limit:
            what = f"{phase.name} takes {phase.peak_vram_gib:.2f} GiB of the card, more than {limit:.3g}"
            found.append(f"{what}: {_less_vram(phase.name, inputs)}")
        ram, less = MAX_RAM_GIB, "take fewer workers (sft.num_workers) or a smaller model"
        if phase.name == "corpus":
            ram = MAX_CORPUS_RAM_GIB
            less = f"--set corpus.num_workers={int((MAX_CORPUS_RAM_GIB - RAY_GIB) / CORPUS_WORKER_GIB)}"
        if phase.peak_ram_gib > ram:
            what = f"{phase.name} takes {phase.peak_ram_gib:.1f} GiB of main memory, more than {ram:.1f}"
            found.append(f"{what}: {less}")
    if total_days(phases) > MAX_DAYS:
        found.append(f"{total_days(phases):.1f} days, more than {MAX_DAYS:g}: {_fewer_days(inputs, phases)}")
    return found


def advice(inputs: Inputs, phases: Sequence[Phase]) -> list[str]:
    """Where the config comes from; what doesn't fit; the fastest training; what the days hold; how sure all that is."""
    found = [inputs.note] if inputs.note else []
    found += too_much(inputs, phases)
    found += _training(inputs)
    if _fits(inputs) and total_days(phases) <= MAX_DAYS:
        found += _room(inputs, phases)
    return found + _certainty(inputs)


def best_choice(inputs: Inputs, profile: Profile | None = None, bases: Sequence[str] = BASES) -> Choice | None:
    """The fastest training that fits, with dropout given up where that lets layers go the fused way; None where nothing
    fits. profile: instead of the inputs' own."""
    profile = profile or inputs.profile
    if profile.sft.use_gpu and profile.sft.vram_gib + CONTEXT_GIB > limit_of_card(inputs):
        profile = _with(profile, "sft", vram_gib=_sft_vram(inputs))
    can_fuse = goes_fused(inputs.config, profile.model, _with(profile, "sft", lora_dropout=0.0).sft)
    tried = choices(inputs.shape, profile, can_fuse)
    fitting = [choice for choice in tried if choice.fits and choice.model.quantization in bases]
    return max(fitting, key=lambda choice: training_speed(choice, inputs).tokens_per_s, default=None)


def _with(profile: Profile, part: str, **changes: Any) -> Profile:
    return profile.model_copy(update={part: getattr(profile, part).model_copy(update=changes)})


def _fits(inputs: Inputs) -> bool:
    """Whether the training as it is set does, under its own limit and on the card."""
    peak = inputs.choice.memory.total / GIB + CONTEXT_GIB
    return inputs.choice.fits and (not inputs.profile.sft.use_gpu or peak <= limit_of_card(inputs))


def _training(inputs: Inputs) -> Iterator[str]:
    if not inputs.profile.sft.use_gpu:
        return
    best = best_choice(inputs)
    if best is None:
        yield _shorter_rows(inputs)
        return
    now, speed = training_speed(inputs.choice, inputs), training_speed(best, inputs)
    fits = _fits(inputs)
    if fits and speed.tokens_per_s < BARELY * now.tokens_per_s:
        yield f"training as it is set is the fastest that fits: {inputs.choice.words()}"
        return
    before = f" instead of {now.tokens_per_s:,.0f}" if fits else ""
    yield (
        f"fastest training that fits: {set_options(inputs.profile, best)} ({speed.tokens_per_s:,.0f} tokens/s{before}; "
        f"{best.words()}; {best.memory.total / GIB:.2f} GiB of sft.vram_gib={best.sft.vram_gib:g} and {CONTEXT_GIB} of "
        f"context; {speed.how})"
    )
    if best.sft.lora_dropout != inputs.profile.sft.lora_dropout:
        yield "dropout of an adapter's input is what keeps layers from the fused way; 0.05 learnt a little less (LOG)"


def _shorter_rows(inputs: Inputs) -> str:
    profile = inputs.profile
    for seq_len in (size for size in (4096, 2048, 1024, 512, 256, 128) if size < profile.corpus.seq_len):
        if found := best_choice(inputs, _with(profile, "corpus", seq_len=seq_len)):
            return f"no micro-batch fits; with shorter rows one does: {set_options(profile, found)}"
    return "no micro-batch fits, of rows of any length: raise sft.vram_gib or take a smaller model"


def _sft_vram(inputs: Inputs) -> float:
    """sft.vram_gib that a card allows: some is left beside the context."""
    return max(0.1, _down(limit_of_card(inputs) - 2.5 * CONTEXT_GIB))


def _down(value: float) -> float:
    return math.floor(value * 100 + 1e-6) / 100


def _less_vram(phase: str, inputs: Inputs) -> str:
    limit, profile, card = limit_of_card(inputs), inputs.profile, inputs.card
    assert card is not None, "without one a phase takes nothing of it"
    if phase == "sft":
        return f"--set sft.vram_gib={_sft_vram(inputs):g}"
    if phase == "serve":
        return f"--set serving.vram_gib={_down(limit):g}"
    settings = profile.generation
    if settings.engine == "vllm":
        share = _down((limit - CONTEXT_GIB) / card.gib)
        if share * card.gib * GIB > inputs.weight_bytes:
            return f"--set generation.gpu_memory_utilization={share:g}"
    while settings.engine == "transformers" and (settings.batch_size > 1 or settings.kv_cache_bytes > 256 << 20):
        rows, held = max(1, settings.batch_size // 2), max(256 << 20, settings.kv_cache_bytes // 2)
        profile = _with(profile, "generation", batch_size=rows, kv_cache_bytes=held)
        settings = profile.generation
        if evaluate(replace(inputs, profile=profile)).peak_vram_gib <= limit:
            return f"--set generation.batch_size={rows} --set generation.kv_cache_bytes={held}"
    return "take a smaller model: its weights alone are more"


def _fewer_days(inputs: Inputs, phases: Sequence[Phase]) -> str:
    """What fits the days: less of what takes longest, evaluation or training; of both where one alone can't do it."""
    hours = {phase.name: phase.hours for phase in phases}
    less = {"sft": _less_training, "evaluate": _fewer_problems}
    left = MAX_DAYS * 24 - sum(hours.values()) + hours["evaluate"] + hours["sft"]
    long, other = sorted(less, key=hours.__getitem__, reverse=True)
    if mend := less[long](inputs, left - hours[other]):
        return f"{long} takes {hours[long]:.0f} h: {mend}"
    both = [less[name](inputs, left / 2) for name in (long, other)]
    if all(both):
        return f"{long} takes {hours[long]:.0f} h and {other} {hours[other]:.0f} h: {both[0]}, and {both[1]}"
    if hours["corpus"] > MAX_DAYS * 24 / 2:
        return f"the corpus takes {hours['corpus']:.0f} h to build: lower corpus.max_files"
    return f"{long} takes {hours[long]:.0f} h, and no fewer steps or problems make it fit: take a smaller model"


def _less_training(inputs: Inputs, hours: float) -> str:
    """The most epochs that take no longer, else steps; empty where none does."""
    settings, corpus = inputs.profile.sft, inputs.corpus
    steps = _steps_of(inputs, hours)
    if corpus is None or steps < 1:
        return ""
    for epochs in range(settings.epochs - 1, 0 if settings.data_dropout == "none" else 2, -1):
        if total_steps(corpus.rows, _with(inputs.profile, "sft", epochs=epochs).sft) <= steps:
            return f"--set sft.epochs={epochs}"
    return f"--set sft.max_steps={steps}"


def _fewer_problems(inputs: Inputs, hours: float) -> str:
    """The most problems that take no longer; empty where one of each suite does."""

    def hours_of(num_problems: int) -> float:
        profile = _with(inputs.profile, "evaluation", num_problems=num_problems)
        return evaluate(replace(inputs, profile=profile)).hours

    most = bisect_right(range(1, max(NUM_PROBLEMS.values()) + 1), hours, key=hours_of)
    return f"--set evaluation.num_problems={most}" if most else ""


def _steps_of(inputs: Inputs, hours: float) -> int:
    """Steps that the training as it is set makes in that time."""
    settings = inputs.profile.sft
    tokens_per_s = training_speed(inputs.choice, inputs).tokens_per_s * settings.num_workers
    return int(max(0.0, hours * 3600 - SFT_START_S) * tokens_per_s / rows_a_step(settings) / inputs.choice.seq_len)


def _room(inputs: Inputs, phases: Sequence[Phase]) -> Iterator[str]:
    """The training, as it is set, that the days hold beside the other phases."""
    steps = _steps_of(inputs, MAX_DAYS * 24 - sum(phase.hours for phase in phases if phase.name != "sft"))
    tokens = steps * rows_a_step(inputs.profile.sft) * inputs.choice.seq_len
    said = f"{MAX_DAYS:g} days hold a training of {tokens / 1e6:,.0f} M tokens at the speed as set"
    if inputs.corpus is None:
        yield f"the corpus's size is unknown until it is built; {said}: bound it by --set sft.max_steps={steps}"
    elif sft_tokens(inputs) and inputs.card:
        times = tokens / inputs.corpus.tokens
        yield f"{said}, {times:,.0f} epochs of this corpus: a larger one fits (docs/corpus.md), or more sft.epochs"


def _certainty(inputs: Inputs) -> list[str]:
    if training_speed(inputs.choice, inputs).is_measured:
        return []
    if inputs.card is None:
        return ["hours without a card are scaled from what 2 cores took (docs/log); --calibrate measures this machine"]
    share, unpacking = reference()
    found = f"a projection, not a measurement: nothing was run on {inputs.device}"
    if find_card(inputs.device) is None:
        found += f", which is in no table here and planned as if it were {inputs.card.name}"
    measured = f"{MEASURED['none'][1]:,} tokens/s with bf16 weights and {MEASURED['nf4'][1]:,} with NF4"
    return [
        f"{found}. Fused layers made {measured} on one {MEASURED_CARD}, {share:.1%} of its datasheet's arithmetic and "
        f"{unpacking:.0%} of its memory's speed to unpack NF4. The same shares are assumed here, and {PLAIN_SHARE:.0%} "
        "for plain layers; --calibrate on the card replaces them"
    ]
