"""The whole pipeline's plan: what each phase takes of the card, the main memory, the disk and the days, before anything
is fetched or run.

All of it comes from the model's config, the profile's settings and a few measured constants, each with its source
beside it (`app.planning.inputs` has what several phases need).
Run: python -m app plan --profile P [--run DIR] [--calibrate] [--json]
"""

from collections.abc import Callable

from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.hardware import num_cores
from app.models.config import HEAD_STORED_TWICE
from app.models.gguf_source import SOURCES as UNPACKED
from app.models.sizes import BYTES, GIB
from app.planning.evolution import evolve
from app.planning.inputs import (
    CORPUS_WORKER_GIB,
    EVALUATE_START_S,
    MAX_CORPUS_RAM_GIB,
    RAY_GIB,
    SFT_START_S,
    TORCH_GIB,
    Inputs,
    Phase,
    drafting_of,
    rounded_down,
    training_speed,
)
from app.planning.reward import grm
from app.planning.reward_models import models_beside, shape_of_model
from app.serving.plan import MIN_MODEL_LEN, plan_of
from app.settings import EvaluationSettings, ModelSettings
from app.training.memory import CONTEXT_GIB, Shape
from app.training.schedule import rows_a_step, total_steps

UNPACKER_GIB = 0.2
"""Main memory of a process that unpacks a GGUF, by `app.models.gguf_weights`."""
DOWNLOAD = 12.5e6
"""Bytes a second: a line of 100 Mbit/s. Assumed."""
BYTES_A_TOKEN = 3.4
"""On disk, of a packed row with all that lies beside it: 3.7 MB for 1.08 M tokens."""
TURNS = {"search_docs": 6}


def pull(inputs: Inputs) -> Phase:
    """The download of the base, and of the models that self-reward needs beside it."""
    base = inputs.profile.model
    others = [one for one in models_beside(inputs.profile.grm).values() if one != base]
    each = [_fetched(inputs.shape, base), *(_fetched(shape_of_model(one), one) for one in others)]
    told = [f"{model.name}: {one.how}" for model, one in zip(others, each[1:], strict=True)]
    return Phase(
        name="pull",
        peak_ram_gib=max(one.peak_ram_gib for one in each),
        disk_gib=sum(one.disk_gib for one in each),
        hours=sum(one.hours for one in each),
        how="; ".join([each[0].how, *told]),
    )


def _fetched(shape: Shape, model: ModelSettings) -> Phase:
    """One model: the Hub holds 16-bit weights whatever model.dtype makes of them; a GGUF's are stored in model.dtype,
    and untrained ones are float32."""
    source = model.source
    if source == "hub":
        again = shape.is_tied and model.name in HEAD_STORED_TWICE
        size = 2.0 * (shape.linear + shape.others + shape.vocabulary * shape.width * again)
        how = f"{size / 1e9:.2f} GB at {DOWNLOAD / 1e6:g} MB/s"
        return Phase(name="pull", peak_ram_gib=0.5, disk_gib=size / GIB, hours=size / DOWNLOAD / 3600, how=how)
    width = {"path": 0, "random": 4}.get(source, BYTES[model.dtype])
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
    learn = sum(stage.when != "never" for stage in (profile.grm, profile.evolve))
    candidates = 2 + learn  # the base model, and an adapter of each stage that trains
    drafts = 0
    for suite in settings.suites:
        get_suite(suite)
        problems = min(NUM_PROBLEMS[suite], settings.num_problems or NUM_PROBLEMS[suite])
        drafts += problems * TURNS.get(suite, 1) * len(settings.protocols) * settings.num_samples * candidates
    ram, less = RAY_GIB + TORCH_GIB[engine.use_gpu] + inputs.weights_gib + 1.0, ""  # and the judges
    detail, tokens_per_s = drafting_of(inputs, engine, settings.max_new_tokens)
    if detail:
        cache = inputs.limit_gib - sum(detail.values()) + detail["cache"]
        less = f"--set generation.kv_cache_bytes={int(cache * 1024) << 20}"
        if engine.engine == "vllm":
            less = f"--set generation.vram_gib={rounded_down(inputs.limit_gib):g}"
        less = less if cache >= 1 / 16 else "take a smaller model: its weights alone are more"
    else:
        ram += engine.kv_cache_bytes / GIB
    return Phase(
        name=name,
        peak_ram_gib=ram,
        disk_gib=drafts * 10e3 / GIB,
        hours=(drafts * settings.max_new_tokens / tokens_per_s + EVALUATE_START_S * candidates) / 3600,
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


PHASES: tuple[Callable[[Inputs], Phase], ...] = (pull, corpus, sft, grm, evolve, validate, evaluate, serve)
