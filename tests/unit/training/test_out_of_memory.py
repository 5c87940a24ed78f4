"""A step that ran out of memory is made again in smaller pieces, and what is learnt stays the same."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import PeftModel

from app.settings import SftSettings
from app.training import loop
from app.training.loss import FusedLoss
from app.training.out_of_memory import Ladder
from app.training.saved_activations import Keep
from tests.unit.training.test_fused import CONFIGS, tuned

SETTINGS = SftSettings(lora_r=4, lora_dropout=0.0, micro_batch=4, grad_accumulation=2, learning_rate=1e-2)


def rows(count: int, seq_len: int) -> loop.Batch:
    """Each row of documents of 7 tokens."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 200, (count, seq_len), generator=random)
    positions = (torch.arange(seq_len) % 7).expand(count, -1)
    return {"input_ids": ids, "labels": ids.clone(), "position_ids": positions}


def trained(monkeypatch: pytest.MonkeyPatch, fits: Callable[[FusedLoss, int], bool]) -> tuple[PeftModel, list[float]]:
    """Two steps on a card that takes what `fits` lets through, and their losses."""
    plain = FusedLoss.forward

    def forward(self: FusedLoss, **batch: torch.Tensor) -> torch.Tensor:
        if not fits(self, len(batch["input_ids"])):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, **batch)

    monkeypatch.setattr(FusedLoss, "forward", forward)
    model, losses = tuned(CONFIGS[0]), []
    data = rows(16, 24)

    def batches(epoch: int) -> Iterator[loop.Batch]:
        for start in range(0, 16, 4):
            yield {name: tensor[start : start + 4] for name, tensor in data.items()}

    loop.train(
        model, loop.epochs(batches, SETTINGS, 2), SETTINGS, 2, device=torch.device("cpu"),
        on_step=lambda m: losses.append(m.loss),
        on_checkpoint=lambda *_: None, keep=[Keep.ALL] * 3,
    )  # fmt: skip
    return model, losses


def test_smaller_pieces_learn_what_the_whole_batch_does(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    expected, losses = trained(monkeypatch, lambda loss, count: True)
    said = capsys.readouterr()
    found, others = trained(monkeypatch, lambda loss, count: count == 1 and not any(loss.decoder.keep))
    assert others == pytest.approx(losses, rel=1e-5)
    for (name, one), (_, other) in zip(expected.named_parameters(), found.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name
    said = capsys.readouterr()
    for words in ("2 rows at once instead of 4", "1 rows at once instead of 2", "keep their inputs alone"):
        assert words in said.out + said.err


def test_on_the_lowest_rung_the_error_is_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trained(monkeypatch, lambda loss, count: False)


def test_the_last_rung_cuts_rows_and_starts_their_documents_anew() -> None:
    ladder = Ladder()
    batch = {name: tensor.clone() for name, tensor in rows(1, 2048).items()}
    assert ladder.lower(batch).startswith("rows of 1024 tokens instead of 2048")
    first, second = ladder.pieces(batch)
    assert torch.equal(torch.cat([first["labels"], second["labels"]], 1), batch["labels"])
    assert torch.equal(first["position_ids"], batch["position_ids"][:, :1024])
    cut = 1024 % 7  # the second half starts inside a document
    assert second["position_ids"][0, : 7 - cut].tolist() == list(range(7 - cut))
    assert torch.equal(second["position_ids"][:, 7 - cut :], batch["position_ids"][:, 1024 + 7 - cut :])
    assert not ladder.lower(batch), "there is no lower rung"
    assert not Ladder(cuts=False).lower(batch), "what was drawn after a prompt is not learnt without it"
