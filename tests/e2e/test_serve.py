"""`python -m app serve` on a real Ray with two engines, used as people use it: by the openai package and in a browser.

The run is the submitted job's, copied; its adapter is shown to the server only after it has started.
"""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from app.models.base import ensure_model, load_model, load_tokenizer
from app.profiles import smoke
from app.prompting.tool_schema import SEARCH_DOCS_TOOL
from app.runs import Run
from app.serving.keys import add_key
from tests import commands
from tests.conftest import IMPORTED_UNDER, ROOT, Cli
from tests.e2e import harness
from tests.e2e.browser import open_browser
from tests.e2e.conftest import BIN, Cluster, free_port
from tests.e2e.fuzzing import fuzz
from tests.e2e.page import Page, wait_until
from tests.mcp_client import talk, text_of
from tests.processes import below, title

pytest.importorskip("vllm", reason="vLLM is not installed")
START_SECONDS = 280
RESTART_SECONDS = 90
LONG = 450
"""Tokens of a stream that is still growing when something happens to it."""
QUESTION: Any = [{"role": "user", "content": "Write a Python function that adds two numbers."}]
BASE, SFT = "qwen3-2-layers", "sft"
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["list", "dict"]}},
    "required": ["ok", "kind"],
    "additionalProperties": False,
}


@dataclass
class Serving:
    url: str
    key: str
    run: Run
    process: BaseProcess
    log: Path

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, **options})

    def owner(self, name: str) -> str:
        """A key of its own, by which calls of tools are counted."""
        return add_key(self.log.parent / "keys.json", name)

    def replicas(self) -> set[psutil.Process]:
        """Those of the engines: Ray names a replica's process after its deployment."""
        return set(below("ServeReplica:llm:LLMServer"))


@pytest.fixture(scope="module")
def serving(job: tuple[Path, str], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    run = Run(folder / "run")
    shutil.copytree(job[0], run.root)
    run.sft_meta.rename(folder / "meta.json")
    config = yaml.safe_load((ROOT / "serve_configs/laptop.yaml").read_text())
    config["applications"][0]["deployments"] = [{"name": "LLMServer", "num_replicas": 2}]
    config["applications"][1]["args"]["overrides"] = ["docsearch.offline_packages=[pluggy]"]  # an index in 3 s
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    port, log = free_port(), folder / "serve.log"
    options = ["--config", folder / "two.yaml", "--profile", "smoke", "--run", run.root, "--port", port]
    env = os.environ | {"POCKETCODER_KEYS": str(folder / "keys.json")}
    imports = ("tests.e2e.preloaded",)
    process = commands.started(["serve", *map(str, options)], env, [log, log], workers_import=imports)
    try:
        _wait_for_words(process, log, "Ctrl-C ends it")
        key = re.search(r"\?key=(pk-\S+)", log.read_text())
        assert key, log.read_text()
        yield Serving(f"http://127.0.0.1:{port}", key[1], run, process, log)
    finally:
        assert process.pid
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGINT)
            process.join(timeout=60)
            if process.exitcode is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for_words(process: BaseProcess, log: Path, words: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not log.exists() or words not in log.read_text():
        assert process.exitcode is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.fixture(scope="module")
def client(serving: Serving) -> openai.OpenAI:
    """A client of a server that knows the adapter, which was finished while the server ran."""
    client = serving.client()
    assert [model.id for model in client.models.list()] == [BASE, f"{BASE}+tests"]
    with pytest.raises(openai.NotFoundError, match=f"{SFT}.*use '{BASE}'"):
        client.chat.completions.create(model=SFT, messages=QUESTION, max_tokens=4)
    shutil.copy(serving.run.root.parent / "meta.json", serving.run.sft_meta)
    assert client.chat.completions.create(model=SFT, messages=QUESTION, max_tokens=4).model == SFT
    return client


def scores(client: openai.OpenAI, model: str) -> list[float]:
    """Log-probabilities of the likeliest first tokens: they tell models apart that say the same."""
    options: Any = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 5}
    logprobs = client.chat.completions.create(model=model, messages=QUESTION, **options).choices[0].logprobs
    assert logprobs and logprobs.content
    return [other.logprob for other in logprobs.content[0].top_logprobs]


def test_a_finished_adapter_becomes_a_model_name_without_restart(client: openai.OpenAI) -> None:
    cards = {card.id: card.model_dump() for card in client.models.list()}
    assert set(cards) == {BASE, SFT, f"{BASE}+tests", f"{SFT}+tests"}
    assert (cards[SFT]["parent"], cards[BASE]["parent"], cards[SFT]["max_model_len"]) == (BASE, None, 512)


