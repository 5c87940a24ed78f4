"""Batching must not change what a model says: the engine against transformers' own generate, one prompt at a time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.errors import UserError
from app.generation.decoding import choose, exponential_noise
from app.generation.kv_cache import ROOM
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import check_adapter
from app.models.base import load_tokenizer
from app.profiles import smoke
from app.records import FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, SftSettings
from app.training import lora

TEXTS = [
    "def add(a, b):",
    "import os\n" * 9,
    "x",
    "class Shape:\n    pass\n" * 4,
    "# " + "word " * 40,
    "for i in",
    "return",
    "a b c d",
]


@pytest.fixture(scope="module")
def engine(smoke_model: Path) -> TransformersEngine:
    torch.set_num_threads(1)  # of a model this small, threads that wait for each other take most of the time
    return TransformersEngine(smoke().model, GenerationSettings(batch_size=3))


@pytest.fixture
def adapter(smoke_model: Path, tmp_path: Path) -> Path:
    """A PEFT folder whose adapter changes every answer."""
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), SftSettings(), seed=0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    lora.save(model, tmp_path / "adapter")
    return tmp_path / "adapter"


def prompts(samples: tuple[int, ...] = (0,)) -> list[Prompt]:
    return [Prompt(id=str(number), text=text, samples=samples) for number, text in enumerate(TEXTS)]


def reference(model: torch.nn.Module, folder: Path, text: str, new_tokens: int) -> tuple[str, float]:
    """Greedy text and mean log-probability, from generate and a second, teacher-forced pass."""
    tokenizer = load_tokenizer(folder)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=new_tokens, do_sample=False, attention_mask=torch.ones_like(ids))
        drawn = out[0, ids.shape[1] :]
        logprobs = torch.log_softmax(model(out).logits[0, ids.shape[1] - 1 : -1].float(), dim=-1)
    return tokenizer.decode(drawn, skip_special_tokens=True), logprobs.gather(1, drawn[:, None]).mean().item()


def test_greedy_drafts_equal_generate_whatever_shares_the_batch(engine: TransformersEngine, smoke_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32).eval()
    drafts = engine.generate(prompts(), Sampling(max_new_tokens=20))
    assert [draft.problem_id for draft in drafts] == [prompt.id for prompt in prompts()]
    for draft, text in zip(drafts, TEXTS, strict=True):
        wanted, logprob = reference(model, smoke_model, text, 20)
        assert draft.text == wanted
        assert draft.mean_logprob == pytest.approx(logprob, abs=1e-4)
        assert draft.finish_reason == FinishReason.LENGTH and draft.num_tokens == 20


def test_a_draft_drawn_at_a_temperature_depends_on_its_seed_only(engine: TransformersEngine) -> None:
    hot = Sampling(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=1)
    together = engine.generate(prompts(samples=(0, 3)), hot)
    alone = [engine.generate([prompt], hot)[0] for number in (0, 3) for prompt in prompts(samples=(number,))]
    key = lambda draft: (draft.problem_id, draft.sample)  # noqa: E731
    assert {key(draft): draft.text for draft in together} == {key(draft): draft.text for draft in alone}
    other = engine.generate(prompts(), Sampling(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=2))
    assert [draft.text for draft in other] != [draft.text for draft in together[::2]]


def test_samples_come_in_order_and_differ_unless_greedy(engine: TransformersEngine) -> None:
    wanted = [(str(number), sample) for number in range(len(TEXTS)) for sample in (4, 1, 2, 7)]
    hot = engine.generate(prompts(samples=(4, 1, 2, 7)), Sampling(max_new_tokens=8, temperature=1.0))
    assert [(draft.problem_id, draft.sample) for draft in hot] == wanted
    assert len({draft.text for draft in hot}) == len(hot)
    greedy = engine.generate(prompts(samples=(4, 1, 2, 7)), Sampling(max_new_tokens=8))
    single = engine.generate(prompts(), Sampling(max_new_tokens=8))
    assert [draft.text for draft in greedy] == [draft.text for draft in single for _ in range(4)]


def test_rows_are_made_as_they_join_the_batch(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    rows = TransformersEngine._rows

    def counted(*arguments: object) -> Iterator[object]:
        nonlocal made
        for row in rows(*arguments):  # type: ignore[arg-type]
            made += 1
            yield row

    monkeypatch.setattr(TransformersEngine, "_rows", counted)
    many = [Prompt(id="many", text="x", samples=tuple(range(10_000)))]
    stream = engine.stream(many, Sampling(max_new_tokens=2, temperature=1.0))
    assert {next(stream).sample for _ in range(9)} == set(range(9)) and made <= 12
    stream.close()


def test_a_token_is_drawn_as_often_as_its_probability_says() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 2
    hot, count = Sampling(max_new_tokens=1, temperature=0.7, top_p=0.8), 40_000
    seeds = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(count)]
    tokens, logprobs = choose(logits.expand(count, -1), hot, seeds)
    probabilities = torch.softmax(logits / 0.7, dim=-1)
    ordered, order = probabilities.sort(descending=True)
    nucleus = order[ordered.cumsum(0) - ordered < 0.8]
    shares = probabilities[nucleus] / probabilities[nucleus].sum()
    seen = Counter(tokens.tolist())
    assert seen.keys() <= set(nucleus.tolist())
    drawn = torch.tensor([seen[token] for token in nucleus.tolist()])
    statistic = float(((drawn - count * shares) ** 2 / (count * shares)).sum())
    assert statistic < 3 * len(nucleus), "chi-square far above its degrees of freedom"
    assert torch.allclose(logprobs, torch.log_softmax(logits, -1)[tokens], atol=1e-5)


def test_noise_is_exponential_and_differs_from_row_to_row() -> None:
    noise = exponential_noise([1, 2, 1 << 40], 49_152, torch.device("cpu"))
    assert noise.mean(dim=1).tolist() == pytest.approx([1, 1, 1], abs=0.02)
    assert noise.var(dim=1).tolist() == pytest.approx([1, 1, 1], abs=0.05) and noise.min() > 0
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.02


def test_a_stop_text_ends_the_draft_before_itself(engine: TransformersEngine) -> None:
    whole = engine.generate(prompts()[:1], Sampling(max_new_tokens=20))[0].text
    stop = whole[5:9]
    draft = engine.generate(prompts()[:1], Sampling(max_new_tokens=20, stop=("never met", stop)))[0]
    assert draft.text == whole[: whole.index(stop)] and draft.finish_reason == FinishReason.STOP
    assert draft.num_tokens < 20


def test_every_stop_text_is_found_at_the_token_that_completes_it(engine: TransformersEngine) -> None:
    tokenizer = load_tokenizer(engine._folder)
    hot = Sampling(max_new_tokens=24, temperature=1.0)
    whole = engine.generate(prompts()[:1], hot)[0].text
    for start in range(0, len(whole) - 4, 3):
        stop = whole[start : start + 4]
        draft = engine.generate(prompts()[:1], Sampling(max_new_tokens=24, temperature=1.0, stop=(stop,)))[0]
        assert draft.text == whole[: whole.index(stop)] and draft.finish_reason == FinishReason.STOP
        if stop.isascii():
            least = len(tokenizer(whole[: whole.index(stop) + 4]).input_ids)
            assert draft.num_tokens <= least + 8, "an incremental check must not wait for the row's end"


def test_a_prompt_without_room_gives_an_empty_draft(smoke_model: Path) -> None:
    engine = TransformersEngine(smoke().model, GenerationSettings(batch_size=3, max_model_len=64))
    requests = [Prompt(id="long", text="word " * 80, samples=(0, 1)), Prompt(id="near", text="a " * 28), prompts()[0]]
    drafts = engine.generate(requests, Sampling(max_new_tokens=50))
    assert [(d.text, d.num_tokens, d.finish_reason) for d in drafts[:2]] == [("", 0, FinishReason.LENGTH)] * 2
    assert drafts[2].num_tokens == 64 - drafts[2].num_prompt_tokens and drafts[2].finish_reason == FinishReason.LENGTH
    assert drafts[3].num_tokens == 50
    with pytest.raises(UserError, match="generation.max_model_len"):
        engine.score([("word " * 60, " word" * 60)])


def test_scores_are_the_log_probabilities_of_the_completions(engine: TransformersEngine, smoke_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(smoke_model)
    pairs = [(text, " return x + 1\n" * (number % 3)) for number, text in enumerate(TEXTS)]
    for (prompt, completion), found in zip(pairs, engine.score(pairs), strict=True):
        before, after = tokenizer(prompt).input_ids, tokenizer(completion).input_ids
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        wanted = torch.log_softmax(logits, -1)[range(len(after)), after]
        assert found == pytest.approx(wanted.tolist(), abs=1e-4)
    assert engine.score([]) == []
    with pytest.raises(UserError, match="empty prompt"):
        engine.score([("", "x")])


def test_token_ids_are_scored_as_they_are(engine: TransformersEngine, smoke_model: Path) -> None:
    """Letter by letter, as no text would be encoded."""
    tokenizer = load_tokenizer(smoke_model)
    before, after = tokenizer("def add").input_ids, [tokenizer(letter).input_ids[0] for letter in "return"]
    assert len(tokenizer("return").input_ids) < len(after)
    model = AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    wanted = torch.log_softmax(logits, -1)[range(len(after)), after].tolist()
    found = engine.score_ids([(before, tuple(after)), (tuple(before), [])])
    assert found[0] == pytest.approx(wanted, abs=1e-4) and found[1] == []


def test_a_small_cache_takes_fewer_rows_and_says_the_same(engine: TransformersEngine, smoke_model: Path) -> None:
    narrow = TransformersEngine(smoke().model, GenerationSettings(batch_size=8))
    narrow.score([("a", "b")])  # loads
    most = []
    narrow._cache_tokens = 3 * (ROOM + 20 + len("word") * 12)
    join = narrow._join
    narrow._join = lambda state, rows: (join(state, rows), most.append(len(state._mask)))  # type: ignore[method-assign]
    greedy = Sampling(max_new_tokens=20)
    wanted = [draft.text for draft in engine.generate(prompts(), greedy)]
    assert [draft.text for draft in narrow.generate(prompts(), greedy)] == wanted
    assert 1 <= max(most) <= 3 and len(most) > 1
    narrow._cache_tokens = 1
    assert [draft.text for draft in narrow.generate(prompts(), greedy)] == wanted, "one row always fits"


BOUND = 64


@pytest.fixture
def bounded(smoke_model: Path) -> tuple[TransformersEngine, list[tuple[int, int]]]:
    """An engine whose forward passes are small, and rows and tokens of each that it makes."""
    engine = TransformersEngine(smoke().model, GenerationSettings(batch_size=8, max_num_batched_tokens=BOUND))
    engine.score([("a", "b")])  # loads
    passes: list[tuple[int, int]] = []
    engine._model.get_decoder().register_forward_pre_hook(
        lambda module, given, named: passes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    return engine, passes


LONG = Prompt(id="long", text="some words and " * 60)


def test_no_prefill_has_more_tokens_than_the_bound_and_drafts_stay_the_same(
    engine: TransformersEngine, bounded: tuple[TransformersEngine, list[tuple[int, int]]]
) -> None:
    narrow, passes = bounded
    many = [*prompts(samples=(0, 1, 2)), LONG, *(Prompt(id=f"x{number}", text="x = 1") for number in range(9))]
    for sampling in (Sampling(max_new_tokens=12), Sampling(max_new_tokens=12, temperature=0.9, top_p=0.9, seed=3)):
        drafts = narrow.generate(many, sampling)
        alone = [draft for prompt in many for draft in engine.generate([prompt], sampling)]
        assert [draft.text for draft in drafts] == [draft.text for draft in alone]
        assert [draft.mean_logprob for draft in drafts] == pytest.approx([d.mean_logprob for d in alone], abs=1e-4)
    assert max(rows * tokens for rows, tokens in passes) <= BOUND
    assert any(rows > 1 and tokens > 1 for rows, tokens in passes), "short prompts still share a prefill"
    assert max(rows for rows, tokens in passes if tokens == 1) == 8, "the batch is filled in spite of the bound"


def test_rows_draw_a_token_between_two_prefills(bounded: tuple[TransformersEngine, list[tuple[int, int]]]) -> None:
    narrow, passes = bounded
    narrow.generate(
        [Prompt(id=str(number), text=f"{number}{' word' * 40}") for number in range(6)], Sampling(max_new_tokens=30)
    )
    kinds = ["prefill" if tokens > 1 else "step" for _, tokens in passes]
    assert kinds.count("prefill") == 6
    assert not any(first == second == "prefill" for first, second in zip(kinds, kinds[1:], strict=False))


def test_scores_are_the_same_whatever_the_bound(
    engine: TransformersEngine, bounded: tuple[TransformersEngine, list[tuple[int, int]]]
) -> None:
    narrow, passes = bounded
    pairs = [(text, " return x + 1\n" * (number % 3)) for number, text in enumerate(TEXTS)] + [
        (LONG.text, " and so on")
    ]
    for found, wanted in zip(narrow.score(pairs), engine.score(pairs), strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert max(rows * tokens for rows, tokens in passes) <= BOUND and max(rows for rows, _ in passes) > 1


def test_an_engine_that_slept_says_the_same(engine: TransformersEngine) -> None:
    before = engine.generate(prompts(), Sampling(max_new_tokens=3))
    engine.sleep()
    engine.sleep()
    assert engine.generate(prompts(), Sampling(max_new_tokens=3)) == before


def test_the_adapter_is_used_and_left_again(engine: TransformersEngine, smoke_model: Path, adapter: Path) -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), adapter)
    greedy = Sampling(max_new_tokens=10)
    base = engine.generate(prompts(), greedy)
    adapted = engine.generate(prompts(), greedy, adapter=str(adapter))
    assert [d.text for d in adapted] == [reference(model.eval(), smoke_model, text, 10)[0] for text in TEXTS]
    assert [d.text for d in adapted] != [d.text for d in base] and adapted[0].adapter == str(adapter)
    assert engine.generate(prompts(), greedy) == base


def test_a_folder_without_an_adapter_is_refused(engine: TransformersEngine, tmp_path: Path) -> None:
    before = engine.generate(prompts(), Sampling(max_new_tokens=3))
    with pytest.raises(UserError, match="no PEFT folder"):
        engine.generate(prompts(), Sampling(max_new_tokens=1), adapter=str(tmp_path))
    assert engine.generate(prompts(), Sampling(max_new_tokens=3)) == before, "the engine goes on after a refusal"


def test_an_adapter_of_another_base_is_refused_in_a_sentence(
    engine: TransformersEngine, adapter: Path, tmp_path: Path
) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    check_adapter(adapter, engine._folder)
    wider = Qwen3Config(hidden_size=96, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, head_dim=16)
    Qwen3ForCausalLM(wider).save_pretrained(tmp_path / "wider")
    with pytest.raises(UserError, match=r"another base model .* is 64 x 128, the base's 96 x 128: choose"):
        check_adapter(adapter, tmp_path / "wider")
    shallow = Qwen3Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
    )
    Qwen3ForCausalLM(shallow).save_pretrained(tmp_path / "shallow")
    with pytest.raises(UserError, match=r"another base model .*layers.1.* missing: choose"):
        check_adapter(adapter, tmp_path / "shallow")
    (adapter / "adapter_model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(UserError, match="can't be read"):
        engine.generate(prompts(), Sampling(max_new_tokens=1), adapter=str(adapter))
