"""vLLM on a CPU: each row gets its own adapter and a base row none; each guessed token its request's temperature."""

from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed")

from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.outputs import DraftTokenIds
from vllm.v1.sample import rejection_sampler
from vllm.v1.spec_decode import ngram_proposer
from vllm.v1.worker.cpu_worker import CPUWorker

from app.generation.vllm_cpu import (
    RowGroupedLora,
    Worker,
    constrain_guesses,
    expand_to_tokens,
    group_rows,
    keep_compiled,
)

SLOTS, RANK, IN, OUT = 3, 4, 8, 6


def wrapper(slots: list[int]) -> RowGroupedLora:
    """As vLLM makes it for a step whose rows belong to these slots."""
    made = RowGroupedLora(64, 64, "cpu")
    ids = [slot + 1 for slot in slots]  # vLLM numbers adapters from 1, and 0 is none
    mapping = SimpleNamespace(index_mapping=tuple(ids), prompt_mapping=tuple(ids), is_prefill=False)
    made.update_metadata(mapping, [1, 2, 3], SLOTS, 100)
    return made


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(SLOTS, 1, *shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("slots", [[-1, 0, 1, -1, 2, 0], [1, 1, 1], [-1, -1], [2]], ids=str)
def test_each_row_of_a_linear_layer_gets_its_own_adapter(slots: list[int]) -> None:
    torch.manual_seed(0)
    x, before = torch.randn(len(slots), IN), torch.randn(len(slots), 2 * OUT)
    a, b = (weights(RANK, IN), weights(RANK, IN) + 1), (weights(OUT, RANK), weights(OUT, RANK) - 1)
    y = before.clone()
    wrapper(slots).add_lora_linear(y, x, a, b, 2.0, (OUT, OUT))
    for row, slot in enumerate(slots):
        expected = before[row]
        if slot >= 0:
            expected = expected + torch.cat([2.0 * B[slot, 0] @ A[slot, 0] @ x[row] for A, B in zip(a, b, strict=True)])
        torch.testing.assert_close(y[row], expected)


def test_each_row_of_the_logits_gets_its_own_adapter() -> None:
    slots = [-1, 2, 0]
    x, a, b = torch.randn(3, IN), weights(RANK, IN), weights(OUT, RANK)
    y = torch.zeros(3, OUT)
    wrapper(slots).add_lora_logits(y, x, a, b, 1.0)
    assert not y[0].any(), "a row of the base model must stay as it is"
    for row in (1, 2):
        torch.testing.assert_close(y[row], b[slots[row], 0] @ a[slots[row], 0] @ x[row])


def test_vllms_own_wrapper_still_gives_base_rows_the_last_adapter() -> None:
    """Why ours exists: when this fails, vLLM has mended it."""
    from vllm.lora.ops.torch_ops import bgmv_shrink

    x, a = torch.ones(1, IN), weights(RANK, IN)
    y = torch.zeros(1, RANK)
    bgmv_shrink(x, a, y, torch.tensor([-1]), 1.0)
    torch.testing.assert_close(y[0], a[-1, 0] @ x[0])


def test_one_adapters_batch_is_not_copied() -> None:
    assert group_rows(torch.tensor([1, 1])) == [(1, slice(0, 2))]
    assert group_rows(torch.tensor([-1, -1])) == []


TEMPERATURES, ENDS = torch.tensor([0.2, 0.0, 1.5]), torch.tensor([2, 5, 6])


def test_each_guessed_token_gets_its_requests_temperature_and_greedy_ones_divide_by_one() -> None:
    expanded = expand_to_tokens(TEMPERATURES, ENDS, 6, replace_from=0, replace_to=1)
    torch.testing.assert_close(expanded, torch.tensor([0.2, 0.2, 1.0, 1.0, 1.0, 1.5]))


def test_requests_without_guesses_and_whole_numbers_expand_too() -> None:
    assert expand_to_tokens(torch.tensor([5, 0, 7]), torch.tensor([2, 2, 3]), 3).tolist() == [5, 5, 7]


def test_vllms_own_expansion_still_leaves_temperatures_unset() -> None:
    """Why ours exists: when this fails, vLLM has mended it."""
    from vllm.utils.cpu_triton_utils import _expand_kernel_impl

    output = torch.full((6,), -7.0)
    _expand_kernel_impl(output, TEMPERATURES, ENDS, 0, 1)
    assert (output == -7.0).all()


TOP_K = SimpleNamespace(all_greedy=False, temperature=torch.tensor([1.0]), top_k=torch.tensor([2]), top_p=None)


def test_a_step_without_guesses_has_nothing_to_constrain() -> None:
    assert constrain_guesses(torch.empty(0, 5), torch.tensor([0]), TOP_K).shape == (0, 5)


def test_vllms_own_constraints_still_fail_where_nothing_was_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why ours exists: when this fails, vLLM has mended it. The engine died of it, with everybody's answers."""
    monkeypatch.setattr(rejection_sampler, "expand_batch_to_tokens", expand_to_tokens)
    with pytest.raises(RuntimeError, match="numel"):
        rejection_sampler.apply_sampling_constraints(torch.empty(0, 5), torch.tensor([0]), TOP_K)


def test_nothing_is_guessed_for_a_request_with_a_bias_and_everything_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {
        "plain": SamplingParams(temperature=0.5),
        "min_p": SamplingParams(min_p=0.1),
        "bias": SamplingParams(logit_bias={5: -100.0}),
    }
    names = [*asked, "gone"]
    monkeypatch.setattr(CPUWorker, "take_draft_token_ids", lambda self: DraftTokenIds(names, [[1, 2]] * 4))
    worker = Worker.__new__(Worker)
    requests = {name: SimpleNamespace(sampling_params=params) for name, params in asked.items()}
    worker.model_runner = SimpleNamespace(requests=requests)
    drafts = worker.take_draft_token_ids()
    assert drafts is not None and drafts.draft_token_ids == [[1, 2], [], [], [1, 2]]


def kept_from_cache(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the search, as another process would have it at the start of an engine, was compiled before."""
    for name in ("_find_longest_matched_ngram_and_propose_tokens", "batch_propose_numba"):
        function = getattr(ngram_proposer, name)
        monkeypatch.setattr(ngram_proposer, name, numba.jit(**function.targetoptions)(function.py_func))
    keep_compiled()
    tokens, room = np.array([[7, 8, 9, 7, 8, 0, 0, 0]], dtype=np.int32), np.zeros((1, 2), dtype=np.int32)
    found = np.zeros(1, dtype=np.int32)
    search = ngram_proposer.batch_propose_numba
    search([0], np.array([5], dtype=np.int32), tokens, 2, 2, 8, 2, room, found)
    assert room[:, : found[0]].tolist() == [[9, 7]], "what followed the same two tokens"
    assert len(search.signatures) == 1, "what was tried at the start was of other types than an answer's"
    return bool(search.stats.cache_hits)


def test_the_search_for_guesses_is_compiled_once_for_all_engines_and_damage_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    assert not kept_from_cache(monkeypatch) and kept_from_cache(monkeypatch)
    (kept,) = tmp_path.rglob("*batch_propose_numba*.nbc")
    kept.write_bytes(b"")
    assert not kept_from_cache(monkeypatch)
    assert not list(tmp_path.rglob("*batch_propose_numba*")), "the next engine keeps it anew"


@pytest.mark.parametrize(
    "params", [SamplingParams(min_p=0.1), SamplingParams(logit_bias={5: -100.0})], ids=["min_p", "bias"]
)
def test_vllm_itself_still_refuses_a_bias_with_speculation(params: SamplingParams) -> None:
    """Why ours exists: when this fails, vLLM takes both, and our drafts may stay."""
    with pytest.raises(VLLMValidationError, match="not yet supported with speculative decoding"):
        params._validate_spec_decode(SimpleNamespace())
