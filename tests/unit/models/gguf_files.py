"""Small GGUF files for tests: random models of the three families, written as llama.cpp's converter writes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, get_tensor_name_map
from gguf.constants import MODEL_ARCH, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ARCHS = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}
CODE = (Path(__file__).read_text(), "def add(a, b):\n    return a + b\n", "naïve café 漢字 12345")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level vocabulary learnt from a few lines, and its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(bytes_to_unicode().values())
    tokenizer.train_from_iterator(CODE, trainers.BpeTrainer(vocab_size=384, initial_alphabet=alphabet))
    held = json.loads(tokenizer.to_str())["model"]
    return held["vocab"], [tuple(pair) for pair in held["merges"]]


VOCABULARY, MERGES = vocabulary()
TOKENS = [*sorted(VOCABULARY, key=VOCABULARY.__getitem__), *SPECIAL, *ADDED, "[PAD389]", "[PAD390]", "[PAD391]"]
KINDS = [
    *[TokenType.NORMAL] * len(VOCABULARY),
    *[TokenType.CONTROL] * len(SPECIAL),
    *[TokenType.USER_DEFINED] * len(ADDED),
    *[TokenType.UNUSED] * 3,
]
ENDOFTEXT, IM_START, IM_END = (TOKENS.index(token) for token in SPECIAL)


def model(family: str, **changes: Any) -> PreTrainedModel:
    sizes: dict[str, Any] = {
        "vocab_size": len(TOKENS),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "tie_word_embeddings": family != "llama",
    }
    if family == "qwen3":
        sizes["head_dim"] = 32
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**sizes | changes))
    for name, weight in made.named_parameters():  # biases and norms are made as zeros and ones
        if weight.dim() == 1:
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.2)
    return made.eval()


def write(
    path: Path,
    made: PreTrainedModel,
    kind: str = "F32",
    *,
    pre: str = "qwen2",
    without: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    arch: str = "",
) -> Path:
    """Write the model with matrices of this type.

    without: keys and tensors to leave out; metadata, tensors: others to write beside or instead.
    """
    config, family = made.config, made.config.model_type
    writer = GGUFWriter(path, arch or family)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    held: dict[str, Any] = {
        f"{family}.block_count": config.num_hidden_layers,
        f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        f"{family}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [int(kind) for kind in KINDS],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in MERGES],
        "tokenizer.ggml.eos_token_id": IM_END,
        "tokenizer.ggml.padding_token_id": ENDOFTEXT,
        "tokenizer.ggml.bos_token_id": ENDOFTEXT,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    if family == "llama":
        held |= {"llama.rope.dimension_count": head}
    if head * config.num_attention_heads != config.hidden_size:
        held |= {f"{family}.attention.key_length": head, f"{family}.attention.value_length": head}
    for key, value in (held | dict(metadata or {})).items():
        if key not in without:
            _add(writer, key, value)
    for name, values in (gguf_tensors(made) | dict(tensors or {})).items():
        if name not in without:
            packed = GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
            writer.add_tensor(name, quantize(values, packed), raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    (writer.add_array if isinstance(value, list) else kinds[type(value)])(key, value)


def gguf_tensors(made: PreTrainedModel) -> dict[str, np.ndarray]:
    """Its weights by their names in a GGUF, those of Llama's queries and keys in llama.cpp's order."""
    config, family = made.config, made.config.model_type
    names = get_tensor_name_map(ARCHS[family], config.num_hidden_layers)
    found = {}
    for name, weight in made.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)
        if family == "llama" and heads:
            values = values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        found[names.get_name(name, try_suffixes=(".weight", ".bias"))] = np.ascontiguousarray(values)
    return found
