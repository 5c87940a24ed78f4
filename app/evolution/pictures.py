"""Evolution as two pictures, for the report: the population (fitness, coverage of its pool, family tree) and its genes.

Colours are those of Okabe and Ito, which the colour-blind tell apart; what matters is told by shape or width as well.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from app.evolution.lineage import Outcome
from app.evolution.standings import MIXTURE, Standing, short
from app.evolution.summary import Summary

BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#7f7f7f"
MOST_ROWS, MOST_GENERATIONS = 16, 7
"""Of a family tree whose individuals still get their names; more would overlap."""
COLUMNS = 3
OF_FACTORS = ("learning_rate", MIXTURE)
"""Genes that mutate by a factor."""
CHOSEN = ("lora_r", "seq_len", "num_drafts")
"""Genes that take a few whole numbers, each about twice the one before."""


def population(summary: Summary) -> Any:
    """Fitness, coverage where there is some, and the family tree where the lineage is there; a Matplotlib Figure."""
    has_tree, has_coverage = bool(_tree_rows(summary)), any(one.coverage for one in summary.generations)
    rows = [["fitness", "coverage" if has_coverage else "fitness"]]
    heights, tree = [3.4], 1.0 + 0.55 * min(MOST_ROWS, len(_tree_rows(summary)))
    if has_tree:
        rows, heights = [*rows, ["tree", "tree"]], [*heights, tree]
    figure = _figure(sum(heights))
    axes = figure.subplot_mosaic(rows, height_ratios=heights, width_ratios=[1.5, 1])
    _draw_fitness(axes["fitness"], summary)
    if has_coverage:
        _draw_coverage(axes["coverage"], summary)
    if has_tree:
        _draw_tree(axes["tree"], summary)
        handles = _tree_legend(summary)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small", frameon=False)
    return figure


def genes(summary: Summary) -> Any:
    """A small picture a gene that differs within the population; None where none does."""
    living = [one for one in summary.standings if one.generation and one.genome]
    varied = [gene.name for gene in summary.genes if gene.varies]
    if not varied:
        return None
    rows = math.ceil(len(varied) / COLUMNS)
    figure = _figure(0.5 + 2.1 * rows)
    axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    settings = {gene.name: gene.setting for gene in summary.genes}
    for one, name in zip(axes, varied, strict=False):
        _draw_gene(one, name, settings[name], [each for each in living if name in each.genome], summary)
    for one in axes[len(varied) :]:
        one.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small", frameon=False)
    return figure


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, height), dpi=110, layout="constrained")


def _draw_fitness(axes: Any, summary: Summary) -> None:
    known = [one for one in summary.standings if one.fitness is not None]
    spread = _spread(known)
    kinds: tuple[tuple[str, str, str, list[Standing]], ...] = (
        ("before the first generation", "s", GREY, [one for one in known if not one.generation]),
        ("individual", "o", BLUE, [one for one in known if one.generation and not one.is_imitation]),
        ("imitation of the pool", "D", RED, [one for one in known if one.is_imitation]),
    )
    for label, marker, colour, some in kinds:
        if some:
            at = [one.generation + spread[one.generation, one.id] for one in some]
            values = [one.fitness for one in some]
            axes.scatter(at, values, marker=marker, color=colour, label=label, s=30, zorder=3, edgecolors="white")
    worth = {(one.generation, one.id): one.fitness for one in known}
    if (end := (summary.generation, summary.winner)) in worth:
        x, y = end[0] + spread[end], worth[end]
        axes.scatter(x, y, marker="*", s=190, color=ORANGE, edgecolors="black", zorder=4, label="winner")
    if summary.untouched is not None:
        axes.axhline(summary.untouched, color="black", linestyle="--", linewidth=1, label="untouched model")
    axes.set(xlabel="generation", title="Fitness by the drafts of selection", xticks=_generations(summary))
    axes.margins(x=0.08, y=0.12)
    _put_legend_below(axes, columns=3)
    axes.grid(alpha=0.3)


def _spread(known: Sequence[Standing]) -> dict[tuple[int, str], float]:
    """How far beside its generation each is drawn, so that equals don't hide each other."""
    found: dict[tuple[int, str], float] = {}
    for generation in {one.generation for one in known}:
        there = [one.id for one in known if one.generation == generation]
        step = min(0.1, 0.5 / len(there))
        found |= {(generation, name): step * (place - (len(there) - 1) / 2) for place, name in enumerate(there)}
    return found


def _draw_coverage(axes: Any, summary: Summary) -> None:
    found = [one.coverage for one in summary.generations if one.coverage]
    at = [one.generation for one in found]
    axes.plot(at, [100 * one.pool for one in found], color=BLUE, marker="o", label="by the population's pool")
    axes.plot(
        at, [100 * one.one_policy for one in found], color=GREY, marker="s", linestyle="--",
        label="by as many of the untouched model",
    )  # fmt: skip
    axes.set(xlabel="generation", title="Problems solved by drafts, %", xticks=at)
    axes.margins(x=0.08, y=0.15)
    if axes.get_ylim()[1] - axes.get_ylim()[0] < 1:  # equal ones, but for rounding, would get ticks of fifteen digits
        axes.set_ylim(0, 105)
    _put_legend_below(axes, columns=1)
    axes.grid(alpha=0.3)


def _put_legend_below(axes: Any, columns: int) -> None:
    """Where it hides nothing."""
    axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False)


def _tree_rows(summary: Summary) -> list[str]:
    """Labels of the family tree's rows: places, and at the bottom that of imitations."""
    places = {one.place for one in summary.standings if one.place is not None}
    rows = [f"place {place + 1}" for place in range(max(places, default=-1) + 1)]
    return [*rows, "imitation"] if rows and any(one.is_imitation for one in summary.standings) else rows


