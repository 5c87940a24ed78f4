"""The card of the adapter that supervised fine-tuning made, with whose work it learnt from beside it (`app.rights`)."""

from collections.abc import Mapping
from typing import Any

from app import rights
from app.files.json_files import write_atomic
from app.learnt_from import of_run_corpus
from app.models.licences import public_name
from app.runs import Run
from app.settings import ModelSettings

NAME = "README.md"
CARD = """\
---
{base_on_hub}library_name: peft
pipeline_tag: text-generation
tags: [lora, code]
---

# Adapter of {base}, by supervised fine-tuning

A LoRA adapter, r={rank}, of {steps:,} steps over {tokens:,} tokens. Whether it solves more than the base model, the
run's report says.

## What it learnt from

{section}

The licence of {base} holds for its weights.
"""


def write_card(run: Run, meta: Mapping[str, Any]) -> None:
    """Write the card and what travels with the adapter into its folder. meta: what sft/meta.json is to hold."""
    held, tables = of_run_corpus(run)
    rights.write(run.sft_adapter, held, tables)
    model = ModelSettings.model_validate(meta["model"])
    text = CARD.format(
        base_on_hub=f"base_model: {model.name}\n" if model.source == "hub" else "",
        base=public_name(model),
        rank=meta["settings"]["lora_r"],
        steps=meta["steps"],
        tokens=meta["tokens"],
        section=rights.section(held, list(tables)),
    )
    write_atomic(run.sft_adapter / NAME, text)
