"""The report of a run: report.md, plots, and the same as one self-contained report.html.

Reads only what the stages wrote, and the weights in their place: results of other weights are left out. A Tune
experiment is reported alone as well, from its own files. Run: python -m app report (--run DIR | --tune DIR)
"""

import base64
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from app import report_plots as plots
from app.corpus.mining.records import STAGES
from app.corpus.taken import taken
from app.errors import UserError
from app.evaluation.gate import Decision, read_decision
from app.evaluation.stage import BASE, EVOLVE, GRM, SFT, CandidateComparison, against_base, outdated, read_result
from app.evaluation.stored_results import samples
from app.evaluation.suites.registry import TUNING, VALIDATION
from app.evolution import pictures, tune_experiment
from app.evolution import summary as evolution
from app.evolution.standings import short
from app.files.json_files import numbered_json_lines, read_json, write_atomic
from app.prompting.fences import fence_for
from app.records import UNTRUSTED_TIERS, SuiteResult
from app.reward.summary import BAND_NAMES, summary_of
from app.running.deadlines import time_words
from app.runs import REPOSITORY, Run, left_out

TEMPLATE = Path(__file__).with_name("report.md.jinja")
TUNE_TEMPLATE = TEMPLATE.with_name("report_tune.md.jinja")
TRAINED = (SFT, GRM, EVOLVE)
"""Stages that train, in their order."""
NAMES = {SFT: "SFT", GRM: "Self-reward", EVOLVE: "Evolution"}
OF_A_STEP = ("step", "loss", "label_tokens", "learning_rate", "seconds")
"""What a line of metrics.jsonl holds that is shown."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: left; }
pre { background: var(--soft); padding: .8rem; border-radius: 6px; }
pre { overflow: auto; max-height: 24rem; white-space: pre-wrap; }
pre code { font-size: .85rem; }
code { font-size: .9em; } img { max-width: 100%; background: white; border-radius: 6px; }
"""


def write_report(run: Run) -> Path:
    """Write report.md, plots/*.png and report.html, whose place it returns, from whatever stages are complete."""
    if not run.info.exists():
        raise UserError(f"{run.root} is no run directory: it holds no run.json")
    facts = _facts(run)
    for path, figure in _plots(run, facts):
        write_atomic(path, plots.png(figure))
    return _write(run.root, TEMPLATE, facts)


def write_tune_report(folder: Path) -> Path:
    """Write report.md, plots/tune.png and report.html into the folder of a Tune experiment; returns the last. Raises
    UserError where it is none, or reports no fitness."""
    found = tune_experiment.read_experiment(folder)
    write_atomic(folder / "plots" / "tune.png", plots.png(tune_experiment.picture(found)))
    return _write(folder, TUNE_TEMPLATE, {"found": found, "most": tune_experiment.MOST_ROWS, "cell": _cell})