def _draw_tree(axes: Any, summary: Summary) -> None:
    """Time goes to the right; each line of places is one trial after the other in the same place."""
    rows = _tree_rows(summary)
    there = {
        (one.generation, one.id): (one.generation, one.place if one.place is not None else len(rows) - 1)
        for one in summary.standings
        if one.generation and (one.place is not None or one.is_imitation)
    }
    descent = set(summary.descent)
    for one in summary.standings:
        end = (one.generation, one.id)
        before = (one.generation - 1, one.id)
        start = before if before in there else (one.generation - 1, one.parent)
        if end in there and start in there:
            _draw_edge(axes, there[start], there[end], is_child=start != before, is_line={start, end} <= descent)
    has_names = len(rows) <= MOST_ROWS and len(summary.generations) <= MOST_GENERATIONS
    for one in summary.standings:
        if (one.generation, one.id) in there:
            _draw_node(axes, one, there[one.generation, one.id], summary, has_name=has_names)
    axes.set(
        title="Family tree: lines lead from whose weights one began with",
        xlabel="generation",
        xticks=[number for number in _generations(summary) if number],
        yticks=range(len(rows)),
        yticklabels=rows,
    )
    axes.margins(x=0.14)
    axes.set_ylim(len(rows) - 0.6, -0.75)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_edge(axes: Any, start: tuple[int, int], end: tuple[int, int], *, is_child: bool, is_line: bool) -> None:
    colour, width = (ORANGE, 3.5) if is_line else (BLUE, 1.2) if is_child else (GREY, 1.2)
    style = "--" if is_child else "-"
    axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=width, linestyle=style, zorder=1)


def _draw_node(axes: Any, one: Standing, at: tuple[int, int], summary: Summary, *, has_name: bool) -> None:
    is_winner = (one.generation, one.id) == (summary.generation, summary.winner)
    marker, colour = ("D", RED) if one.is_imitation else ("o", BLUE)
    gone = one.outcome in (Outcome.REPLACED, Outcome.FAILED)
    face = "white" if gone else colour
    axes.scatter(*at, marker=marker, s=70, facecolor=face, edgecolor=colour, linewidth=1.5, zorder=3)
    if is_winner:
        axes.scatter(*at, marker="*", s=330, color=ORANGE, edgecolor="black", zorder=4)
    if one.outcome is Outcome.FAILED:
        axes.scatter(*at, marker="x", s=45, color="black", zorder=4)
    if has_name:
        worth = "failed" if one.outcome is Outcome.FAILED else "" if one.fitness is None else f"{one.fitness:.3f}"
        name = "" if one.is_imitation else short(one.id)
        axes.annotate(
            f"{name}  {worth}".strip(), at, xytext=(0, 9), textcoords="offset points", ha="center", fontsize="x-small",
            fontweight="bold" if is_winner else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},  # lines pass behind
        )  # fmt: skip


def _tree_legend(summary: Summary) -> list[Any]:
    from matplotlib.lines import Line2D

    def mark(label: str, **how: Any) -> Any:
        return Line2D([], [], label=label, **{"linestyle": "none", "color": BLUE} | how)

    return [
        mark("goes on", marker="o"),
        mark("replaced", marker="o", markerfacecolor="white"),
        *([mark("failed", marker="x", color="black")] if summary.failed else []),
        mark("child, mutated", linestyle="--"),
        mark("winner", marker="*", markersize=12, color=ORANGE, markeredgecolor="black"),
        mark("its ancestors", linestyle="-", linewidth=3.5, color=ORANGE),
    ]


def _draw_gene(axes: Any, name: str, setting: Any, living: Sequence[Standing], summary: Summary) -> None:
    values: Mapping[tuple[int, str], Any] = {(one.generation, one.id): one.genome[name] for one in living}
    for one in living:
        end, before = (one.generation, one.id), (one.generation - 1, one.id)
        start = before if before in values else (one.generation - 1, one.parent)
        if start in values:
            axes.plot([start[0], end[0]], [values[start], values[end]], color=GREY, linewidth=0.8, alpha=0.7, zorder=1)
    at = [one.generation for one in living]
    axes.scatter(at, [values[one.generation, one.id] for one in living], color=BLUE, s=18, label="individual", zorder=3)
    if of_line := [place for place in summary.descent if place in values]:
        at, held = [generation for generation, _ in of_line], [values[place] for place in of_line]
        axes.plot(at, held, color=ORANGE, linewidth=3, label="the winner and its ancestors", zorder=2)
    if setting is not None:
        axes.axhline(setting, color="black", linestyle="--", linewidth=1, label="as grm says", zorder=1)
    if name.startswith(OF_FACTORS):
        axes.set_yscale("log")
        _label_factors(axes)
    elif name in CHOSEN:
        axes.set_yscale("log", base=2)
        axes.set_yticks(sorted({*values.values()}), [str(value) for value in sorted({*values.values()})])
    elif name == "kl":
        axes.set_yscale("symlog", linthresh=1e-4)
    axes.set_title(name.partition("=")[0], fontsize="medium")
    axes.set_xticks([number for number in _generations(summary) if number])
    axes.tick_params(labelsize="small")
    axes.margins(x=0.1, y=0.15)
    axes.grid(alpha=0.3)


def _label_factors(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _number(value: float) -> str:
    return f"{value:g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _generations(summary: Summary) -> list[int]:
    """Not more than a dozen of them."""
    found = sorted({one.generation for one in summary.standings})
    return found[:: math.ceil(len(found) / 12)] if found else []
