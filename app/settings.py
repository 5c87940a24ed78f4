"""Settings: frozen pydantic models, one a stage, gathered in `Profile`.

A profile is made by a function in `app.profiles`; the command line changes single values with `--set key.path=value`
(`app.overrides`). Unknown keys fail: a renamed key keeps no alias. Bytes, seconds and tokens are the units unless a
name says otherwise.
"""

from typing import Literal

from pydantic import Field, model_validator

from app.stage_settings.base import Settings
from app.stage_settings.docsearch import DocsearchSettings
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings
from app.stage_settings.model import ModelSettings

NGRAM_LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
"""vLLM's n-gram speculation: guess what followed the same 2 to 4 tokens before."""
VLLM_BESIDE_GIB = 2.2
"""What vLLM holds of a card beside what it plans with: the CUDA context, the kernels' own buffers, and while it scores
the logits of a prompt. Measured with 0.26 on an H200: 1.5 while it draws, 1.6 with adapters, 2.2 while it scores."""


class CorpusSettings(Settings):
    recipe: str = "datasets/recipes/installed_python.yaml"
    """Recipe file, or a folder of your own code; a relative path counts from the working directory, else from the
    repository's root."""
    licence: str = ""
    """Of a folder given as recipe: under what you, its owner, give whatever in it names no licence. An SPDX expression
    such as MIT, or LicenseRef-Own for code that is yours and under no public licence; empty: what names none is left
    out."""
    seq_len: int = Field(default=2048, ge=32, le=32768)
    max_files: int | None = Field(default=None, ge=1)
    """Use this many files, drawn by hash over all accepted distributions; None: all."""
    max_mined_files: int | None = Field(default=None, ge=0)
    """Look for problems in distributions of this many files together, drawn by hash; None: in all; 0: in none."""
    files_per_shard: int = Field(default=256, ge=1, le=10_000)
    num_workers: int | None = Field(default=None, ge=1)
    """Shards worked on at once, about 0.4 GiB of memory each; None: one a core."""