def test_adapter_and_base_differ_and_stay_so_side_by_side(client: openai.OpenAI) -> None:
    alone = {model: scores(client, model) for model in (BASE, SFT)}
    assert alone[BASE] != pytest.approx(alone[SFT], abs=0.01)
    together: list[tuple[str, list[float]]] = []
    threads = [
        threading.Thread(target=lambda m=model: together.append((m, scores(client, m)))) for model in (BASE, SFT) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 8
    for model, found in together:
        assert found == pytest.approx(alone[model], abs=1e-3), model


def test_a_stream_comes_in_pieces_and_is_the_same_text(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=SFT, messages=QUESTION, max_tokens=24, temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(pieces) > 4, "guessed tokens come together, the whole does not"
    plain = client.chat.completions.create(model=SFT, messages=QUESTION, max_tokens=24, temperature=0)
    assert "".join(pieces) == plain.choices[0].message.content


def test_next_to_no_temperature_draws_what_is_likeliest_guessed_tokens_too(client: openai.OpenAI) -> None:
    options: Any = {"model": SFT, "messages": QUESTION, "max_tokens": 48}
    greedy, cold = (client.chat.completions.create(**options, temperature=value) for value in (0, 0.001))
    assert cold.choices[0].message.content == greedy.choices[0].message.content


def test_an_answer_with_tests_is_run_in_the_sandbox_and_says_what_it_passed(client: openai.OpenAI) -> None:
    question: Any = [{"role": "user", "content": f"{QUESTION[0]['content']}\nadd(1, 2) == 3\nadd(0, 0) == 0"}]
    done = client.chat.completions.create(model=f"{SFT}+tests", messages=question, max_tokens=16)
    told = done.model_extra["best_of"]  # type: ignore[index]
    assert (told["drafts"], told["examples"], told["passed"]) == (8, 2, 0), "an untrained model adds nothing"
    assert told["failed"]["call"] == "add(1, 2)" and told["failed"]["error"]
    assert done.usage and told["tokens"] == done.usage.completion_tokens > 8
    assert len(done.choices) == 1 and done.model == f"{SFT}+tests"


def test_log_probabilities_come_with_their_alternatives(client: openai.OpenAI) -> None:
    options: Any = {"max_tokens": 6, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    done = client.chat.completions.create(model=SFT, messages=QUESTION, **options)
    logprobs = done.choices[0].logprobs
    assert logprobs and logprobs.content and len(logprobs.content) == 6
    for token in logprobs.content:
        assert len(token.top_logprobs) == 3
        assert max(other.logprob for other in token.top_logprobs) == token.logprob <= 0


@pytest.mark.parametrize("model", [BASE, SFT])
def test_an_answer_by_schema_is_valid_json_even_of_an_untrained_model(client: openai.OpenAI, model: str) -> None:
    shape: Any = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}}
    done = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=64, response_format=shape)
    value = json.loads(done.choices[0].message.content or "")
    assert type(value["ok"]) is bool and value["kind"] in ("list", "dict") and len(value) == 2


def test_a_completion_and_a_gap_that_this_model_can_not_fill(client: openai.OpenAI) -> None:
    done = client.completions.create(model=SFT, prompt="def add(a, b):", max_tokens=8, temperature=0, logprobs=2)
    assert done.choices[0].text and done.choices[0].logprobs
    with pytest.raises(openai.UnprocessableEntityError, match="fill-in-the-middle") as refused:
        client.completions.create(model=SFT, prompt="def add(a, b):", suffix="\n", max_tokens=8)
    assert refused.value.param == "suffix"


def test_every_form_of_prompt_is_answered_in_order(client: openai.OpenAI) -> None:
    """What evaluation harnesses send: batches, mostly of token lists, for the log-probabilities of the prompts."""
    texts = ["def add(a, b):", "import numpy as np", "x = 1"]
    ask: Any = client.completions.create
    options: Any = {"model": BASE, "temperature": 0, "max_tokens": 0, "echo": True, "logprobs": 1}
    alone = [ask(prompt=text, **options).choices[0] for text in texts]
    assert [choice.text for choice in alone] == texts
    tokens = [tokenizer()(text).input_ids for text in texts]
    for batch in (texts, tokens):
        choices = ask(prompt=batch, **options).choices
        assert [choice.index for choice in choices] == [0, 1, 2]
        for choice, single in zip(choices, alone, strict=True):
            assert choice.logprobs.token_logprobs[0] is None
            assert choice.logprobs.token_logprobs[1:] == pytest.approx(single.logprobs.token_logprobs[1:], abs=1e-3)
    many = ask(model=BASE, prompt=["", *tokens_as_text(32)], n=2, max_tokens=2).choices
    assert [choice.index for choice in many] == list(range(66)), "each prompt's answers follow those before it"
    streamed = ask(model=BASE, prompt=tokens, max_tokens=2, stream=True)
    assert {choice.index for chunk in streamed for choice in chunk.choices} == {0, 1, 2}
    assert ask(model=BASE, prompt=None, max_tokens=2).usage.prompt_tokens == 1


