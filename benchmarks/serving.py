"""The edge beside vLLM's own server: the same requests to both, one run, round by round in changing order.

Parts, each a JSON line as it comes, and one that fails leaves the others:
  servers   throughput: --requests streamed chats, all at once, output tokens a second; ours divided by direct. Latency:
            one client, one token, p50 of ours less p50 of "bare" and of direct (`benchmarks.servers` says what they
            are). Up to three engines are alive at once, and those that are not asked sleep in their event loops.
  features  what ours answers to streams, schemas, tools, ... (`benchmarks.serving_features`)
  adapters  four random adapters and the base in one batch on "bare": tokens a second beside the base alone; whether
            each answer is the one that the adapter gives without the others (a second round of the mixture says what
            the order of additions alone changes), and the same of the log-probabilities of a given text
  arms      ours in other settings, one server after the other: edits of given code asked one at a time, --requests at
            once, memory; answers are held against the first arm's. Without --arm: n-gram guesses off, on, off
Memory is of all processes of a server: on the card by nvidia-smi, contexts included; main memory as PSS.
Run: python -m benchmarks.serving [--requests 64] [--new-tokens 32] [--rounds 2] [--profile rtx3070]
     [--parts servers,features,adapters,arms] [--arm NAME:KEY=VALUE+KEY=VALUE ...] [--set KEY=VALUE ...]
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.hardware import describe
from app.models.base import ensure_model
from app.overrides import with_overrides
from app.profiles import get_profile
from app.serving.engine import served_name
from app.settings import Profile
from benchmarks.random_adapters import make_adapters
from benchmarks.servers import MemoryWatch, Server, servers
from benchmarks.serving_features import features
from benchmarks.serving_requests import Round, ask, ask_all, edits, latency_ms, log_probabilities

RANKS = (8, 16, 24, 32)
ARMS = ("none:serving.speculation=none", "ngram:serving.speculation=ngram", "none again:serving.speculation=none")


def compare_servers(there: Mapping[str, Server], model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in ("direct", "ours") if name in there}
    waits: dict[str, list[float]] = {name: [] for name in rates}
    delays: dict[str, list[float]] = {name: [] for name in there}
    with MemoryWatch(there) as memory:
        for server in there.values():  # the first requests compile and fill caches
            ask_all(server, model, 8, 8)
            latency_ms(server, model, 10)
        for number in range(arguments.rounds):
            for name in list(rates)[:: 1 if number % 2 == 0 else -1]:
                measured = ask_all(there[name], model, arguments.requests, arguments.new_tokens)
                rates[name].append(measured.tokens_per_s)
                waits[name].append(measured.p50_s)
        for number in range(arguments.singles // 20):
            for name in list(delays)[:: 1 if number % 2 == 0 else -1]:
                delays[name] += latency_ms(there[name], model, 20)
        taken = memory.report()
    p50 = {name: statistics.median(values) for name, values in delays.items()}
    result = {
        "tokens_per_s": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "p50_s": {name: [round(value, 2) for value in values] for name, values in waits.items()},
        "latency_p50_ms": {name: round(value, 1) for name, value in p50.items()},
        "start_s": {name: round(server.start_s) for name, server in there.items()},
        **taken,
    }
    if len(rates) == 2:
        ratios = [ours / direct for ours, direct in zip(rates["ours"], rates["direct"], strict=True)]
        result["throughput_ratio"] = round(statistics.median(ratios), 3)
        result["throughput_ratios"] = [round(ratio, 3) for ratio in ratios]
    for name in ("bare", "direct"):
        if {name, "ours"} <= there.keys():
            result[f"added_beyond_{name}_ms"] = round(p50["ours"] - p50[name], 1)
    return result


def largest_difference(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def compare_adapters(server: Server, base: str, adapters: list[str], requests: int, new_tokens: int) -> dict[str, Any]:
    names = [base, *adapters]
    mixture = {number: names[number % len(names)] for number in range(requests)}
    scores = {name: asyncio.run(log_probabilities(server, name)) for name in names}  # loads each, too

    async def mixed() -> tuple[Round, list[list[float]]]:
        """The mixture, and all names' log-probabilities while it is drawn."""
        drawing = asyncio.create_task(ask(server, mixture, new_tokens))
        await asyncio.sleep(0.3)
        scored = await asyncio.gather(*(log_probabilities(server, name) for name in names))
        return await drawing, list(scored)

    with MemoryWatch({"bare": server}) as memory:
        rates = {
            "base": ask_all(server, base, requests, new_tokens).tokens_per_s,
            "one adapter": ask_all(server, adapters[0], requests, new_tokens).tokens_per_s,
        }
        first = asyncio.run(ask(server, mixture, new_tokens))
        rates["mixed"] = first.tokens_per_s
        again, scored = asyncio.run(mixed())
        alone: dict[int, str] = {}
        for name in names:
            own = {number: model for number, model in mixture.items() if model == name}
            alone |= asyncio.run(ask(server, own, new_tokens)).answers
        taken = memory.report()
    same = {name: [first.answers[n] == alone[n] for n, model in mixture.items() if model == name] for name in names}
    between = [largest_difference(scores[a], scores[b]) for a in names for b in names if a < b]
    moved = [largest_difference(scores[name], other) for name, other in zip(names, scored, strict=True)]
    return {
        "adapters": adapters,
        "tokens_per_s": {name: round(value, 1) for name, value in rates.items()},
        "same_as_alone": {name: f"{sum(rows)} of {len(rows)}" for name, rows in same.items()},
        "same_in_two_mixtures": f"{sum(first.answers[n] == again.answers[n] for n in mixture)} of {requests}",
        "begin_as_alone": f"{sum(first.answers[n][:40] == alone[n][:40] for n in mixture)} of {requests}",
        "log_probability_moved_in_mixture": round(max(moved), 4),
        "log_probability_between_names": round(min(between), 4),
        **taken,
    }


