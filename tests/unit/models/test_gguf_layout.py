"""What a header says is what transformers gets; what it can't have is refused in one sentence."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from app.errors import UserError
from app.models.gguf_header import read_header
from app.models.gguf_layout import config_of, end_ids, placed
from app.models.gguf_tokenizer import tokenizer_of
from tests.unit.models import gguf_files

LLAMA_3_2 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def header_of(family: str, folder: Path, changes: dict[str, Any] | None = None, **written: Any) -> Any:
    made = gguf_files.model(family, **(changes or {}))
    return read_header(gguf_files.write(folder / "m.gguf", made, **written))


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_a_config_is_that_of_the_original(family: str, is_tied: bool, tmp_path: Path) -> None:
    original = gguf_files.model(family, tie_word_embeddings=is_tied)
    config = config_of(read_header(gguf_files.write(tmp_path / "m.gguf", original)))
    ours, theirs = config.to_dict(), original.config.to_dict()
    tokens = {"bos_token_id", "eos_token_id", "pad_token_id"}
    different = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert different <= {*tokens, "architectures", "dtype"}
    assert config.architectures == [type(original).__name__]
    assert [ours[key] for key in sorted(tokens)] == [gguf_files.ENDOFTEXT, gguf_files.IM_END, gguf_files.ENDOFTEXT]
    assert AutoModelForCausalLM.from_config(config).state_dict().keys() == original.state_dict().keys()


def test_the_ends_of_a_turn_are_found_beside_the_one_that_is_named(tmp_path: Path) -> None:
    assert end_ids(header_of("qwen2", tmp_path)) == [gguf_files.IM_END, gguf_files.ENDOFTEXT]
    named = header_of("qwen2", tmp_path, metadata={"tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.eot_token_id": 9})
    assert end_ids(named) == [7, 9, gguf_files.ENDOFTEXT, gguf_files.IM_END]
    assert end_ids(header_of("qwen2", tmp_path, without=("tokenizer.ggml.token_type",))) == [gguf_files.IM_END]


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_frequencies_of_llama_3_become_its_rule(factor: float, tmp_path: Path) -> None:
    rule = LLAMA_3_2 | {"factor": factor}
    plain = gguf_files.model("llama", head_dim=64)
    stretched = gguf_files.model("llama", head_dim=64, rope_parameters=rule, max_position_embeddings=131_072)
    slower, _ = ROPE_INIT_FUNCTIONS["llama3"](stretched.config, torch.device("cpu"))
    usual = 500_000.0 ** (-torch.arange(0, 64, 2) / 64)
    freqs = {"rope_freqs.weight": (usual / slower).numpy()}
    path = gguf_files.write(tmp_path / "m.gguf", plain, tensors=freqs)
    assert config_of(read_header(path)).rope_parameters == rule
    freqs["rope_freqs.weight"][5] += 1
    with pytest.raises(UserError, match="has frequencies .* that are not Llama 3's"):
        config_of(read_header(gguf_files.write(path, plain, tensors=freqs)))


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"rope.scaling.type": "none"}, {"rope_type": "default"}),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.5}, {"rope_type": "linear", "factor": 2.5}),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 128,
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        ),
    ],
)
def test_positions_are_stretched_as_the_file_says(
    metadata: dict[str, Any], rule: dict[str, Any], tmp_path: Path
) -> None:
    held = {f"qwen2.{key}": value for key, value in metadata.items()}
    config = config_of(header_of("qwen2", tmp_path, metadata=held))
    assert config.rope_parameters == {"rope_theta": 500_000.0} | rule


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"arch": "gemma3"}, "holds a model of the architecture 'gemma3', and llama, qwen2, qwen3 are unpacked: take"),
        ({"without": ("qwen2.block_count",)}, "is broken (qwen2.block_count is missing)"),
        ({"metadata": {"qwen2.attention.head_count": [4, 4]}}, "is broken (qwen2.attention.head_count is a list)"),
        ({"metadata": {"qwen2.block_count": 2_000_000_000}}, "is broken (2,000,000,000 layers and 26 tensors)"),
        ({"metadata": {"qwen2.embedding_length": 65}}, "is broken (token_embd.weight with rows of 65 is missing)"),
        ({"metadata": {"qwen2.rope.freq_base": "high"}}, "is broken (qwen2.rope.freq_base is 'high')"),
        ({"metadata": {"qwen2.rope.scaling.type": "su"}}, "stretches positions by 'su'; linear and yarn are known"),
        ({"metadata": {"qwen2.rope.dimension_count": 8}}, "has heads of 16 and rope.dimension_count = 8"),
        ({"metadata": {"tokenizer.ggml.eos_token_id": 999}}, "is broken (tokenizer.ggml.eos_token_id is 999)"),
        ({"without": ("blk.1.ffn_up.weight",)}, "tensor 'blk.1.ffn_up.weight' is missing, and should have (96, 64)"),
        (
            {"tensors": {"blk.1.ffn_up.weight": np.zeros((64, 96), np.float32)}},
            "tensor 'blk.1.ffn_up.weight' has the shape (64, 96), and should have (96, 64)",
        ),
        (
            {"tensors": {"blk.0.ffn_gate_exps.weight": np.zeros((2, 32), np.float32)}},
            "has a tensor 'blk.0.ffn_gate_exps.weight', for which a plain qwen2 model has no place",
        ),
        (
            {"tensors": {"../../etc/passwd": np.zeros((2, 32), np.float32)}},
            "has a tensor '../../etc/passwd', for which",
        ),
    ],
)
def test_what_transformers_could_not_have_is_told(written: dict[str, Any], said: str, tmp_path: Path) -> None:
    header = header_of("qwen2", tmp_path, **written)
    with pytest.raises(UserError) as raised:
        config_of(header)
        placed(header)
    assert str(raised.value).startswith(f"{header.path} ") and said in str(raised.value)


STRANGE = ([], [1], ["a"], [None], "", "a", -1, 0, 1 << 40, 1.5, float("nan"), True)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_value_of_any_kind_is_read_or_told(family: str, tmp_path: Path) -> None:
    header = header_of(family, tmp_path, metadata={f"{family}.rope.scaling.type": "none"})
    read = (config_of, placed, tokenizer_of, end_ids)
    for key, usual in header.metadata.items():
        for value in STRANGE:
            changed = dataclasses.replace(header, metadata=header.metadata | {key: value})
            try:
                for each in read:
                    each(changed)
            except UserError as error:
                assert str(error).startswith(f"{header.path} "), (key, value)
            else:
                assert type(value) is type(usual) or key.startswith("tokenizer.") or ".name" in key, (key, value)