def tokenizer() -> Any:
    return load_tokenizer(ensure_model(smoke().model))


def tokens_as_text(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


def test_a_bias_and_min_p_hold_although_speculation_is_on(client: openai.OpenAI) -> None:
    """Beside answers for which tokens are guessed. min_p 1 leaves the likeliest token, at any temperature."""
    repeating = "a b c d " * 20
    (wanted,) = tokenizer()(" the").input_ids
    free = {"prompt": repeating, "temperature": 0}
    cases: list[dict[str, Any]] = [
        free,
        free | {"logit_bias": {str(wanted): 100}},
        free | {"temperature": 1.5, "extra_body": {"min_p": 1.0}},
        free | {"temperature": 1.5, "extra_body": {"top_k": 1}},
    ]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = client.completions.create(model=BASE, max_tokens=24, **cases[number]).choices[0].text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[1] == " the" * 24
    assert found[0] == found[2] == found[3]


def test_top_k_alone_is_an_ordinary_request(client: openai.OpenAI) -> None:
    """It ended the engine, and with it everybody's answers."""
    body = {"top_k": 5}
    done = client.completions.create(model=BASE, prompt="The sea is", max_tokens=8, temperature=1.0, extra_body=body)
    assert done.choices[0].finish_reason == "length"


def test_what_the_engine_refuses_has_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
        client.completions.create(model=BASE, prompt="word " * 600, max_tokens=1)
    assert (caught.value.code, caught.value.type) == ("context_length_exceeded", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="out of vocabulary") as caught:
        client.completions.create(model=BASE, prompt=[2**30], max_tokens=1)
    assert caught.value.code == "invalid_value"


def test_an_answer_is_sent_back_as_it_came(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=BASE, messages=QUESTION, max_tokens=4).choices[0].message
    messages = [*QUESTION, answer.model_dump(), {"role": "developer", "content": "be brief"}, *QUESTION]
    assert client.chat.completions.create(model=BASE, messages=messages, max_tokens=4).choices


def test_lm_evaluation_harness_measures_what_the_weights_say(serving: Serving, client: openai.OpenAI) -> None:
    """Its log-probabilities, by token lists and by texts, are those of transformers on the same weights."""
    if importlib.util.find_spec("lm_eval") is None:  # to import it takes five seconds, and changes the environment
        pytest.skip("lm-evaluation-harness is not installed; `make setup-dev` does it")
    folder = ensure_model(smoke().model)
    asked, env = [serving.url, BASE, str(folder)], os.environ | {"OPENAI_API_KEY": serving.key}
    done = commands.run(asked, env, IMPORTED_UNDER, 240, module="tests.e2e.harness")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    model, words = load_model(folder, smoke().model, torch.device("cpu")), tokenizer()
    for number, (question, choices) in enumerate(harness.QUESTIONS[:4]):
        expected = [log_probability(model, words, question, choice) for choice in choices]
        for way in ("tokens", "texts"):
            assert [response[0] for response in found[way][number]] == pytest.approx(expected, abs=1e-3), way
    assert len(found["completions"]) == len(harness.QUESTIONS) and len(found["chat"]) == 3
    assert all(isinstance(text, str) for texts in (*found["completions"], *found["chat"]) for text in texts)


def log_probability(model: Any, words: Any, question: str, choice: str) -> float:
    """Log-probability of the choice after the question, in nats."""
    start, ids = len(words(question).input_ids), torch.tensor([words(question + choice).input_ids])
    with torch.no_grad():
        logits = model(ids).logits[0].float().log_softmax(-1)
    return sum(logits[place - 1, ids[0, place]].item() for place in range(start, ids.shape[1]))


def test_anthropics_package_is_answered_whole_in_a_stream_and_with_a_call(
    serving: Serving, client: openai.OpenAI
) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic package comes with `make setup-dev`")
    asked: dict[str, Any] = {"model": SFT, "messages": QUESTION}
    greedy: dict[str, Any] = {**asked, "max_tokens": 12, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=serving.url, api_key=serving.key, max_retries=0) as theirs:
        whole = theirs.messages.create(**greedy)
        with theirs.messages.stream(**greedy) as stream:
            text = "".join(stream.text_stream)
        assert text == whole.content[0].text and whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 12
        assert theirs.messages.count_tokens(**asked).input_tokens == whole.usage.input_tokens
        tool = {"name": "report", "input_schema": SCHEMA, "strict": True}
        choice = {"type": "tool", "name": "report"}
        done = theirs.messages.create(**asked, max_tokens=64, tools=[tool], tool_choice=choice)
        (call,) = [block for block in done.content if block.type == "tool_use"]
        jsonschema.validate(call.input, SCHEMA)
        assert (call.name, done.stop_reason) == ("report", "tool_use")
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
            theirs.messages.create(**{**greedy, "messages": [{"role": "user", "content": "word " * 600}]})
    plain = client.chat.completions.create(model=SFT, messages=QUESTION, max_tokens=12, temperature=0)
    assert plain.choices[0].message.content == text, "the same conversation as a chat"


def test_a_key_with_a_rate_is_refused_beyond_it_and_others_are_not(serving: Serving, client: openai.OpenAI) -> None:
    key = add_key(serving.log.parent / "keys.json", "slow", {"requests_per_minute": 2})
    slow = serving.client(api_key=key)
    for _ in range(2):
        slow.completions.create(model=BASE, prompt="a", max_tokens=1)
    with pytest.raises(openai.RateLimitError, match="this key may send 2 requests a minute") as refused:
        slow.completions.create(model=BASE, prompt="a", max_tokens=1)
    assert refused.value.code == "rate_limit_exceeded" and 0 < int(refused.value.response.headers["retry-after"]) <= 30
    client.completions.create(model=BASE, prompt="a", max_tokens=1)
    said = httpx.get(f"{serving.url}/metrics", headers={"Authorization": f"Bearer {serving.key}"}).text
    labels = '{outcome="rate_limit_exceeded",route="/v1/completions"}'
    assert f"pocketcoder_requests_total{labels} 1.0" in said
    assert httpx.get(f"{serving.url}/metrics").status_code == 401


def test_requests_made_from_the_servers_own_description_never_make_it_fail(serving: Serving, tmp_path: Path) -> None:
    """A few of those that `make faults` sends for minutes."""
    fuzz(serving.url, serving.key, tmp_path)


CONTINUE = [json.loads(line) for line in (ROOT / "tests/cases/continue.jsonl").read_text().splitlines()]
"""What Continue's extension sends, in its forms (its `core/llm` and `core/autocomplete`, June 2026) and our words."""


@pytest.mark.parametrize("case", CONTINUE, ids=lambda case: case["id"])
def test_continue_gets_the_answers_that_it_reads(serving: Serving, client: openai.OpenAI, case: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {serving.key}", "api-key": serving.key}
    body = case["body"] | {"model": BASE}
    answer = httpx.post(serving.url + case["path"], headers=headers, json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    if not body["stream"]:
        assert isinstance(answer.json()["choices"][0]["message"]["content"], str)
        return
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    chat = case["path"].endswith("/chat/completions")
    pieces = [choice["delta"].get("content") if chat else choice["text"] for choice in choices]
    assert "".join(piece or "" for piece in pieces) or choices[-1]["finish_reason"] == "stop"
    assert choices[-1]["finish_reason"] in ("length", "stop", "tool_calls")
    if "stream_options" in body:
        assert chunks[-1]["choices"] == [] and 0 < chunks[-1]["usage"]["completion_tokens"] <= body["max_tokens"]


def test_llm_talks_to_the_server_by_the_settings_that_connect_writes(
    serving: Serving, client: openai.OpenAI, cli: Cli, tmp_path: Path
) -> None:
    if importlib.util.find_spec("llm") is None:
        pytest.skip("llm is not installed; `make setup-dev` does it")
    file = tmp_path / "extra-openai-models.yaml"
    connected = cli(
        *("connect", "llm", "--url", serving.url, "--model", SFT, "--write", file),
        env={"POCKETCODER_API_KEY": serving.key},
    )
    assert connected.returncode == 0 and serving.key not in file.read_text(), connected.stderr
    asked = ["-m", f"pocketcoder/{SFT}", "--key", serving.key, "-o", "max_tokens", "8", "zip?"]
    done = subprocess.run(
        [sys.executable, "-m", "llm", *asked],
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_nothing_is_had_without_a_key(serving: Serving) -> None:
    with pytest.raises(openai.AuthenticationError, match="not known here"):
        serving.client(api_key="pk-wrong").models.list()
    bearer = {"Authorization": f"Bearer {serving.key}"}
    asked = {
        "/health": httpx.get(f"{serving.url}/health"),
        "no key": httpx.get(f"{serving.url}/v1/models"),
        "rebound": httpx.get(f"{serving.url}/v1/models", headers={**bearer, "Host": "evil.example"}),
        "vLLM's own": httpx.post(f"{serving.url}/tokenize", headers=bearer, json={}),
        "lora": httpx.post(f"{serving.url}/v1/load_lora_adapter", headers=bearer, json={}),
        "metrics": httpx.get(f"{serving.url}/metrics"),
        "page": httpx.get(f"{serving.url}/ide/config"),
        "file": httpx.get(f"{serving.url}/ide/gradio_api/file=/etc/passwd", headers=bearer),
        "large": httpx.post(f"{serving.url}/v1/completions", headers=bearer, content=b"x" * (2 << 20)),
    }
    expected = dict(zip(asked, (200, 401, 403, 404, 404, 401, 401, 404, 413), strict=True))
    assert {name: response.status_code for name, response in asked.items()} == expected


def test_v9_rays_dashboard_and_its_jobs_are_local_and_need_a_token(serving: Serving) -> None:
    found = re.search(r"dashboard  http://127\.0\.0\.1:(\d+)", serving.log.read_text())
    assert found, serving.log.read_text()
    dashboard = f"http://127.0.0.1:{found[1]}"
    job = {"entrypoint": "id"}
    paths = ("/api/jobs/", "/api/serve/applications/")
    for headers in ({}, {"Authorization": f"Bearer {'0' * 64}"}, {"Authorization": f"Bearer {serving.key}"}):
        asked = [httpx.get(f"{dashboard}{path}", headers=headers) for path in paths]
        asked.append(httpx.post(f"{dashboard}/api/jobs/", json=job, headers=headers))
        assert {response.status_code for response in asked} <= {401, 403}, headers
    for address in addresses_of_others():
        with socket.socket() as probe:
            assert probe.connect_ex((address, int(found[1]))) != 0, f"{address} is seen by others"


def addresses_of_others() -> list[str]:
    """This machine's addresses that other hosts could reach."""
    given = [address for addresses in psutil.net_if_addrs().values() for address in addresses]
    return [one.address for one in given if one.family == socket.AF_INET and not one.address.startswith("127.")]


def test_the_tools_are_offered_over_mcp_and_counted_by_key(serving: Serving, cache: Path) -> None:
    async def work(client: Any) -> tuple[Any, Any, list[Any]]:
        asked = [client.call_tool("search_docs", {"query": "json.loads", "source": "python"}) for _ in range(8)]
        program = {"code": "def add(a, b):\n    return a + b", "tests": "assert add(1, 2) == 3"}
        return await client.list_tools(), await client.call_tool("run_python", program), await asyncio.gather(*asked)

    url = f"{serving.url}/mcp"
    listed, ran, came = talk(url, serving.owner("agent"), work)
    assert [tool.name for tool in listed.tools] == ["search_docs", "run_python"]
    assert "passed" in text_of(ran) and not ran.is_error
    assert sorted(result.is_error for result in came) == [False] * 5 + [True] * 3
    assert all("Deserialize" in text_of(result) for result in came if not result.is_error)
    assert all("(budget)" in text_of(result) for result in came if result.is_error)
    rows = [json.loads(line) for line in (cache / "docsearch/decisions.jsonl").read_text().splitlines()]
    assert rows[-1]["mode"] == "offline", "ENV of the command, which is not set, reached the search"
    bearer = {"Authorization": f"Bearer {serving.key}"}
    asked = {
        "wrong key": httpx.post(url, headers={"Authorization": "Bearer pk-wrong"}, json={}),
        "rebound": httpx.post(url, headers={**bearer, "Host": "evil.example"}, json={}),
        "stream": httpx.get(url, headers=bearer),
        "elsewhere": httpx.post(f"{url}/x", headers=bearer),
    }
    expected = dict(zip(asked, (401, 403, 405, 404), strict=True))
    assert {name: response.status_code for name, response in asked.items()} == expected


def test_a_search_whose_process_was_killed_is_there_again(serving: Serving) -> None:
    async def search(client: Any) -> Any:
        return await client.call_tool("search_docs", {"query": "json.loads"})

    (replica,) = below("ServeReplica:tools:DocsSearch")
    replica.kill()
    end, number = time.monotonic() + RESTART_SECONDS, 0
    while (came := talk(f"{serving.url}/mcp", serving.owner(f"after{number}"), search)).is_error:
        assert text_of(came) == "The tool failed. Go on without it." and time.monotonic() < end
        time.sleep(0.5)
        number += 1
    assert below("ServeReplica:tools:DocsSearch") != [replica]


def about_json() -> dict[str, Any]:
    """A request of an untrained model, for which it can't but search for "json" in all sources."""
    words = {" json": 100, '"}': 50}  # this word until the query is full, then no source after it
    bias = {str(tokenizer()(word).input_ids[0]): value for word, value in words.items()}
    tools: Any = {"tools": [{"type": "search_docs"}, {"type": "run_python"}], "tool_choice": {"type": "search_docs"}}
    return {"model": BASE, "messages": QUESTION, "max_tokens": 120, "logit_bias": bias, **tools}


def test_a_search_of_the_models_own_goes_through_the_whole_stack(client: openai.OpenAI) -> None:
    done: Any = client.chat.completions.create(**about_json())
    (event,) = done.choices[0].message.model_extra["tool_events"]
    assert (event["type"], event["status"]) == ("search_docs", "ok")
    assert " json json" in json.loads(event["arguments"])["query"] and "source" not in event["arguments"]
    assert event["passages"] and "json" in " ".join(each["title"] for each in event["passages"]).lower()
    alone: Any = client.chat.completions.create(model=BASE, messages=QUESTION, max_tokens=1)
    asked_again = done.usage.prompt_tokens - alone.usage.prompt_tokens
    assert asked_again > alone.usage.prompt_tokens, "with a sentence: the passages don't fit into 512 tokens"
    messages = [*QUESTION, done.choices[0].message.model_dump(), *QUESTION]
    assert client.chat.completions.create(model=BASE, messages=messages, max_tokens=4).choices
    streamed: Any = client.chat.completions.create(**about_json(), stream=True)
    deltas = [choice.delta for chunk in streamed for choice in chunk.choices]
    events = [event for delta in deltas for event in (delta.model_extra or {}).get("tool_events", ())]
    assert [event["status"] for event in events] == ["started", "ok"]
    assert "".join(delta.content or "" for delta in deltas)


def test_arguments_are_drawn_by_the_tools_schema_with_guessed_tokens_too(client: openai.OpenAI) -> None:
    asked = about_json() | {"logit_bias": None, "seed": 3, "max_tokens": 380}
    done: Any = client.chat.completions.create(**asked)
    (event,) = done.choices[0].message.model_extra["tool_events"]
    jsonschema.validate(json.loads(event["arguments"]), SEARCH_DOCS_TOOL["function"]["parameters"])


def test_tools_whose_process_was_killed_are_there_again_and_other_requests_do_not_notice(serving: Serving) -> None:
    one = serving.client(api_key=serving.owner("patient"))
    (replica,) = below("ServeReplica:tools:Tools")
    replica.kill()
    assert one.chat.completions.create(model=BASE, messages=QUESTION, max_tokens=2).choices
    end = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            done: Any = one.chat.completions.create(**about_json())
            break
        except openai.APIStatusError as error:
            assert (error.status_code, error.code) == (503, "tools_unavailable") and time.monotonic() < end
            time.sleep(0.5)
    assert [event["status"] for event in done.choices[0].message.model_extra["tool_events"]] == ["ok"]


def test_a_full_queue_says_when_to_come_back(serving: Serving) -> None:
    body = {"model": BASE, "messages": QUESTION, "max_tokens": 100, "stream": True, "temperature": 1.0}
    statuses: list[tuple[int, str]] = []
    health: list[int] = []
    everybody = threading.Barrier(20)  # 4 at once and 8 waiting are let in

    def ask() -> None:
        headers = {"Authorization": f"Bearer {serving.key}"}
        url = f"{serving.url}/v1/chat/completions"
        with httpx.Client(headers=headers, timeout=120) as client, made(client, url) as response:
            statuses.append((response.status_code, response.headers.get("retry-after", "")))
            if everybody.wait(timeout=120) == 0:
                health.append(httpx.get(f"{serving.url}/health").status_code)
            everybody.wait(timeout=120)

    def made(client: httpx.Client, url: str) -> Any:
        everybody.wait(timeout=120)  # while the others are still being made, the first could be answered
        return client.stream("POST", url, json=body)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [seconds for status, seconds in statuses if status == 429]
    assert len(statuses) == 20 and {status for status, _ in statuses} == {200, 429}
    assert 1 <= len(refused) <= 8 and all(int(seconds) >= 1 for seconds in refused)
    assert health == [200], "a full server is a healthy one"


def test_clients_that_leave_give_the_engines_back(client: openai.OpenAI) -> None:
    def stream() -> Any:
        return client.chat.completions.create(
            model=BASE, messages=QUESTION, max_tokens=LONG // 2, temperature=1.0, stream=True
        )

    def seconds() -> float:
        start = time.monotonic()
        assert scores(client, BASE)
        return time.monotonic() - start

    idle = seconds()
    opened = [stream() for _ in range(8)]  # both engines' four rows
    for each in opened:
        next(each)
    start = time.monotonic()
    for _ in opened.pop():
        pass
    whole = time.monotonic() - start
    for each in opened:
        each.close()
    for each in [stream() for _ in range(8)]:
        each.close()
    assert seconds() < idle + 0.5 * whole, "rows that nobody reads were drawn to their end"


def test_a_retrained_adapter_answers_without_restart(serving: Serving, client: openai.OpenAI) -> None:
    weights = serving.run.sft_adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    before = scores(client, SFT)
    save_file({name: -tensor for name, tensor in tensors.items()}, weights)
    assert scores(client, SFT) == pytest.approx(before, abs=1e-3), "A and B both changed sign: the same product"
    save_file({name: -tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}, weights)
    assert scores(client, SFT) != pytest.approx(before, abs=0.01)


def test_in_a_browser_a_question_streams_and_a_program_runs(serving: Serving, client: openai.OpenAI) -> None:
    host = serving.url.removeprefix("http://")
    with open_browser() as browser:
        browser.driver.get(f"{serving.url}/")
        assert "API key" in browser.driver.page_source, "the way to the page asks for a key"
        page = Page(browser, f"{serving.url}/ide/?key={serving.key}")
        assert serving.key not in browser.driver.current_url
        page.choose(SFT)
        page.watch_answer()
        page.ask("Write a Python function that adds two numbers.")
        wait_until(lambda: len(page.answer_texts()) > 2)
        page.stop_answer()
        page.write_program("print(sum(int(word) for word in input().split()))")
        page.field("#given textarea").send_keys("20 22")
        verdict = page.run()
        assert verdict.startswith("Ran to its end") and "42" in verdict
        page.screenshot("served")
        page.open_tab("Evaluation")
        wait_until(lambda: "humaneval-chat-6" in page.text("#view-evaluation table"))
        told = page.text("#view-evaluation")
        assert "n = 6" in told and "0 of 6" in told
        assert "points of pass@1" in told or "the adapter is another now" in told, "an earlier test trains it anew"
        page.screenshot("served-evaluation")
        page.open_tab("Learning")
        wait_until(
            lambda: page.driver.execute_script("return document.querySelector('#view-learning img')?.naturalWidth")
        )
        page.screenshot("served-learning")
        page.open_tab("Evolution")
        wait_until(lambda: "Evolution was left out: evolve.when=never says so" in page.text("#view-evolution"))
        page.open_tab("Run")
        wait_until(lambda: page.text("#view-run").startswith("Complete after"))
        page.screenshot("served-run")
        assert browser.requested_elsewhere(host) == []


class Streams:
    """Eight answers that are read at once, each by a client of its own."""

    def __init__(self, serving: Serving) -> None:
        self.pieces = dict.fromkeys(range(8), 0)
        self.ends: dict[int, str] = {}
        clients = [serving.client(timeout=120) for _ in self.pieces]  # before the first asks: one takes a while
        self._threads = [threading.Thread(target=self._read, args=arguments) for arguments in enumerate(clients)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int, client: openai.OpenAI) -> None:
        try:
            stream = client.chat.completions.create(
                model=BASE, messages=QUESTION, max_tokens=LONG, temperature=1.0, stream=True
            )
            for _ in stream:
                self.pieces[number] += 1
            self.ends[number] = "whole"
        except openai.APIError as error:
            self.ends[number] = error.message
        except Exception as error:  # what a user would see as a crash
            self.ends[number] = repr(error)

    def wait_for_growing(self, number: int) -> None:
        """Until so many have begun and are far from their end."""
        wait_until(lambda: sum(0 < count < 2 * LONG // 3 for count in self.pieces.values()) >= number, 60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        assert len(self.ends) == 8, self.ends


def test_streams_of_a_killed_engine_end_cleanly_and_the_others_go_on(serving: Serving, client: openai.OpenAI) -> None:
    before = serving.replicas()
    assert len(before) == 2
    killed = min(before, key=lambda process: process.pid)
    children = killed.children(recursive=True)
    assert children, "the engine's own process"
    streams = Streams(serving)
    streams.wait_for_growing(5)  # an engine has four rows: both hold one that grows
    killed.kill()
    assert scores(client, BASE), "the other engine serves at once"
    streams.join()
    assert set(streams.ends.values()) == {
        "whole", "the engine died while it answered, and another one is starting: send the request again"
    }  # fmt: skip
    wait_until(lambda: not any(child.is_running() for child in children), 10)


def test_an_engine_that_dies_alone_takes_its_replica_along_and_another_starts(
    serving: Serving, client: openai.OpenAI
) -> None:
    """Out of memory ends the engine's own process first. Another engine has been starting since the last test, and may
    have come up meanwhile."""
    before = _running(serving)
    engines = [child for replica in before for child in replica.children(recursive=True)]
    assert engines
    streams = Streams(serving)
    streams.wait_for_growing(1)
    for engine in engines:
        engine.kill()
    streams.join()
    assert any("the engine died of this request, or under it" in end for end in streams.ends.values()), streams.ends
    start = time.monotonic()
    patient = serving.client(max_retries=8, timeout=RESTART_SECONDS)
    assert scores(patient, BASE), "served again"
    assert time.monotonic() - start < RESTART_SECONDS
    wait_until(lambda: len(_running(serving) - before) == 2 and not serving.replicas() & before, RESTART_SECONDS)


def _running(serving: Serving) -> set[psutil.Process]:
    """Replicas whose engines serve, as Ray's dashboard has it."""
    dashboard = re.search(r"dashboard  (http://\S+)", serving.log.read_text())
    assert dashboard
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    details = httpx.get(f"{dashboard[1]}/api/serve/applications/", headers=headers).raise_for_status().json()
    replicas = details["applications"]["llm"]["deployments"]["LLMServer"]["replicas"]
    running = {replica["pid"] for replica in replicas if replica["state"] == "RUNNING"}
    return {replica for replica in serving.replicas() if replica.pid in running}


def test_ctrl_c_ends_everything_that_was_started(serving: Serving, client: openai.OpenAI) -> None:
    command = psutil.Process(serving.process.pid)
    since = command.create_time()
    workers = [one for one in below("ray::") if one.create_time() > since]  # forked: not below the command
    engines = [engine for replica in serving.replicas() for engine in replica.children(recursive=True)]
    started = [*command.children(recursive=True), *workers, *engines]
    assert len(workers) > 4 and engines
    command.send_signal(signal.SIGINT)
    serving.process.join(timeout=60)
    assert serving.process.exitcode == 0
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, [title(process) for process in alive]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(serving.url.rpartition(":")[2]))) != 0


def test_serve_deploy_takes_the_file_as_it_is(cluster: Cluster, cli: Cli, tmp_path: Path) -> None:
    """On a cluster that was started by `ray start`, where `runtime_env` says where the repository is."""
    keys = tmp_path / "keys.json"
    added = cli("keys", "add", "laptop", env={"POCKETCODER_KEYS": str(keys)})
    assert added.returncode == 0, added.stderr
    key = re.search(r"pk-\S+", added.stdout)
    assert key
    config = yaml.safe_load((ROOT / "serve_configs/laptop.yaml").read_text())
    config["http_options"]["port"] = port = free_port()
    (page,) = config["applications"] = config["applications"][2:]  # engine and tools were started above
    page["runtime_env"] = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    page["args"]["keys_file"] = str(keys)
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(config))
    deploy = [str(BIN / "serve"), "deploy", str(tmp_path / "page.yaml"), "-a", cluster.dashboard]
    done = subprocess.run(deploy, env=cluster.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    url = f"http://127.0.0.1:{port}/ide/config"
    wait_until(lambda: _status(url) == 401, 90)
    assert httpx.get(url, headers={"Authorization": f"Bearer {key[0]}"}).status_code == 200


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.HTTPError:
        return 0
