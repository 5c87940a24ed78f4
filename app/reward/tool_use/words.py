"""The words of problems in which tools are called, read from datasets/tool_requests.yaml."""

import functools
from typing import Literal

from pydantic import Field

from app.corpus.examples.tool_words import Fixed, System
from app.overrides import read_settings
from app.runs import REPOSITORY
from app.stage_settings.base import Settings

Way = Literal["with", "is", "use", "equals", "bare"]
"""How a request tells values: "with width 7", "the width is 7", "7 as the width", "width=7", "7"."""
WORDS_PATH = REPOSITORY / "datasets" / "tool_requests.yaml"


class Values(Settings):
    words: frozenset[str]
    values: tuple[str, ...] = Field(min_length=2)


class Bounds(Settings):
    words: frozenset[str]
    between: tuple[int, int]


class Decline(Settings):
    irrelevant: tuple[str, ...]
    missing: tuple[str, ...]


class Words(Settings):
    """datasets/tool_requests.yaml, whose head says what its fields mean."""

    systems: tuple[System, ...]
    requests: dict[Way, tuple[str, ...]]
    several: tuple[str, ...]
    both: tuple[str, ...]
    values: tuple[Values, ...]
    plain: tuple[str, ...]
    bounds: tuple[Bounds, ...]
    decline: Decline
    chat: tuple[Fixed, ...]


@functools.cache
def load_words() -> Words:
    """The words of datasets/tool_requests.yaml. Raises UserError naming the file and the field."""
    place, way_out = str(WORDS_PATH), "restore it from the repository"
    return read_settings(Words, WORDS_PATH, place, way_out)
