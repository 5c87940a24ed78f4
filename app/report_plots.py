"""The pictures of the report and of the page, as Matplotlib figures: loss, learning, corpus and results. Those of
evolution are `app.evolution.pictures`."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from app.evaluation.stage import BASE
from app.records import SuiteResult
from app.reward.by_reward.watch import StepFigures
from app.reward.summary import draw

GREY, GREEN, BLUE, ORANGE = "#7f7f7f", "#2ca02c", "#1f77b4", "#ff7f0e"


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def window(metrics: Sequence[Mapping[str, Any]]) -> int:
    """Steps over which a mean loss is told."""
    return max(1, len(metrics) // 5)


def mean_loss(rows: Sequence[Mapping[str, Any]]) -> float:
    """Nats a token, each token counted once."""
    return sum(row["loss"] * row["label_tokens"] for row in rows) / sum(row["label_tokens"] for row in rows)


def loss(metrics: Sequence[Mapping[str, Any]]) -> Any:
    """metrics: lines of sft/metrics.jsonl, one at least."""
    figure, left = _figure()
    steps, wide = [row["step"] for row in metrics], window(metrics)
    means = [mean_loss(metrics[max(0, end - wide) : end]) for end in range(1, len(metrics) + 1)]
    left.plot(steps, [row["loss"] for row in metrics], color=BLUE, alpha=0.4, marker=".", label="loss")
    left.plot(steps, means, color=BLUE, linewidth=2, label=f"mean of {wide} steps")
    left.set(xlabel="optimiser step", ylabel="training loss, nats a token", title="Supervised fine-tuning")
    right = left.twinx()
    right.plot(steps, [row["learning_rate"] for row in metrics], color=ORANGE, label="learning rate")
    right.set(ylabel="learning rate", ylim=(0, None))
    lines = left.get_lines() + right.get_lines()
    left.legend(lines, [line.get_label() for line in lines])
    left.grid(alpha=0.3)
    return figure


def learning(figures: Sequence[StepFigures]) -> Any:
    """Reward, entropy and length of drafts over the steps of self-reward."""
    figure, axes = _figure(height=2.8, columns=3)
    draw(axes, figures)
    return figure


def corpus(manifest: Mapping[str, Any]) -> Any:
    """Learnt tokens by form, and how full the rows are."""
    from matplotlib.ticker import EngFormatter

    figure, (left, right) = _figure(height=3.6, columns=2)
    learnt = manifest.get("learnt_tokens_by_form") or manifest["tokens_by_form"]
    forms = sorted(learnt.items(), key=lambda item: item[1])
    left.barh([name for name, _ in forms], [count for _, count in forms], color=BLUE)
    left.set(xlabel="learnt tokens", title="What is learnt, by form")
    left.locator_params(axis="x", nbins=5)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    fill = sorted((int(percent), count) for percent, count in manifest["rows_by_fill"].items())
    right.bar([percent for percent, _ in fill], [count for _, count in fill], width=1.0, color=GREEN)
    right.set(xlabel="a row's tokens, % of its length", ylabel="rows", xlim=(0, 101), title="How full rows are")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def results(found: Sequence[SuiteResult]) -> Any:
    """pass@1 with its interval, a bar a result."""
    figure, axes = _figure(height=1.2 + 0.45 * len(found))
    scores = [result.pass_at["1"] for result in found]
    rates = [100 * score.value for score in scores]
    spans = [
        [rate - 100 * score.interval_95[0] for rate, score in zip(rates, scores, strict=True)],
        [100 * score.interval_95[1] - rate for rate, score in zip(rates, scores, strict=True)],
    ]
    labels = [f"{r.suite}, {r.candidate} (n = {s.num_problems})" for r, s in zip(found, scores, strict=True)]
    colours = [GREY if result.candidate == BASE else GREEN for result in found]
    axes.barh(labels, rates, xerr=spans, color=colours, capsize=4, height=0.6)
    axes.invert_yaxis()
    axes.set(xlabel="pass@1, % (95 % interval over problems)", xlim=(0, None))
    axes.grid(alpha=0.3, axis="x")
    return figure


def _figure(height: float = 4, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes: one, or an array of them for several columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), dpi=110, layout="constrained")
    return figure, figure.subplots(1, columns)
