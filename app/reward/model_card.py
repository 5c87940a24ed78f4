"""The cards of the adapters that self-reward and evolution made: from what, by which problems under which licences, and
what a reader has to know before using one. It lies beside the weights, so it goes wherever they are copied to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app import rights
from app.files.json_files import write_atomic
from app.models.licences import public_name
from app.settings import ModelSettings

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

{made}
{audited} Whether the adapter solves more than the base model{of_test}, the run's report says.

## What it learnt from

{section}

The licence of {base} holds for its weights.
"""
BY_REWARD = """\
A LoRA adapter, r={rank}, by self-reward (`{arm}`): {steps:,} steps, {drafts:,} drafts. The model learnt from programs
that it wrote itself and that {judge} had judged; no solution that a person wrote was learnt from.
{ranked}"""
BY_EVOLUTION = """\
A LoRA adapter, r={rank}, by evolution: {who}, of a population that drew {drafts:,} drafts in {generations}
generation(s). It learnt from programs that the model wrote itself and that executed tests had judged; no solution that
a person wrote was learnt from.

{fresh}
"""
FRESH = """\
On {problems:,} validation problems, by drafts that had no part in choosing it, its pass@1 differs by {difference:+.1f}
points ({low:+.1f} to {high:+.1f}, 95 %) from the base model's.{of_choice}"""


def write_card(adapter: Path, meta: Mapping[str, Any]) -> None:
    """Of what self-reward made. meta: what grm/meta.json holds. What travels with the adapter (`app.rights`) lies in
    its folder already."""
    write_atomic(adapter / NAME, card_of(meta, _section(adapter)))


def write_evolved_card(adapter: Path, meta: Mapping[str, Any]) -> None:
    """Of what evolution made. meta: what evolve/meta.json holds. What travels with it: as `write_card` has it."""
    write_atomic(adapter / NAME, evolved_card_of(meta, _section(adapter)))


def _section(adapter: Path) -> str:
    held = rights.read(adapter)
    assert held is not None, f"{adapter} has no {rights.FACTS}"
    return rights.section(held, list(rights.tables(adapter)))


def card_of(meta: Mapping[str, Any], section: str) -> str:
    """The card as Markdown, with the head that the Hub reads. section: what it learnt from."""
    untested, given = (sum(row[name] for row in meta["problems"]) for name in ("untested", "given"))
    ranking = meta.get("ranking") if untested else None
    made = BY_REWARD.format(
        rank=meta["settings"]["lora_r"],
        arm=meta["arm"],
        steps=meta["steps"],
        drafts=meta["drafts"],
        judge="a ranking" if ranking and untested == given else JUDGES[meta["arm"]],
        ranked=RANKED.format(untested=untested, given=given, used=ranking["used"]) if ranking else "",
    )
    return _card(meta, made, section)


def evolved_card_of(meta: Mapping[str, Any], section: str) -> str:
    """The same of the winner of a population."""
    winner, fresh = meta["winner"], meta["fresh"]
    told = "No fresh draft could be judged, so nothing is said of it beside the base model."
    if fresh:
        low, high = (100 * end for end in fresh["interval_95"])
        of_choice = "" if meta["fresh_problems"] == "unseen" else " It was chosen by the same problems."
        gain = 100 * fresh["difference"]
        told = FRESH.format(problems=fresh["num_problems"], of_choice=of_choice, difference=gain, low=low, high=high)
    who = f"the individual `{winner['id']}`"
    if winner["is_imitation"]:
        who = f"the base, which imitates what all individuals had solved by generation {winner['generation']}"
    made = BY_EVOLUTION.format(
        rank=winner["config"].get("lora_r", meta["grm"]["lora_r"]),  # an imitation has no genes
        who=who,
        drafts=meta["drafts"],
        generations=meta["generations"],
        fresh=told,
    )
    return _card(meta, made, section, of_test=" on test suites")


def _card(meta: Mapping[str, Any], made: str, section: str, of_test: str = "") -> str:
    model, audit = ModelSettings.model_validate(meta["model"]), meta["audit"]
    audited = "None of the drafts that passed could be judged a second time."
    if audit["audited"]:
        false, number = audit["false_passes"], audit["audited"]
        audited = f"Of {number:,} drafts that had passed, {false:,} failed a second judge on fresh inputs."
    return CARD.format(
        base_on_hub=f"base_model: {model.name}\n" if model.source == "hub" else "",
        base=public_name(model),
        made=made,
        section=section,
        audited=audited,
        of_test=of_test,
    )
