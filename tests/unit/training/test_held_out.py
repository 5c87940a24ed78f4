"""Losses by document are those of the training loss; a difference's interval covers it."""

import pytest
import torch

from app.records import IGNORE
from app.training.loss import CausalLMLoss
from benchmarks.held_out import document_losses, mean_loss, paired_interval, split
from tests.unit.training.test_fused import CONFIGS, packed_rows, tuned

CPU = torch.device("cpu")


def test_documents_add_up_to_the_training_loss() -> None:
    model, rows = tuned(CONFIGS[0]), packed_rows()
    model.train()
    losses, tokens = document_losses(model, rows, 1, CPU)
    assert model.training
    assert losses.dtype == torch.float64 and len(losses) == 4
    assert losses.sum().item() == pytest.approx(CausalLMLoss(model, 64)(**rows).item(), rel=1e-5)
    assert tokens.tolist() == [2, 9, 10, 23]  # the first: 5, of which 3 have no label
    second = {name: tensor[1:] for name, tensor in rows.items()}
    alone, _ = document_losses(model, second, 4, CPU)
    assert alone.item() == pytest.approx(losses[3].item(), rel=1e-5)


def test_a_document_s_loss_depends_on_no_other_of_its_row() -> None:
    model, rows = tuned(CONFIGS[1]), packed_rows()
    before, _ = document_losses(model, rows, 2, CPU)
    rows["input_ids"][0, :5] = 7
    after, _ = document_losses(model, rows, 2, CPU)
    assert not torch.allclose(after[0], before[0])
    assert torch.allclose(after[2:], before[2:])


def test_rows_that_share_a_document_with_held_ones_are_left_out() -> None:
    positions = (torch.arange(12) % 6).expand(20, -1).contiguous()
    ids = torch.arange(20 * 12).view(20, 12)
    labels = ids.clone()
    ids[:, 6:], labels[:, 6:] = 0, IGNORE  # padding is alike in all rows and counts for nothing
    data = {"input_ids": ids, "labels": labels, "position_ids": positions}
    train, held = split(data, 4)
    assert len(train["labels"]) == 16 and len(held["labels"]) == 4
    assert not set(train["input_ids"][:, 0].tolist()) & set(held["input_ids"][:, 0].tolist())
    twin = int(train["input_ids"][0, 0]) // 12
    ids[twin, :6] = held["input_ids"][2, :6]
    train, held = split(data, 4)
    assert len(train["labels"]) == 15 and len(held["labels"]) == 4
    with pytest.raises(ValueError, match="20 of 20 rows"):
        split(data, 20)


def test_the_interval_covers_the_difference_and_weighs_by_tokens() -> None:
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (400,), generator=random)
    a = tokens * (1 + torch.rand(400, generator=random, dtype=torch.float64))
    b = a + tokens * (0.1 + 0.2 * torch.randn(400, generator=random, dtype=torch.float64))
    difference, low, high = paired_interval(a, b, tokens)
    assert low < difference < high
    assert difference == pytest.approx(mean_loss(b, tokens) - mean_loss(a, tokens))
    assert low < 0.1 < high and high - low < 0.1
    assert paired_interval(a, a, tokens) == (0.0, 0.0, 0.0)