class SftSettings(Settings):
    when: Literal["auto", "always"] = "auto"
    """auto: the pipeline leaves SFT out for an instruct model, which learning code that people wrote made worse
    (docs/evaluation.md, "What SFT costs")."""
    lora_r: int = Field(default=16, ge=1, le=256)
    lora_alpha: int = Field(default=32, ge=1, le=1024)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of an adapter's input. Anything but 0 keeps layers from the fused way, several times as fast on a card;
    0.05 learnt a little less in one epoch (docs/log)."""
    nested_ranks: tuple[int, ...] = ()
    """Ranks that the adapter can be cut to after training (`app.training.experimental.ranks`); each step trains one of
    them."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each rank to be left out of a step."""
    learning_rate: float = Field(default=2e-4, gt=0, le=0.1)
    warmup_fraction: float = Field(default=0.03, ge=0, le=0.5)
    final_lr_fraction: float = Field(default=0.1, ge=0, le=1)
    """The cosine ends at this share of the peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    micro_batch: int = Field(default=1, ge=1, le=1024)
    """Sequences per forward pass and worker."""
    grad_accumulation: int = Field(default=8, ge=1, le=4096)
    epochs: int = Field(default=1, ge=1, le=100)
    max_steps: int | None = Field(default=None, ge=1)
    data_dropout: Literal["none", "dbpd", "srd", "smrd"] = "none"
    """Which examples the epochs between the first and the last leave out (`app.training.experimental.data_dropout`):
    dbpd those that the model knows best, srd and smrd any."""
    data_dropout_keep: float = Field(default=0.5, gt=0, le=1)
    """Share of an epoch's tokens that stays; srd: to the power of the epoch."""
    data_dropout_noise: float = Field(default=0.03, ge=0, lt=1)
    """dbpd: share of the examples, the hardest ones, that is taken for noise and left out as well."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Optimiser steps between checkpoints."""
    optimiser: Literal["adamw", "paged_adamw_8bit"] = "adamw"
    """paged_adamw_8bit: moments in 8 bits, in memory that moves to the host when the card is full (bitsandbytes)."""
    gradient_checkpointing: bool = False
    """Where the layers are transformers' own; the fused ones decide by sft.vram_gib what to compute again."""
    loss_chunk: int = Field(default=1024, ge=16)
    """Label tokens whose logits exist at once: 1,024 x 151,936 logits in float32 are 0.6 GB."""
    offload: bool = False
    """The base's linear weights stay in main memory and come to the card layer by layer (accelerate): for models that
    don't fit, several times as slow. Layers go the plain way then."""
    num_workers: int = Field(default=1, ge=1, le=256)
    parallelism: Literal["ddp", "fsdp"] = "ddp"
    """With several workers. ddp: each holds the whole model; fsdp: each holds a share of its weights, for models that
    don't fit one card. Layers go the plain way under fsdp."""
    use_gpu: bool = False
    vram_gib: float = Field(default=8.0, gt=0)
    """What tensors may take of the card, without the CUDA context; beyond it allocation fails. Layers keep as much for
    their backward pass as fits into it (`app.training.memory`)."""

    @model_validator(mode="after")
    def _ranks_exist(self) -> "SftSettings":
        if outside := [rank for rank in self.nested_ranks if not 1 <= rank <= self.lora_r]:
            what = f"nested_ranks holds {outside[0]}, which an adapter of lora_r = {self.lora_r} has not"
            raise ValueError(f"{what}: leave it out or raise lora_r")
        return self

    @model_validator(mode="after")
    def _weights_are_cut_or_moved(self) -> "SftSettings":
        if self.parallelism == "fsdp" and self.offload:
            raise ValueError("sft.parallelism=fsdp and sft.offload=true both say where weights lie: take one of them")
        if self.parallelism == "fsdp" and self.optimiser == "paged_adamw_8bit":
            what = "sft.optimiser=paged_adamw_8bit has moments that sft.parallelism=fsdp can't cut"
            raise ValueError(f"{what}: take sft.optimiser=adamw or sft.parallelism=ddp")
        return self

    @model_validator(mode="after")
    def _an_epoch_can_be_dropped_from(self) -> "SftSettings":
        if self.data_dropout != "none" and self.epochs < 3:
            what = f"data_dropout={self.data_dropout} leaves out nothing in {self.epochs} epochs"
            raise ValueError(f"{what}: the first and the last are always full, so set epochs to 3 or more")
        return self


