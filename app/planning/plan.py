"""The whole pipeline's plan: what each phase takes of the card, the main memory, the disk and the days, before anything
is fetched or run.

All of it comes from the model's config, the profile's settings and a few measured constants, each with its source
beside it. Speeds are those of `app.planning.calibration` where this machine was measured, else projections by
`app.planning.speed`; without a card, figures of two cores. Self-reward and evolution will be two more functions in
PHASES.
Run: python -m app plan --profile P [--run DIR] [--calibrate] [--json]
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.hardware import num_cores
from app.models.config import config_of
from app.models.sizes import BYTES, GIB
from app.planning import calibration
from app.planning.cards import CONTEXT_GIB, Card, find_card, present_card, reference_card
from app.planning.corpus_size import CorpusSize, size_of
from app.planning.speed import Speed, drafting_memory, drafting_speed, fused_speed, plain_speed, rows_at_once
from app.planning.training_choice import Choice, choice_of, flops_of, goes_fused
from app.serving.plan import MIN_MODEL_LEN, plan_of
from app.settings import Profile
from app.training.memory import Shape, shape_of
from app.training.schedule import rows_a_step, total_steps

MAX_VRAM_GIB, MAX_RAM_GIB, MAX_CORPUS_RAM_GIB, MAX_DAYS = 8.0, 32.0, 6e9 / GIB, 7.0
"""What the project allows itself; a card with more may be filled (`limit_of_card`)."""
RAY_GIB, CORPUS_WORKER_GIB = 1.46, 0.4
"""Main memory: a build of any size took 2.26 GiB with two workers (docs/log); of it a worker is taken for 0.4."""
TORCH_GIB = {True: 3.0, False: 1.0}
"""A process that holds torch, with a card's libraries and without; taken for this, not measured."""
DOWNLOAD = 12.5e6
"""Bytes a second: a line of 100 Mbit/s. Assumed."""
CORPUS_START_S, CORPUS_S_A_BYTE, CORPUS_S_A_DISTRIBUTION = 20.0, 150.4 / 419.4e6, 1047 / 836
"""A build on two cores (docs/log): 150.4 s for 419.4 MB; mined as well, 17 min 27 s for 836 distributions."""
BYTES_A_TOKEN = 3.4
"""Of a packed row on disk with all that lies beside it: 3.7 MB for 1.08 M tokens."""
SFT_START_S, EVALUATE_START_S = 50.0, 60.0
"""Ray, the model's weights, their first use; evaluation does it for each candidate. 50 s of the laptop's 515 (LOG)."""
CORES_TRAIN, CORES_DRAFT = 88 * 0.717e9, {"vllm": 155.6 * 134.5e6, "transformers": 69.2 * 134.5e6}
"""What two cores do with SmolLM2-135M in float32: operations a second of training by plain layers, at 88 tokens/s (LOG,
2026-11-27), and parameters a second of drafting 16 answers at once, at 155.6 and 69.2 tokens/s."""
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
    """With the memory of the one that is here, if one is. None: this profile uses no card."""
    device: str
    """Whose measurements count, where a phase uses the card (`device_of`)."""
    corpus: CorpusSize | None
    choice: Choice
    """The training as it is set."""

    @property
    def weight_bytes(self) -> float:
        return (self.shape.linear + self.shape.others) * BYTES[self.profile.model.dtype]

    def device_of(self, use_gpu: bool) -> str:
        return self.device if use_gpu else calibration.processor()


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
    """The arithmetic of its hours."""
    problem: str = ""
    """What doesn't fit, and what to change; empty where all does."""

    @property
    def peak_vram_gib(self) -> float:
        return sum(self.detail.values())


def inputs_of(profile: Profile, run: Path | None) -> Inputs:
    """Raises UserError for a model or recipe that can't be planned with."""
    config, note = config_of(profile.model)
    try:
        shape = shape_of(config)
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"model {profile.model.name} can't be planned for ({error}): plans are made for Llama-like decoders, such "
            "as Qwen2, Qwen3 and SmolLM2"
        ) from None
    card, device = _card_of(profile)
    is_fused = goes_fused(config, profile.model, profile.sft)
    return Inputs(
        profile=profile,
        config=config,
        note=note,
        shape=shape,
        card=card,
        device=device,
        corpus=size_of(profile, run),
        choice=choice_of(shape, profile.model, profile.sft, profile.corpus.seq_len, is_fused),
    )


