"""The edge beside vLLM's own server: the same requests to both, one run, round by round in changing order.

Throughput: --requests streamed chats, all at once, output tokens a second; ours divided by direct. Latency: one client,
one token, p50 of ours less p50 of "bare Serve" (vLLM's app in a Serve deployment, nothing of ours before it)
and of direct. Speculation: prompts that ask for an edit of given code, one at a time, n-gram guesses on and off, with
whether the answers are the same. Prints one JSON line.

Three engines are alive at once (direct, bare, ours), and those that are not asked sleep in their event loops.
Run: python -m benchmarks.serving [--requests 64] [--new-tokens 32] [--rounds 2] [--skip speculation]
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

from app.hardware import describe
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.profiles import get_profile
from app.runs import REPOSITORY
from app.serving.engine import prepare_environment, served_name, server_arguments
from app.serving.plan import plan_serving
from app.settings import Profile

DIRECT_PORT, BARE_PORT, OURS_PORT = 8301, 8302, 8303
EDIT = """Rename the function `compute_total` to `order_total` everywhere in this code and give the whole code again:

```python
def compute_total(items, tax_rate={rate}):
    total = 0
    for item in items:
        total += item.price * item.count
    return total * (1 + tax_rate)


def print_total(items):
    print("total:", compute_total(items))


def average(items):
    return compute_total(items) / max(1, len(items))
```"""
TOPICS = ("a stack", "quicksort", "a prime sieve", "binary search", "a linked list", "an LRU cache", "a trie", "a heap")
BARE = """
from ray import serve
from app.profiles import get_profile
from app.serving.engine import Engine
from app.overrides import with_overrides

@serve.deployment(max_ongoing_requests=1000)
@serve.ingress()
class Bare:
    async def __init__(self, profile, overrides):
        profile = with_overrides(get_profile(profile), overrides)
        self._engine = await Engine.start(profile.model, profile.serving, None)

    def __serve_build_asgi_app__(self):
        return self._engine._app

def build(args):
    return Bare.bind(args["profile"], args["overrides"])
"""
BARE_CONFIG = """
proxy_location: HeadOnly
http_options: {{host: 127.0.0.1, port: {port}}}
applications:
  - {{name: bare, route_prefix: /, import_path: "bare_serve:build", args: {args}}}
"""


class Server:
    """A server in a process group of its own."""

    def __init__(self, name: str, port: int, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/v1"
        self.key = "unused"
        self._log = log
        with open(log, "w") as file:
            self._process = subprocess.Popen(
                command, env=env, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self, timeout_s: float = 300) -> None:
        start = time.monotonic()
        while time.monotonic() - start < timeout_s:
            if self._process.poll() is not None:
                break
            if found := [word for word in self._log.read_text().split() if word.startswith("pk-")]:
                self.key = found[-1].rstrip(")")
            try:
                if httpx.get(f"{self.url}/models", headers={"Authorization": f"Bearer {self.key}"}).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(1)
        raise RuntimeError(f"{self.name} did not come up: {self._log.read_text()[-2000:]}")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def servers(profile: Profile, overrides: list[str], names: list[str]) -> Iterator[dict[str, Server]]:
    """Started one after the other, so that they don't slow each other's start."""
    folder = Path(tempfile.mkdtemp(prefix="serving-", dir="/tmp"))
    env = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{folder}", "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        started: dict[str, Server] = {}
        for name in names:
            command, port, own = _command(name, profile, overrides, folder)
            started[name] = Server(name, port, command, env | own, folder / f"{name}.log")
            stack.callback(started[name].close)
            started[name].wait()
        yield started


def _command(name: str, profile: Profile, overrides: list[str], folder: Path) -> tuple[list[str], int, dict[str, str]]:
    if name == "direct":
        prepare_environment(profile.serving)  # vLLM's variables, for the child
        weights = ensure_model(profile.model)
        plan = plan_serving(weights, profile.model, profile.serving)
        arguments = server_arguments(weights, profile.model, profile.serving, plan, load_tokenizer(weights))
        module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        own = {key: value for key, value in os.environ.items() if key.startswith("VLLM_")}
        return [*module, *arguments, "--host=127.0.0.1", f"--port={DIRECT_PORT}"], DIRECT_PORT, own
    sets = [text for override in overrides for text in ("--set", override)]
    if name == "bare":
        (folder / "bare_serve.py").write_text(BARE)
        config = folder / "bare.yaml"
        args = json.dumps({"profile": profile.name, "overrides": overrides})
        config.write_text(BARE_CONFIG.format(port=BARE_PORT, args=args))
        return [str(Path(sys.executable).with_name("serve")), "run", str(config)], BARE_PORT, {}
    command = [sys.executable, "-m", "app", "serve", "--profile", profile.name, "--run", "none"]
    return [*command, "--port", str(OURS_PORT), *sets], OURS_PORT, {}


async def throughput(server: Server, model: str, requests: int, new_tokens: int) -> dict[str, float]:
    """All requests at once, streamed. Tokens a second over the whole, and the median of a request's seconds."""
    client = openai.AsyncOpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=900)

    async def one(number: int) -> tuple[float, int]:
        start = time.perf_counter()
        question = f"Write a Python class for {TOPICS[number % len(TOPICS)]}, version {number}, with a docstring."
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=new_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        tokens = 0
        async for chunk in stream:
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        return time.perf_counter() - start, tokens

    start = time.perf_counter()
    done = await asyncio.gather(*(one(number) for number in range(requests)))
    seconds = time.perf_counter() - start
    await client.close()
    return {
        "tokens_per_s": sum(tokens for _, tokens in done) / seconds,
        "p50_s": statistics.median(taken for taken, _ in done),
    }


