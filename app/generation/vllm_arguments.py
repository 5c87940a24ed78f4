"""What vLLM's engine is started with: lengths, batches, share of a card, room for adapters, how tokens are guessed."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from app.errors import UserError
from app.files.user_files import user_path
from app.hardware import card_gib
from app.models.sizes import GIB
from app.settings import NGRAM_LOOKUP, VLLM_BESIDE_GIB, GenerationSettings, ModelSettings

PROMPTS_BESIDE = 1024
"""Tokens of prompts that a step with a graph can read beside a whole batch."""

LOGITS_BYTES = 18
"""What vLLM's sampler needs for each draft and each entry of the vocabulary: logits in 16 and in 32 bits,
log-probabilities, probabilities and noise. Counted from its source, not measured."""


def for_sharers(settings: GenerationSettings, number: int, folder: Path) -> GenerationSettings:
    """The settings of an engine with which `number` draw at once: a batch for each. On a card fewer where the logits of
    as many drafts would take more than half of what weights leave, since the cache has the rest; a batch at least."""
    size = number * settings.batch_size
    if settings.use_gpu and number > 1:
        vocabulary = AutoConfig.from_pretrained(folder).get_text_config(decoder=True).vocab_size
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        left = (min(settings.vram_gib, card_gib()) - VLLM_BESIDE_GIB) * GIB - weights
        size = max(settings.batch_size, min(size, int(left / 2 // (LOGITS_BYTES * vocabulary))))
    return settings.model_copy(update={"batch_size": size})


def length_limit(settings: GenerationSettings, config: Any) -> int:
    """Tokens of prompt and draft together. config: transformers', of the base model."""
    return min(settings.max_model_len, config.max_position_embeddings - 1)  # scoring draws one token more


def engine_arguments(
    model: ModelSettings, settings: GenerationSettings, folder: Path, config: Any, *, adapters: int
) -> dict[str, Any]:
    """vLLM's EngineArgs. folder: the base model's. adapters: beside the base at the same time; 0: none lies there."""
    limit = length_limit(settings, config)
    options: dict[str, Any] = {
        "dtype": "float32",
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
        # A prompt prefilled in parts fails with a seed: vLLM takes draws back by the offset of a CUDA generator.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": limit + 1,
        "worker_cls": "app.generation.vllm_cpu.Worker",
    }
    if settings.use_gpu:
        options = {
            "dtype": model.dtype,
            "gpu_memory_utilization": card_share(settings.vram_gib),
            "max_num_batched_tokens": max(settings.max_num_batched_tokens, settings.batch_size),
            "enable_sleep_mode": True,
            "cudagraph_capture_sizes": graph_sizes(settings.batch_size),
        }
    if adapters:
        options |= {"enable_lora": True, "max_loras": adapters, "max_lora_rank": settings.max_lora_rank}
    if settings.num_speculative_tokens:
        options["speculative_config"] = speculative_config(settings, config.vocab_size)
    return options | {
        "model": str(folder),
        "max_model_len": limit + 1,
        "max_num_seqs": settings.batch_size,
        "enforce_eager": not settings.use_gpu,
        "disable_log_stats": True,
    }


def graph_sizes(batch_size: int) -> list[int]:
    """Tokens of the steps that are captured as CUDA graphs: vLLM's own up to 512, and coarser ones up to the whole
    batch and for steps that read prompts beside it. A step of more tokens has no graph and is slower."""
    alone = [1, 2, 4, *range(8, 256, 8), *range(256, 512, 16), *range(512, batch_size, 64)]
    return [size for size in alone if size < batch_size] + list(range(batch_size, batch_size + PROMPTS_BESIDE + 1, 64))


def card_share(vram_gib: float) -> float:
    """The share of the card that vLLM may plan with, to take that much of it in all."""
    total = card_gib()
    return (min(vram_gib, total) - VLLM_BESIDE_GIB) / total


def speculative_config(settings: GenerationSettings, vocab_size: int) -> dict[str, Any]:
    """vLLM's own names for how tokens are guessed. Raises UserError for a draft model of another vocabulary."""
    tokens = {"num_speculative_tokens": settings.num_speculative_tokens}
    if not settings.draft_model:
        return {"method": "ngram", **tokens, **NGRAM_LOOKUP}
    folder = user_path(settings.draft_model)
    name = str(folder) if folder.is_dir() else settings.draft_model
    size = AutoConfig.from_pretrained(name).get_text_config(decoder=True).vocab_size
    if size != vocab_size:
        raise UserError(
            f"generation.draft_model={settings.draft_model} has a vocabulary of {size} and the model one of "
            f"{vocab_size}, so it can't guess its tokens: take a smaller model of the same family"
        )
    return {"method": "draft_model", "model": name, **tokens}
