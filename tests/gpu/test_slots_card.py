"""What only a card can show: a trial of evolution can't take more of it than its slot."""

import pytest
import torch

from app.models.sizes import GIB
from tune_spaces.gpu_slots import Slots, enforce

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")


def test_a_process_is_held_to_its_slot() -> None:
    slots = Slots(
        number=4, gib=2.4, takes_turns=False, resources={}, beside_trainer=True, engine_gib=4.0, reason="for a test"
    )
    device = enforce(slots)
    before = torch.cuda.memory_reserved(device)
    taken = torch.empty(int(1.9 * GIB), dtype=torch.uint8, device=device)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(int(0.2 * GIB), dtype=torch.uint8, device=device)
    circle = [taken]
    circle.append(circle)
    del taken, circle
    assert enforce(slots) == device, "and it gives back what nobody has any more"
    assert torch.cuda.max_memory_reserved(device) == before, "nor does its peak count any more"
    torch.empty(int(1.9 * GIB), dtype=torch.uint8, device=device)
