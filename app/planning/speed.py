"""How fast a card trains and drafts where it wasn't measured, and what drafting takes of its memory: counted from a
model's config, with the share of a datasheet that was reached where it was measured.

A pass of a training takes its arithmetic or the host's time to launch it, whichever is longer; unpacking 4-bit weights
comes on top. A step of decoding reads all weights and every row's cache for one token a row, or waits for the host in
the same way. Everything is counted for one token unless a name says otherwise; an operation is one multiplication or
one addition. Left out are the memory traffic of training (in 273 trainings of two models on fourteen cards never more
than 60 % of what else a pass waits for) and the way of offloaded weights to the card. Needs no torch.
"""

from collections.abc import Sequence

from app.models.sizes import BYTES, GIB, NF4_BYTES
from app.planning.cards import Card
from app.planning.training_choice import Choice
from app.settings import VLLM_BESIDE_GIB, GenerationSettings, ModelSettings, SftSettings
from app.training.memory import CONTEXT_GIB, Shape
from app.training.saved_activations import Keep

LABELLED = 0.82
"""Share of the tokens that enter the loss: 33,789 of 40,960 (docs/log)."""
DOCUMENT = 512
"""Tokens of a document, within which attention stays."""
FUSED_SHARE, UNPACK_SHARE = 0.48834, 0.17848
"""Shares of an H200's datasheet: of its arithmetic by products of 16-bit weights, and of its memory's speed by
unpacking 4-bit ones. They give back 55,749 tokens/s with bf16 weights and 51,836 with NF4, as measured (docs/log; a
test holds them together)."""
HOST_S_A_LAYER = 2 * 2048 / 31_232 / 28
"""Seconds of the host for a pass forward and backward: the same training with a micro-batch of 2 waits for the
processor, not for the card."""
PLAIN_SHARE = 0.19
"""Share of a datasheet's arithmetic by layers that aren't fused: Qwen2.5-1.5B under QLoRA made 628 tokens/s on an RTX
4060 (arXiv 2509.12229), 9.3 GFLOP a token, 30.2 TFLOP/s. On an H200 the same layers wait for the processor."""
PROMPT = 512
"""Tokens of a prompt: more than HumanEval's, about what MBPP's with three examples have."""
DRAFT_HOST_S_A_LAYER = 18 / 449 / 28
"""Seconds of the host for a decoding step of the transformers engine: Qwen3-1.7B's shape made 449 tokens/s at 18 rows
on an H200, whose memory would have allowed twenty times as much (docs/log)."""
DRAFT_MEMORY_SHARE = 0.5
"""Share of a datasheet's bytes a second while decoding. Assumed."""


def fused_flops(
    shape: Shape, rank: int, keep: Sequence[Keep], *, document: int = DOCUMENT, labelled: float = LABELLED
) -> float:
    """Operations of training through `app.training.fused`: forward, backward to the inputs of frozen weights and to the
    adapters, and what the layers compute again. keep: one for each layer; document: its tokens; labelled: share of the
    tokens."""
    attention = 2 * shape.queries * document  # two products over half of the document on average
    bases = [2 * n_in * n_out for n_in, n_out, _ in shape.groups]
    adapters = [2 * rank * count * (n_in + n_out) for n_in, n_out, count in shape.groups]
    total = shape.layers * (3.5 * attention + 2 * sum(bases) + 3 * sum(adapters))
    total += attention * sum(level < Keep.HEADS for level in keep)
    total += sum(n * (bases[place] + adapters[place]) for place, n in enumerate(_computed_again(keep)))
    n_in, _, count = shape.groups[0]
    total -= bases[0] + 2 * n_in * rank * count  # nobody asks for the first layer's input's gradient
    return total + 4 * labelled * shape.width * shape.vocabulary


def _computed_again(keep: Sequence[Keep]) -> list[int]:
    """Number of layers that compute each of the first three products of `Shape.groups` a second time."""
    return [sum(level < needed for level in keep) for needed in (Keep.ATTENTION, Keep.MIDDLE, Keep.ALL)]


def plain_flops(shape: Shape, sft: SftSettings, seq_len: int) -> float:
    """Operations of training through transformers' and PEFT's layers, where attention runs over whole rows under a
    mask."""
    passes = 3 if sft.gradient_checkpointing or sft.offload else 2
    adapters = 2 * sft.lora_r * sum(n_in * count + n_out for n_in, n_out, count in shape.groups)
    layer = passes * 2 * shape.linear / shape.layers + (passes + 1) * adapters
    attention = 4 * shape.queries * seq_len * (passes + 1.5)
    return shape.layers * (layer + attention) + 6 * LABELLED * shape.width * shape.vocabulary


