"""How fast a model drafts, and what it takes of the memory: counted from its config, for plans. Needs no torch.

A step of decoding reads all weights and every row's cache for one token a row, so the memory's speed bounds it. The
transformers engine does not come near that bound on a card: the host needs longer to launch a step's kernels, and that
time is what was measured. The larger of the two counts.
"""

from dataclasses import dataclass

from app.models.sizes import BYTES, GIB
from app.planning.cards import CONTEXT_GIB, Card
from app.settings import GenerationSettings, ModelSettings
from app.training.memory import Shape

PROMPT = 512
"""Tokens of a prompt: more than HumanEval's, about what MBPP's with three examples have."""
HOST_S_A_LAYER = 18 / 449 / 28
"""Of a decoding step of the transformers engine: Qwen3-1.7B's shape made 449 tokens/s at 18 rows on an H200, whose
memory would have allowed twenty times as much (docs/log)."""
MEMORY_SHARE = 0.5
"""Of a datasheet's bytes a second while decoding. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftingMemory:
    """GiB of a card."""

    weights: float
    cache: float
    working: float
    """Of prompts that come together, and of the logits."""

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.working + CONTEXT_GIB


def cache_per_token(shape: Shape, number: int) -> int:
    """Bytes of the key-value cache."""
    return 2 * shape.layers * shape.keys * number


def rows_at_once(shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int) -> int:
    """As many as have room in the cache, to their ends."""
    number = BYTES[model.dtype]
    row = (PROMPT + new_tokens) * cache_per_token(shape, number)
    return max(1, min(settings.batch_size, settings.kv_cache_bytes // row))


def drafting_memory(
    shape: Shape, model: ModelSettings, settings: GenerationSettings, card: Card, new_tokens: int
) -> DraftingMemory:
    """Base weights are never quantised for drafting: an adapter is merged into them."""
    number = BYTES[model.dtype]
    weights = (shape.linear + shape.others) * number / GIB
    if settings.engine == "vllm":
        room = card.gib * settings.gpu_memory_utilization
        return DraftingMemory(weights=weights, cache=max(0.0, room - weights), working=0.0)
    rows = rows_at_once(shape, model, settings, new_tokens)
    tokens = rows * PROMPT
    together = min(tokens, settings.max_num_batched_tokens)
    states = together * (4 * shape.width + 2 * (shape.queries + 2 * shape.keys) + 4 * shape.inner) * number
    logits = 5 * rows * shape.vocabulary * 4  # float32, and what choosing makes of them
    joining = tokens * cache_per_token(shape, number) / shape.layers * 2  # a layer's cache is copied as rows join
    return DraftingMemory(
        weights=weights, cache=settings.kv_cache_bytes / GIB, working=(states + logits + joining) / GIB
    )


def drafting_speed(
    card: Card, shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int
) -> tuple[float, str]:
    """Tokens a second on a card where it wasn't measured, and the arithmetic."""
    number = BYTES[model.dtype]
    context = PROMPT + new_tokens // 2
    rows = rows_at_once(shape, model, settings, new_tokens)
    moved = (shape.linear + shape.others) * number + rows * context * cache_per_token(shape, number)
    memory = moved / (MEMORY_SHARE * card.gb_per_s * 1e9)
    host = 0.0 if settings.engine == "vllm" else shape.layers * HOST_S_A_LAYER
    seconds = max(memory, host)
    how = (
        f"{rows} rows a step / max({moved / 1e9:.2f} GB / ({MEMORY_SHARE:.0%} of {card.gb_per_s:g} GB/s) = "
        f"{memory:.3f} s, launches {host:.3f} s): {rows / seconds:,.0f} tokens/s"
    )
    return rows / seconds, how
