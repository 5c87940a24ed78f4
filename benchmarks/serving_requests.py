"""What `benchmarks.serving` asks of a server: chats all at once, single tokens, edits one at a time, and
log-probabilities of a given text.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import openai

from benchmarks.servers import Server

EDIT = """Rename the function `compute_total` to `order_total` everywhere in this code and give the whole code again:

```python
{code}
```"""
CODE = """def compute_total(items, tax_rate={rate}):
    total = 0
    for item in items:
        total += item.price * item.count
    return total * (1 + tax_rate)


def print_total(items):
    print("total:", compute_total(items))


def average(items):
    return compute_total(items) / max(1, len(items))"""
TOPICS = ("a stack", "quicksort", "a prime sieve", "binary search", "a linked list", "an LRU cache", "a trie", "a heap")


@dataclass(frozen=True, slots=True)
class Round:
    """One round of requests that were sent at once. Made by `ask`."""

    tokens_per_s: float
    p50_s: float
    answers: dict[int, str]


async def ask(server: Server, models: Mapping[int, str], new_tokens: int) -> Round:
    """Streamed chats, all at once, by their numbers. Tokens a second over the whole, and the median of a request's
    seconds."""
    client = openai.AsyncOpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=900)

    async def one(number: int) -> tuple[float, int, str]:
        start = time.perf_counter()
        question = f"Write a Python class for {TOPICS[number % len(TOPICS)]}, version {number}, with a docstring."
        stream = await client.chat.completions.create(
            model=models[number],
            messages=[{"role": "user", "content": question}],
            max_tokens=new_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        tokens, text = 0, ""
        async for chunk in stream:
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        return time.perf_counter() - start, tokens, text

    start = time.perf_counter()
    done = await asyncio.gather(*map(one, models))
    seconds = time.perf_counter() - start
    await client.close()
    return Round(
        tokens_per_s=sum(tokens for _, tokens, _ in done) / seconds,
        p50_s=statistics.median(taken for taken, _, _ in done),
        answers=dict(zip(models, (text for _, _, text in done), strict=True)),
    )


def ask_all(server: Server, model: str, requests: int, new_tokens: int) -> Round:
    return asyncio.run(ask(server, dict.fromkeys(range(requests), model), new_tokens))


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
    tokens, start = 0, 0.0
    answers: list[str] = []
    for number in range(count + 1):  # the first one warms up
        if number == 1:
            tokens, answers, start = 0, [], time.perf_counter()
        prompt = EDIT.format(code=CODE.format(rate=round(0.1 + number / 100, 2)))
        messages: Any = [{"role": "user", "content": prompt}]
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=128, temperature=0)
        assert answer.usage
        tokens += answer.usage.completion_tokens
        answers.append(answer.choices[0].message.content or "")
    return tokens / (time.perf_counter() - start), answers


async def log_probabilities(server: Server, model: str) -> list[float]:
    """The log-probabilities of a given text's tokens, as the server scores them."""
    client = openai.AsyncOpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=900)
    prompt = CODE.format(rate=0.2)
    answer = await client.completions.create(
        model=model, prompt=prompt, max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    await client.close()
    found = answer.choices[0].logprobs
    assert found and found.token_logprobs
    return [value for value in found.token_logprobs[:-1] if value is not None]
