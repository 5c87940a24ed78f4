"""The formats and tools of problems in which a value is written otherwise than it is said, read from
datasets/tool_formats.yaml.
"""

import functools
import string
from typing import Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from app.overrides import read_settings
from app.reward.tool_use.parameter_types import JsonType, Kind, of_default
from app.runs import REPOSITORY
from app.stage_settings.base import Settings

FORMATS_PATH = REPOSITORY / "datasets" / "tool_formats.yaml"
Computed = Literal["date", "time", "duration", "amount", "percent", "phone"]
Written = StrictBool | StrictInt | StrictFloat | StrictStr
_KINDS: dict[Computed, Kind] = {
    "date": "string", "time": "string", "duration": "integer", "amount": "integer", "percent": "number",
    "phone": "string",
}  # fmt: skip


class Wording(Settings):
    """How a computed value is said; which fields it has goes by the kind."""

    say: str
    minute: int | None = None
    seconds: int = 0
    per: int = 0
    write: str = ""


class Format(Settings):
    """A form in which values are written. Either `pairs` or `computed` says which values there are."""

    descriptions: tuple[str, ...] = Field(min_length=1)
    pairs: dict[str, Written] = {}
    enumerated: bool = False
    computed: Computed | None = None
    write: str = ""
    said: tuple[Wording, ...] = ()

    @model_validator(mode="after")
    def _has_values(self) -> "Format":
        kinds = {type(value) for value in self.pairs.values()}
        if bool(self.pairs) == bool(self.computed) or bool(self.computed) != bool(self.said) or len(kinds) > 1:
            raise ValueError("a format has pairs of one type, or a computed kind with wordings of what is said")
        return self

    @property
    def type(self) -> JsonType:
        if self.computed:
            return JsonType(kind=_KINDS[self.computed])
        written = tuple(dict.fromkeys(self.pairs.values()))
        found = of_default(written[0])
        assert found is not None, f"pairs have values that JSON has, got {written[0]!r}"
        return JsonType(kind=found.kind, members=written if self.enumerated else ())


class FormattedParameter(Settings):
    """A parameter of a tool: with a form (`format`, `pairs`), or said word by word (`values`, `between`)."""

    name: str
    description: str
    format: tuple[str, ...] = ()
    pairs: dict[str, Written] = {}
    values: tuple[str, ...] = ()
    between: tuple[int, int] | None = None
    default: Written | None = None
    optional: bool = False

    @property
    def required(self) -> bool:
        return self.default is None and not self.optional

    @property
    def has_form(self) -> bool:
        return bool(self.format or self.pairs)

    @property
    def own_format(self) -> Format:
        """That of its pairs."""
        is_enumeration = isinstance(next(iter(self.pairs.values())), str)
        return Format(descriptions=("{what}",), pairs=self.pairs, enumerated=is_enumeration)


class FormattedTool(Settings):
    """Example: a ferry's booking with island, date, vehicle and passengers, and five sentences that ask for one."""

    name: str
    description: str
    parameters: tuple[FormattedParameter, ...] = Field(min_length=1)
    requests: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _requests_say_what_is_needed(self) -> "FormattedTool":
        by_name = {one.name: one for one in self.parameters}
        needed = {one.name for one in self.parameters if one.required}
        for one in self.parameters:
            if [bool(one.format), bool(one.pairs), bool(one.values), one.between is not None].count(True) != 1:
                raise ValueError(f"{one.name} has a format, pairs, values or bounds, one of them alone")
        for request in self.requests:
            said = places_of(request)
            if not needed <= said <= by_name.keys() or not any(by_name[name].has_form for name in said):
                raise ValueError(
                    f"{request!r} says {sorted(said)}: it has to say {sorted(needed)}, of {sorted(by_name)} alone, "
                    "and one value that has a form"
                )
        return self


class FormatWords(Settings):
    """datasets/tool_formats.yaml, whose head says what its fields mean."""

    formats: dict[str, Format]
    tools: tuple[FormattedTool, ...]

    @model_validator(mode="after")
    def _formats_are_there(self) -> "FormatWords":
        used = {name for tool in self.tools for one in tool.parameters for name in one.format}
        if used != self.formats.keys():
            raise ValueError(f"formats that tools name and those that are there differ: {used ^ self.formats.keys()}")
        return self


def places_of(request: str) -> set[str]:
    """The parameters that a sentence says."""
    return {name for _, name, _, _ in string.Formatter().parse(request) if name}


@functools.cache
def load_format_words() -> FormatWords:
    """The words of datasets/tool_formats.yaml. Raises UserError naming the file and the field."""
    place, way_out = str(FORMATS_PATH), "restore it from the repository"
    return read_settings(FormatWords, FORMATS_PATH, place, way_out)
