"""The words of the tool-use dialogues, read from datasets/tool_dialogues.yaml."""

import functools
from typing import Literal

from pydantic import Field

from app.corpus.examples.tool_facts import Kind
from app.overrides import read_settings
from app.prompting.tool_schema import Source
from app.runs import REPOSITORY
from app.stage_settings.base import Settings

WORDS_PATH = REPOSITORY / "datasets" / "tool_dialogues.yaml"


class System(Settings):
    weight: int = Field(ge=1)
    text: str


class Libraries(Settings):
    begin: tuple[str, ...]
    middle: tuple[str, ...]
    end: tuple[str, ...]


class Asked(Settings):
    questions: tuple[str, ...] = Field(min_length=1)
    queries: tuple[str, ...] = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)


class UnknownQuestion(Settings):
    question: str
    query: str
    fact: str


class Unknown(Settings):
    questions: tuple[UnknownQuestion, ...]
    answers: tuple[str, ...]
    missing: tuple[str, ...]


class Fixed(Settings):
    question: str
    answer: str


class NoSearch(Settings):
    explain: tuple[str, ...]
    fixed: tuple[Fixed, ...]


class Words(Settings):
    """datasets/tool_dialogues.yaml, whose head says what its fields mean."""

    systems: tuple[System, ...]
    libraries: Libraries
    asked: dict[Kind, Asked]
    according: dict[Source, tuple[str, ...]]
    again: dict[Literal["second", "retry"], tuple[str, ...]]
    unknown: Unknown
    no_search: NoSearch


@functools.cache
def load_words() -> Words:
    """The words of datasets/tool_dialogues.yaml. Raises UserError naming the file and the field."""
    place, way_out = str(WORDS_PATH), "restore it from the repository"
    return read_settings(Words, WORDS_PATH, place, way_out)
