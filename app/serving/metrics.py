"""What the server counts, for Prometheus: `GET /metrics`, behind the same guard and the same keys as the API.

    Metrics().best_of("passed", drafts=8, tokens=2100)     whoever draws several drafts and chooses

No label holds a key's name, a prompt or what a model wrote: every label's values are words of this program. Tokens a
second are `rate(pocketcoder_tokens_total[1m])`. Limits: of one edge, from its start; calls of tools over MCP are not
among them.
"""

from collections.abc import Mapping
from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
FIRST_TOKEN_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REQUEST_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
DRAFTS = (1, 2, 4, 8, 16, 32, 64)
BestOfOutcome = Literal["passed", "repaired", "agreed", "failed", "untested"]
"""The winner passed what the question states; passed it after one repair; was chosen by agreement alone; passed less
than all; or nothing could be run."""


class Metrics:
    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "pocketcoder_requests", "Requests by what came of them", ("route", "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "pocketcoder_request_seconds", "Whole requests", ("route",), buckets=REQUEST_S, registry=registry
        )
        self._tokens = Counter("pocketcoder_tokens", "Tokens read and drawn", ("kind",), registry=registry)
        self._first_token = Histogram(
            "pocketcoder_time_to_first_token_seconds", "Of streams", buckets=FIRST_TOKEN_S, registry=registry
        )
        self._queue = Gauge("pocketcoder_queue_answers", "Answers drawn or waited for", registry=registry)
        self._room = Gauge("pocketcoder_queue_capacity", "Answers that there is room for", registry=registry)
        self._tools = Counter(
            "pocketcoder_tool_calls", "Calls of the server's tools", ("tool", "status", "reason"), registry=registry
        )
        self._best_of = Counter("pocketcoder_best_of", "Answers chosen among drafts", ("outcome",), registry=registry)
        self._drafts = Histogram(
            "pocketcoder_best_of_drafts", "Drafts of a chosen answer", buckets=DRAFTS, registry=registry
        )
        self._best_of_tokens = Counter("pocketcoder_best_of_tokens", "Tokens drawn for drafts", registry=registry)
        for kind in ("prompt", "answer"):
            self._tokens.labels(kind)  # shown from the start, so that a rate has a beginning

    def request(self, route: str, outcome: str, seconds: float) -> None:
        """outcome: ok, left (the client went before the end), or the code of the error."""
        self._requests.labels(route, outcome).inc()
        self._seconds.labels(route).observe(seconds)

    def tokens(self, *, prompt: int, answer: int) -> None:
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("answer").inc(answer)

    def first_token(self, seconds: float) -> None:
        self._first_token.observe(seconds)

    def queue(self, answers: int, capacity: int) -> None:
        self._queue.set(answers)
        self._room.set(capacity)

    def tool_call(self, tool: str, status: str, reason: str) -> None:
        """tool: one of the server's own names; a name that a model made up is none."""
        self._tools.labels(tool, status, reason).inc()

    def best_of(self, outcome: BestOfOutcome, *, drafts: int, tokens: int) -> None:
        """One answer that was chosen. drafts: drawn, a repair included; tokens: drawn for all of them."""
        self._best_of.labels(outcome).inc()
        self._drafts.observe(drafts)
        self._best_of_tokens.inc(tokens)

    def text(self) -> bytes:
        """In Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """One sample; 0 for one that was never counted. Example: value("pocketcoder_queue_answers")"""
        return self._registry.get_sample_value(name, dict(labels or {})) or 0.0
