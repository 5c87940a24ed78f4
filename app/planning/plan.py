"""The whole pipeline's plan: what each phase takes of the card, the main memory, the disk and the days, before anything
is fetched or run.

All of it comes from the model's config, the profile's settings and a few measured constants, each with its source
beside it. The speed of training is this machine's where it was measured (`app.planning.calibration`); all others are
projections by `app.planning.speed`, and without a card figures of two cores.
Run: python -m app plan --profile P [--run DIR] [--calibrate] [--json]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.hardware import num_cores
from app.models.config import config_of
from app.models.gguf_source import SOURCES as UNPACKED
from app.models.sizes import BYTES, GIB
from app.planning import speed
from app.planning.calibration import measured_speed, processor
from app.planning.cards import CONTEXT_GIB, Card, find_card, present_card, reference_card
from app.planning.corpus_size import CorpusSize, size_of
from app.planning.training_choice import Choice, choice_of
from app.serving.plan import MIN_MODEL_LEN, plan_of
from app.settings import EvaluationSettings, Profile
from app.training.memory import Shape, shape_of
from app.training.schedule import rows_a_step, total_steps

MAX_VRAM_GIB, MAX_RAM_GIB, MAX_CORPUS_RAM_GIB, MAX_DAYS = 8.0, 32.0, 6e9 / GIB, 7.0
"""What the project allows itself; a card with more may be filled (`Inputs.limit_gib`)."""
RAY_GIB, CORPUS_WORKER_GIB = 1.46, 0.4
"""Main memory: a build of any size took 2.26 GiB with two workers (docs/log); of it a worker is taken for 0.4."""
TORCH_GIB = {True: 3.0, False: 1.0}
"""A process that holds torch, with a card's libraries and without; taken for this, not measured."""
UNPACKER_GIB = 0.2
"""Main memory of a process that unpacks a GGUF, by `app.models.gguf_weights`."""
DOWNLOAD = 12.5e6
"""Bytes a second: a line of 100 Mbit/s. Assumed."""
BYTES_A_TOKEN = 3.4
"""On disk, of a packed row with all that lies beside it: 3.7 MB for 1.08 M tokens."""
SFT_START_S, EVALUATE_START_S = 50.0, 60.0
"""Ray, the model's weights, their first use; evaluation does it for each candidate. 50 s of the laptop's 515
(docs/log)."""
CORES_TRAIN, CORES_DRAFT = 88 * 0.717e9, {"vllm": 155.6 * 134.5e6, "transformers": 69.2 * 134.5e6}
"""What two cores do with SmolLM2-135M in float32: operations a second of training by plain layers, at 88 tokens/s
(docs/log, 2026-11-27), and parameters a second of drafting 16 answers at once, at 155.6 and 69.2 tokens/s."""
TURNS = {"search_docs": 6}
CANDIDATES = 2
"""The base model and the adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What phases are planned from. Made by `inputs_of`."""

    profile: Profile
    config: Any
    """transformers' config of the base model."""
    note: str
    """Where it comes from, if not from the model itself."""
    shape: Shape
    card: Card | None
    """The card, with the memory of the one that is here, if there is one. None: this profile uses no card."""
    device: str
    """The card's name as the driver has it, or the processor's."""
    corpus: CorpusSize | None
    choice: Choice
    """The training as it is set."""

    @property
    def weights_gib(self) -> float:
        return (self.shape.linear + self.shape.others) * BYTES[self.profile.model.dtype] / GIB

    @property
    def limit_gib(self) -> float:
        """What a phase may take of the card: 8, or for a profile with a larger card what that one has; never more than
        there is."""
        return min(max(MAX_VRAM_GIB, reference_card(self.profile).gib), self.card.gib) if self.card else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase. Made by the functions in PHASES; printed by `app.planning.text`."""

    name: str
    peak_ram_gib: float
    """Main memory of all processes."""
    disk_gib: float = 0.0
    """What stays on the disk."""
    hours: float = 0.0
    detail: dict[str, float] = field(default_factory=dict)
    """What it takes of the card at most, GiB by what takes them, with the CUDA context."""
    how: str = ""
    """The work that its hours are for."""
    problem: str = ""
    """What can't run, and what to change; empty where all can."""
    less_vram: str = ""
    less_ram: str = "take fewer sft.num_workers or a smaller model"
    """What to change where it takes more than there is."""

    @property
    def peak_vram_gib(self) -> float:
        return sum(self.detail.values())