def _card_of(profile: Profile) -> tuple[Card | None, str]:
    """The card that a plan is for, with the name that its measurements have: this machine's, where it has one, else the
    one that the profile is made for."""
    if not (profile.sft.use_gpu or profile.generation.use_gpu or profile.serving.use_gpu):
        return None, calibration.processor()
    reference, present = reference_card(profile), present_card()
    if present is None:
        return reference, reference.name
    known = find_card(present[0]) or reference
    return replace(known, gib=present[1]), present[0]


def limit_of_card(inputs: Inputs) -> float:
    """GiB that a phase may take: 8, or for a profile with a larger card what that one has; never more than there is."""
    return min(max(MAX_VRAM_GIB, reference_card(inputs.profile).gib), inputs.card.gib) if inputs.card else 0.0


def training_speed(choice: Choice, inputs: Inputs) -> Speed:
    """Of one worker: measured on this device, else projected."""
    if measured := calibration.training_speed(choice, inputs.shape, inputs.device_of(choice.sft.use_gpu)):
        return measured
    if inputs.card is None or not choice.sft.use_gpu:
        tokens_per_s = CORES_TRAIN / flops_of(choice, inputs.shape)
        how = f"SmolLM2-135M made 88 tokens/s on 2 cores by plain layers; by operations {tokens_per_s:,.0f} tokens/s"
        return Speed(tokens_per_s=tokens_per_s, how=how)
    if choice.keep:
        return fused_speed(inputs.card, inputs.shape, choice.model, choice.sft, choice.seq_len, choice.keep)
    return plain_speed(inputs.card, inputs.shape, choice.sft, choice.seq_len)


def pull(inputs: Inputs) -> Phase:
    """The weights: repositories hold 16-bit ones whatever model.dtype makes of them, and a tied head as well; what is
    made here is float32."""
    shape, model = inputs.shape, inputs.profile.model
    if model.source == "path":
        return Phase(name="pull", peak_ram_gib=0.5, how=f"nothing is fetched: weights are in {model.name}")
    size, hours, how = 4.0 * (shape.linear + shape.others), 0.0, "made here in less than a minute"
    if model.source == "hub":
        size = 2.0 * (shape.linear + shape.others + shape.vocabulary * shape.width * shape.is_tied)
        hours, how = size / DOWNLOAD / 3600, f"{size / 1e9:.2f} GB / {DOWNLOAD / 1e6:g} MB/s"
    ram = 0.5 + (2 * size / GIB if model.source == "package" else 0)
    return Phase(name="pull", peak_ram_gib=ram, disk_gib=size / GIB, hours=hours, how=how)


