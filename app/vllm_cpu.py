"""vLLM 0.32 without a card, mended in two places; `Worker` is named to an engine as its `worker_cls`.

Adapters: vLLM's CPU wrapper looks weights up by each row's slot, and a row of the base model has slot -1: it gets the
last slot's adapter, so a base request that shares a batch with an adapter's answers like the adapter. It also copies
both matrices for every token. Here each adapter's rows are multiplied together, and base rows are left alone.

Sampling with speculation: the CPU's kernel that gives each guessed token its request's temperature, top_k and top_p
writes whole numbers into a copy, so the values stay what the memory held: at any temperature above 0 it draws noise.

A card's kernels do both right. Tests say when vLLM has mended its own.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler
from vllm.v1.worker.cpu_worker import CPUWorker

Groups = list[tuple[int, torch.Tensor | slice]]
"""Slots of adapters and the rows of the batch that are theirs."""


class Worker(CPUWorker):
    def load_model(self, *args: Any, **kwargs: Any) -> None:
        type(current_platform).get_punica_wrapper = classmethod(
            lambda cls: f"{RowGroupedLora.__module__}.{RowGroupedLora.__name__}"
        )
        rejection_sampler.expand_batch_to_tokens = expand_to_tokens
        super().load_model(*args, **kwargs)


def expand_to_tokens(
    values: torch.Tensor, ends: torch.Tensor, num_tokens: int, replace_from: float = 0, replace_to: float = 0
) -> torch.Tensor:
    """Each request's value for each of its guessed tokens. values, ends [requests]; ends: running sum of the tokens."""
    counts = torch.diff(ends, prepend=ends.new_zeros(1))
    replaced = values.masked_fill(values == replace_from, replace_to)
    return torch.repeat_interleave(replaced, counts, output_size=num_tokens)


class RowGroupedLora(PunicaWrapperCPU):
    """Shapes: x [rows, in], y [rows, out], A [slots, 1, rank, in], B [slots, 1, out, rank]; for
    some layers without the 1."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._groups = group_rows(self.token_lora_indices)
        self._sampled_groups = group_rows(self.sampler_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        y, x = _rows(y), _rows(x)
        for slot, rows in self._groups:
            own, start = x[rows], 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                y[rows, start : start + width] += scale * (own @ _of(a, slot).T) @ _of(b, slot).T
                start += width

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        y, x = _rows(y), _rows(x)
        for slot, rows in self._sampled_groups:
            delta = scale * (x[rows] @ _of(lora_a_stacked, slot).T) @ _of(lora_b_stacked, slot).T
            y[rows, : delta.shape[1]] += delta

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        y, x = _rows(y), _rows(x)
        for slot, rows in self._groups:
            y[rows] += x[rows] @ _of(lora_b_stacked, slot).T


def group_rows(slots: torch.Tensor) -> Groups:
    """Rows by slot, -1 left out. A slice where one adapter has all rows: nothing is copied then."""
    found = torch.unique(slots).tolist()
    if len(found) == 1:
        return [(slot, slice(0, len(slots))) for slot in found if slot >= 0]
    return [(slot, (slots == slot).nonzero()[:, 0]) for slot in found if slot >= 0]


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1, tensor.shape[-1])


def _of(stacked: torch.Tensor, slot: int) -> torch.Tensor:
    weights = stacked[slot]
    return weights[0] if weights.dim() == 3 else weights