def inputs_of(profile: Profile, run: Path | None) -> Inputs:
    """What the phases are planned from. Raises UserError for a model or recipe that can't be planned with."""
    config, note = config_of(profile.model)
    try:
        shape = shape_of(config)
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"model {profile.model.name} can't be planned for ({error}): plans are made for Llama-like decoders, such "
            "as Qwen2, Qwen3 and SmolLM2"
        ) from None
    card, device = None, processor()
    if profile.sft.use_gpu or profile.generation.use_gpu or profile.serving.use_gpu:
        card = reference_card(profile)
        device = card.name
        if present := present_card():
            device = present[0]
            card = replace(find_card(device) or card, gib=present[1])
    return Inputs(
        profile=profile,
        config=config,
        note=note,
        shape=shape,
        card=card,
        device=device,
        corpus=size_of(profile, run),
        choice=choice_of(shape, config, profile),
    )


def training_speed(choice: Choice, inputs: Inputs) -> tuple[float, bool]:
    """Tokens a second of one worker, and whether that was measured on this device."""
    card = inputs.card if choice.profile.sft.use_gpu else None
    measured = measured_speed(inputs.shape, choice, inputs.device if card else processor())
    if measured is not None:
        return measured, True
    if card:
        return speed.training_speed(card, inputs.shape, choice), False
    return CORES_TRAIN / speed.flops_of(inputs.shape, choice), False


def rounded_down(value: float) -> float:
    """The value, rounded down to hundredths."""
    return math.floor(value * 100 + 1e-6) / 100


def pull(inputs: Inputs) -> Phase:
    """The download of the weights: the Hub holds 16-bit ones whatever model.dtype makes of them, and a tied head as
    well; a GGUF's are stored in model.dtype, and untrained ones are float32."""
    shape, source = inputs.shape, inputs.profile.model.source
    if source == "hub":
        size = 2.0 * (shape.linear + shape.others + shape.vocabulary * shape.width * shape.is_tied)
        how = f"{size / 1e9:.2f} GB at {DOWNLOAD / 1e6:g} MB/s"
        return Phase(name="pull", peak_ram_gib=0.5, disk_gib=size / GIB, hours=size / DOWNLOAD / 3600, how=how)
    width = {"path": 0, "random": 4}.get(source, BYTES[inputs.profile.model.dtype])
    size = width * (shape.linear + shape.others) / GIB
    if source in UNPACKED:
        ram, how = TORCH_GIB[False] + UNPACKER_GIB * num_cores(), "unpacked from a GGUF"
    else:
        ram, how = 0.5 + 2 * size, "nothing is fetched"
    return Phase(name="pull", peak_ram_gib=ram, disk_gib=size, how=how)


def corpus(inputs: Inputs) -> Phase:
    size, cores = inputs.corpus, inputs.profile.cluster.num_cpus or num_cores()
    workers = inputs.profile.corpus.num_workers or cores
    most = int((MAX_CORPUS_RAM_GIB - RAY_GIB) / CORPUS_WORKER_GIB)
    return Phase(
        name="corpus",
        peak_ram_gib=RAY_GIB + CORPUS_WORKER_GIB * workers if size is None or size.build_s else 0.0,
        disk_gib=size.rows * inputs.profile.corpus.seq_len * BYTES_A_TOKEN / GIB if size else 0.0,
        hours=size.build_s * 2 / min(workers, cores) / 3600 if size else 0.0,
        how=size.how if size else "its size is unknown until it is built",
        less_ram=f"--set corpus.num_workers={most}",
    )


def sft(inputs: Inputs) -> Phase:
    choice, memory, settings = inputs.choice, inputs.choice.memory, inputs.profile.sft
    tokens_per_s, is_measured = training_speed(choice, inputs)
    detail = {name: getattr(memory, name) / GIB for name in ("weights", "adapters", "kept", "working")}
    detail |= {"reserve": memory.total / GIB - sum(detail.values()), "context": CONTEXT_GIB}
    held = inputs.weights_gib if settings.use_gpu else memory.total / GIB
    tokens, problem = 0, ""
    if inputs.corpus:
        tokens = total_steps(inputs.corpus.rows, settings) * rows_a_step(settings) * inputs.profile.corpus.seq_len
        if not tokens:
            what = f"the corpus has {inputs.corpus.rows} rows, fewer than one step takes"
            problem = f"{what}: lower sft.grad_accumulation or add sources to the recipe"
    if not choice.fits:
        problem = f"a micro-batch takes {memory}, more than sft.vram_gib={settings.vram_gib:g}"
    each = f"{tokens_per_s:,.0f} a second, {'measured' if is_measured else 'projected'}"
    said = f"{tokens / 1e6:.2f} M tokens" if inputs.corpus else "a corpus of unknown size"
    workers = f" x {settings.num_workers} workers" if settings.num_workers > 1 else ""
    return Phase(
        name="sft",
        peak_ram_gib=RAY_GIB + settings.num_workers * (TORCH_GIB[settings.use_gpu] + held),
        disk_gib=3 * inputs.shape.adapter(settings.lora_r) * (4 + 8) / GIB,  # checkpoints
        hours=(tokens / tokens_per_s / settings.num_workers + SFT_START_S) / 3600,
        detail=detail if settings.use_gpu else {},
        how=f"{said} at {each}{workers}: {choice.words()}",
        problem=problem,
        less_vram=f"--set sft.vram_gib={sft_vram_gib(inputs):g}",
    )