def _cell(value: object) -> str:
    """Of a table: one line, and no bar."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())[:200]


def _write(folder: Path, template: Path, facts: dict[str, Any]) -> Path:
    import jinja2

    templates = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(template.parent))
    markdown = templates.get_template(template.name).render(facts)
    write_atomic(folder / "report.md", re.sub(r"\n{3,}", "\n\n", markdown))
    write_atomic(folder / "report.html", _html(folder, markdown))
    return folder / "report.html"


def _plots(run: Run, facts: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    if facts["sft"]:
        yield run.loss_plot, plots.loss(facts["metrics"])
    if facts["corpus"]:
        yield run.corpus_plot, plots.corpus(facts["corpus"])
    if facts["results"]:
        yield run.evaluation_plot, plots.results(facts["results"])
    if facts["grm"] and facts["grm"].figures:
        yield run.grm_plot, plots.learning(facts["grm"].figures)
    if facts["evolve"] and facts["evolve"].standings:
        yield run.evolve_plot, pictures.population(facts["evolve"])
    if facts["evolve"] and (genes := pictures.genes(facts["evolve"])):
        yield run.evolve_genes_plot, genes


def _facts(run: Run) -> dict[str, Any]:
    info: dict[str, Any] = {"hardware": None, "peak_memory_bytes": 0} | read_json(run.info)
    sft = read_json(run.sft_meta) if run.sft_meta.exists() else None
    corpus = read_json(run.corpus_manifest) if run.corpus_manifest.exists() else None
    results, compared, stale = measured(run)
    decisions = [decision for stage in TRAINED if (decision := read_decision(run, stage))]
    facts: dict[str, Any] = {
        "headline": headline(run, compared, decisions),
        "decisions": decisions,
        "left_out": left_out(run),
        "info": info,
        "settings": json.dumps(info["settings"], indent=2),
        "stages": run.stage_seconds(),
        "shares": {stage: time_words(one["share_s"]) for stage, one in run.deadlines().items()},
        "cuts": {NAMES[stage]: cut for stage, cut in run.cuts().items()},
        "results": results,
        "comparisons": compared,
        "stale": [f"{suite}, {name}: {why}" for (suite, name), why in stale.items()],
        "contamination": _contamination(run),
        "tiers": sorted({tier for result in results for tier in result.tiers}),
        "untrusted": sorted({tier for result in results for tier in result.tiers} & set(UNTRUSTED_TIERS)),
        "masked": sum(result.num_masked for result in results),
        "unsplit": sum(result.num_unsplit for result in results),
        "examples": _examples(run, tested[0]) if (tested := _on_test_suites(compared)) else [],
        "sft": sft,
        "grm": summary_of(run),
        "band_names": BAND_NAMES,
        "evolve": evolution.summary_of(run),
        "short": short,
        "corpus": corpus,
    }
    if sft:
        metrics = _metrics(run.sft_metrics)
        window = plots.window(metrics)
        facts |= {
            "metrics": metrics,
            "window": window,
            "first_loss": plots.mean_loss(metrics[:window]),
            "last_loss": plots.mean_loss(metrics[-window:]),
            "label_tokens": sum(row["label_tokens"] for row in metrics),
            "speed": sft["tokens"] / sum(row["seconds"] for row in metrics),
        }
    if corpus:
        facts |= {"taken": taken(run), "cell": _cell}
        facts["licences"] = sorted(corpus["licences"].items(), key=lambda item: -item[1]["tokens"])
        facts["rejected"] = sorted(corpus["rejected"].items(), key=lambda item: -item[1])
        facts["learnt"] = corpus.get("learnt_tokens_by_form", {})  # older corpora don't say
        facts["short_of_shares"] = corpus.get("short_of_shares", [])
        facts["funnel"] = [(stage, corpus["funnel"].get(stage, 0)) for stage in STAGES]
    return facts


def measured(run: Run) -> tuple[list[SuiteResult], list[CandidateComparison], dict[tuple[str, str], str]]:
    """Results of the weights and the sandbox in their place, each against the base model where that was measured too;
    and what is left out, by measurement and candidate, with the reason."""
    stale = outdated(run)
    found = [(suite, name, result) for suite, name, result in _results(run) if (suite, name) not in stale]
    compared = [c for suite, name, _ in found if (c := against_base(run, suite, name))]
    return [result for _, _, result in found], compared, stale


def headline(run: Run, compared: list[CandidateComparison], decisions: list[Decision]) -> str:
    """What a reader wants to know first: better, worse or not to be told apart, what was kept, and how to serve it."""
    tested = _on_test_suites(compared)
    place = run.root.relative_to(REPOSITORY) if run.root.is_relative_to(REPOSITORY) else run.root
    serves = f"`python -m app serve --run {place}` serves it."
    if SFT in left_out(run) and not run.trained():
        reasons = " ".join(f"{NAMES[stage]} was left out: {reason}." for stage, reason in left_out(run).items())
        return f"Nothing was trained. {reasons} Kept is the base model. {serves}"
    measured = [stage for stage in TRAINED if any(each.candidate == stage for each in tested)]
    if not measured:
        return "Base model and adapter were not compared on a test suite yet: `python -m app evaluate` does it."
    kept = [decision.stage for decision in decisions if decision.kept]
    told = [stage for stage in measured if stage in kept] or measured  # the latest that is kept, if one is
    found = "; ".join(_verdict(each) for each in tested if each.candidate == told[-1])
    sentence = f"The adapter {told[-1]} against the base model: {found}."
    if decisions:
        *others, last = kept or [""]
        what = f"are the adapters {', '.join(others)} and {last}" if others else f"is the adapter {last}"
        sentence += f" Kept {what if kept else 'is the base model, without an adapter'}."
    return f"{sentence} {serves}"


def _verdict(compared: CandidateComparison) -> str:
    found, (low, high) = compared.comparison, compared.comparison.interval_95
    word = "better" if low > 0 else "worse" if high < 0 else "not to be told apart"
    return (
        f"**{word}** on {compared.suite}, {100 * found.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) "
        f"over {found.num_problems} problems, {found.num_better} better and {found.num_worse} worse"
    )


def _on_test_suites(compared: list[CandidateComparison]) -> list[CandidateComparison]:
    return [each for each in compared if each.suite.partition("-")[0] not in (*VALIDATION, *TUNING)]


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Raises UserError for a line that is no step of a training, and where there is none."""
    rows = []
    for number, row in numbered_json_lines(path):
        if not all(isinstance(row.get(name), int | float) for name in OF_A_STEP):
            raise UserError(f"{path}, line {number} is no step of a training: take that line out")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no step, although the training is complete: restore it")
    return rows


