"""How fast a card trains and drafts, and what drafting takes of its memory: counted from a model's config, with the
share of a datasheet that was reached where it was measured.

A pass of a training takes its arithmetic or the host's time to launch it, whichever is longer; unpacking 4-bit weights
comes on top. A step of decoding reads all weights and every row's cache for one token a row, or waits for the host in
the same way. Everything is counted for one token unless a name says otherwise; an operation is one multiplication or
one addition. Left out is the memory traffic of training: in 273 trainings (two models, all cards of the table) it
never took more than 60 % of what else a pass waits for. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

from app.models.config import QWEN3_1_7B
from app.models.sizes import BYTES, GIB, NF4_BYTES
from app.planning.cards import CONTEXT_GIB, Card, find_card
from app.settings import GenerationSettings, ModelSettings, SftSettings
from app.training.memory import Shape, choose_keep, shape_of
from app.training.saved_activations import Keep

LABELLED = 0.82
"""Share of the tokens that enter the loss: 33,789 of 40,960 (docs/log)."""
DOCUMENT = 512
"""Tokens of a document, within which attention stays."""
MEASURED_CARD = "H200"
MEASURED = {"none": (4, 55_749), "nf4": (8, 51_836)}
"""By base: micro-batch, and tokens a second of Qwen3-1.7B's shape, r 16, rows of 2,048, 8 GiB (docs/log)."""
HOST_S_A_LAYER = 2 * 2048 / 31_232 / 28
"""Of a pass, forward and backward: the same with a micro-batch of 2 waits for the processor, not for the card."""
PLAIN_SHARE = 0.19
"""Of a datasheet, by layers that aren't fused: Qwen2.5-1.5B under QLoRA made 628 tokens/s on an RTX 4060 (arXiv
2509.12229), 9.3 GFLOP a token, 30.2 TFLOP/s. On an H200 the same layers wait for the processor."""
HOST_TO_CARD = 12e9
"""Bytes a second over PCIe 4.0 x16, about half of the datasheet; not measured."""
PROMPT = 512
"""Tokens of a prompt: more than HumanEval's, about what MBPP's with three examples have."""
DRAFT_HOST_S_A_LAYER = 18 / 449 / 28
"""Of a decoding step of the transformers engine: Qwen3-1.7B's shape made 449 tokens/s at 18 rows on an H200, whose
memory would have allowed twenty times as much (docs/log)."""
DRAFT_MEMORY_SHARE = 0.5
"""Of a datasheet's bytes a second while decoding. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Tokens a second of a training or of drafting. Made here, by the plan and by its calibration."""

    tokens_per_s: float
    how: str
    """The arithmetic, in words."""
    is_measured: bool = False


def fused_flops(
    shape: Shape, rank: int, keep: Sequence[Keep], *, document: int = DOCUMENT, labelled: float = LABELLED
) -> float:
    """Training through `app.training.fused`: forward, backward to the inputs of frozen weights and to the adapters, and
    what the layers compute again. keep: one for each layer; document: its tokens; labelled: share of the tokens."""
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
    """Training through transformers' and PEFT's layers, where attention runs over whole rows under a mask."""
    passes = 3 if sft.gradient_checkpointing or sft.offload else 2
    adapters = 2 * sft.lora_r * sum(n_in * count + n_out for n_in, n_out, count in shape.groups)
    layer = passes * 2 * shape.linear / shape.layers + (passes + 1) * adapters
    attention = 4 * shape.queries * seq_len * (passes + 1.5)
    return shape.layers * (layer + attention) + 6 * LABELLED * shape.width * shape.vocabulary


def _unpacked(shape: Shape, keep: Sequence[Keep]) -> float:
    """Bytes of a pass for 4-bit weights that become 16-bit ones, each time a layer needs them."""
    again = sum(n * n_in * n_out for n, (n_in, n_out, _) in zip(_computed_again(keep), shape.groups, strict=False))
    return (2 * shape.linear + again) * (NF4_BYTES + 2)


@cache
def reference() -> tuple[float, float]:
    """What was reached of a datasheet where it was measured: share of the arithmetic by products of 16-bit weights, and
    share of the memory's speed by unpacking 4-bit ones."""
    shape, card = shape_of(SimpleNamespace(**QWEN3_1_7B)), find_card(MEASURED_CARD)
    assert card is not None
    flops, packed = {}, 0.0
    for base, (micro_batch, _) in MEASURED.items():
        sft = SftSettings(lora_dropout=0.0, micro_batch=micro_batch)
        model = ModelSettings(source="random", name="any", dtype="bfloat16", quantization=base)
        keep = choose_keep(shape, model, sft, 2048, 8.0 * GIB) or []
        flops[base], packed = fused_flops(shape, sft.lora_r, keep), _unpacked(shape, keep)
    reached = MEASURED["none"][1] * flops["none"]
    micro_batch, tokens_per_s = MEASURED["nf4"]
    seconds = micro_batch * 2048 * (1 / tokens_per_s - flops["nf4"] / reached)
    return reached / (card.tflops * 1e12), packed / seconds / (card.gb_per_s * 1e9)


