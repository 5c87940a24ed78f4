"""A plan of a profile with some settings changed, for tests of plans."""

from pathlib import Path
from typing import Any

from app.overrides import with_overrides
from app.planning.inputs import Inputs, inputs_of
from app.planning.plan import PHASES
from app.planning.text import as_json
from app.profiles import get_profile


def planned(name: str, run: Path | None, *overrides: str) -> tuple[Inputs, dict[str, Any]]:
    inputs = inputs_of(with_overrides(get_profile(name), overrides), run)
    return inputs, as_json(inputs, [phase(inputs) for phase in PHASES])
