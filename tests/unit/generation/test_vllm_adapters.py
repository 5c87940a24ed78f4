"""Drafts of vLLM follow an adapter whose folder changes between two calls, merged into the base or beside it."""

import importlib.util
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from app.errors import UserError
from app.export.exporting import Wanted, export_run
from app.files.json_files import write_json
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import adapter_version
from app.models.base import load_model
from app.profiles import smoke
from app.records import Draft, Prompt, Sampling
from app.runs import open_run
from app.settings import VLLM_BESIDE_GIB, GenerationSettings, ModelSettings, SftSettings
from app.training import lora
from tests.unit.generation.conftest import InVllm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-dev` does it"
)
PROMPTS = [Prompt(id=str(number), text=text) for number, text in enumerate(("def add(a, b):", "Say hello", "import"))]
GREEDY = Sampling(max_new_tokens=12)
SETTINGS = GenerationSettings(engine="vllm", batch_size=4, max_model_len=256, kv_cache_bytes=64 << 20, max_lora_rank=8)


def write_adapter(base: str, folder: Path, seed: int, rank: int = 8) -> None:
    torch.manual_seed(seed)
    settings = ModelSettings(source="path", name=base)
    model = lora.attach(load_model(Path(base), settings, torch.device("cpu")), SftSettings(lora_r=rank), seed=seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    lora.save(model, folder)


def drafts_of_versions(engine: Any, base: str, adapter: Path) -> list[list[Draft]]:
    """Of the base, of an adapter, of the base again, and of the adapter after its folder changed; the last twice."""
    write_adapter(base, adapter, seed=1)
    found = [engine.generate(PROMPTS, GREEDY, adapter=name) for name in ("", str(adapter), "")]
    write_adapter(base, adapter, seed=2)
    return found + [engine.generate(PROMPTS, GREEDY, adapter=str(adapter)) for _ in range(2)]


def assert_drawn_at_once(engine: Any, base: str, other: Path, adapter: str, in_one_batch: bool) -> None:
    """Three threads draw what each draws alone; whether the engine worked for several of them in one step."""
    write_adapter(base, other, seed=4)
    names = ["", adapter, str(other)]

    def drawn(name: str) -> list[tuple[int, ...]]:
        return [draft.token_ids for draft in engine.generate(PROMPTS, GREEDY, adapter=name)]

    alone = [drawn(name) for name in names]
    callers: list[int] = []
    step = engine._engine.step

    def counted() -> Any:
        callers.append(len({id(finished) for finished in engine._owners.values()}))
        return step()

    engine._engine.step = counted
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(drawn, names)) == alone
    engine._engine.step = step
    assert (max(callers) > 1) == in_one_batch


def _drawn_and_scored(base: str, adapter: Path, merges: bool) -> tuple[list[list[Draft]], list[list[float]]]:
    """In the process of the engine."""
    from app.generation.vllm_engine import VllmEngine

    engine = VllmEngine(ModelSettings(source="path", name=base), SETTINGS, merges=merges, sharers=2)
    drafts = drafts_of_versions(engine, base, adapter)
    scores = engine.score([(PROMPTS[0].text, " return a + b")], adapter=str(adapter))
    model = weakref.ref(engine._engine.engine_core.engine_core.model_executor.driver_worker.worker.get_model())
    engine.sleep()
    assert model() is None, "its weights have left the memory"
    assert engine.generate(PROMPTS, GREEDY) == drafts[0], "nothing of an adapter is left"
    assert engine.generate(PROMPTS, GREEDY, adapter=str(adapter)) == drafts[-1]
    assert_drawn_at_once(engine, base, adapter.with_name("other"), str(adapter), in_one_batch=not merges)
    if not merges:
        write_adapter(base, adapter, seed=3, rank=16)
        with pytest.raises(UserError, match=r"rank 16, and this engine takes 8: raise generation\.max_lora_rank"):
            engine.generate(PROMPTS, GREEDY, adapter=str(adapter))
    return drafts, scores


class InStep:
    """In place of vLLM's engine: every request takes the same number of steps, so all of a batch end together."""

    def __init__(self, steps: int) -> None:
        self.steps, self.left, self.has_begun = steps, dict[str, int](), threading.Event()

    def add_request(self, name: str, *_: Any, **__: Any) -> None:
        self.left[name] = self.steps

    def step(self) -> list[Any]:
        self.has_begun.set()
        time.sleep(0.001)
        self.left = {name: left - 1 for name, left in self.left.items()}
        ended = [name for name, left in self.left.items() if not left]
        for name in ended:
            del self.left[name]
        return [SimpleNamespace(request_id=name) for name in ended]

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            del self.left[name]


@pytest.mark.parametrize("begins_after", range(6))
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_whoever_has_little_to_draw_does_not_wait_for_all_that_another_draws(
    steps: int, begins_after: int, smoke_model: Path
) -> None:
    from app.generation.vllm_engine import VllmEngine

    engine = VllmEngine(ModelSettings(source="path", name=str(smoke_model)), SETTINGS, merges=False, sharers=2)
    engine._engine = in_step = InStep(steps)
    drawn, may_end = list[int](), threading.Event()

    def much() -> None:
        requests = (([], None, number) for number in range(400) if not may_end.is_set())
        drawn.extend(ticket for _, ticket in engine._run(requests, None))

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(much)
        assert in_step.has_begun.wait(10)
        time.sleep(0.001 * begins_after)  # in some phase of the other's steps
        mine = [ticket for _, ticket in engine._run(iter([([], None, number) for number in range(8)]), None)]
        may_end.set()
        other.result()
    assert sorted(mine) == [*range(8)] and len(drawn) < 200
    assert not engine._owners and not engine._eager


def test_who_stops_early_leaves_nothing_in_the_batch(smoke_model: Path) -> None:
    from app.generation.vllm_engine import VllmEngine

    engine = VllmEngine(ModelSettings(source="path", name=str(smoke_model)), SETTINGS, merges=False, sharers=2)
    engine._engine = InStep(2)
    stream = engine._run(iter([([], None, number) for number in range(9)]), None)
    next(stream)
    stream.close()
    assert not engine._owners and not engine._engine.left and not engine._eager


@pytest.mark.parametrize("merges", [True, False])
def test_drafts_follow_an_adapter_that_changes_in_its_place(
    merges: bool, in_vllm: InVllm, smoke_model: Path, tmp_path: Path
) -> None:
    base = str(smoke_model)
    peer = TransformersEngine(ModelSettings(source="path", name=base), SETTINGS)
    theirs = drafts_of_versions(peer, base, tmp_path / "theirs")
    ours, scores = in_vllm(_drawn_and_scored, base, tmp_path / "ours", merges)
    tokens = [[draft.token_ids for draft in drafts] for drafts in ours]
    assert tokens == [[draft.token_ids for draft in drafts] for drafts in theirs]
    assert tokens[0] == tokens[2] and tokens[3] == tokens[4]
    assert tokens[0] != tokens[1] != tokens[3] != tokens[0]
    for mine, other in zip(sum(ours, []), sum(theirs, []), strict=True):
        assert mine.text == other.text and len(mine.token_ids) == mine.num_tokens
        assert mine.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-3)
    (expected,) = peer.score([(PROMPTS[0].text, " return a + b")], adapter=str(tmp_path / "theirs"))
    assert scores[0] == pytest.approx(expected, abs=1e-3)


def _drawn_beside_and_merged(base: str, adapter: Path, merged: str, prompts: list[Prompt]) -> list[list[Draft]]:
    """In the process of the engines."""
    from app.generation.vllm_engine import VllmEngine

    found = []
    for name, folder in ((base, str(adapter)), (merged, "")):
        engine = VllmEngine(ModelSettings(source="path", name=name), SETTINGS, merges=False)
        found.append(engine.generate(prompts, GREEDY, adapter=folder))
        engine.sleep()
    return found


def test_an_exported_model_answers_as_the_adapter_that_is_served_beside_its_base(
    in_vllm: InVllm, smoke_model: Path, tmp_path: Path
) -> None:
    profile = smoke().model_copy(update={"model": ModelSettings(source="path", name=str(smoke_model))})
    with open_run(tmp_path / "run", profile, resume=False) as run:
        write_adapter(str(smoke_model), run.sft_adapter, seed=1)
        write_json(run.sft_meta, {})
        write_json(run.corpus_manifest, {"tokens": 0, "documents": 0, "licences": {}})
    merged = export_run(run.root, Wanted(merged=True)).removeprefix("export: ")
    prompts = [Prompt(id=str(number), text=f"Add {number} to {number**2}") for number in range(20)]
    served, exported = in_vllm(_drawn_beside_and_merged, str(smoke_model), run.sft_adapter, merged, prompts)
    peer = TransformersEngine(ModelSettings(source="path", name=merged), SETTINGS)
    for drafts in (exported, peer.generate(prompts, GREEDY)):
        assert [draft.token_ids for draft in drafts] == [draft.token_ids for draft in served]
        for mine, other in zip(drafts, served, strict=True):
            assert mine.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-3)


def test_any_change_of_its_files_is_another_version(tmp_path: Path) -> None:
    assert adapter_version("") == ("", ()) and adapter_version(str(tmp_path)) == (str(tmp_path), ())
    seen = {adapter_version(str(tmp_path))}
    for name, content in (("adapter_config.json", "a"), ("adapter_model.safetensors", "b")):
        (tmp_path / name).write_text(content)
        seen.add(adapter_version(str(tmp_path)))
    assert len(seen) == 3 and adapter_version(str(tmp_path)) in seen
    (tmp_path / "copy").write_text("b")
    (tmp_path / "copy").replace(tmp_path / "adapter_model.safetensors")
    assert adapter_version(str(tmp_path)) not in seen


def test_a_draft_model_of_another_vocabulary_is_refused(smoke_model: Path, tmp_path: Path) -> None:
    from app.generation.vllm_arguments import speculative_config

    options = {"num_speculative_tokens": 4, "use_gpu": True, "draft_model": str(smoke_model)}
    settings = SETTINGS.model_copy(update=options)
    with pytest.raises(UserError, match="a vocabulary of .* and the model one of 7"):
        speculative_config(settings, 7)
    with pytest.raises(ValueError, match="num_speculative_tokens above 0"):
        GenerationSettings(**{**options, "num_speculative_tokens": 0})
    with pytest.raises(ValueError, match="a card"):
        smoke().generation.model_validate({**options, "use_gpu": False})


def test_vllm_plans_with_less_than_the_card_is_given_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.generation import vllm_arguments

    monkeypatch.setattr(vllm_arguments, "card_gib", lambda: 80.0)
    assert vllm_arguments.card_share(8.0) == pytest.approx((8 - VLLM_BESIDE_GIB) / 80)
    monkeypatch.setattr(vllm_arguments, "card_gib", lambda: 8.0)
    assert vllm_arguments.card_share(22.0) == pytest.approx((8 - VLLM_BESIDE_GIB) / 8)


@pytest.mark.parametrize(
    ("vram_gib", "number", "batch_size"),
    [(22.0, 4, 2048), (22.0, 1, 512), (7.76, 4, 910), (7.76, 1, 512), (4.0, 4, 512), (3.0, 4, 512)],
)
def test_several_who_draw_have_a_batch_each_as_far_as_their_logits_leave_a_cache(
    vram_gib: float, number: int, batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.generation import vllm_arguments

    monkeypatch.setattr(vllm_arguments, "card_gib", lambda: 80.0)
    Qwen2Config(vocab_size=151_936).save_pretrained(tmp_path)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(988_000_000)
    settings = GenerationSettings(engine="vllm", batch_size=512, use_gpu=True, vram_gib=vram_gib)
    shared = vllm_arguments.for_sharers(settings, number, tmp_path)
    assert shared == settings.model_copy(update={"batch_size": batch_size})
    without_card = settings.model_copy(update={"use_gpu": False})
    assert vllm_arguments.for_sharers(without_card, number, tmp_path).batch_size == number * 512


@pytest.mark.parametrize("batch_size", [1, 4, 128, 500, 512, 1024, 2048])
def test_a_whole_batch_and_prompts_beside_it_have_graphs(batch_size: int) -> None:
    from app.generation.vllm_arguments import PROMPTS_BESIDE, graph_sizes

    sizes = graph_sizes(batch_size)
    assert sizes == sorted(set(sizes)) and sizes[0] == 1
    assert batch_size in sizes and max(sizes) > batch_size + PROMPTS_BESIDE - 64
    assert max(later - size for size, later in zip(sizes, sizes[1:], strict=False)) <= 64
    fine = min(batch_size, 512)
    assert all(later - size <= 16 for size, later in zip(sizes, sizes[1:], strict=False) if later <= fine)
