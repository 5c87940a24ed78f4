"""What only a card can show of the Generator's vLLM engine: drafts follow an adapter that changes, sleep gives the card
back, and all of it stays within generation.vram_gib.

The engine runs in a process of its own; ending that gives back what it holds.
"""

import importlib.util
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from app.records import Draft, Prompt
from app.settings import GenerationSettings, ModelSettings
from benchmarks.card_memory import CardMemory
from tests.unit.generation.test_vllm_adapters import GREEDY, PROMPTS, drafts_of_versions

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card; torch sees none"),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
SETTINGS = GenerationSettings(engine="vllm", batch_size=64, max_model_len=512, use_gpu=True, vram_gib=6.0)
CONTEXT_GIB = 1.5
"""What the engine's process may hold of the card while it sleeps: its context, graphs and kernels."""
TIMEOUT_SECONDS = 400
_engine: Any = None


def _start(base: str) -> None:
    from app.generation.vllm_engine import VllmEngine

    global _engine
    _engine = VllmEngine(ModelSettings(source="path", name=base, dtype="bfloat16"), SETTINGS)


def _generate(adapter: str, many: int = 1) -> list[Draft]:
    prompts = [Prompt(id=prompt.id, text=prompt.text, samples=tuple(range(many))) for prompt in PROMPTS]
    return _engine.generate(prompts, GREEDY, adapter=adapter)


def _versions(base: str, adapter: Path) -> list[list[Draft]]:
    return drafts_of_versions(_engine, base, adapter)


def _score(draft: Draft) -> list[float]:
    (prompt,) = [prompt for prompt in PROMPTS if prompt.id == draft.problem_id]
    return _engine.score([(prompt.text, draft.text)])[0]


def _sleep() -> None:
    _engine.sleep()


@pytest.fixture(scope="module")
def card() -> Iterator[CardMemory]:
    torch.zeros(1, device="cuda")  # this process's own context is there before
    memory = CardMemory()
    yield memory
    memory.stop()


@pytest.fixture(scope="module")
def vllm(card: CardMemory, smoke_model: Path) -> Iterator[Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function: Any, *arguments: Any) -> Any:
            return pool.submit(function, *arguments).result(TIMEOUT_SECONDS)

        call(_start, str(smoke_model))
        yield call


def test_drafts_follow_an_adapter_that_changes_in_its_place(vllm: Any, smoke_model: Path, tmp_path: Path) -> None:
    tokens = [[draft.token_ids for draft in drafts] for drafts in vllm(_versions, str(smoke_model), tmp_path / "lora")]
    assert tokens[0] == tokens[2] and tokens[3] == tokens[4]
    assert tokens[0] != tokens[1] != tokens[3] != tokens[0]


def test_drafts_carry_their_tokens_and_the_scores_are_theirs(vllm: Any) -> None:
    for draft in vllm(_generate, ""):
        assert len(draft.token_ids) == len(draft.token_logprobs) == draft.num_tokens == GREEDY.max_new_tokens
        assert draft.mean_logprob == pytest.approx(sum(draft.token_logprobs) / draft.num_tokens)
        scores = vllm(_score, draft)
        if len(scores) == draft.num_tokens:  # its text is tokenised as it was drawn
            assert scores == pytest.approx(draft.token_logprobs, abs=0.2)  # bfloat16


def test_sleep_gives_the_card_back_and_what_wakes_says_the_same(vllm: Any, card: CardMemory) -> None:
    before = vllm(_generate, "")
    awake = card.now_gib
    vllm(_sleep)
    vllm(_sleep)
    assert card.now_gib < CONTEXT_GIB < awake
    free = torch.empty(int((SETTINGS.vram_gib - CONTEXT_GIB) * 2**30), dtype=torch.uint8, device="cuda")
    assert float(free[:1024].zero_().sum()) == 0
    del free
    torch.cuda.empty_cache()
    assert [draft.token_ids for draft in vllm(_generate, "")] == [draft.token_ids for draft in before]


def test_the_engine_stays_within_its_share_of_the_card(vllm: Any, card: CardMemory) -> None:
    card.restart()
    assert len(vllm(_generate, "", 200)) == 200 * len(PROMPTS)
    assert card.peak_gib <= SETTINGS.vram_gib
