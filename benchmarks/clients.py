"""Two hundred clients at once for a minute: is any answer lost or mixed with another, is what is too much refused as it
should be, and does the server's memory stay what it was?

A server of its own is started (`benchmarks.servers`, "ours"). Each client asks, reads its answer and asks again until
the time is over. Half of them stream; one in four speaks Anthropic's Messages API by its package, the rest OpenAI's by
its; one in ten has a key with a rate of LIMITED requests a minute. What an answer must be is known: a chat may say one
token alone (`logit_bias`), drawn anew for each request, and so many times; a message may say one number alone (a
schema). What comes back must be that and the whole of it, under one id, with as many tokens as were counted. A client
that is refused with 429 has to be told when to come back, and waits that long.

Printed, one JSON line: answers by form; wrong (lost, mixed or broken: must be 0) and the first of them in words;
refusals by code and those without Retry-After; tokens a second; median and 99th percentile of seconds until a stream's
first piece and until an answer's end; resident memory of proxy, edge and engine before, after a quarter, and
at the end.
Run: python -m benchmarks.clients [--clients 200] [--seconds 60] [--profile smoke] [--set KEY=VALUE ...]
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import openai
import psutil

from app.hardware import describe
from app.models.base import ensure_model, load_tokenizer
from app.overrides import with_overrides
from app.profiles import get_profile
from app.serving.engine import served_name
from app.serving.keys import add_key
from app.settings import Profile
from benchmarks.servers import Server, servers

DIGITS = 12
LIMITED = 10
TOKENS = (8, 32)
"""Of a chat's answer: the least and the most."""
PROCESSES = {"proxy": "ProxyActor", "edge": "ServeReplica:llm:Edge", "engine": "ServeReplica:llm:LLMServer"}
"""By what the titles of Ray's workers begin with after `ray::`."""
QUESTION: Any = [{"role": "user", "content": "Say it."}]


