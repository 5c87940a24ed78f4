"""What a GGUF's header means to transformers: the config, and each tensor's name there.

Families: Qwen2, Qwen3 and Llama, whose files differ in bias, norms of queries and keys, and the order in which rows
of queries and keys lie. The header's numbers are held against the tensors' shapes, so that a file which contradicts
itself is refused here and not by torch. transformers' own conversion is not used: it takes every Qwen3 for one with
heads of 128, passes over Llama 3's frequencies, and unpacks on one core.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import UserError
from app.models.gguf_header import GgufHeader, GgufTensor, shown

CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""transformers' class of each family."""
ROPE_FREQS = "rope_freqs.weight"
"""By how much Llama 3 slows down each frequency; transformers has a formula for it."""
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""That formula's numbers in all of Llama 3.1 and 3.2; its factor is 8 or 32."""
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")
"""Where a text or turn ends, whatever a file calls its end: it can name one only, and Qwen and Llama have several."""
TOKEN_KEYS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
"""Tokens with a part to play, by transformers' and by GGUF's name."""
CONTROL = 3
"""GGUF's type of a token that marks something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tensor of the file and its name in transformers."""

    tensor: GgufTensor
    name: str
    """Example: model.layers.0.self_attn.q_proj.weight"""
    heads: int
    """Heads whose rows lie in pairs from both halves (Llama's queries and keys); 0: rows lie as they do in torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head: int


def config_of(header: GgufHeader) -> Any:
    """transformers' config. Raises UserError for another family, and for a header that its tensors contradict.

    It names no dtype: what loads the weights says in which one.
    """
    from transformers import AutoConfig

    family, sizes = _family(header), _sizes(header)
    vocabulary = placed(header)[0].tensor.shape[0]
    tokens = {name: _token(header, key, vocabulary) for name, key in TOKEN_KEYS.items()}
    extra: dict[str, Any] = {} if family == "qwen2" else {"attention_bias": False}
    if family != "qwen2" or sizes.head * sizes.heads != sizes.width:
        extra["head_dim"] = sizes.head
    return AutoConfig.for_model(
        family,
        architectures=[CLASSES[family]],
        vocab_size=vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.inner,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=_whole(header, "context_length"),
        rms_norm_eps=_real(header, "attention.layer_norm_rms_epsilon"),
        rope_parameters=_rope(header, sizes),
        tie_word_embeddings="output.weight" not in header.tensors,
        **tokens,
        **extra,
    )


def end_ids(header: GgufHeader) -> list[int]:
    """All tokens that end a text or a turn, that of the file first."""
    metadata = header.metadata
    named = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    tokens = zip(metadata.get("tokenizer.ggml.tokens", []), kinds, strict=False)
    marked = [number for number, (text, kind) in enumerate(tokens) if kind == CONTROL and text in END_TOKENS]
    return list(dict.fromkeys(token for token in (*named, *marked) if type(token) is int))


def placed(header: GgufHeader) -> list[Placed]:
    """Every tensor with its place in the model, the embedding first. Raises UserError where one is missing, has another
    shape than the header says, or has no place."""
    family, sizes = _family(header), _sizes(header)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2 or embedding.shape[1] != sizes.width:
        raise header.broken(f"token_embd.weight with rows of {sizes.width} is missing")
    found = [Placed(tensor=embedding, name="model.embed_tokens.weight", heads=0)]
    for gguf_name, name, shape, heads in _expected(header, family, sizes, embedding.shape[0]):
        tensor = header.tensors.get(gguf_name)
        if tensor is None or tensor.shape != shape:
            has = f"has the shape {tensor.shape}" if tensor else "is missing"
            raise header.broken(f"tensor {gguf_name!r} {has}, and should have {shape}")
        found.append(Placed(tensor=tensor, name=name, heads=heads))
    known = {place.tensor.name for place in found} | {ROPE_FREQS}
    if strange := next((name for name in header.tensors if name not in known), None):
        raise UserError(
            f"{header.path} has a tensor {strange!r}, for which a plain {family} model has no place: take another file"
        )
    return found


def _expected(
    header: GgufHeader, family: str, sizes: _Sizes, vocabulary: int
) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """Name in the file, name in transformers, shape, and heads whose rows are to be put in order."""
    width, inner, queries, keys = sizes.width, sizes.inner, sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    by_heads = (sizes.heads, sizes.kv_heads) if family == "llama" else (0, 0)
    layer: list[tuple[str, str, tuple[int, ...], int]] = [
        ("attn_norm.weight", "input_layernorm.weight", (width,), 0),
        ("attn_q.weight", "self_attn.q_proj.weight", (queries, width), by_heads[0]),
        ("attn_k.weight", "self_attn.k_proj.weight", (keys, width), by_heads[1]),
        ("attn_v.weight", "self_attn.v_proj.weight", (keys, width), 0),
        ("attn_output.weight", "self_attn.o_proj.weight", (width, queries), 0),
        ("ffn_norm.weight", "post_attention_layernorm.weight", (width,), 0),
        ("ffn_gate.weight", "mlp.gate_proj.weight", (inner, width), 0),
        ("ffn_up.weight", "mlp.up_proj.weight", (inner, width), 0),
        ("ffn_down.weight", "mlp.down_proj.weight", (width, inner), 0),
    ]
    if family == "qwen2":
        sizes_of = {"q": queries, "k": keys, "v": keys}
        layer += [(f"attn_{x}.bias", f"self_attn.{x}_proj.bias", (size,), 0) for x, size in sizes_of.items()]
    if family == "qwen3":
        layer += [(f"attn_{x}_norm.weight", f"self_attn.{x}_norm.weight", (sizes.head,), 0) for x in "qk"]
    for number in range(sizes.layers):
        for gguf_name, name, shape, heads in layer:
            yield f"blk.{number}.{gguf_name}", f"model.layers.{number}.{name}", shape, heads
    yield "output_norm.weight", "model.norm.weight", (width,), 0
    if "output.weight" in header.tensors:
        yield "output.weight", "lm_head.weight", (vocabulary, width), 0


def _family(header: GgufHeader) -> str:
    family = header.metadata.get("general.architecture")
    if isinstance(family, str) and family in CLASSES:
        return family
    raise UserError(
        f"{header.path} holds a model of the architecture {shown(family)}, and {', '.join(CLASSES)} are unpacked: "
        "take a model of those, or the original with --set model.source=hub"
    )


def _sizes(header: GgufHeader) -> _Sizes:
    layers, width = _whole(header, "block_count"), _whole(header, "embedding_length")
    if layers > len(header.tensors):
        raise header.broken(f"{layers:,} layers and {len(header.tensors):,} tensors")
    heads = _whole(header, "attention.head_count")
    head = _whole(header, "attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (other := _whole(header, key, head)) != head:
            raise UserError(
                f"{header.path} has heads of {head} and {key} = {other}, which no plain "
                f"{_family(header)} model has: take another file"
            )
    return _Sizes(
        layers=layers,
        width=width,
        inner=_whole(header, "feed_forward_length"),
        heads=heads,
        kv_heads=_whole(header, "attention.head_count_kv", heads),
        head=head,
    )


def _whole(header: GgufHeader, key: str, otherwise: int | None = None) -> int:
    """A whole number above 0 of the family's metadata."""
    value = header.metadata.get(f"{_family(header)}.{key}", otherwise)
    if type(value) is not int or not 0 < value < 1 << 31:
        raise header.broken(f"{_family(header)}.{key} is {shown(value)}")
    return value