def latency_ms(server: Server, model: str, count: int) -> list[float]:
    """Milliseconds until one token came, for one client, request after request."""
    body = {"model": model, "prompt": "def f(", "max_tokens": 1, "temperature": 0}
    taken = []
    with httpx.Client(headers={"Authorization": f"Bearer {server.key}"}, timeout=60) as client:
        for _ in range(count):
            start = time.perf_counter()
            client.post(f"{server.url}/completions", json=body).raise_for_status()
            taken.append(1000 * (time.perf_counter() - start))
    return taken


def edits(server: Server, model: str, count: int) -> tuple[float, list[str]]:
    """Tokens a second over edits asked one at a time, and the answers."""
    client = openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=900)
    tokens, answers, start = 0, [], 0.0
    for number in range(count + 1):  # the first one warms up
        if number == 1:
            tokens, answers, start = 0, [], time.perf_counter()
        prompt = EDIT.format(rate=round(0.1 + number / 100, 2))
        messages: Any = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=128, temperature=0)
        assert answer.usage
        tokens += answer.usage.completion_tokens
        answers.append(answer.choices[0].message.content or "")
    return tokens / (time.perf_counter() - start), answers


def compare_servers(profile: Profile, overrides: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    model = served_name(profile.model)
    rates: dict[str, list[float]] = {"direct": [], "ours": []}
    waits: dict[str, list[float]] = {"direct": [], "ours": []}
    delays: dict[str, list[float]] = {"direct": [], "bare": [], "ours": []}
    with servers(profile, overrides, list(delays)) as there:
        for server in there.values():  # the first requests compile and fill caches
            asyncio.run(throughput(server, model, 8, 8))
            latency_ms(server, model, 10)
        for number in range(arguments.rounds):
            order = list(rates)[:: 1 if number % 2 == 0 else -1]
            for name in order:
                measured = asyncio.run(throughput(there[name], model, arguments.requests, arguments.new_tokens))
                rates[name].append(measured["tokens_per_s"])
                waits[name].append(measured["p50_s"])
        for number in range(20):
            for name in list(delays)[:: 1 if number % 2 == 0 else -1]:
                delays[name] += latency_ms(there[name], model, 20)
    ratios = [ours / direct for ours, direct in zip(rates["ours"], rates["direct"], strict=True)]
    p50 = {name: statistics.median(values) for name, values in delays.items()}
    return {
        "requests": arguments.requests,
        "new_tokens": arguments.new_tokens,
        "tokens_per_s": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "p50_s": {name: [round(value, 2) for value in values] for name, values in waits.items()},
        "throughput_ratio": round(statistics.median(ratios), 3),
        "throughput_ratios": [round(ratio, 3) for ratio in ratios],
        "latency_p50_ms": {name: round(value, 1) for name, value in p50.items()},
        "added_beyond_bare_serve_ms": round(p50["ours"] - p50["bare"], 1),
        "added_beyond_direct_ms": round(p50["ours"] - p50["direct"], 1),
    }


def compare_speculation(profile: Profile, overrides: list[str], count: int) -> dict[str, Any]:
    """One server after the other, off, on, off, so that a machine that changes its speed shows."""
    model = served_name(profile.model)
    rates: dict[str, list[float]] = {"none": [], "ngram": []}
    answers: dict[str, list[str]] = {}
    for kind in ("none", "ngram", "none"):
        with servers(profile, [*overrides, f"serving.speculation={kind}"], ["ours"]) as there:
            rate, answers[kind] = edits(there["ours"], model, count)
            rates[kind].append(rate)
    same = sum(a == b for a, b in zip(answers["none"], answers["ngram"], strict=True))
    return {
        "edit_tokens_per_s": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "speculation_ratio": round(rates["ngram"][0] / statistics.mean(rates["none"]), 2),
        "same_answers": f"{same} of {count}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--skip", choices=("servers", "speculation"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()

    overrides: list[str] = arguments.overrides
    profile = with_overrides(get_profile(arguments.profile), overrides)
    result: dict[str, Any] = {"benchmark": "serving", "model": profile.model.name}
    result["device"] = (describe()["cards"] or [describe()["cpu"]])[0]
    if arguments.skip != "servers":
        result |= compare_servers(profile, overrides, arguments)
    if arguments.skip != "speculation":
        result |= compare_speculation(profile, overrides, arguments.edits)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