def sft_vram_gib(inputs: Inputs) -> float:
    """sft.vram_gib, or where the card has no room for it what it allows: some is left beside the context."""
    wanted, limit = inputs.profile.sft.vram_gib, inputs.limit_gib
    return wanted if wanted + CONTEXT_GIB <= limit else max(0.1, rounded_down(limit - 2.5 * CONTEXT_GIB))


def validate(inputs: Inputs) -> Phase:
    """What decides whether a trained stage is kept."""
    return _measuring("validate", inputs.profile.validation, inputs)


def evaluate(inputs: Inputs) -> Phase:
    return _measuring("evaluate", inputs.profile.evaluation, inputs)


def _measuring(name: str, settings: EvaluationSettings, inputs: Inputs) -> Phase:
    profile, engine = inputs.profile, inputs.profile.generation
    drafts = 0
    for suite in settings.suites:
        get_suite(suite)
        problems = min(NUM_PROBLEMS[suite], settings.num_problems or NUM_PROBLEMS[suite])
        drafts += problems * TURNS.get(suite, 1) * len(settings.protocols) * settings.num_samples * CANDIDATES
    ram, detail, less = RAY_GIB + TORCH_GIB[engine.use_gpu] + inputs.weights_gib + 1.0, {}, ""  # and the judges
    if inputs.card and engine.use_gpu:
        given = inputs.shape, profile.model, engine, settings.max_new_tokens
        detail, tokens_per_s = speed.drafting_memory(*given), speed.drafting_speed(inputs.card, *given)
        cache = inputs.limit_gib - sum(detail.values()) + detail["cache"]
        less = f"--set generation.kv_cache_bytes={int(cache * 1024) << 20}"
        if engine.engine == "vllm":
            less = f"--set generation.vram_gib={rounded_down(inputs.limit_gib):g}"
        less = less if cache >= 1 / 16 else "take a smaller model: its weights alone are more"
    else:
        ram += engine.kv_cache_bytes / GIB
        tokens_per_s = CORES_DRAFT[engine.engine] / (inputs.shape.linear + inputs.shape.others)
    return Phase(
        name=name,
        peak_ram_gib=ram,
        disk_gib=drafts * 10e3 / GIB,
        hours=(drafts * settings.max_new_tokens / tokens_per_s + EVALUATE_START_S * CANDIDATES) / 3600,
        detail=detail,
        how=f"{drafts:,} drafts of {settings.max_new_tokens} tokens at most at {tokens_per_s:,.0f} a second, projected",
        less_vram=less,
    )


def serve(inputs: Inputs) -> Phase:
    """The server, which runs until it is stopped: no hours."""
    settings = inputs.profile.serving
    plan = plan_of(inputs.config, inputs.profile.model, settings)
    ram = RAY_GIB + 2 * TORCH_GIB[settings.use_gpu] + inputs.weights_gib + settings.kv_offload_gib
    parts = {"weights": plan.weights_gib, "adapters": plan.adapters_gib, "working": plan.working_gib}
    has_room = plan.cache_tokens >= MIN_MODEL_LEN
    mend = "--set serving.weights=bitsandbytes, fewer serving.max_loras, or a higher serving.vram_gib"
    return Phase(
        name="serve",
        peak_ram_gib=ram if settings.use_gpu else ram + plan.cache_gib,
        detail=parts | {"cache": max(plan.cache_gib, 0.0)} if settings.use_gpu else {},
        how=f"prompt and answer up to {plan.max_model_len:,} tokens, cache for {plan.cache_tokens:,}",
        problem="" if has_room else f"no room is left for a cache ({plan}): {mend}",
        less_vram=f"--set serving.vram_gib={rounded_down(inputs.limit_gib):g}",
    )


PHASES: tuple[Callable[[Inputs], Phase], ...] = (pull, corpus, sft, validate, evaluate, serve)