def _results(run: Run) -> list[tuple[str, str, SuiteResult]]:
    """Measurement, candidate and result; the base model first on every measurement."""
    paths = run.evaluation.glob("*/*/result.json")
    found = [(path.parent.parent.name, path.parent.name, read_result(path)) for path in paths]
    return sorted(found, key=lambda row: (row[0], row[1] != BASE, row[1]))


def _contamination(run: Run) -> list[dict[str, Any]]:
    """The summary of every suite, out of its results."""
    rows = {}
    for path in sorted(run.evaluation.glob("*/*/result.json")):
        if summary := read_json(path)["contamination"]:
            rows[summary["suite"]] = summary
    return list(rows.values())


def _examples(run: Run, compared: CandidateComparison) -> list[dict[str, Any]]:
    """One problem that the candidate gained, one it lost, one solved by both, one by neither, as far as there are
    any: the first sample of each."""
    rows = {
        name: _first_samples(run.suite_samples(compared.suite, candidate))
        for name, candidate in (("base", BASE), ("candidate", compared.candidate))
    }
    common = sorted(rows["base"].keys() & rows["candidate"].keys(), key=lambda name: (len(name), name))
    chosen: dict[tuple[bool, ...], str] = {}
    for problem in common:
        chosen.setdefault(tuple(rows[name][problem]["verdict"]["status"] == "passed" for name in rows), problem)
    return [
        {"id": chosen[kind], "name": compared.candidate}
        | {name: _example(found[chosen[kind]]) for name, found in rows.items()}
        for kind in ((False, True), (True, False), (True, True), (False, False))
        if kind in chosen
    ]


def _first_samples(path: Path) -> dict[str, dict[str, Any]]:
    rows = (row for _, row in samples(path) if row["draft"]["sample"] == 0)
    return {row["draft"]["problem_id"]: row for row in rows}


def _example(row: dict[str, Any]) -> dict[str, Any]:
    text, verdict = "\n\n".join(row.get("replies", [row["draft"]["text"]])), row["verdict"]
    return {"status": verdict["status"], "detail": verdict["detail"], "text": text, "fence": fence_for(text)}


def _html(folder: Path, markdown: str) -> str:
    """One file with its pictures inside. Raw HTML in model output stays text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    for plot in (folder / "plots").glob("*.png"):
        data = base64.b64encode(plot.read_bytes()).decode()
        body = body.replace(f'src="plots/{plot.name}"', f'src="data:image/png;base64,{data}"')
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"<head>{meta}<title>{escape(folder.name)}</title><style>{STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}<body>\n{body}</body></html>\n'
