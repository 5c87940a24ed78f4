"""The card of the adapter that self-reward made: from what, by which problems under which licences, and what a reader
has to know before using it. It lies beside the weights, so it goes wherever they are copied to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.files.json_files import write_atomic

NAME = "README.md"
"""As the Hub and PEFT name a model's card."""
JUDGES = {"grpo": "executed tests", "rft": "executed tests", "upft": "nothing", "distill": "a larger model"}
"""What had judged the drafts that an arm learns from."""
RANKED = """\
{untested:,} of the {given:,} problems that it was given have no tests: of their programs those were learnt that the
ranking `{used}` put first.
"""
CARD = """\
---
{base_on_hub}library_name: peft
pipeline_tag: text-generation
tags: [lora, code]
---

# Adapter of {base}, trained on its own answers

A LoRA adapter, r={rank}, by self-reward (`{arm}`): {steps:,} steps, {drafts:,} drafts. The model learnt from programs
that it wrote itself and that {judge} had judged; no solution that a person wrote was learnt from.
{ranked}
The problems that it was asked, by source and licence of their text:

| source | licence | problems |
|---|---|---:|
{rows}

Their ids are in the run's `grm/attribution.csv`. Problems of test suites are not among them.

{audited} Whether the adapter solves more than the base model, the run's report says.
"""


def write_card(adapter: Path, meta: Mapping[str, Any]) -> None:
    """meta: what grm/meta.json holds."""
    write_atomic(adapter / NAME, card_of(meta))


def card_of(meta: Mapping[str, Any]) -> str:
    """The card as Markdown, with the head that the Hub reads."""
    model, audit = meta["model"], meta["audit"]
    audited = "None of the drafts that passed could be judged a second time."
    if audit["audited"]:
        false, number = audit["false_passes"], audit["audited"]
        audited = f"Of {number:,} drafts that had passed, {false:,} failed a second judge on fresh inputs."
    untested, given = (sum(row[name] for row in meta["problems"]) for name in ("untested", "given"))
    ranking = meta.get("ranking") if untested else None
    rows = [f"| {row['source']} | {row['licence']} | {row['learnt']:,} |" for row in meta["problems"] if row["learnt"]]
    return CARD.format(
        base_on_hub=f"base_model: {model['name']}\n" if model["source"] == "hub" else "",
        base=model["name"],
        rank=meta["settings"]["lora_r"],
        arm=meta["arm"],
        judge="a ranking" if ranking and untested == given else JUDGES[meta["arm"]],
        ranked=RANKED.format(untested=untested, given=given, used=ranking["used"]) if ranking else "",
        steps=meta["steps"],
        drafts=meta["drafts"],
        rows="\n".join(rows),
        audited=audited,
    )
