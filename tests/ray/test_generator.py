"""The Generator actor: problems and raw prompts in, drafts in the same order out, adapters switched per call."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.generator import GeneratorClient
from app.evaluation import humaneval
from app.profiles import smoke
from app.records import Prompt, Sampling
from app.settings import SftSettings
from app.training import lora


@pytest.fixture(scope="module")
def generator(local_ray: None) -> Iterator[GeneratorClient]:
    client = GeneratorClient(smoke().model, smoke().generation)
    yield client
    client.close()


def test_problems_and_prompts_go_together(generator: GeneratorClient) -> None:
    problems = [task.problem for task in humaneval.load()[:5]]
    raw = Prompt(id="raw", text="def add(a, b):")
    drafts = generator.generate([*problems, raw], Sampling(max_new_tokens=4), protocol="completion")
    assert [draft.problem_id for draft in drafts] == [*(problem.id for problem in problems), "raw"]
    assert all(draft.num_tokens == 4 and draft.mean_logprob < 0 for draft in drafts)
    chat = generator.generate(problems[:1], Sampling(max_new_tokens=4), protocol="chat")
    assert chat[0].num_prompt_tokens > drafts[0].num_prompt_tokens, "the chat protocol adds its template"


def test_drafts_stream_before_the_last_one_is_done(generator: GeneratorClient) -> None:
    prompts = [Prompt(id=str(number), text="x = " * (number + 1)) for number in range(64)]
    arrivals, start = {}, time.monotonic()
    for draft in generator.stream(prompts, Sampling(max_new_tokens=32)):
        arrivals[draft.problem_id] = time.monotonic() - start
    assert arrivals.keys() == {prompt.id for prompt in prompts}
    assert min(arrivals.values()) < 0.6 * max(arrivals.values())


def test_an_adapter_is_switched_on_and_off_per_call(
    generator: GeneratorClient, smoke_model: Path, tmp_path: Path
) -> None:
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), SftSettings(), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    lora.save(model, tmp_path)
    prompts, greedy = [Prompt(id="a", text="def f():")], Sampling(max_new_tokens=8)
    base = generator.generate(prompts, greedy)
    adapted = generator.generate(prompts, greedy, adapter=str(tmp_path))
    assert adapted[0].text != base[0].text and generator.generate(prompts, greedy) == base
