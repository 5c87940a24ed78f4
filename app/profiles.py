"""Profiles: named functions, each returning the whole settings of a run on one kind of machine."""

from collections.abc import Callable

from app.errors import UserError, did_you_mean
from app.hardware import describe
from app.settings import (
    ClusterSettings,
    CorpusSettings,
    EvaluationSettings,
    GenerationSettings,
    ModelSettings,
    Profile,
    SandboxSettings,
    ServingSettings,
    SftSettings,
    ValidationSettings,
)
from app.stage_settings.evolve import EvolveSettings, FitnessSettings
from app.stage_settings.grm import CriticSettings, GrmSettings, ImitateSettings

OPEN_PROBLEMS = ("ours", "mbpp", "mined")
"""What a card's profiles learn from by themselves: our own problems, MBPP's training tasks (CC-BY-4.0) and what the
run's corpus mined."""


def smoke() -> Profile:
    """All but self-reward and evolution in seconds, for tests: two untrained layers of the Qwen3 architecture, a real
    tokenizer."""
    return Profile(
        name="smoke",
        model=ModelSettings(source="random", name="qwen3-2-layers"),
        corpus=CorpusSettings(
            recipe="datasets/recipes/smoke.yaml", seq_len=128, max_files=48, max_mined_files=30, files_per_shard=12
        ),
        sft=SftSettings(
            when="always", learning_rate=1e-3, micro_batch=4, grad_accumulation=2, max_steps=12, checkpoint_every=3
        ),
        grm=GrmSettings(
            when="never",  # untrained layers solve nothing, so there is nothing to learn
            problems=("ours=datasets/problems/basics.yaml",),
            rate_drafts=2,
            steps=2,
            warmup_steps=0,
            prompts_per_step=2,
            num_drafts=4,
            max_new_tokens=16,
            seq_len=512,
            checkpoint_every=1,
            critic=CriticSettings(model=ModelSettings(source="random", name="qwen3-2-layers"), max_drafts=64, epochs=1),
        ),
        evolve=EvolveSettings(
            when="never",
            rates=(),
            trunk_tokens=0,
            generations=2,
            generation_tokens=200,
            validation_problems=4,
            population=2,
            survivors=1,
            drafts=1,
            most_drafts=2,
        ),
        generation=GenerationSettings(batch_size=8),
        evaluation=EvaluationSettings(num_problems=6, max_new_tokens=16),
        validation=ValidationSettings(num_problems=6, max_new_tokens=16),
        sandbox=SandboxSettings(timeout_s=3),
        serving=ServingSettings(max_model_len=512, max_num_seqs=4, max_waiting=8, kv_cache_bytes=64 << 20),
        cluster=ClusterSettings(num_cpus=2, object_store_bytes=200 << 20, dashboard=False),
    )


def laptop() -> Profile:
    """No card, 2 cores: SmolLM2-135M-Instruct in float32, to see all of it work in 22 minutes, SFT too."""
    return Profile(
        name="laptop",
        model=ModelSettings(source="package", name="SmolLM2-135M-Instruct"),
        corpus=CorpusSettings(seq_len=512, max_files=1500, max_mined_files=1500, files_per_shard=400),
        sft=SftSettings(when="always", micro_batch=1, grad_accumulation=4, max_steps=8, checkpoint_every=4),
        grm=GrmSettings(
            problems=("ours=datasets/problems/basics.yaml",),
            rate_drafts=2,
            steps=4,
            warmup_steps=1,
            prompts_per_step=4,
            num_drafts=8,
            max_new_tokens=96,
            seq_len=512,
            micro_batch=2,
            critic=CriticSettings(max_drafts=200, epochs=1),
            imitate=ImitateSettings(replay_share=0.0, epochs=1),  # to draw ordinary answers takes a minute
        ),
        evolve=EvolveSettings(
            rates=(),
            trunk_tokens=0,
            generations=2,
            generation_tokens=700,  # of each, one step
            imitation=False,  # a minute of each generation
            prompts_per_step=1,
            fitness=FitnessSettings(beta=0.0, speed_worth=0.0),  # to measure either takes as long as to draw
            validation_problems=8,
            drafts=1,
            most_drafts=1,  # further ones, for close calls, take as long as a life
            selection_share=0.5,
        ),
        generation=GenerationSettings(engine="vllm", batch_size=16, kv_cache_bytes=1 << 30),
        evaluation=EvaluationSettings(num_problems=30, max_new_tokens=256),
        validation=ValidationSettings(num_problems=48, max_new_tokens=256),
        serving=ServingSettings(max_model_len=2048, stream_interval=4),
        cluster=ClusterSettings(object_store_bytes=500 << 20),
    )


def rtx3070() -> Profile:
    """The reference: one card with 8 GiB, Qwen3-1.7B under NF4."""
    return Profile(
        name="rtx3070",
        model=ModelSettings(source="hub", name="Qwen/Qwen3-1.7B", dtype="bfloat16", quantization="nf4"),
        corpus=CorpusSettings(seq_len=2048, num_workers=8),
        sft=SftSettings(micro_batch=2, grad_accumulation=8, gradient_checkpointing=True, use_gpu=True, vram_gib=7.0),
        grm=GrmSettings(problems=OPEN_PROBLEMS),
        generation=GenerationSettings(engine="vllm", batch_size=128, use_gpu=True),
        evaluation=EvaluationSettings(protocols=("chat", "completion")),
        serving=ServingSettings(use_gpu=True, weights="bitsandbytes", max_model_len=8192),
    )


def workstation() -> Profile:
    """One card with 24 GB or more: the same model, bf16 base weights, larger batches."""
    return Profile(
        name="workstation",
        model=ModelSettings(source="hub", name="Qwen/Qwen3-1.7B", dtype="bfloat16"),
        corpus=CorpusSettings(seq_len=2048, num_workers=8),
        sft=SftSettings(micro_batch=4, grad_accumulation=4, gradient_checkpointing=True, use_gpu=True, vram_gib=22.0),
        grm=GrmSettings(problems=OPEN_PROBLEMS),
        generation=GenerationSettings(engine="vllm", batch_size=256, use_gpu=True, vram_gib=22.0),
        evaluation=EvaluationSettings(protocols=("chat", "completion")),
        serving=ServingSettings(use_gpu=True, max_model_len=32_768, max_num_seqs=64, vram_gib=22.0),
        cluster=ClusterSettings(object_store_bytes=4 << 30),
    )


PROFILES: dict[str, Callable[[], Profile]] = {make.__name__: make for make in (smoke, laptop, rtx3070, workstation)}


def get_profile(name: str) -> Profile:
    if name not in PROFILES:
        hint = did_you_mean(name, PROFILES, f"there are {', '.join(PROFILES)}")
        raise UserError(f"unknown profile {name!r}: {hint}")
    return PROFILES[name]()


def profile_of_machine() -> str:
    """The profile that `make run` would take: by the first card's memory, or without one the laptop's."""
    cards = describe()["cards"]
    if not cards:
        return "laptop"
    mebibytes = int(cards[0].rpartition(",")[2].split()[0])
    return "workstation" if mebibytes >= 22_000 else "rtx3070"
