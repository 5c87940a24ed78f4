"""What a stage learnt from, as it travels with its adapter (`app.rights`): of a corpus, of problems, and of an adapter
that is there already, also one of a version that kept nothing beside the weights.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.files.json_files import read_json
from app.rights import GuardedBy, Material, Rights, read, tables, union
from app.runs import Run

OLDER = (
    "Made by a version that kept no licence texts with what was learnt: whose work it is, is told here as far as the "
    "run still holds it, and the texts have to be looked up."
)
GONE = (
    "What the stage {stage} learnt from can't be told any more: the adapter was made by a version that kept nothing of "
    "it beside the weights, and the run's {place} is gone."
)
LICENCE_COLUMNS = ("licence", "distributions", "files", "tokens")
PROBLEM_COLUMNS = ("source of problems", "licence of their text", "problems")
OF_PROBLEMS = (
    "{stage}: the model's own programs, as answers to these problems. No solution that a person wrote was learnt from, "
    "unless the settings name a teacher or imitation."
)
STAGES = {"sft": "Supervised fine-tuning", "grm": "Self-reward", "evolve": "Evolution"}
"""What the stages that train are called on cards."""


def by_licence(licences: Mapping[str, Mapping[str, int]]) -> tuple[tuple[Any, ...], ...]:
    """Rows of LICENCE_COLUMNS, of what a corpus' manifest has."""
    ordered = sorted(licences.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    return tuple((licence, *(row[key] for key in LICENCE_COLUMNS[1:])) for licence, row in ordered)


def of_corpus(manifest: Mapping[str, Any], told: Iterable[str] = ()) -> Rights:
    """What a corpus' manifest tells by itself. told: further sentences."""
    words = f"{STAGES['sft']}."
    if "tokens" in manifest:
        words = f"{STAGES['sft']}: {manifest['tokens']:,} tokens of {manifest['documents']:,} files and problems."
    if others := manifest.get("non_osi_sources"):
        words += f" **Not open source:** {'; '.join(map(str, others))}."
    guard = manifest.get("guard") or {"suites": (), "unguarded": ()}
    licences = manifest.get("licences", {})
    rows = by_licence(licences)
    return Rights(
        learnt=(Material(stage="sft", told=" ".join([words, *told]), columns=LICENCE_COLUMNS, rows=rows),),
        guards=(GuardedBy(stage="sft", suites=tuple(guard["suites"]), unguarded=tuple(guard["unguarded"])),),
        remarks=private(licences),
    )


def of_problems(stage: str, counts: Mapping[tuple[str, str], int], told: str = OF_PROBLEMS) -> Rights:
    """What is told of problems by their source and licence."""
    rows = tuple((source, licence, number) for (source, licence), number in counts.items() if number)
    told = told.format(stage=STAGES.get(stage, stage))
    return Rights(
        learnt=(Material(stage=stage, told=told, columns=PROBLEM_COLUMNS, rows=rows),),
        remarks=private(licence for _, licence, _ in rows),
    )


def private(licences: Iterable[str]) -> tuple[str, ...]:
    """What to say where something is under no public licence."""
    own = sorted({word.strip("()") for one in licences for word in one.split() if "LicenseRef-" in word})
    said = f"Part of it is under no public licence ({', '.join(own)}): whoever passes this on needs its owner's leave."
    return (said,) if own else ()


def of_adapter(run: Run, stage: str) -> tuple[Rights, dict[str, Path]]:
    """What travels with a run's adapter, and its attribution tables by stage. Of one that a version made which kept
    nothing beside the weights, what the run still tells, with a sentence that says so."""
    folder = run.trained().get(stage)
    if folder and (held := read(folder)):
        return held, tables(folder)
    return _of_older(run, stage)


def of_run_corpus(run: Run) -> tuple[Rights, dict[str, Path]]:
    """What travels with what is learnt from a run's corpus, and its attribution table."""
    table = {"sft": run.attribution} if run.attribution.exists() else {}
    if held := read(run.corpus):
        return held, table
    if not run.corpus_manifest.exists():
        return Rights(remarks=(GONE.format(stage="sft", place=run.corpus_manifest.relative_to(run.root)),)), table
    return union(of_corpus(read_json(run.corpus_manifest)), Rights(remarks=(OLDER,))), table


def _of_older(run: Run, stage: str) -> tuple[Rights, dict[str, Path]]:
    if stage == "sft":
        return of_run_corpus(run)
    metas = {"grm": (run.grm_meta, run.grm_attribution), "evolve": (run.evolve_meta, run.evolve_attribution)}
    meta, path = metas[stage]
    facts = read_json(meta)
    counts = {(row["source"], row["licence"]): row["learnt"] for row in facts["problems"]}
    own = union(of_problems(stage, counts), Rights(remarks=(OLDER,)))
    table = {stage: path} if path.exists() else {}
    if stage == "evolve" and facts.get("start") == "self-reward":
        parent, its_tables = of_adapter(run, "grm")
        return union(parent, own), its_tables | table
    return own, table
