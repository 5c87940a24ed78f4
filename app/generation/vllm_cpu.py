"""vLLM 0.32 without a card, mended in five places; `Worker` is named to an engine as its `worker_cls`.

Adapters: vLLM's CPU wrapper looks weights up by each row's slot, and a row of the base model has slot -1: it gets the
last slot's adapter, so a base request that shares a batch with an adapter's answers like the adapter. It also copies
both matrices for every token. Here each adapter's rows are multiplied together, and base rows are left alone.

Sampling with speculation: the CPU's kernel that gives each guessed token its request's temperature, top_k and top_p
writes whole numbers into a copy, so the values stay what the memory held: at any temperature above 0 it draws noise.

Sampling with top_k alone, in a step for which nothing was guessed: vLLM asks for the largest of no values, and the
engine dies with every answer under way.

Speculation with min_p or logit_bias: vLLM refuses such a request as long as speculation is on, since guessed tokens are
verified without the two. Here nothing is guessed for it, and what it draws one by one goes by both.

Guesses by n-grams: each engine compiled the search for them, two seconds of a core in its first answer. It is compiled
once for all engines of an environment, when the first one starts, and kept beside vLLM's files or in the user's cache.

A card's kernels do the first two right, and its newer runner the third. Tests say when vLLM has mended its own.
"""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams
from vllm.v1.outputs import DraftTokenIds
from vllm.v1.sample import rejection_sampler
from vllm.v1.sample.logits_processor.builtin import LogitBiasLogitsProcessor, MinPLogitsProcessor
from vllm.v1.worker.cpu_worker import CPUWorker

Groups = list[tuple[int, torch.Tensor | slice]]
"""Slots of adapters and the rows of the batch that are theirs."""


class Worker(CPUWorker):
    def load_model(self, *args: Any, **kwargs: Any) -> None:
        type(current_platform).get_punica_wrapper = classmethod(
            lambda cls: f"{RowGroupedLora.__module__}.{RowGroupedLora.__name__}"
        )
        rejection_sampler.expand_batch_to_tokens = expand_to_tokens
        rejection_sampler.apply_sampling_constraints = constrain_guesses
        super().load_model(*args, **kwargs)
        if self.vllm_config.speculative_config is not None:
            keep_compiled()
            processors = self.model_runner.input_batch.logitsprocs
            processors.non_argmax_invariant.append(LogitBiasLogitsProcessor(self.vllm_config, self.device, False))
            processors.argmax_invariant.append(MinPLogitsProcessor(self.vllm_config, self.device, False))

    def take_draft_token_ids(self) -> DraftTokenIds | None:
        """The guesses for the next step."""
        drafts = super().take_draft_token_ids()
        if drafts is not None:
            for row, request in enumerate(drafts.req_ids):
                state = self.model_runner.requests.get(request)
                if state is not None and state.sampling_params is not None and is_biased(state.sampling_params):
                    drafts.draft_token_ids[row] = []
        return drafts


def keep_compiled() -> None:
    """Where it can't be kept, or what was kept is damaged, this engine compiles it for itself."""
    # Here, since vLLM replaces kernels in all modules before it loads a model, and trips over one that numba loads.
    from numba.core.caching import NullCache
    from vllm.v1.spec_decode import ngram_proposer as guesses

    def search() -> None:
        row, found = np.zeros((1, 2), dtype=np.int32), np.zeros(1, dtype=np.int32)
        guesses.batch_propose_numba([0], np.ones(1, dtype=np.int32), row, 2, 2, 2, 2, row.copy(), found)

    kept = (guesses.batch_propose_numba, guesses._find_longest_matched_ngram_and_propose_tokens)
    try:
        for function in kept:
            function.enable_caching()
        search()
    except Exception:  # numba lets errors of files through, and would do so in an answer
        for function in kept:
            place, function._cache = function.stats.cache_path, NullCache()
            for file in Path(place).glob(f"*{function.__name__}*") if place else ():
                with contextlib.suppress(OSError):
                    file.unlink()
        search()


def is_biased(params: SamplingParams) -> bool:
    """Whether vLLM verifies guessed tokens without something that these ask for."""
    return bool(params.min_p or params.logit_bias)


def take_bias_with_guesses() -> None:
    """In the process that checks requests: take those for which `Worker` guesses nothing (vLLM has no setting)."""
    SamplingParams._validate_spec_decode = lambda self, speculative_config: None


_vllms_constraints = rejection_sampler.apply_sampling_constraints


def constrain_guesses(logits: torch.Tensor, ends: torch.Tensor, sampling: Any) -> torch.Tensor:
    """Temperature, top_k and top_p over the rows of guessed tokens, if there are any. logits [tokens, vocabulary]."""
    return _vllms_constraints(logits, ends, sampling) if len(logits) else logits


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