def flops_of(shape: Shape, choice: Choice) -> float:
    sft = choice.profile.sft
    if choice.keep:
        return fused_flops(shape, sft.lora_r, choice.keep)
    return plain_flops(shape, sft, choice.profile.corpus.seq_len)


def training_speed(card: Card, shape: Shape, choice: Choice) -> float:
    """Tokens a second of one worker."""
    tokens = choice.profile.sft.micro_batch * choice.profile.corpus.seq_len
    share = FUSED_SHARE if choice.keep else PLAIN_SHARE
    seconds = tokens * flops_of(shape, choice) / (share * card.tflops * 1e12)
    if choice.keep:
        seconds = max(seconds, shape.layers * HOST_S_A_LAYER)
    if choice.keep and choice.profile.model.quantization == "nf4":
        again = zip(_computed_again(choice.keep), shape.groups, strict=False)
        unpacked = 2 * shape.linear + sum(count * n_in * n_out for count, (n_in, n_out, _) in again)
        seconds += unpacked * (NF4_BYTES + 2) / (UNPACK_SHARE * card.gb_per_s * 1e9)
    return tokens / seconds


def scoring_speed(card: Card, shape: Shape, tokens: int) -> float:
    """Tokens a second of a forward pass that scores given tokens, `tokens` at once, and draws none. It has the layers
    of transformers; since they have neither adapters nor gradients, their arithmetic is taken for as fast as that of
    fused layers. Nothing of this was measured."""
    flops = 2 * (shape.linear + shape.width * shape.vocabulary)
    return tokens / max(tokens * flops / (FUSED_SHARE * card.tflops * 1e12), shape.layers * HOST_S_A_LAYER / 3)


def cache_per_token(shape: Shape, model: ModelSettings) -> int:
    """Bytes of the key-value cache."""
    return 2 * shape.layers * shape.keys * BYTES[model.dtype]


def _rows_at_once(shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int) -> int:
    """The number of drafts that have room in the cache, to their ends."""
    row = (PROMPT + new_tokens) * cache_per_token(shape, model)
    return max(1, min(settings.batch_size, int(_cache_bytes(shape, model, settings) // row)))


def _cache_bytes(shape: Shape, model: ModelSettings, settings: GenerationSettings) -> float:
    """Bytes that all rows' keys and values have: with vLLM what weights leave of its share of the card."""
    if settings.engine == "transformers":
        return settings.kv_cache_bytes
    weights = (shape.linear + shape.others) * BYTES[model.dtype]
    return max(0.0, (settings.vram_gib - VLLM_BESIDE_GIB) * GIB - weights)


def drafting_memory(
    shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int
) -> dict[str, float]:
    """GiB of the card by what takes them. Base weights are never quantised for drafting: an adapter is merged into
    them, or lies beside them, too small to count."""
    number = BYTES[model.dtype]
    weights = (shape.linear + shape.others) * number / GIB
    if settings.engine == "vllm":
        cache = _cache_bytes(shape, model, settings) / GIB
        return {"weights": weights, "cache": cache, "context": VLLM_BESIDE_GIB}
    rows = _rows_at_once(shape, model, settings, new_tokens)
    tokens = rows * PROMPT
    together = min(tokens, settings.max_num_batched_tokens)
    states = together * (4 * shape.width + 2 * (shape.queries + 2 * shape.keys) + 4 * shape.inner) * number
    logits = 5 * rows * shape.vocabulary * 4  # float32, and what choosing makes of them
    joining = tokens * cache_per_token(shape, model) / shape.layers * 2  # a layer's cache is copied as rows join
    working = (states + logits + joining) / GIB
    return {"weights": weights, "cache": settings.kv_cache_bytes / GIB, "working": working, "context": CONTEXT_GIB}


def drafting_speed(
    card: Card, shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int
) -> float:
    """Tokens a second of all rows together."""
    rows = _rows_at_once(shape, model, settings, new_tokens)
    caches = rows * (PROMPT + new_tokens // 2) * cache_per_token(shape, model)
    moved = (shape.linear + shape.others) * BYTES[model.dtype] + caches
    host = 0.0 if settings.engine == "vllm" else shape.layers * DRAFT_HOST_S_A_LAYER
    return rows / max(moved / (DRAFT_MEMORY_SHARE * card.gb_per_s * 1e9), host)
