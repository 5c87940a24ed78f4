"""Batching must not change what a model says: the engine against transformers' own generate, one prompt at a time."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.errors import UserError
from app.generation import TransformersEngine
from app.profiles import smoke
from app.records import FinishReason, Prompt, Sampling
from app.settings import SftSettings
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
    return TransformersEngine(smoke().model, batch_size=3, use_gpu=False)


def prompts() -> list[Prompt]:
    return [Prompt(id=str(number), text=text) for number, text in enumerate(TEXTS)]


def reference(model: torch.nn.Module, folder: Path, text: str, new_tokens: int) -> tuple[str, float]:
    """Greedy text and mean log-probability, from generate and a second, teacher-forced pass."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
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
    together = engine.generate(prompts(), hot)
    alone = [engine.generate([prompt], hot)[0] for prompt in prompts()]
    assert [draft.text for draft in together] == [draft.text for draft in alone]
    other = engine.generate(prompts(), Sampling(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=2))
    assert [draft.text for draft in other] != [draft.text for draft in together]


def test_a_stop_text_ends_the_draft_before_itself(engine: TransformersEngine) -> None:
    whole = engine.generate(prompts()[:1], Sampling(max_new_tokens=20))[0].text
    stop = whole[5:9]
    draft = engine.generate(prompts()[:1], Sampling(max_new_tokens=20, stop=(stop,)))[0]
    assert draft.text == whole[: whole.index(stop)] and draft.finish_reason == FinishReason.STOP
    assert draft.num_tokens < 20


def test_the_adapter_is_used_and_left_again(engine: TransformersEngine, smoke_model: Path, tmp_path: Path) -> None:
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), SftSettings(), seed=0)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    lora.save(model, tmp_path)
    greedy = Sampling(max_new_tokens=10)
    base = engine.generate(prompts(), greedy)
    adapted = engine.generate(prompts(), greedy, adapter=str(tmp_path))
    assert [d.text for d in adapted] == [reference(model.eval(), smoke_model, text, 10)[0] for text in TEXTS]
    assert [d.text for d in adapted] != [d.text for d in base] and adapted[0].adapter == str(tmp_path)
    assert engine.generate(prompts(), greedy) == base


def test_a_folder_without_an_adapter_is_refused(engine: TransformersEngine, tmp_path: Path) -> None:
    before = engine.generate(prompts(), Sampling(max_new_tokens=3))
    with pytest.raises(UserError, match="no PEFT folder"):
        engine.generate(prompts(), Sampling(max_new_tokens=1), adapter=str(tmp_path))
    assert engine.generate(prompts(), Sampling(max_new_tokens=3)) == before, "the engine goes on after a refusal"
