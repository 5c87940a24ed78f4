"""The model card of an export: what it is, what of the adapter its files keep, results with their intervals, the
licences of what was learnt from, and the settings. The head is what the Hugging Face Hub reads.

It names no path of the machine: models and files of the user's go by their last part.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import rights
from app.evaluation.gate import read_decision
from app.evaluation.stage import CandidateComparison, against_base, outdated, read_result
from app.export.choice import BASE, Chosen
from app.files.json_files import of_this_version, read_json, write_atomic
from app.learnt_from import of_adapter
from app.models.gguf_source import SOURCES
from app.models.licences import model_notices, public_name
from app.records import SuiteResult
from app.runs import Run
from app.settings import Profile

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


def gathered(run: Run, profile: Profile, chosen: Chosen) -> dict[str, Any]:
    """What the run says of the model, for `write_card`. Raises UserError for a file of the run that is broken: it is
    rendered here already, since `write_card` comes after the weights."""
    with of_this_version(run.root):
        of_base = tuple(model_notices(profile.model))
        held, tables = (rights.Rights(), {}) if chosen.name == BASE else of_adapter(run, chosen.name)
        held = rights.union(held, rights.Rights(notices=of_base))
        told = _of_run(run, profile, chosen)
        section = rights.section(held, list(tables))
        if chosen.name == BASE:
            section = f"Nothing was learnt here: these are the weights of {told['base']}.\n\n{section}"
        found = told | {
            "rights": held, "attributed": tables, "section": section, "licence": of_base[0].licence,
            "has_text": bool(of_base[0].text),
        }  # fmt: skip
        _rendered(found, Facts())
    return found


def write_card(folder: Path, of_run: Mapping[str, Any], facts: Facts) -> None:
    """Write README.md, and what travels with the weights (`app.rights`) beside it. of_run: what `gathered` gave."""
    rights.write(folder, of_run["rights"], of_run["attributed"])
    write_atomic(folder / NAME, _rendered(of_run, facts))


def _rendered(of_run: Mapping[str, Any], facts: Facts) -> str:
    import jinja2

    told = {**of_run, **_of_files(facts, is_base=of_run["is_base"])}
    templates = jinja2.Environment(undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(TEMPLATE.parent))
    return templates.get_template(TEMPLATE.name).render(told) + "\n"


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
