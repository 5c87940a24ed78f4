"""The vLLM engine must say what the transformers engine says: same model, same prompts, same adapter."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from app.errors import UserError
from app.evaluation.suites import humaneval
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_model, load_tokenizer
from app.profiles import laptop
from app.prompting.protocols import ask, chat_prompt
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, SftSettings
from app.training import lora
from tests.unit.generation.conftest import InVllm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make setup-dev` does it"
)
MODEL = laptop().model
SETTINGS = GenerationSettings(engine="vllm", batch_size=8, max_model_len=512, kv_cache_bytes=256 << 20)
NEAR_TIE = 1e-3
_engine: Any = None


def _call(method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """In the process of the engine."""
    from app.generation.vllm_engine import VllmEngine

    global _engine
    if _engine is None:
        _engine = VllmEngine(MODEL, SETTINGS)
    result = getattr(_engine, method)(*arguments, **options)
    return list(result) if method == "stream" else result


@pytest.fixture(scope="module")
def vllm(cache: Path, in_vllm: InVllm) -> Callable[..., Any]:
    ensure_model(MODEL)
    return lambda method, *arguments, **options: in_vllm(_call, method, arguments, options)


@pytest.fixture(scope="module")
def peer(cache: Path) -> TransformersEngine:
    return TransformersEngine(MODEL, SETTINGS)


@pytest.fixture(scope="module")
def prompts(cache: Path) -> list[Prompt]:
    tokenizer = load_tokenizer(ensure_model(MODEL))
    problems = sorted((task.problem for task in humaneval.load()), key=lambda problem: len(problem.prompt))
    texts = (chat_prompt(tokenizer, [{"role": "user", "content": ask(problem.prompt)}]) for problem in problems[:6])
    return [Prompt(id=problem.id, text=text) for problem, text in zip(problems, texts, strict=False)]


@pytest.fixture(scope="module")
def adapter(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    model = lora.attach(load_model(ensure_model(MODEL), MODEL, torch.device("cpu")), SftSettings(lora_r=8), seed=0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("adapter")
    lora.save(model, folder)
    return str(folder)


def assert_same(ours: list[Draft], theirs: list[Draft], prompts: list[Prompt], peer: TransformersEngine) -> None:
    """Equal texts, or first different at a token whose two best logits nearly tie."""
    tokenizer = load_tokenizer(ensure_model(MODEL))
    assert [draft.problem_id for draft in ours] == [prompt.id for prompt in prompts]
    for mine, other, prompt in zip(ours, theirs, prompts, strict=True):
        if mine.text == other.text:
            assert mine.num_tokens == other.num_tokens
            assert mine.mean_logprob == pytest.approx(other.mean_logprob, abs=1e-3)
            assert mine.finish_reason == other.finish_reason and mine.adapter == other.adapter
            continue
        ids, others = (tokenizer(text, add_special_tokens=False).input_ids for text in (mine.text, other.text))
        same = next(place for place, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1])
        before = tokenizer(prompt.text, add_special_tokens=False).input_ids + ids[:same]
        with torch.inference_mode():
            best = peer._model(torch.tensor([before])).logits[0, -1].topk(2).values
        assert best[0] - best[1] < NEAR_TIE, (prompt.id, mine.text, other.text)


def test_both_engines_draw_the_same_greedy_tokens(
    vllm: Callable[..., Any], peer: TransformersEngine, prompts: list[Prompt]
) -> None:
    greedy = Sampling(max_new_tokens=16)
    assert_same(vllm("generate", prompts, greedy), peer.generate(prompts, greedy), prompts, peer)


def test_seeded_samples_of_more_prompt_than_one_step_takes(vllm: Callable[..., Any]) -> None:
    longest = sorted((task.problem for task in humaneval.load()), key=lambda problem: -len(problem.prompt))[:4]
    prompts = [Prompt(id=problem.id, text=ask(problem.prompt), samples=(0, 1)) for problem in longest]
    drafts = vllm("generate", prompts, Sampling(max_new_tokens=4, temperature=0.8))
    assert len(drafts) == 8 and sum(draft.num_prompt_tokens for draft in drafts[::2]) > 2 * SETTINGS.max_model_len


def test_scores_agree(vllm: Callable[..., Any], peer: TransformersEngine, prompts: list[Prompt]) -> None:
    pairs = [(prompt.text, "```python\nreturn x\n"[: 3 * number]) for number, prompt in enumerate(prompts[:4])]
    for ours, theirs in zip(vllm("score", pairs), peer.score(pairs), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    ids = [((5, 6, 7), (8, 9)), ((40, 41), (42,))]
    for ours, theirs in zip(vllm("score_ids", ids), peer.score_ids(ids), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_samples_have_streams_of_their_own_and_stop_texts_cut(vllm: Callable[..., Any], prompts: list[Prompt]) -> None:
    hot = Sampling(max_new_tokens=12, temperature=1.5, top_p=0.95, seed=3)
    many = [Prompt(id="a", text=prompts[0].text, samples=tuple(range(8)))]
    drafts = vllm("generate", many, hot)
    assert [draft.sample for draft in drafts] == list(range(8)) and len({draft.text for draft in drafts}) > 3
    again = vllm("generate", [Prompt(id="a", text=prompts[0].text, samples=(7,))], hot)
    assert again[0].text == drafts[7].text, "a draft depends on its seed, not on what shares the batch"
    whole = drafts[7].text
    stop = whole[5:9]
    cut = vllm(
        "generate",
        [Prompt(id="a", text=prompts[0].text, samples=(7,))],
        Sampling(max_new_tokens=12, temperature=1.5, top_p=0.95, seed=3, stop=("never met", stop)),
    )
    assert cut[0].text == whole[: whole.index(stop)] and cut[0].finish_reason == FinishReason.STOP
    assert cut[0].num_tokens < 12


def test_a_prompt_without_room_gives_an_empty_draft(vllm: Callable[..., Any], prompts: list[Prompt]) -> None:
    long = Prompt(id="long", text="word " * 1100)
    drafts = vllm("stream", [long, prompts[0]], Sampling(max_new_tokens=2))
    assert [(d.problem_id, d.text, d.num_tokens) for d in drafts][0] == ("long", "", 0)
    assert drafts[0].finish_reason == FinishReason.LENGTH and drafts[1].num_tokens == 2
    with pytest.raises(UserError, match="generation.max_model_len"):
        vllm("score", [("word " * 1100, "x")])


def test_an_adapter_changes_both_engines_alike(
    vllm: Callable[..., Any], peer: TransformersEngine, prompts: list[Prompt], adapter: str, tmp_path: Path
) -> None:
    few, greedy = prompts[:3], Sampling(max_new_tokens=12)
    base = vllm("generate", few, greedy)
    ours, theirs = vllm("generate", few, greedy, adapter=adapter), peer.generate(few, greedy, adapter=adapter)
    assert_same(ours, theirs, few, peer)
    assert [draft.text for draft in ours] != [draft.text for draft in base]
    with pytest.raises(UserError, match="no PEFT folder"):
        vllm("generate", few, greedy, adapter=str(tmp_path))