class GenerationSettings(Settings):
    engine: Literal["transformers", "vllm"] = "transformers"
    num_workers: int | None = Field(default=None, ge=1, le=1024)
    """Engines, each with a card or, without cards, cores of its own; None: one for each card, or one."""
    batch_size: int = Field(default=16, ge=1, le=1024)
    """Completions that an engine draws at once."""
    use_gpu: bool = False
    max_num_batched_tokens: int = Field(default=8192, ge=64, le=1 << 20)
    """Tokens of one forward pass, padding included; vLLM without a card has its own. Prompts beyond it join in a later
    one, and a longer prompt goes in parts: 8,192 tokens of Qwen3-1.7B take 0.7 GB while they pass through a layer."""
    max_model_len: int = Field(default=4096, ge=32, le=131_072)
    """Tokens of a prompt and its completion together; the model's own limit holds as well."""
    num_speculative_tokens: int = Field(default=0, ge=0, le=32)
    """vLLM only: tokens guessed a step, from what followed the same 2 to 4 tokens before or by draft_model; 0: no
    guessing."""
    draft_model: str = ""
    """vLLM on a card only: Hub id or folder of a smaller model of the same tokenizer, which guesses."""
    vram_gib: float = Field(default=8.0, gt=VLLM_BESIDE_GIB)
    """vLLM only: how much of the card is taken, for everything; on a larger one the share that comes to this."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 32
    """vLLM on a card only: room for an adapter beside the base."""
    kv_cache_bytes: int = Field(default=2 << 30, ge=64 << 20)
    """Key-value cache of the transformers engine, and of vLLM without a card."""

    @model_validator(mode="after")
    def _draft_model_guesses(self) -> "GenerationSettings":
        if self.draft_model and not (self.num_speculative_tokens and self.use_gpu):
            need = "generation.num_speculative_tokens above 0" if self.use_gpu else "a card (generation.use_gpu=true)"
            raise ValueError(f"generation.draft_model={self.draft_model} guesses nothing without {need}: set that too")
        return self


class EvaluationSettings(Settings):
    suites: tuple[str, ...] = Field(default=("humaneval",), min_length=1)
    """By name (`app.evaluation.suites.registry`)."""
    problems: tuple[str, ...] = ()
    """Files or folders of suites whose problems no package holds, as SUITE=PATH; left out, the Hub is asked."""
    protocols: tuple[Literal["chat", "thinking", "evalplus", "completion"], ...] = Field(
        default=("chat",), min_length=1
    )
    num_problems: int | None = Field(default=None, ge=1)
    """How many of each suite, evenly spaced over it, always the same ones; None: all."""
    num_samples: int = Field(default=1, ge=1, le=1000)
    """Drafts a problem; pass@k is estimated for k up to this."""
    temperature: float = Field(default=0.0, ge=0, le=5)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=512, ge=1, le=32768)
    """At most, in one turn."""
    best_of: int | None = Field(default=None, ge=2, le=64)
    """Drafts of a problem among which the question's own examples choose (`app.best_of`), as a score of its own beside
    pass@1; None: it is not measured."""
    best_of_temperature: float = Field(default=0.7, gt=0, le=5)
    """Of these drafts."""


class ValidationSettings(EvaluationSettings):
    """By what problems it is decided whether a training stage's adapter is kept (`app.evaluation.gate`)."""

    suites: tuple[str, ...] = Field(default=("ours",), min_length=1)


class SandboxSettings(Settings):
    """How programs are run and judged, wherever one is run."""

    timeout_s: float = Field(default=5.0, gt=0, le=600)
    """CPU time of a program and its judge together, of a script for each test; four times as much wall time."""
    memory_bytes: int = Field(default=1 << 30, ge=128 << 20)
    """Address space of a program, and of its judge."""
    num_workers: int | None = Field(default=None, ge=1, le=1024)
    """Supervisors; None: one a core."""


ServerToolName = Literal["search_docs", "run_python"]
"""The tools that the server runs itself (`app.serving.tools`)."""


