"""A plan as people read it, and as JSON."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from app.planning import calibration
from app.planning.advice import advice, best_choice, too_much, total_days
from app.planning.cards import find_card
from app.planning.plan import PHASES, Inputs, Phase, inputs_of, limit_of_card
from app.planning.training_choice import BASES, Choice


def plan_command(arguments: Namespace, profile: Any) -> None:
    """`python -m app plan`."""
    inputs = inputs_of(profile, arguments.run)
    if arguments.calibrate:
        calibration.calibrate(profile, inputs.config, inputs.shape, _ways(inputs))
    phases = [phase(inputs) for phase in PHASES]
    print(json.dumps(as_json(inputs, phases)) if arguments.json else as_text(inputs, phases))
    sys.stdout.flush()


def _ways(inputs: Inputs) -> list[Choice]:
    """What is measured: the training as it is set, and on a card the fastest ones with either base beside it, so that
    the plan doesn't hold a measurement against a projection."""
    found = [inputs.choice]
    if inputs.profile.sft.use_gpu:
        found += [best for base in BASES if (best := best_choice(inputs, bases=(base,)))]
    return [way for place, way in enumerate(found) if way.fits and way not in found[:place]]


def as_json(inputs: Inputs, phases: Sequence[Phase]) -> dict[str, Any]:
    return {
        "profile": inputs.profile.name,
        "phases": [
            {
                "name": phase.name,
                "peak_vram_gib": round(phase.peak_vram_gib, 3),
                "peak_ram_gib": round(phase.peak_ram_gib, 3),
                "disk_gib": round(phase.disk_gib, 4),
                "hours": round(phase.hours, 4),
                "detail": {name: round(size, 3) for name, size in phase.detail.items()},
            }
            for phase in phases
        ],
        "total_days": round(total_days(phases), 4),
        "fits": not too_much(inputs, phases),
        "advice": advice(inputs, phases),
    }


def as_text(inputs: Inputs, phases: Sequence[Phase]) -> str:
    """Table, arithmetic, advice; the last line says whether all of it fits."""
    device = inputs.card.name if inputs.card and find_card(inputs.device) else inputs.device
    said = [f"plan of {inputs.profile.name}: {inputs.profile.model.name} on {device}", ""]
    vram = f"{'VRAM GiB':>10}" if inputs.card else ""
    said.append(f"{'phase':8}{vram}   RAM GiB  disk GiB     hours{'  of the VRAM' if inputs.card else ''}")
    for phase in phases:
        vram = f"{phase.peak_vram_gib:10.2f}" if inputs.card else ""
        parts = " + ".join(f"{name} {size:.2f}" for name, size in phase.detail.items())
        sizes = f"{phase.peak_ram_gib:10.2f}{phase.disk_gib:10.2f}{phase.hours:10.2f}"
        said.append(f"{phase.name:8}{vram}{sizes}  {parts}".rstrip())
    said += ["", *(f"{phase.name}: {phase.how}" for phase in phases if phase.how), ""]
    said += [f"- {line}" for line in advice(inputs, phases)]
    days = total_days(phases)
    if wrong := too_much(inputs, phases):
        return "\n".join([*said, f"does not fit: {len(wrong)} thing(s) to change, {days:.2f} days in total"])
    limit = f"{limit_of_card(inputs):.3g} GiB of the card, " if inputs.card else ""
    return "\n".join([*said, f"fits: {limit}32 GiB of main memory, {days:.2f} of 7 days"])