def _real(header: GgufHeader, key: str, otherwise: float | None = None) -> float:
    """A number above 0, with the digits that its 32 bits hold: 1e-06, not 9.999999974752427e-07."""
    value = header.metadata.get(f"{_family(header)}.{key}", otherwise)
    if type(value) is not float or not 0 < value < math.inf:
        raise header.broken(f"{_family(header)}.{key} is {shown(value)}")
    return float(str(np.float32(value)))


def _token(header: GgufHeader, key: str, vocabulary: int) -> int | None:
    token = header.metadata.get(f"tokenizer.ggml.{key}")
    if token is not None and (type(token) is not int or not 0 <= token < vocabulary):
        raise header.broken(f"tokenizer.ggml.{key} is {shown(token)}")
    return token


def _rope(header: GgufHeader, sizes: _Sizes) -> Mapping[str, Any]:
    """How positions turn queries and keys: the base, and by which rule it is stretched for long texts."""
    base = {"rope_theta": _real(header, "rope.freq_base", 10_000.0)}
    if ROPE_FREQS in header.tensors:
        return base | {"rope_type": "llama3"} | _llama3(header, sizes, base["rope_theta"])
    rule = header.metadata.get(f"{_family(header)}.rope.scaling.type", "none")
    if rule == "none":
        return base | {"rope_type": "default"}
    if rule not in ("linear", "yarn"):
        raise UserError(
            f"{header.path} stretches positions by {shown(rule)}; linear and yarn are known: take another file"
        )
    found: dict[str, Any] = {"rope_type": rule, "factor": _real(header, "rope.scaling.factor")}
    if rule == "yarn":
        found["original_max_position_embeddings"] = _whole(header, "rope.scaling.original_context_length")
    return base | found


def _llama3(header: GgufHeader, sizes: _Sizes, theta: float) -> dict[str, float]:
    """The formula's numbers, once it is certain that they give the frequencies in the file."""
    tensor = header.tensors[ROPE_FREQS]
    held = np.fromfile(header.path, np.float32, tensor.num_bytes // 4, offset=tensor.start)
    rule = LLAMA3 | {"factor": float(f"{held.max():.5g}")}
    turns = LLAMA3["original_max_position_embeddings"] * theta ** (-np.arange(0, sizes.head, 2) / sizes.head) / math.tau
    share = np.clip((turns - rule["low_freq_factor"]) / (rule["high_freq_factor"] - rule["low_freq_factor"]), 0, 1)
    if (
        tensor.kind != 0
        or held.shape != share.shape
        or not np.allclose(held, 1 / ((1 - share) / rule["factor"] + share))
    ):
        raise UserError(f"{header.path} has frequencies ({ROPE_FREQS}) that are not Llama 3's: take another file")
    return rule