def fused_speed(
    card: Card, shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int, keep: Sequence[Keep]
) -> Speed:
    """Training by fused layers on a card where it wasn't measured."""
    tokens, (share, unpacking) = sft.micro_batch * seq_len, reference()
    flops = fused_flops(shape, sft.lora_r, keep)
    arithmetic, host = tokens * flops / (share * card.tflops * 1e12), shape.layers * HOST_S_A_LAYER
    seconds = max(arithmetic, host)
    how = (
        f"{tokens:,} tokens x {flops / 1e9:.2f} GFLOP / ({share:.1%} of {card.tflops:g} TFLOP/s) = {arithmetic:.3f} s "
        f"a pass, launches {host:.3f} s: the longer counts"
    )
    if model.quantization == "nf4":
        unpacked = _unpacked(shape, keep) / (unpacking * card.gb_per_s * 1e9)
        seconds += unpacked
        how += f", and {unpacked:.3f} s to unpack NF4 at {unpacking:.0%} of {card.gb_per_s:g} GB/s"
    return Speed(tokens_per_s=tokens / seconds, how=f"{how}: {tokens / seconds:,.0f} tokens/s")


def plain_speed(card: Card, shape: Shape, sft: SftSettings, seq_len: int) -> Speed:
    """Training by transformers' and PEFT's layers on a card where it wasn't measured."""
    flops = plain_flops(shape, sft, seq_len)
    seconds = flops / (PLAIN_SHARE * card.tflops * 1e12)
    how = f"{flops / 1e9:.2f} GFLOP a token / ({PLAIN_SHARE:.0%} of {card.tflops:g} TFLOP/s)"
    if sft.offload:
        seconds += 3 * shape.linear * 2 / HOST_TO_CARD / (sft.micro_batch * seq_len)
        how += ", and weights over PCIe three times a pass"
    return Speed(tokens_per_s=1 / seconds, how=f"{how}: {1 / seconds:,.0f} tokens/s")


def _cache_per_token(shape: Shape, model: ModelSettings) -> int:
    """Bytes of the key-value cache."""
    return 2 * shape.layers * shape.keys * BYTES[model.dtype]


def rows_at_once(shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int) -> int:
    """The number of drafts that have room in the cache, to their ends."""
    row = (PROMPT + new_tokens) * _cache_per_token(shape, model)
    return max(1, min(settings.batch_size, settings.kv_cache_bytes // row))


def drafting_memory(
    shape: Shape, model: ModelSettings, settings: GenerationSettings, card: Card, new_tokens: int
) -> dict[str, float]:
    """GiB of the card by what takes them. Base weights are never quantised for drafting: an adapter is merged into
    them."""
    number = BYTES[model.dtype]
    weights = (shape.linear + shape.others) * number / GIB
    if settings.engine == "vllm":
        cache = max(0.0, card.gib * settings.gpu_memory_utilization - weights)
        return {"weights": weights, "cache": cache, "context": CONTEXT_GIB}
    rows = rows_at_once(shape, model, settings, new_tokens)
    tokens = rows * PROMPT
    together = min(tokens, settings.max_num_batched_tokens)
    states = together * (4 * shape.width + 2 * (shape.queries + 2 * shape.keys) + 4 * shape.inner) * number
    logits = 5 * rows * shape.vocabulary * 4  # float32, and what choosing makes of them
    joining = tokens * _cache_per_token(shape, model) / shape.layers * 2  # a layer's cache is copied as rows join
    working = (states + logits + joining) / GIB
    return {"weights": weights, "cache": settings.kv_cache_bytes / GIB, "working": working, "context": CONTEXT_GIB}


def drafting_speed(
    card: Card, shape: Shape, model: ModelSettings, settings: GenerationSettings, new_tokens: int
) -> Speed:
    """Drafting on a card where it wasn't measured."""
    rows = rows_at_once(shape, model, settings, new_tokens)
    caches = rows * (PROMPT + new_tokens // 2) * _cache_per_token(shape, model)
    moved = (shape.linear + shape.others) * BYTES[model.dtype] + caches
    memory = moved / (DRAFT_MEMORY_SHARE * card.gb_per_s * 1e9)
    host = 0.0 if settings.engine == "vllm" else shape.layers * DRAFT_HOST_S_A_LAYER
    tokens_per_s = rows / max(memory, host)
    how = (
        f"{rows} rows a step / max({moved / 1e9:.2f} GB / ({DRAFT_MEMORY_SHARE:.0%} of {card.gb_per_s:g} GB/s) = "
        f"{memory:.3f} s, launches {host:.3f} s): {tokens_per_s:,.0f} tokens/s"
    )
    return Speed(tokens_per_s=tokens_per_s, how=how)
