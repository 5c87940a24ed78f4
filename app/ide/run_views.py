"""What the page shows of a run directory: evolution, learning and evaluation, each as inert HTML with pictures inside.

Read with the report's readers and drawn with its plots, so that both say the same. A stage that is not there is told in
one sentence. A picture is kept as long as the files that it is made of stay as they are.
"""

import base64
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from app import report_plots as plots
from app.errors import UserError
from app.evaluation.gate import read_decision
from app.evaluation.stage import EVOLVE, GRM, SFT, CandidateComparison
from app.evolution import pictures
from app.evolution.history import all_lived, read_boundaries
from app.evolution.lineage import read_lineage
from app.evolution.standings import Standing, short, standings_of
from app.evolution.summary import summary_of
from app.files.json_files import of_this_version, read_json_lines
from app.ide.markup import block, chat_markdown, notice
from app.records import Score
from app.report import measured
from app.reward import summary as reward
from app.running.run_settings import stored_profile
from app.runs import Run, left_out

MOST_PICTURES = 32
"""That are kept; the oldest goes first."""
_drawn: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}
"""PNG in base64 by run and picture, with the stamp of the files that it was made of."""
NAMES = {SFT: "Fine-tuning", GRM: "Self-reward", EVOLVE: "Evolution"}


def evolution(run: Run) -> str:
    """Fitness by generation, the family tree, the genes and the lineage. Raises UserError for broken files."""
    found = summary_of(run)
    if found is None:
        return _unfinished_evolution(run)
    parts = [chat_markdown(found.outcome)]
    if found.standings:
        parts.append(_picture(run, "population", run.evolve, lambda: pictures.population(found), WORDS["population"]))
    if any(gene.varies for gene in found.genes):
        parts.append(_picture(run, "genes", run.evolve, lambda: pictures.genes(found), WORDS["genes"]))
    parts.append(_lineage(found.standings, sorted(found.descent)))
    return "\n\n".join(parts)


WORDS = {
    "population": "Fitness by generation, and the family tree",
    "genes": "Genes by generation, the winner's line in orange",
    "learning": "Reward, entropy and length of drafts by step",
    "loss": "Loss of fine-tuning by step",
    "results": "pass@1 of each candidate with its 95 % interval",
}
"""Of pictures, for those who can't see them."""


def _unfinished_evolution(run: Run) -> str:
    """What is known of the generations so far, while the stage goes on."""
    profile, lived = stored_profile(run.root), all_lived(run.evolve_individuals)
    if profile is None or not lived:
        begun = profile is not None and run.evolve_individuals.exists()
        said = "Evolution has begun; no individual has come to the end of the first generation yet."
        return _sentence(said) if begun else _lacking(run, EVOLVE)
    boundaries = read_boundaries(run.evolve_boundaries)
    standings = standings_of(read_lineage(run.evolve_lineage), lived, boundaries, profile.evolve.fitness)
    said = f"Evolution is not complete: {len(boundaries)} of {profile.evolve.generations} generations are decided."
    return _sentence(said) + "\n\n" + _lineage(standings)


def learning(run: Run) -> str:
    """Reward, entropy and length by step, solve rates before it, and the loss of fine-tuning. Raises UserError."""
    parts = []
    found = reward.summary_of(run)
    figures = found.figures if found else _figures_so_far(run)
    if found:
        done = f"Self-reward ({found.arm}): {found.steps} steps, {found.drafts:,} drafts."
        parts.append(_sentence(f"{done} It ended because {found.why_ended}."))
    elif figures:
        total = _setting(run, "grm", "steps")
        parts.append(_sentence(f"Self-reward is at work: step {figures[-1].step} of {total or '?'}."))
    else:
        parts.append(_lacking(run, GRM))
    if figures:
        files = run.arm(found.arm).metrics if found else run.grm_arms
        parts.append(_picture(run, "learning", files, lambda: plots.learning(figures), WORDS["learning"]))
    if found and found.rate_drafts:
        parts.append(_solve_rates(found))
    if found and found.audit and found.audit.rate:
        audit = found.audit
        parts.append(
            _sentence(
                f"Audit: of {audit.audited:,} drafts that had passed, {audit.false_passes} failed a second judge on "
                f"fresh inputs; false passes {_rate(found.audit.rate)}."
            )
        )
    steps = read_json_lines(run.sft_metrics) if run.sft_metrics.exists() else []
    if steps:
        parts.append(_title("Fine-tuning"))
        parts.append(_picture(run, "loss", run.sft_metrics, lambda: plots.loss(steps), WORDS["loss"]))
    elif SFT in left_out(run):
        parts.append(_sentence(f"Fine-tuning was left out: {left_out(run)[SFT]}."))
    return "\n\n".join(parts)


def evaluation(run: Run) -> str:
    """Results with their intervals, each against the base model, and what was kept. Raises UserError."""
    results, compared, stale = measured(run)
    if not results:
        return _lacking(run, "evaluate")
    kept = [
        _sentence(f"{NAMES[stage]} is {'kept' if found.kept else 'not kept'}: {found.reason}.")
        for stage in NAMES
        if (found := read_decision(run, stage))
    ]
    parts = [*kept, _picture(run, "results", run.evaluation, lambda: plots.results(results), WORDS["results"])]
    rows = [(r.suite, r.candidate, f"{r.num_passed} of {r.num_samples}", _rate(r.pass_at["1"])) for r in results]
    parts.append(_table(("measurement", "candidate", "passed", "pass@1, 95 % interval"), rows, numbers=(2,)))
    if compared:
        parts += [_title("Against the base model"), _comparisons(compared)]
    parts += [_sentence(f"Left out: {suite}, {name}: {why}.") for (suite, name), why in stale.items()]
    return "\n\n".join(parts)


