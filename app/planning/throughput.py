"""How fast a card trains and drafts: operations and bytes counted from a model's config, and what of a datasheet was
reached where it was measured.

Training is a roofline (Williams et al., CACM 52(4), 2009) with two more terms: a pass takes the longest of arithmetic,
memory traffic and what the host needs to launch it, and unpacking 4-bit weights comes on top. Everything is counted for
one token unless a name says otherwise; an operation is one multiplication or one addition. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

from app.models.config import QWEN3_1_7B
from app.models.sizes import BYTES, GIB, NF4_BYTES
from app.planning.cards import Card, find_card
from app.settings import ModelSettings, SftSettings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Made by `fused_speed`, `plain_speed` and `app.planning.calibration`."""

    tokens_per_s: float
    flops: float
    """Operations a token."""
    how: str
    """The arithmetic, in words."""
    is_measured: bool = False


def fused_flops(
    shape: Shape, rank: int, keep: Sequence[Keep], *, document: int = DOCUMENT, labelled: float = LABELLED
) -> float:
    """Training through `app.training.fused`: forward, backward to the inputs of frozen weights and to the adapters, and
    what the layers compute again. keep: one for each layer; document: its tokens; labelled: share of the tokens."""
    attention = 2 * shape.queries * document  # two products over half of the document on average
    total = shape.layers * (3.5 * attention + sum(2 * _base(g) + 3 * _adapter(g, rank) for g in shape.groups))
    qkv, o, gate_up, _ = (_base(group) + _adapter(group, rank) for group in shape.groups)
    for level in keep:
        total += attention * (level < Keep.HEADS) + o * (level < Keep.MIDDLE)
        total += qkv * (level < Keep.ATTENTION) + gate_up * (level < Keep.ALL)
    n_in, n_out, count = shape.groups[0]
    total -= _base((n_in, n_out, count)) + 2 * n_in * rank * count  # nobody asks for the first layer's input's gradient
    return total + 4 * labelled * shape.width * shape.vocabulary


def plain_flops(shape: Shape, sft: SftSettings, seq_len: int) -> float:
    """Training through transformers' and PEFT's layers, where attention runs over whole rows under a mask."""
    passes = 3 if sft.gradient_checkpointing or sft.offload else 2
    adapters = 2 * sft.lora_r * sum(n_in * count + n_out for n_in, n_out, count in shape.groups)
    attention = 4 * shape.queries * seq_len
    layer = sum(passes * _base(group) for group in shape.groups) + (passes + 1) * adapters
    head = 2 * LABELLED * shape.width * shape.vocabulary * 3
    return shape.layers * (layer + attention * (passes + 1.5)) + head


def _base(group: tuple[int, int, int]) -> int:
    n_in, n_out, _ = group
    return 2 * n_in * n_out


def _adapter(group: tuple[int, int, int], rank: int) -> int:
    """Of its two products, as they are done: the second one over the ranks of all layers of the group."""
    n_in, n_out, count = group
    return 2 * rank * count * (n_in + n_out)


def traffic(shape: Shape, model: ModelSettings, tokens: int, again: float) -> float:
    """Bytes of a pass of so many tokens through fused layers: weights once each way, and every tensor of a layer
    written and read once, twice as many on the way back. again: share of the forward pass that is computed again."""
    number = BYTES[model.dtype]
    q, k, w, i = shape.queries, shape.keys, shape.width, shape.inner
    tensors = 5 * w + 2 * q + 3 * k + q + 3 * i
    logits = 3 * LABELLED * shape.vocabulary
    passed = 2 * tensors * shape.layers * (3 + again) + 2 * logits
    return number * (tokens * passed + (shape.linear + shape.others) * (2 + again))


def unpacking(shape: Shape, keep: Sequence[Keep]) -> float:
    """Bytes of a pass for 4-bit weights that become 16-bit ones, each time a layer needs them."""
    sizes = [n_in * n_out for n_in, n_out, _ in shape.groups]
    again = sum(
        sizes[0] * (level < Keep.ATTENTION) + sizes[1] * (level < Keep.MIDDLE) + sizes[2] * (level < Keep.ALL)
        for level in keep
    )
    return (2 * shape.linear + again) * (NF4_BYTES + 2)


@cache
def reference() -> tuple[float, float]:
    """Of a datasheet, what was reached where it was measured: share of the arithmetic by products of 16-bit weights,
    and share of the memory's speed by unpacking 4-bit ones."""
    shape, card = shape_of(SimpleNamespace(**QWEN3_1_7B)), find_card(MEASURED_CARD)
    assert card is not None
    flops, packed = {}, 0.0
    for base, (micro_batch, _) in MEASURED.items():
        sft = SftSettings(lora_dropout=0.0, micro_batch=micro_batch)
        model = ModelSettings(source="random", name="any", dtype="bfloat16", quantization=base)
        keep = choose_keep(shape, model, sft, 2048, 8.0 * GIB) or []
        flops[base], packed = fused_flops(shape, sft.lora_r, keep), unpacking(shape, keep)
    share = MEASURED["none"][1] * flops["none"] / (card.tflops * 1e12)
    micro_batch, tokens_per_s = MEASURED["nf4"]
    tokens = micro_batch * 2048
    seconds = tokens / tokens_per_s - tokens * flops["nf4"] / (share * card.tflops * 1e12)
    return share, packed / seconds / (card.gb_per_s * 1e9)


def fused_speed(
    card: Card, shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int, keep: Sequence[Keep]
) -> Speed:
    """Of fused layers on a card where it wasn't measured."""
    tokens, share = sft.micro_batch * seq_len, reference()[0]
    flops = fused_flops(shape, sft.lora_r, keep)
    least = fused_flops(shape, sft.lora_r, [Keep.ALL] * shape.layers)
    moved = traffic(shape, model, tokens, (flops - least) / (2 * shape.linear))
    arithmetic, memory = tokens * flops / (share * card.tflops * 1e12), moved / (card.gb_per_s * 1e9)
    host = shape.layers * HOST_S_A_LAYER
    unpacked = unpacking(shape, keep) / (reference()[1] * card.gb_per_s * 1e9) if model.quantization == "nf4" else 0.0
    seconds = max(arithmetic, memory, host) + unpacked
    how = (
        f"{tokens:,} tokens x {flops / 1e9:.2f} GFLOP / ({share:.1%} of {card.tflops:g} TFLOP/s) = {arithmetic:.3f} s "
        f"a pass; memory {moved / 1e9:.1f} GB / {card.gb_per_s:g} GB/s = {memory:.3f} s, launches {host:.3f} s: the "
        f"longest counts" + (f", and {unpacked:.3f} s to unpack NF4" if unpacked else "")
    )
    return Speed(tokens_per_s=tokens / seconds, flops=flops, how=f"{how}: {tokens / seconds:,.0f} tokens/s")


def plain_speed(card: Card, shape: Shape, sft: SftSettings, seq_len: int) -> Speed:
    """Of transformers' and PEFT's layers on a card where it wasn't measured."""
    flops = plain_flops(shape, sft, seq_len)
    seconds = flops / (PLAIN_SHARE * card.tflops * 1e12)
    how = f"{flops / 1e9:.2f} GFLOP a token / ({PLAIN_SHARE:.0%} of {card.tflops:g} TFLOP/s)"
    if sft.offload:
        seconds += 3 * shape.linear * 2 / HOST_TO_CARD / (sft.micro_batch * seq_len)
        how += ", and weights over PCIe three times a pass"
    return Speed(tokens_per_s=1 / seconds, flops=flops, how=f"{how}: {1 / seconds:,.0f} tokens/s")
