"""What only a card can show: NF4 training of the reference model's shape stays within 8 GiB."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from app.profiles import rtx3070
from app.training import lora
from app.training.loop import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
GIB = 2**30


def test_the_rtx3070_profile_trains_within_8_gib(tmp_path) -> None:
    from app.models import load_model

    profile = rtx3070()
    config = Qwen3Config(hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, tie_word_embeddings=True)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 8 * GIB / total))
    device = torch.device("cuda", 0)
    model = lora.attach(load_model(tmp_path, profile.model, device, quantize=True), profile.sft, seed=0)
    ids = torch.randint(0, config.vocab_size, (profile.sft.micro_batch, profile.corpus.seq_len))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(profile.corpus.seq_len).expand_as(ids)}
    losses: list[float] = []
    settings = profile.sft.model_copy(update={"grad_accumulation": 2, "learning_rate": 2e-3})
    train(
        model,
        lambda epoch: iter([batch] * 6),
        settings,
        3,
        device=device,
        on_step=lambda metrics: losses.append(metrics.loss),
        on_checkpoint=lambda *_: None,
    )
    assert losses[-1] < losses[0]
    assert torch.cuda.max_memory_reserved() < 8 * GIB