@dataclass
class Seen:
    """What all clients met."""

    answers: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Mixed, lost or broken, in words."""
    without_retry_after: int = 0
    tokens: int = 0
    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    ids: set[str]
    tokens: int
    first_s: float | None


class Client:
    def __init__(self, number: int, server: Server, key: str, model: str, words: dict[int, str], seen: Seen) -> None:
        """words: tokens that are one word each, by their ids."""
        self._seen, self._model, self._words = seen, model, words
        self._random = random.Random(number)
        self._is_message = number % 4 == 0
        self._streams = number // 4 % 2 == 0
        root = server.url.removesuffix("/v1")
        self._openai = openai.AsyncOpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=300)
        self._anthropic = anthropic.AsyncAnthropic(base_url=root, api_key=key, max_retries=0, timeout=300)

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            start = time.monotonic()
            try:
                await (self._ask_message() if self._is_message else self._ask_chat())
            except (openai.RateLimitError, anthropic.RateLimitError) as error:
                await self._wait(error, until)
            except Exception as error:  # whatever else a client may meet is what is looked for
                self._seen.wrong.append(f"{type(error).__name__}: {error}"[:300])
            else:
                self._seen.whole_s.append(time.monotonic() - start)

    async def _ask_chat(self) -> None:
        token, count = self._random.choice(list(self._words)), self._random.randint(*TOKENS)
        answer = await self._chat(token, count)
        is_right = answer.text == self._words[token] * count and answer.tokens == count
        self._note(is_right, f"{count} times {self._words[token]!r}", answer)

    async def _ask_message(self) -> None:
        number = str(self._random.randrange(10 ** (DIGITS - 1), 10**DIGITS))
        answer = await self._message(number)
        self._note(answer.text == json.dumps({"n": number}, separators=(",", ":")), number, answer)

    def _note(self, is_right: bool, wanted: str, answer: Answer) -> None:
        if not is_right or len(answer.ids) != 1:
            self._seen.wrong.append(f"wanted {wanted}, got {answer}"[:300])
            return
        form = "messages" if self._is_message else "chats"
        self._seen.answers[f"{form}, {'streamed' if self._streams else 'whole'}"] += 1
        self._seen.tokens += answer.tokens
        if answer.first_s is not None:
            self._seen.first_s.append(answer.first_s)

    async def _wait(self, error: Any, until: float) -> None:
        body = error.body if isinstance(error.body, dict) else {}
        told = body.get("error", body)
        self._seen.refused[str(told.get("code") or told.get("type"))] += 1
        after = error.response.headers.get("retry-after", "")
        if not after.isdigit():
            self._seen.without_retry_after += 1
        seconds = int(after) if after.isdigit() else 1
        await asyncio.sleep(min(seconds * self._random.uniform(1, 1.5), max(0.0, until - time.monotonic())))

    async def _chat(self, token: int, count: int) -> Answer:
        create: Any = self._openai.chat.completions.create
        asked = {"model": self._model, "messages": QUESTION, "max_tokens": count, "logit_bias": {str(token): 100}}
        start = time.monotonic()
        if not self._streams:
            done = await create(**asked)
            return Answer(done.choices[0].message.content or "", {done.id}, done.usage.completion_tokens, None)
        text, ids, tokens, first = "", set(), 0, None
        async for chunk in await create(**asked, stream=True, stream_options={"include_usage": True}):
            ids.add(chunk.id)
            piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
            first = time.monotonic() - start if piece and first is None else first
            text, tokens = text + piece, chunk.usage.completion_tokens if chunk.usage else tokens
        return Answer(text, ids, tokens, first)

    async def _message(self, number: str) -> Answer:
        shape = {"format": {"type": "json_schema", "schema": _only(number)}}
        create: Any = self._anthropic.messages.create
        asked = {"model": self._model, "messages": QUESTION, "max_tokens": 64, "output_config": shape}
        start = time.monotonic()
        if not self._streams:
            done = await create(**asked)
            return Answer("".join(block.text for block in done.content), {done.id}, done.usage.output_tokens, None)
        text, ids, tokens, first, is_whole = "", set(), 0, None, False
        async for event in await create(**asked, stream=True):
            if event.type == "message_start":
                ids.add(event.message.id)
            elif event.type == "content_block_delta":
                first = time.monotonic() - start if first is None else first
                text += event.delta.text
            elif event.type == "message_delta":
                tokens = event.usage.output_tokens
            is_whole = event.type == "message_stop"
        return Answer(text if is_whole else "", ids, tokens, first)

    async def close(self) -> None:
        await self._openai.close()
        await self._anthropic.close()


def _only(number: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"n": {"const": number}}, "required": ["n"], "additionalProperties": False}


def one_word_tokens(tokenizer: Any) -> dict[int, str]:
    """Tokens that stay one word however often they are repeated, by their ids."""
    words = {}
    for token in range(1000, min(30_000, len(tokenizer))):
        text = tokenizer.decode([token])
        if len(text) > 3 and text[0] == " " and text[1:].isascii() and text[1:].isalpha():
            words[token] = text
    return words


async def ask_all(server: Server, keys: list[str], profile: Profile, clients: int, seconds: float) -> dict[str, Any]:
    """keys: the one with a rate is the last; one client in ten has it."""
    seen, words = Seen(), one_word_tokens(load_tokenizer(ensure_model(profile.model)))
    model = served_name(profile.model)
    there = [
        Client(number, server, keys[-1] if number % 10 == 9 else keys[0], model, words, seen)
        for number in range(clients)
    ]
    warm = Client(0, server, keys[0], model, words, Seen())
    for _ in range(4):
        await warm._ask_message()
        await warm._ask_chat()
    memory = {"before": resident_mib(server)}
    start = time.monotonic()
    running = [asyncio.create_task(client.run(start + seconds)) for client in there]
    await asyncio.sleep(seconds / 4)
    memory["after a quarter"] = resident_mib(server)
    await asyncio.gather(*running)
    took = time.monotonic() - start
    memory["at the end"] = resident_mib(server)
    await asyncio.gather(*(client.close() for client in (*there, warm)))
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "answers": dict(seen.answers),
        "wrong": len(seen.wrong),
        "wrong_in_words": seen.wrong[:5],
        "refused": dict(seen.refused),
        "refused_without_retry_after": seen.without_retry_after,
        "tokens_per_s": round(seen.tokens / took, 1),
        "first_s": percentiles(seen.first_s),
        "whole_s": percentiles(seen.whole_s),
        "resident_mib": memory,
    }


def percentiles(values: list[float]) -> list[float]:
    """Median and 99th percentile."""
    if len(values) < 2:
        return [round(value, 2) for value in values]
    cuts = statistics.quantiles(values, n=100)
    return [round(cuts[49], 2), round(cuts[98], 2)]


def resident_mib(server: Server) -> dict[str, int]:
    """Of the processes that a request passes; the engine's own child process with it."""
    found = dict.fromkeys(PROCESSES, 0)
    for process in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            for name, words in PROCESSES.items():
                if title.startswith(f"ray::{words}"):
                    all_of_it = (process, *process.children(recursive=True))
                    found[name] += sum(one.memory_info().rss for one in all_of_it) // 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    profile = with_overrides(get_profile(arguments.profile), tuple(arguments.overrides))

    def failed(name: str, error: Exception) -> None:
        raise SystemExit(f"{name} did not come up: {error}")

    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        os.environ["POCKETCODER_KEYS"] = f"{folder}/keys.json"
        limited = add_key(Path(folder, "keys.json"), "limited", {"requests_per_minute": LIMITED})
        with servers(profile, arguments.overrides, ["ours"], failed, timeout_s=900) as there:
            server = there["ours"]
            asked = ask_all(server, [server.key, limited], profile, arguments.clients, arguments.seconds)
            print(json.dumps({"machine": describe(), **asyncio.run(asked)}), flush=True)


if __name__ == "__main__":
    main()
