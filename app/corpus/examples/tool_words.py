"""The words of the tool-use dialogues, read from datasets/tool_dialogues.yaml."""

import functools
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.corpus.examples.tool_facts import Kind
from app.errors import UserError
from app.prompting.tool_schema import Source
from app.runs import REPOSITORY

WORDS_PATH = REPOSITORY / "datasets" / "tool_dialogues.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class System(_Strict):
    weight: int = Field(ge=1)
    text: str


class Libraries(_Strict):
    begin: tuple[str, ...]
    middle: tuple[str, ...]
    end: tuple[str, ...]


class Asked(_Strict):
    questions: tuple[str, ...] = Field(min_length=1)
    queries: tuple[str, ...] = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)


class UnknownQuestion(_Strict):
    question: str
    query: str
    fact: str


class Unknown(_Strict):
    questions: tuple[UnknownQuestion, ...]
    answers: tuple[str, ...]
    missing: tuple[str, ...]


class Fixed(_Strict):
    question: str
    answer: str


class NoSearch(_Strict):
    explain: tuple[str, ...]
    fixed: tuple[Fixed, ...]


class Words(_Strict):
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
    """Raises UserError naming the file and the field."""
    try:
        return Words.model_validate(yaml.safe_load(WORDS_PATH.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{WORDS_PATH} can't be read ({error}): restore it from the repository") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{WORDS_PATH}: {place}: {first['msg']}: restore it from the repository") from None
