"""llama.cpp itself loads our GGUFs and answers as transformers does. Skipped without `pip install xllamacpp`, whose
wheels hold llama.cpp (`llama-cpp-python` compiles it)."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from app.export.exporting import Wanted, export_run
from app.export.gguf_vocabulary import TEXTS
from app.models.base import load_tokenizer
from app.prompting.protocols import chat_prompt
from tests.unit.export.made_run import write_base, write_run

llama = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed (xllamacpp)")
TURNS = [{"role": "user", "content": "Add 12 and 345."}]
IDS = list(range(1, 40))


@dataclass(frozen=True)
class Loaded:
    folder: Path
    server: Any

    def ask(self, route: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server.listening_address}{route}", data)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp(request.param)
    run = write_run(folder / "run", write_base(folder / "base", request.param))
    export_run(run.root, Wanted(merged=True, gguf="F32", out=folder / "out"))
    (file,) = (folder / "out").glob("*.gguf")
    options = llama.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = str(file), 512, 1, False
    options.cache_type_k = options.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    options.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to F16
    yield Loaded(folder / "out", llama.Server(options))


def test_llama_cpp_answers_as_transformers_does(exported: Loaded) -> None:
    model = AutoModelForCausalLM.from_pretrained(exported.folder, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = model.generate(
            torch.tensor([IDS]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, len(IDS) :].tolist()
        logprobs = model(torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
    drawn = {"prompt": IDS, "n_predict": 8, "temperature": 0, "n_probs": 20, "ignore_eos": True}
    tokens = exported.server.handle_completions(drawn)["choices"][0]["logprobs"]["content"]
    ids = [token["id"] for token in tokens]
    assert len(ids) > 3 and ids == wanted[: len(ids)], "bytes at the end that are no whole character are kept back"
    for other in tokens[0]["top_logprobs"]:
        assert other["logprob"] == pytest.approx(float(logprobs[other["id"]]), abs=1e-5)


def test_llama_cpp_cuts_text_as_the_models_tokenizer_does(exported: Loaded) -> None:
    tokenizer = load_tokenizer(exported.folder)
    for text in (*TEXTS, "<|im_start|>user\nhi<|im_end|>\n<tool_call>{}</tool_call>"):
        if "\u0301" not in text:  # llama.cpp does not compose characters
            found = exported.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
            assert found == tokenizer(text).input_ids, text


def test_llama_cpp_reads_the_chat_template(exported: Loaded) -> None:
    found = exported.ask("/apply-template", {"messages": TURNS})["prompt"]
    assert found == chat_prompt(load_tokenizer(exported.folder), TURNS)
