"""Each test gets a whole, empty card, set up as a training sets it up, and leaves it so."""

import gc
from collections.abc import Iterator

import pytest
import torch

from app.training.memory import use_segments


@pytest.fixture(autouse=True)
def whole_card() -> Iterator[None]:
    use_segments()
    torch.set_float32_matmul_precision("high")
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()  # models hold themselves in circles
    torch.cuda.empty_cache()
    torch.set_float32_matmul_precision("highest")
