"""The model card of an export: what it is, what of the adapter its files keep, results with their intervals, the
licences of what was learnt from, and the settings. The head is what the Hugging Face Hub reads.

It names no path of the machine: models and files of the user's go by their last part.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.evaluation.gate import read_decision
from app.evaluation.stage import CandidateComparison, against_base, outdated, read_result
from app.export.choice import BASE, Chosen
from app.files.json_files import of_this_version, read_json, write_atomic
from app.models.gguf_source import SOURCES, short_name
from app.records import SuiteResult
from app.runs import Run
from app.settings import ModelSettings, Profile

NAME = "README.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
STAGES = {"sft": "supervised fine-tuning", "grm": "self-reward", "evolve": "evolution"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the export found out. Made by `app.export.exporting`."""

    differs: float | None = None
    """`merged_model`'s; None where nothing was merged."""
    dtype: str | None = None
    """Of merged safetensors, where there are any."""
    kind: str | None = None
    """Type of the GGUF, where there is one."""
    gguf: str = ""
    """Its file."""
    keeps: Mapping[str, float] = field(default_factory=dict)
    """`share_kept` of types that round, where an adapter was merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one stage learnt from, as a table."""

    stage: str
    told: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    attribution: Path


def gathered(run: Run, profile: Profile, chosen: Chosen) -> dict[str, Any]:
    """What the run says of the model, for `write_card`. Raises UserError for a file of the run that is broken: it is
    rendered here already, since `write_card` comes after the weights."""
    with of_this_version(run.root):
        sources = list(_sources(run, chosen.name))
        attributed = {source.stage: source.attribution for source in sources if source.attribution.exists()}
        found = _of_run(run, profile, chosen) | {"sources": sources, "attributed": attributed}
        _rendered(found, Facts())
    return found


def write_card(folder: Path, of_run: Mapping[str, Any], facts: Facts) -> None:
    """Write README.md, and attribution/ beside it. of_run: what `gathered` gave."""
    for stage, path in of_run["attributed"].items():
        (folder / "attribution").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "attribution" / f"{stage}.csv")
    write_atomic(folder / NAME, _rendered(of_run, facts))


def _rendered(of_run: Mapping[str, Any], facts: Facts) -> str:
    import jinja2

    told = {**of_run, **_of_files(facts, is_base=of_run["is_base"])}
    templates = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(TEMPLATE.parent))
    return templates.get_template(TEMPLATE.name).render(told) + "\n"


def public_name(model: ModelSettings) -> str:
    """The Hub's name of a model, or the last part of its path."""
    return model.name if model.source == "hub" else short_name(model.name)


def _of_files(facts: Facts, *, is_base: bool) -> dict[str, Any]:
    relation = "quantized" if facts.kind and not facts.dtype else "finetune" if facts.dtype else "adapter"
    return {
        "facts": facts,
        "relation": "" if is_base and facts.dtype else relation,
        "library": "" if facts.kind and not facts.dtype else "transformers" if facts.dtype else "peft",
        "tags": ["code", *(["lora"] if relation == "adapter" else []), *(["gguf"] if facts.kind else [])],
    }


def _of_run(run: Run, profile: Profile, chosen: Chosen) -> dict[str, Any]:
    base, is_base = public_name(profile.model), chosen.name == BASE
    info = read_json(run.info)
    stale = outdated(run)
    found = [row for row in _results(run, chosen.name) if (row[0], row[1].candidate) not in stale]
    kept = profile.model_dump(mode="json")
    groups = ("model", *_stages(run, chosen.name))
    return {
        "is_base": is_base,
        "base": base,
        "hub_name": base if profile.model.source == "hub" else "",
        "unpacked": profile.model.source in SOURCES,
        "title": base if is_base else f"{base}, {STAGES[chosen.name]}",
        "whole": "the base model" if is_base else "base and adapter in one",
        "made": f"{base} as it is." if is_base else f"A LoRA adapter of {base}, made by {STAGES[chosen.name]}.",
        "run_id": info.get("run_id", run.root.name),
        "settings_name": profile.name,
        "commit": (info.get("commit") or "unknown")[:12],
        "decision": None if is_base else read_decision(run, chosen.name),
        "quantized": "" if profile.model.quantization == "none" else profile.model.quantization.upper(),
        "results": found,
        "comparisons": list(_comparisons(run, chosen.name, [label for label, _ in found])),
        "settings": json.dumps(_without_paths({"seed": kept["seed"]} | {n: kept[n] for n in groups}), indent=2),
    }


def _stages(run: Run, name: str) -> list[str]:
    """The stages whose training is in the weights."""
    if name == "evolve" and read_json(run.evolve_meta).get("start") == "self-reward":
        return ["grm", "evolve"]
    return [name] if name in STAGES else []


def _sources(run: Run, name: str) -> Iterator[Source]:
    for stage in _stages(run, name):
        if stage == "sft":
            yield _corpus(run)
            continue
        meta = read_json(run.grm_meta if stage == "grm" else run.evolve_meta)
        yield Source(
            stage=stage,
            told=f"{STAGES[stage].capitalize()}: the model's own programs, as answers to these problems. No solution "
            "that a person wrote was learnt from, unless the settings name a teacher or imitation.",
            columns=("source of problems", "licence of their text", "problems"),
            rows=[(row["source"], row["licence"], f"{row['learnt']:,}") for row in meta["problems"] if row["learnt"]],
            attribution=run.grm_attribution if stage == "grm" else run.evolve_attribution,
        )


def _corpus(run: Run) -> Source:
    held = read_json(run.corpus_manifest)
    told = f"{STAGES['sft'].capitalize()}: {held['tokens']:,} tokens of {held['documents']:,} files and problems."
    if others := held.get("non_osi_sources"):
        told += f" **Not open source:** {'; '.join(map(str, others))}."
    return Source(
        stage="sft",
        told=told,
        columns=("licence", "distributions", "files", "tokens"),
        rows=[
            (licence, *(f"{row[key]:,}" for key in ("distributions", "files", "tokens")))
            for licence, row in sorted(held["licences"].items(), key=lambda item: -item[1]["tokens"])
        ],
        attribution=run.attribution,
    )


def _results(run: Run, name: str) -> list[tuple[str, SuiteResult]]:
    """Measurement and result, of the base and of what is exported."""
    paths = sorted(run.evaluation.glob("*/*/result.json"))
    wanted = dict.fromkeys((BASE, name))
    found = [(path.parent.parent.name, read_result(path)) for path in paths if path.parent.name in wanted]
    return sorted(found, key=lambda row: (row[0], row[1].candidate != BASE))


def _comparisons(run: Run, name: str, labels: Sequence[str]) -> Iterator[CandidateComparison]:
    for label in dict.fromkeys(labels):
        if compared := against_base(run, label, name):
            yield compared


def _without_paths(value: Any) -> Any:
    """Settings, with the last part of each path alone."""
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(one) for one in value]
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return Path(value).name
    return value
