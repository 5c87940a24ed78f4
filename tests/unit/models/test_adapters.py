"""An adapter is merged into the model that was trained, or refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from app.errors import UserError
from app.models.adapters import WEIGHTS, check_adapter, check_servable, load_merged
from app.settings import ModelSettings

SETTINGS = ModelSettings(source="path", name="base")
CPU = torch.device("cpu")
IDS = torch.arange(5, 20)[None]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all linear layers": {"target_modules": "all-linear"},
    "several ranks": {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 2}, "use_rslora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "head by a pattern": {"target_modules": r".*(q_proj|lm_head)"},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "both, tied": {"target_modules": ["q_proj", "embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "whole head": {"modules_to_save": ["lm_head"]},
    "whole embedding": {"modules_to_save": ["embed_tokens"]},
    "whole embedding and head": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "whole norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [5, 6]},
    "tokens of the head": {"trainable_token_indices": {"lm_head": [5, 6]}},
    "magnitudes": {"use_dora": True},
    "magnitudes of the embedding": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "magnitudes of the head": {"target_modules": ["lm_head"], "use_dora": True},
    "a parameter": {"target_parameters": ["mlp.up_proj.weight"]},
    "biases": {"bias": "all"},
    "biases of its own": {"lora_bias": True},
    "invocation": {"alora_invocation_tokens": [3]},
}
TWICE = {kind for kind in KINDS if any(word in kind for word in ("head", "embedding", "both"))}
UNMERGEABLE = {"biases of its own", "invocation"}
SERVABLE = {"plain", "all linear layers", "several ranks", "a parameter", "biases"}
"""A bias='all' adapter of a base without biases holds none."""


def base(folder: Path, *, is_tied: bool) -> Path:
    if not folder.exists():
        torch.manual_seed(0)
        sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 16}
        config = Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=is_tied)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def adapter(folder: Path, model: Path, kind: str) -> torch.Tensor:
    """Save an adapter of that kind, and return the logits of base and adapter as they were trained."""
    options = {"target_modules": ["q_proj"]} | KINDS[kind]
    adapted = get_peft_model(Qwen3ForCausalLM.from_pretrained(model), LoraConfig(task_type="CAUSAL_LM", r=4, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        adapted.save_pretrained(folder)
        logits: torch.Tensor = adapted.eval()(IDS).logits
        return logits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
def test_an_adapter_is_merged_into_the_model_that_was_trained_or_refused(
    tmp_path: Path, kind: str, is_tied: bool
) -> None:
    model = base(tmp_path / "base", is_tied=is_tied)
    wanted = adapter(tmp_path / "adapter", model, kind)
    if kind in UNMERGEABLE or (is_tied and kind in TWICE):
        said = "alora_invocation_tokens" if kind == "invocation" else "a bias" if "biases" in kind else "uses twice"
        with pytest.raises(UserError, match=said):
            check_adapter(tmp_path / "adapter", model)
        return
    check_adapter(tmp_path / "adapter", model)
    with torch.no_grad():
        merged = load_merged(model, SETTINGS, CPU, str(tmp_path / "adapter"))(IDS).logits
    assert (merged - wanted).abs().max() < 1e-4 and (
        merged - Qwen3ForCausalLM.from_pretrained(model)(IDS).logits
    ).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_only_pairs_of_linear_layers_are_served_beside_the_base(tmp_path: Path, kind: str) -> None:
    adapter(tmp_path / "adapter", base(tmp_path / "base", is_tied=False), kind)
    if kind in SERVABLE or kind == "invocation":  # which vLLM itself refuses
        check_servable(tmp_path / "adapter")
    else:
        with pytest.raises(UserError, match="can't be served beside the base"):
            check_servable(tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore")
def test_tensors_count_whatever_the_configuration_says(tmp_path: Path) -> None:
    model = base(tmp_path / "base", is_tied=True)
    adapter(tmp_path / "adapter", model, "head")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(UserError, match=r"changes lm_head, a weight that its base uses twice.*\(tie_word_embeddings\)"):
        check_adapter(tmp_path / "adapter", model)
    weights = load_file(tmp_path / "adapter" / WEIGHTS)
    for name, changed in {
        "base_model.model.model.layers.0.self_attn.q_proj.hada_w1_a": "no part of a LoRA adapter",
        "base_model.model.model.layers.0.self_attn.q_proj.bias": "a bias for model.layers.0.self_attn.q_proj",
        "base_model.model.model.layers.7.self_attn.q_proj.weight": "another base model .* missing",
        "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight": "no pair of matrices",
    }.items():
        kept = {key: tensor for key, tensor in weights.items() if "q_proj" in key}
        save_file(kept | {name: torch.zeros(4, 32)}, tmp_path / "adapter" / WEIGHTS)
        with pytest.raises(UserError, match=changed):
            check_adapter(tmp_path / "adapter", model)