class ServingSettings(Settings):
    """The engine behind the OpenAI-compatible server (`app.serving.engine`) and what may wait for it."""

    use_gpu: bool = False
    max_model_len: int = Field(default=4096, ge=32, le=131_072)
    """Tokens of a prompt and its answer together; less where model or memory end earlier (`app.serving.plan`)."""
    max_num_seqs: int = Field(default=16, ge=1, le=1024)
    """Answers drawn at once."""
    max_waiting: int = Field(default=64, ge=0, le=100_000)
    """Requests beyond those that wait; the next one is refused with 429."""
    timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds that a request may take, whatever its client says."""
    requests_per_minute: int = Field(default=0, ge=0, le=10**9)
    """Of each API key, and of the page's users together; 0: as many as the queue has room for. A key may have a rate of
    its own (`python -m app keys limit`)."""
    tokens_per_minute: int = Field(default=0, ge=0, le=10**9)
    """The same for tokens, prompts and answers together."""
    weights: Literal["plain", "bitsandbytes", "checkpoint"] = "plain"
    """plain: in model.dtype; bitsandbytes: NF4, quantised as they load; checkpoint: as the checkpoint holds them (AWQ
    and GPTQ run on Marlin kernels)."""
    vram_gib: float = Field(default=8.0, gt=0)
    """How much of the card is taken, for everything; on a larger one the share that comes to this."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, lt=1)
    """Share of vram_gib that weights, working memory and cache take together."""
    kv_cache_bytes: int = Field(default=1 << 30, ge=64 << 20)
    """Key-value cache without a card."""
    kv_offload_gib: float = Field(default=0.0, ge=0, le=1024)
    """Main memory for cache blocks that the card has no more room for."""
    speculation: Literal["none", "ngram", "draft_model"] = "ngram"
    """ngram: guess what followed the same 2 to 4 tokens before; draft_model: what a smaller model says."""
    num_speculative_tokens: int = Field(default=6, ge=1, le=32)
    stream_interval: int = Field(default=1, ge=1, le=64)
    """Tokens of a piece of a stream, after the first: more of them cost the engine's cores less."""
    draft_model: str = "RedHatAI/Qwen3-0.6B-quantized.w8a8"
    """Hub id or folder, of the same tokenizer; an int8 checkpoint (compressed-tensors W8A8) keeps its precision."""
    max_loras: int = Field(default=2, ge=1, le=64)
    """Adapters in one batch; more than that are exchanged."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 32
    tools: tuple[ServerToolName, ...] = ("search_docs", "run_python")
    """What a request may ask this server to run for it, and what is offered over MCP; no request gets what it does not
    name."""
    max_tool_rounds: int = Field(default=8, ge=1, le=100)
    """Messages of one request whose calls are run; after them the model is asked for its answer without tools."""
    best_of: int = Field(default=8, ge=0, le=32)
    """Drafts of an answer of the model NAME+tests, of which the examples of the question choose one
    (`app.serving.best_of`); 0: there are no such names."""
    best_of_temperature: float = Field(default=0.7, gt=0, le=2)
    """Of these drafts, where a request names none."""


class ClusterSettings(Settings):
    """Used only when the pipeline starts Ray itself; a cluster that it joins has its own."""

    num_cpus: int | None = Field(default=None, ge=1)
    object_store_bytes: int = Field(default=1 << 30, ge=80 << 20)
    dashboard: bool = True


class ScheduleSettings(Settings):
    """The days of a whole run, of which each stage that trains has a share by the plan (`app.running.deadlines`)."""

    days: float = Field(default=7.0, gt=0, le=3650)
    """All stages together, in all attempts."""
    deadlines: bool = True
    """false: stages take as long as they take."""


class Profile(Settings):
    name: str
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: ModelSettings
    corpus: CorpusSettings = CorpusSettings()
    sft: SftSettings = SftSettings()
    grm: GrmSettings = GrmSettings()
    evolve: EvolveSettings = EvolveSettings()
    generation: GenerationSettings = GenerationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    validation: ValidationSettings = ValidationSettings()
    sandbox: SandboxSettings = SandboxSettings()
    serving: ServingSettings = ServingSettings()
    docsearch: DocsearchSettings = DocsearchSettings()
    cluster: ClusterSettings = ClusterSettings()
    schedule: ScheduleSettings = ScheduleSettings()

    def for_drafts(self) -> "Profile":
        """The same where programs are drafts to learn from."""
        timeout_s = min(self.sandbox.timeout_s, self.grm.timeout_s)
        return self.model_copy(update={"sandbox": self.sandbox.model_copy(update={"timeout_s": timeout_s})})

    @model_validator(mode="after")
    def _packed_weights_stay(self) -> "Profile":
        moves = "sft.offload=true" if self.sft.offload else "sft.parallelism=fsdp"
        if self.model.quantization == "nf4" and (self.sft.offload or self.sft.parallelism == "fsdp"):
            raise ValueError(f"{moves} moves 16-bit weights, no packed ones: set model.quantization=none")
        return self