def _comparisons(compared: Sequence[CandidateComparison]) -> str:
    rows = []
    for each in compared:
        found, (low, high) = each.comparison, each.comparison.interval_95
        word = "better" if low > 0 else "worse" if high < 0 else "not to be told apart"
        points = f"{100 * found.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        better = f"{found.num_better} / {found.num_worse}"
        rows.append((each.candidate, f"{each.suite}, n = {found.num_problems}", points, better, word))
    head = ("candidate", "on", "points of pass@1, 95 % interval", "better / worse", "so it is")
    return _table(head, rows, numbers=(3,))


def _solve_rates(found: reward.Summary) -> str:
    """By source, how many of its problems the untouched model solves how often."""
    rows = []
    for row in found.sources:
        counts = [row.solve_rates.get(name, 0) for name in reward.BAND_NAMES]
        shown = ["–"] * len(counts) if not row.is_judged else [str(count) for count in counts]
        rows.append((row.source, f"{row.given:,}", f"{row.learnt:,}", *shown))
    head = ("problems of", "problems", "learnt", *reward.BAND_NAMES.values())
    rates = ", ".join(f"{name} {_rate(score)}" for name, score in found.pass_at.items())
    said = f"How often the untouched model solves a problem, of {found.rate_drafts} drafts: {rates}."
    numbers = tuple(range(1, len(head)))
    return _title("Solve rates") + "\n\n" + _sentence(said) + "\n\n" + _table(head, rows, numbers=numbers)


def _lineage(standings: Sequence[Standing], line: Sequence[tuple[int, str]] = ()) -> str:
    """Every individual of every generation, the best first. line: the winner, the last of them, and its ancestors."""
    shown = sorted(
        (one for one in standings if one.generation),
        key=lambda one: (one.generation, math.inf if one.fitness is None else -one.fitness),
    )
    rows = []
    for one in shown:
        place = (one.generation, one.id)
        note = "winner" if line and place == line[-1] else "its ancestor" if place in line else ""
        name = "imitation of the pool" if one.is_imitation else short(one.id)
        worth = "" if one.fitness is None else f"{one.fitness:.3f}"
        parent = short(one.parent) if one.parent else ""
        rows.append((f"{one.generation}", name, parent, worth, str(one.outcome or ""), note))
    head = ("generation", "individual", "begins with the weights of", "fitness", "what became of it", "")
    return _title("Lineage") + "\n\n" + _table(head, rows, numbers=(0, 3))


def _figures_so_far(run: Run) -> Sequence[Any]:
    arms = sorted(path.name for path in run.grm_arms.glob("*"))
    return next((figures for arm in arms if (figures := reward.figures_of(run, arm))), [])


def _setting(run: Run, group: str, name: str) -> Any:
    profile = stored_profile(run.root)
    return getattr(getattr(profile, group), name) if profile else None


def _lacking(run: Run, stage: str) -> str:
    """One sentence about a stage that the run does not have."""
    if reason := left_out(run).get(stage):
        return _sentence(f"{NAMES[stage]} was left out: {reason}.")
    what = f"This run has no {NAMES[stage].lower()} yet" if stage in NAMES else "Nothing of this run was evaluated yet"
    return _sentence(f"{what}: `python -m app {stage} --run {shlex.quote(str(run.root))}` does it.")


def _rate(score: Score) -> str:
    low, high = score.interval_95
    return f"{100 * score.value:.1f} % ({100 * low:.1f} to {100 * high:.1f}), n = {score.num_problems}"


def _sentence(text: str) -> str:
    return chat_markdown(text)


def _title(text: str) -> str:
    return block(f"<h3>{escape(text)}</h3>")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """numbers: columns that are flush right."""

    def cells(row: Sequence[str], tag: str) -> str:
        kinds = [' class="number"' if place in numbers else "" for place in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return block(f'<div class="wide"><table class="facts"><tr>{cells(head, "th")}</tr>{body}</table></div>')


def _picture(run: Run, name: str, source: Path, draw: Callable[[], Any], words: str) -> str:
    """source: the file or folder that it is made of. words: for those who can't see it."""
    key, stamp = (str(run.root), name), _stamp(source)
    if _drawn.get(key, ((), ""))[0] != stamp:
        _drawn.pop(key, None)
        _drawn[key] = stamp, base64.b64encode(plots.png(draw())).decode()
        while len(_drawn) > MOST_PICTURES:
            del _drawn[next(iter(_drawn))]
    return block(f'<img class="plot" alt="{escape(words)}" src="data:image/png;base64,{_drawn[key][1]}">')


def _stamp(source: Path) -> tuple[int, int]:
    """Changes whenever one of the files at or below the path does: their number, and the latest change, ns."""
    files = [source] if source.is_file() else list(source.rglob("*.json*"))
    return len(files), max((path.stat().st_mtime_ns for path in files), default=0)


VIEWS: Mapping[str, Callable[[Run], str]] = {
    "Evolution": evolution,
    "Learning": learning,
    "Evaluation": evaluation,
}


def shown(view: Callable[[Run], str], run: Run) -> str:
    """The view, or the sentence that says why it can't be made: a run may be changed while it is read."""
    try:
        with of_this_version(run.root):
            return view(run)
    except (UserError, OSError) as error:
        return notice(str(error))
