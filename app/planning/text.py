"""A plan as people read it, and as JSON."""

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from app.errors import NothingToLearnError
from app.planning.advice import advice, best_choices, too_much, total_days
from app.planning.calibration import calibrate
from app.planning.inputs import MAX_RAM_GIB, Inputs, Phase, inputs_of
from app.planning.plan import PHASES
from app.reward.problems.early import check, check_evolution
from app.settings import Profile

FIGURES = ("peak_vram_gib", "peak_ram_gib", "disk_gib", "hours")


def plan_command(arguments: Namespace, profile: Profile) -> None:
    """Run `python -m app plan`. With --calibrate the training as it is set is measured, and on a card the fastest ones
    with either base beside it, so that the plan doesn't hold a measurement against a projection. Raises UserError as
    the commands do that it plans for, of all that is on this machine."""
    with contextlib.suppress(NothingToLearnError):  # which the plan tells
        if profile.grm.when != "never":
            check(profile.grm, fetches=False)
    with contextlib.suppress(NothingToLearnError):
        if profile.evolve.when != "never":
            check_evolution(profile.evolve, profile.grm, fetches=False)
    inputs = inputs_of(profile, arguments.run)
    if arguments.calibrate:
        ways = [inputs.choice, *(best_choices(inputs) if profile.sft.use_gpu else [])]
        ways = [way for place, way in enumerate(ways) if way.fits and way not in ways[:place]]
        calibrate(profile, inputs.config, inputs.shape, ways)
    phases = [phase(inputs) for phase in PHASES]
    print(json.dumps(as_json(inputs, phases)) if arguments.json else as_text(inputs, phases))
    sys.stdout.flush()


def as_json(inputs: Inputs, phases: Sequence[Phase]) -> dict[str, Any]:
    return {
        "profile": inputs.profile.name,
        "phases": [
            {
                "name": phase.name,
                **{figure: round(getattr(phase, figure), 4) for figure in FIGURES},
                "detail": {name: round(size, 4) for name, size in phase.detail.items()},
            }
            for phase in phases
        ],
        "total_days": round(total_days(phases), 4),
        "fits": not too_much(inputs, phases),
        "advice": advice(inputs, phases),
    }


def as_text(inputs: Inputs, phases: Sequence[Phase]) -> str:
    """Table and advice; the last line says whether all of it fits."""
    rows: list[tuple[str, ...]] = [("phase", "VRAM GiB", "RAM GiB", "disk GiB", "hours", "")]
    rows += [(phase.name, *(f"{getattr(phase, figure):.2f}" for figure in FIGURES), phase.how) for phase in phases]
    line = "{0:8}" + ("{1:>10}" if inputs.card else "") + "{2:>10}{3:>10}{4:>10}  {5}"
    said = [f"plan of {inputs.profile.name}: {inputs.profile.model.name} on {inputs.device}", ""]
    said += [*(line.format(*row).rstrip() for row in rows), ""]
    said += [f"- {sentence}" for sentence in advice(inputs, phases)]
    days = total_days(phases)
    if wrong := too_much(inputs, phases):
        said.append(f"does not fit: {len(wrong)} thing(s) to change, {days:.2f} days in total")
    else:
        limit = f"{inputs.limit_gib:.3g} GiB of the card, " if inputs.card else ""
        said.append(f"fits: {limit}{MAX_RAM_GIB:g} GiB of main memory, {days:.2f} of {inputs.days:g} days")
    return "\n".join(said)
