"""Two and four cards learn what one learns, by ddp and by fsdp, and say how fast (pytest -s)."""

import pytest
import torch

from benchmarks.cards import Arm, measure

CARDS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(CARDS < 2, reason=f"needs two NVIDIA cards; torch sees {CARDS}")


@pytest.mark.parametrize(("way", "micro_batch"), [("ddp", 4), ("fsdp", 4)])
def test_the_losses_are_those_of_one_card(way: str, micro_batch: int) -> None:
    arm = Arm(way=way, micro_batch=micro_batch, shape="small", seq_len=512, steps=6)
    expected = measure(arm, 1)
    for cards in (number for number in (2, 4) if number <= CARDS):
        found = measure(arm, cards)
        assert found["losses"] == pytest.approx(expected["losses"], rel=2e-3)
        print(f"\n{way}: {cards} cards {found['tokens_per_s']} tokens/s, one {expected['tokens_per_s']}")
