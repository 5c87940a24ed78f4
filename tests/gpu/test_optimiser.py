"""On a card 8-bit moments are paged where they are large, and a stopped training goes on to the same bits with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.settings import SftSettings
from app.training import state
from app.training.loop import Progress
from app.training.optimiser import make_optimiser

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none")
SETTINGS = SftSettings(optimiser="paged_adamw_8bit")
SHAPES = [(32, 6144), (16, 2048), (16, 64)]
"""Paged; 8 bits but too small for that; float32."""


def started(folder: Path | None = None) -> tuple[list[torch.nn.Parameter], Any]:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in SHAPES]
    optimiser = make_optimiser(parameters, SETTINGS, torch.device("cuda", 0))
    if folder:
        held = load_file(folder / "parameters.safetensors")
        for number, parameter in enumerate(parameters):
            parameter.data.copy_(held[str(number)])
        state.restore(optimiser, None, folder)
    return parameters, optimiser


def step(parameters: list[torch.nn.Parameter], optimiser: Any, seed: int) -> None:
    random = torch.Generator("cuda").manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, device="cuda", generator=random)
    optimiser.step()


def save(parameters: list[torch.nn.Parameter], optimiser: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    held = state.gather(torch.nn.ParameterList([]), optimiser, Progress(step=3), None)
    save_file(held.moments, folder / state.MOMENTS)
    (folder / state.PROGRESS).write_text("{}")
    save_file({str(number): p.detach() for number, p in enumerate(parameters)}, folder / "parameters.safetensors")


def test_paged_moments_go_on_to_the_same_bits(tmp_path: Path) -> None:
    parameters, optimiser = started()
    for seed in range(3):
        step(parameters, optimiser, seed)
    save(parameters, optimiser, tmp_path)
    again, restored = started(tmp_path)
    for given, owner in ((parameters, optimiser), (again, restored)):
        kinds = [(owner.state[p]["state1"].dtype, getattr(owner.state[p]["state1"], "is_paged", False)) for p in given]
        assert kinds == [(torch.uint8, True), (torch.uint8, False), (torch.float32, False)]
        for seed in range(3, 6):
            step(given, owner, seed)
    torch.cuda.synchronize()
    for ours, theirs in zip(again, parameters, strict=True):
        assert torch.equal(ours, theirs)
        for name in ("state1", "state2"):
            assert torch.equal(restored.state[ours][name], optimiser.state[theirs][name])


def test_paged_moments_take_nothing_of_the_allocators_memory() -> None:
    parameter = torch.nn.Parameter(torch.randn(64, 1 << 20, device="cuda"))
    optimiser = make_optimiser([parameter], SETTINGS, torch.device("cuda", 0))
    parameter.grad = torch.randn_like(parameter)
    before = torch.cuda.memory_allocated()
    optimiser.step()
    assert torch.cuda.memory_allocated() - before < 0.1 * parameter.numel(), "scales alone: 8 bytes for 256 numbers"