def measure_arm(profile: Profile, overrides: list[str], run: "Benchmark") -> dict[str, Any]:
    """Edits, throughput and memory of ours in these settings. Raises RuntimeError when it does not come up."""
    arguments, model, errors = run.arguments, served_name(profile.model), []
    with servers(
        profile, overrides, ["ours"], lambda _, error: errors.append(error), timeout_s=arguments.start_timeout
    ) as there:
        if errors:
            raise errors[0]
        with MemoryWatch(there) as memory:
            rate, answers = edits(there["ours"], model, arguments.edits)
            many = ask_all(there["ours"], model, arguments.requests, arguments.new_tokens)
            taken = memory.report()
        run.edited = run.edited or answers
        return {
            "settings": overrides[len(run.overrides) :],
            "edit_tokens_per_s": round(rate, 1),
            "same_edits_as_first_arm": f"{sum(map(str.__eq__, answers, run.edited))} of {len(answers)}",
            "tokens_per_s": round(many.tokens_per_s, 1),
            "p50_s": round(many.p50_s, 2),
            "start_s": round(there["ours"].start_s),
            **taken,
        }


@dataclass
class Benchmark:
    """What the parts share."""

    arguments: argparse.Namespace
    overrides: list[str]
    head: dict[str, Any]
    edited: list[str] = field(default_factory=list)
    """The first arm's answers."""

    def attempt(self, part: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Print the part's line, or that it failed."""
        try:
            self.say(part, measure())
        except Exception as error:  # a part that fails must not take the others with it
            self.fail(part, error)

    def fail(self, part: str, error: Exception) -> None:
        self.say(part, {"failed": f"{type(error).__name__}: {error}"[-3000:]})

    def say(self, part: str, result: dict[str, Any]) -> None:
        print(json.dumps({"benchmark": "serving", "part": part, **self.head, **result}), flush=True)


def run_parts(arguments: argparse.Namespace) -> None:
    parts, overrides = set(arguments.parts.split(",")), list(arguments.overrides)
    if "adapters" in parts:
        overrides.insert(0, f"serving.max_loras={len(RANKS)}")
    profile = with_overrides(get_profile(arguments.profile), overrides)
    model = served_name(profile.model)
    run = Benchmark(
        arguments=arguments,
        overrides=overrides,
        head={
            "model": model,
            "device": (describe()["cards"] or [describe()["cpu"]])[0],
            "requests": arguments.requests,
            "new_tokens": arguments.new_tokens,
        },
    )
    if together := parts & {"servers", "features", "adapters"}:
        adapters, names = {}, arguments.servers.split(",")
        if "adapters" in parts:  # while nothing runs yet
            adapters = make_adapters(ensure_model(profile.model), Path(tempfile.mkdtemp(prefix="lora-")), RANKS)
        with servers(
            profile, overrides, names, run.fail, timeout_s=arguments.start_timeout, adapters=adapters
        ) as there:
            if "servers" in together:
                run.attempt("servers", lambda: compare_servers(there, model, arguments))
            if "features" in together:
                run.attempt("features", lambda: features(there["ours"], model))
            if adapters:
                size = (arguments.requests, arguments.new_tokens)
                run.attempt("adapters", lambda: compare_adapters(there["bare"], model, list(adapters), *size))
    for arm in (arguments.arm or ARMS) if "arms" in parts else ():
        name, _, settings = arm.partition(":")
        changed = [*overrides, *filter(None, settings.split("+"))]
        run.attempt(name, lambda: measure_arm(with_overrides(profile, changed), changed, run))  # noqa: B023 - used at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--parts", default="servers,arms")
    parser.add_argument("--servers", default="direct,bare,ours", help="those started for the parts before the arms")
    parser.add_argument("--arm", action="append", help="NAME:KEY=VALUE+KEY=VALUE, instead of those of speculation")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--singles", type=int, default=400, help="requests of one token, a server")
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--start-timeout", type=float, default=300.0, help="seconds a server may take to come up")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    run_parts(parser.parse_args())


if __name__ == "__main__":
    main()
