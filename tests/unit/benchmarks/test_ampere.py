"""The Triton kernels serve a card of the RTX 30 series, whichever card they were tuned on: compiled without one."""

import pytest

pytest.importorskip("triton", reason="needs Triton, which comes with torch for a card")

from benchmarks.ampere import MODELS, kernel_names, launches, resources  # noqa: E402

SHARED_BYTES = 99 << 10
"""Most that a block has on sm_86 (CUDA C++ Programming Guide, table of technical specifications)."""
REGISTERS = 128
"""A thread, so that two blocks of 8 warps fit the 65,536 of a multiprocessor."""


def test_every_kernel_is_among_those_that_are_compiled() -> None:
    for widths in MODELS:
        assert {launch.kernel.__name__ for launch in launches(widths)} == set(kernel_names())


def test_kernels_fit_an_ampere_card_and_spill_nothing() -> None:
    found = list(resources(86))
    assert {each.kernel for each in found} == set(kernel_names())
    for each in found:
        assert each.shared_bytes <= SHARED_BYTES, each
        assert each.spill_store_bytes == each.spill_load_bytes == 0, each
        assert each.registers <= REGISTERS, each
