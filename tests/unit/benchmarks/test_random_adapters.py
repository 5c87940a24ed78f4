"""Random adapters are ones that the server takes and PEFT loads, and they change what the model says."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import Qwen3Config, Qwen3ForCausalLM

from app.models.adapters import check_adapter, check_servable
from benchmarks.random_adapters import make_adapters


def test_random_adapters_are_taken_and_change_the_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16}
    config = Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1)
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "base")
    made = make_adapters(tmp_path / "base", tmp_path / "adapters", (4, 8))
    assert list(made) == ["a4", "b8"]
    ids = torch.arange(12)[None]
    base = Qwen3ForCausalLM.from_pretrained(tmp_path / "base").eval()
    with torch.inference_mode():
        logits = [base(ids).logits]
        for folder in made.values():
            check_adapter(folder, tmp_path / "base")
            check_servable(folder)
            model = Qwen3ForCausalLM.from_pretrained(tmp_path / "base")
            logits.append(PeftModel.from_pretrained(model, str(folder)).eval()(ids).logits)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (logits[one] - logits[other]).abs().max() > 1e-3
    drift = (logits[1] - logits[0]).norm() / logits[0].norm()
    assert drift < 0.5  # still language
