"""Tables of what `benchmarks.published` found: scores beside published ones, prompts, and where the difference lies.

A difference between two ways or readings is paired over the problems, with its 95 % interval; "quantised once more" is
the mean of the draws less the file's own weights. What is left of the distance to a published score is unexplained,
and its interval is that of our own score (of a mean over problems) widened by that of the quantisation, as independent.

Run: python -m benchmarks.published_table OUT [OUT ...]
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.evaluation.statistics import Comparison, compare
from benchmarks.published_judging import ASKED, PUBLISHED, held_results

SCORES = {
    "0.5b": {"humaneval": 61.6, "humaneval_plus": 57.3, "mbpp": 52.4, "mbpp_plus": 43.7},
    "1.5b": {"humaneval": 70.7, "humaneval_plus": 66.5, "mbpp": 69.2, "mbpp_plus": 59.4},
}
"""Qwen2.5-Coder-Instruct by EvalPlus (arXiv 2409.12186, Table 16); MBPP's are of its 378 tasks, ours of others."""
Row = dict[str, Any]
Found = dict[tuple[str, str, str, str], Row]
"""Results of one model by weights, suite, way and reading."""


def published(model: str, suite: str) -> float | None:
    """MBPP's for each edition of it."""
    known = "mbpp" if suite in ("mbpp_plus, base", "mbpp_sanitized, all") else suite
    return next((scores.get(known) for size, scores in SCORES.items() if size in model), None)


def rates(row: Row) -> dict[str, float]:
    passed = {*row["passed_ids"]}
    return {name: float(name in passed) for name in row["ids"]}


def scores(model: str, found: Found) -> Iterator[str]:
    yield "| model | suite | protocol | passed | n | % | 95 % | published | difference |"
    yield "|---|---|---|---:|---:|---:|---|---:|---:|"
    for (weights, suite, way, reading), row in found.items():
        if weights != "gguf" or reading != "product" or way not in ("chat", "evalplus", "completion"):
            continue
        theirs = published(model, suite)
        low, high = row["interval_95"]
        compared = f"{theirs} | {row['percent'] - theirs:+.1f}" if theirs is not None else "|"
        yield (
            f"| {model} | `{suite}` | `{way}` | {row['passed']} | {row['n']} | {row['percent']} | {low} to {high} | "
            f"{compared} |"
        )


def prompts(model: str, found: Found) -> Iterator[str]:
    """Every way to ask; differences to `chat`."""
    suites = ["mbpp_tuning", "leetcode_tuning", *PUBLISHED]
    yield f"| {model}, asked by | {' | '.join(f'`{suite}`' for suite in suites)} |"
    yield f"|---|{'---|' * len(suites)}"
    for way in ASKED:
        cells = []
        for suite in suites:
            row, base = (found.get(("gguf", suite, each, "product")) for each in (way, "chat"))
            cells.append("" if row is None else f"{row['passed']} of {row['n']}{against(base, row)}")
        yield f"| {way} | {' | '.join(cells)} |"


def against(base: Row | None, row: Row) -> str:
    compared = compare(rates(base), rates(row)) if base and base is not row else None
    return f", {shown(compared)}" if compared else ""


def shown(compared: Comparison) -> str:
    low, high = (100 * end for end in compared.interval_95)
    return f"{100 * compared.difference:+.1f} ({low:+.1f} to {high:+.1f})"


def parts(model: str, found: Found) -> Iterator[str]:
    """By suite, from what is published to what we measure."""
    yield f"| {model} | {' | '.join(f'`{suite}`' for suite in PUBLISHED)} |"
    yield f"|---|{'---|' * len(PUBLISHED)}"
    for name, cells in _lines(model, found).items():
        yield f"| {name} | {' | '.join(cells)} |"


def _lines(model: str, found: Found) -> Mapping[str, Sequence[str]]:
    lines: dict[str, list[str]] = {}
    steps = {
        "our words instead, answer begun": ("chat, begun", "product"),
        "the answer not begun": ("evalplus, not begun", "product"),
        "no system turn": ("evalplus, no system", "product"),
        "without EvalPlus' stop texts": ("evalplus", "uncut"),
        "EvalPlus' extraction": ("evalplus", "sanitize"),
        "EvalPlus' extraction, without its stop texts": ("evalplus", "sanitize uncut"),
    }
    for suite in PUBLISHED:
        base = found.get(("gguf", suite, "evalplus", "product"))
        theirs = published(model, suite)
        _add(lines, "published", "" if theirs is None else str(theirs))
        _add(lines, "by EvalPlus' protocol, here", f"{base['percent']}" if base else "")
        for name, (way, reading) in steps.items():
            row = found.get(("gguf", suite, way, reading))
            compared = compare(rates(base), rates(row)) if base and row else None
            _add(lines, name, shown(compared) if compared else "")
        again = [row for (weights, s, _, _), row in found.items() if weights.startswith("again") and s == suite]
        compared = compare(rates(base), mean_rates(again)) if base and again else None
        _add(lines, f"quantised once more, {len(again)} times", shown(compared) if compared else "")
        _add(lines, "of these each", ", ".join(str(row["percent"]) for row in again))
        _add(lines, "unexplained", unexplained(theirs, base, compared) if theirs and base and compared else "")
    return lines


def _add(lines: dict[str, list[str]], name: str, cell: str) -> None:
    lines.setdefault(name, []).append(cell)


def mean_rates(again: Sequence[Row]) -> dict[str, float]:
    held = [rates(row) for row in again]
    return {name: sum(each[name] for each in held) / len(held) for name in held[0]}


def unexplained(theirs: float, base: Row, again: Comparison) -> str:
    """What is published less what we measure and what quantising once costs."""
    left = theirs - base["percent"] + 100 * again.difference
    low, high = base["interval_95"]
    cost = 100 * (again.interval_95[1] - again.interval_95[0]) / 2
    half = math.hypot((high - low) / 2, cost)
    return f"{left:+.1f} ({left - half:+.1f} to {left + half:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="+")
    arguments = parser.parse_args()
    models: dict[str, Found] = {}
    for out in arguments.out:
        for row in held_results(out):
            key = row["weights"], row["suite"], row["way"], row["reading"]
            models.setdefault(row["model"], {})[key] = row
    for make in (scores, prompts, parts):
        for model, found in models.items():
            print("\n".join(make(model, found)), end="\n\n")
    for out in arguments.out:
        for line in (out / "results.jsonl").read_text().splitlines():
            if (row := json.loads(line)).get("errors"):
                print(f"{out.name}, {row['weights']}: {row['errors']}")


if __name__ == "__main__":
    main()
