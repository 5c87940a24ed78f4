"""The benchmarks that compare with published scores: what is asked, how drafts are read, and weights rounded again."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.evaluation.measure import render
from app.evaluation.suites.humaneval import HumanEval
from app.files.json_files import write_json
from app.models.base import load_tokenizer
from app.prompting.protocols import EVALPLUS_BEGINNING
from benchmarks.published import PARTS, WAYS, Drawer, prompt_of
from benchmarks.published_judging import Judging, Suites, held_drafts, held_results, program_of
from benchmarks.requantise import FORMS, grid, order, rounded

SUITE = HumanEval()
PROBLEM = SUITE.load(None)[0].problem
BODY = "def has_close_elements(numbers, threshold):\n    return False\n"


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    return load_tokenizer(smoke_model)


def test_ways_to_ask_differ_in_one_thing_each(tokenizer: Any) -> None:
    texts = {name: prompt_of(tokenizer, SUITE, PROBLEM, way) for name, way in WAYS.items()}
    for name in ("chat", "evalplus", "completion"):
        assert texts[name] == render(tokenizer, SUITE, PROBLEM, name, ()), "as the product asks"
    assert len({*texts.values()}) == len(WAYS)
    assert texts["chat, begun"] == texts["chat"] + EVALPLUS_BEGINNING
    assert texts["evalplus"] == texts["evalplus, not begun"] + EVALPLUS_BEGINNING
    for name in ("chat", "evalplus", "chat, begun", "evalplus, not begun"):
        assert texts[name].endswith(texts[f"{name}, no system"]) and "system" not in texts[f"{name}, no system"]


def test_a_draft_is_read_with_and_without_the_stop_texts_of_evalplus() -> None:
    helped = f"{BODY.replace('False', 'helped()')}\nprint(1)\ndef helped():\n    return False\n```\nThat is it."
    way, draft = WAYS["evalplus"], {"text": helped, "finish_reason": "length"}
    whole, program = program_of(SUITE, PROBLEM, draft, way, "uncut")
    assert whole == draft and "def helped" in program and "print" not in program
    cut, program = program_of(SUITE, PROBLEM, draft, way, "product")
    assert cut["finish_reason"] == "stop" and "print" not in program
    assert cut["text"].strip() in program and "def helped" not in program
    assert program_of(SUITE, PROBLEM, draft, WAYS["chat"], "product")[0] == draft


class Scripted:
    """An engine that solves the first problem alone."""

    def __init__(self) -> None:
        self.num_prompts = 0

    def stream(self, prompts: Any, sampling: Any) -> Any:
        for prompt in prompts:
            self.num_prompts += 1
            text = f"```python\n{BODY}```" if "has_close_elements" in prompt.text else "I can't."
            yield SimpleNamespace(
                problem_id=prompt.id, text=text, num_tokens=3, mean_logprob=-0.5, finish_reason="stop"
            )


def test_drafts_and_results_stay_in_files_and_nothing_is_drawn_twice(tokenizer: Any, tmp_path: Path) -> None:
    arguments = SimpleNamespace(out=tmp_path, new_tokens=9, seconds=60, workers=1)
    write_json(tmp_path / "model.json", {"model": "m"})
    suites, engine = Suites(Path("/nowhere"), 2), Scripted()
    drawer = Drawer(engine, tokenizer, suites, arguments)  # type: ignore[arg-type]
    keys = [("gguf", "humaneval", way) for way in ("chat", "chat, begun")]
    with Judging(arguments, suites) as judging:  # type: ignore[arg-type]
        for key, drafts in [*drawer.draw(keys), *drawer.draw(keys[:1])]:
            judging.put(key, drafts)
    assert engine.num_prompts == 4
    assert [key for key, _ in held_drafts(tmp_path)] == [*keys, keys[0]]
    for row in held_results(tmp_path):
        assert (row["passed"], row["n"], row["model"], row["percent"]) == (0, 2, "m", 0.0), "False is wrong for it"
        assert row["passed_ids"] == [] and row["ids"] == ["HumanEval/0", "HumanEval/82"]
    assert len(held_results(tmp_path)) == 3


def test_a_file_of_drafts_that_was_cut_off_gives_what_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = json.dumps({"key": ["gguf", "humaneval", "chat"], "drafts": {}}).encode()
    (tmp_path / "drafts.jsonl.gz").write_bytes(gzip.compress(line + b"\n") + gzip.compress(line * 99)[:40])
    assert len(list(held_drafts(tmp_path))) == 1 and "was cut off" in capsys.readouterr().err


def test_no_suite_is_asked_in_a_way_that_it_does_not_know() -> None:
    for part in PARTS.values():
        assert len({*part}) == len(part) and all(way in WAYS for _, way in part)


@pytest.mark.parametrize("kind", FORMS)
def test_weights_rounded_on_their_own_blocks_stay_and_on_drawn_ones_get_as_large_an_error(kind: str) -> None:
    form, own = FORMS[kind], torch.arange(896)
    weight = torch.randn(64, 896, generator=torch.Generator().manual_seed(1))
    once = rounded(weight, form, own)
    widest = grid(weight.reshape(-1, form.block), form)[0].abs().max()
    assert not torch.equal(once, weight) and (once - weight).abs().max() <= 1.01 * widest
    torch.testing.assert_close(rounded(once, form, own), once, rtol=1e-4, atol=1e-4)
    first = (once - weight).square().mean()
    again = [rounded(once, form, order(896, seed)) for seed in (1, 2, 3)]
    for twice in again:
        assert 0.85 < (twice - once).square().mean() / first < 1.2, "as large an error as the first"
    assert not torch.equal(again[0], again[1])
    assert torch.equal(rounded(torch.zeros(2, 896), form, own), torch.zeros(2, 896)), "a block of zeros has no step"