def corpus(inputs: Inputs) -> Phase:
    size, settings = inputs.corpus, inputs.profile.corpus
    cores = inputs.profile.cluster.num_cpus or num_cores()
    shards = -(-size.num_files // settings.files_per_shard) if size and size.num_files else cores
    workers = min(shards, settings.num_workers or cores)
    ram = RAY_GIB + CORPUS_WORKER_GIB * workers
    if size is None:
        return Phase(name="corpus", peak_ram_gib=ram, how="its size is unknown until it is built")
    disk = size.tokens * BYTES_A_TOKEN / GIB
    if not size.source_bytes:
        return Phase(name="corpus", peak_ram_gib=0.0, disk_gib=disk, how=f"built: {size.how}")
    work = size.source_bytes * CORPUS_S_A_BYTE + size.distributions * CORPUS_S_A_DISTRIBUTION
    seconds = CORPUS_START_S + work * 2 / min(workers, cores)
    how = f"{size.how}; measured on 2 cores, planned on {min(workers, cores)}"
    return Phase(name="corpus", peak_ram_gib=ram, disk_gib=disk, hours=seconds / 3600, how=how)


def sft(inputs: Inputs) -> Phase:
    choice, speed = inputs.choice, training_speed(inputs.choice, inputs)
    memory, settings = choice.memory, inputs.profile.sft
    detail = {name: getattr(memory, name) / GIB for name in ("weights", "adapters", "kept", "working")}
    detail |= {"reserve": memory.total / GIB - sum(detail.values()), "context": CONTEXT_GIB}
    held = inputs.weight_bytes / GIB if settings.use_gpu else memory.total / GIB
    tokens = sft_tokens(inputs)
    problem = "" if choice.fits else f"a micro-batch takes {memory}, more than sft.vram_gib={settings.vram_gib:g}"
    if tokens == 0 and inputs.corpus:
        problem = (  # as `app.training.sft` refuses it
            f"the corpus has {inputs.corpus.rows} rows, fewer than one step takes: "
            "lower sft.grad_accumulation or add sources to the recipe"
        )
    said = "the corpus's size is unknown" if tokens is None else f"{tokens / 1e6:.2f} M tokens"
    workers = f" x {settings.num_workers} workers" if settings.num_workers > 1 else ""
    return Phase(
        name="sft",
        peak_ram_gib=RAY_GIB + settings.num_workers * (TORCH_GIB[settings.use_gpu] + held),
        disk_gib=3 * inputs.shape.adapter(settings.lora_r) * (4 + 8) / GIB,  # checkpoints
        hours=((tokens or 0) / speed.tokens_per_s / settings.num_workers + SFT_START_S) / 3600,
        detail=detail if settings.use_gpu else {},
        how=f"{said}, {choice.words()}; {speed.how}{workers}",
        problem=problem,
    )


def sft_tokens(inputs: Inputs) -> int | None:
    """Padding included, over all epochs; None where the corpus's size is not known."""
    if inputs.corpus is None:
        return None
    settings = inputs.profile.sft
    return total_steps(inputs.corpus.rows, settings) * rows_a_step(settings) * inputs.corpus.seq_len


def evaluate(inputs: Inputs) -> Phase:
    profile, settings = inputs.profile, inputs.profile.evaluation
    drafts = 0
    for name in settings.suites:
        get_suite(name)
        problems = min(NUM_PROBLEMS[name], settings.num_problems or NUM_PROBLEMS[name])
        drafts += problems * TURNS.get(name, 1) * len(settings.protocols) * settings.num_samples * CANDIDATES
    tokens = drafts * settings.max_new_tokens
    speed = _drafting_speed(inputs)
    detail: dict[str, float] = {}
    ram = RAY_GIB + TORCH_GIB[profile.generation.use_gpu] + inputs.weight_bytes / GIB + 1.0  # and the judges
    if inputs.card and profile.generation.use_gpu:
        detail = drafting_memory(inputs.shape, profile.model, profile.generation, inputs.card, settings.max_new_tokens)
    else:
        ram += profile.generation.kv_cache_bytes / GIB
    return Phase(
        name="evaluate",
        peak_ram_gib=ram,
        disk_gib=drafts * 10e3 / GIB,
        hours=(tokens / speed.tokens_per_s + EVALUATE_START_S * CANDIDATES) / 3600,
        detail=detail,
        how=f"{drafts:,} drafts x {settings.max_new_tokens} tokens at most; {speed.how}",
    )


def _drafting_speed(inputs: Inputs) -> Speed:
    profile, new_tokens = inputs.profile, inputs.profile.evaluation.max_new_tokens
    rows = rows_at_once(inputs.shape, profile.model, profile.generation, new_tokens)
    device = inputs.device_of(profile.generation.use_gpu)
    if measured := calibration.drafting_speed(profile.model, profile.generation, device, rows):
        return measured
    if inputs.card and profile.generation.use_gpu:
        return drafting_speed(inputs.card, inputs.shape, profile.model, profile.generation, new_tokens)
    speed = CORES_DRAFT[profile.generation.engine] / (inputs.shape.linear + inputs.shape.others)
    return Speed(tokens_per_s=speed, how=f"by SmolLM2-135M on 2 cores and parameters, {speed:,.0f} tokens/s")


def serve(inputs: Inputs) -> Phase:
    """Runs until it is stopped: no hours."""
    settings = inputs.profile.serving
    plan = plan_of(inputs.config, inputs.profile.model, settings)
    ram = RAY_GIB + 2 * TORCH_GIB[settings.use_gpu] + inputs.weight_bytes / GIB + settings.kv_offload_gib
    detail: dict[str, float] = {}
    if settings.use_gpu:
        detail = {"weights": plan.weights_gib, "adapters": plan.adapters_gib, "working": plan.working_gib}
        detail["cache"] = max(plan.cache_gib, 0.0)
    else:
        ram += plan.cache_gib
    how = f"prompt and answer up to {plan.max_model_len:,} tokens, cache for {plan.cache_tokens:,}"
    problem = "" if plan.cache_tokens >= MIN_MODEL_LEN else (
        f"no room is left for a cache ({plan}): --set serving.weights=bitsandbytes, fewer serving.max_loras, or a "
        "higher serving.vram_gib"
    )  # fmt: skip
    return Phase(name="serve", peak_ram_gib=ram, detail=detail, how=how, problem=problem)


PHASES: tuple[Callable[[Inputs], Phase], ...] = (pull, corpus, sft, evaluate, serve)
