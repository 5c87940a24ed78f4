"""Problems in which a value has to be written as its parameter's description asks for, and is said as people say it:
"in San Jose" where "San Jose, CA" is wanted, "half past seven in the evening" where "19:30" is.

Tools, sentences and formats are our own (datasets/tool_formats.yaml); tool, sentence, formats, values and the tools
beside are drawn by hash, so a seed gives the same problems. Split by the tool's name as `making` splits functions.

Limits: one call a problem; the sentences of a tool are few, what varies in them is the values; a form that the judge
does not tell from what was said (signs, capitals) is not taught.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.corpus.draws import Draws, by_hash
from app.prompting.tool_calls import Call, call_text
from app.reward.tool_use.format_words import (
    Format,
    FormattedParameter,
    FormattedTool,
    FormatWords,
    load_format_words,
    places_of,
)
from app.reward.tool_use.functions import Parameter, ToolFunction, content_of, task_of
from app.reward.tool_use.making import ALIKE, MOST_OTHERS, alike, expected, side_of, turns_of
from app.reward.tool_use.names import forms_of
from app.reward.tool_use.parameter_types import JsonType
from app.reward.tool_use.records import ToolProblem, tool_problem
from app.reward.tool_use.requests import capital
from app.reward.tool_use.said_values import SaidValue, drawn
from app.reward.tool_use.words import load_words

_TWO_STOPS = re.compile(r"\.\.(?!\.)")
"""After an abbreviation at a sentence's end: "at 7 p.m.."."""
_BEGINS_SENTENCE = re.compile(r"(?:\A|(?<=[.?!] ))\{(\w+)\}")
Forms = Mapping[str, Format]
"""The format of each parameter that has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for one call. Made by `asked_for`."""

    request: str
    values: Mapping[str, SaidValue]
    """By parameter, those that the request says."""

    @property
    def arguments(self) -> dict[str, Any]:
        return {name: value.written for name, value in self.values.items()}


def formatted_problems(number: int, seed: int, side: str, names: frozenset[str]) -> list[ToolProblem]:
    """Problems of the form "formatted", as many as asked for unless a request comes twice. side: "train" or
    "validation". names: what a benchmark's functions are known by (`names.benchmark_names`); tools that have one of
    them are left out."""
    words = load_format_words()
    tools = [one for one in words.tools if side_of(one.name, seed) == side and not forms_of(one.name) & names]
    tools.sort(key=lambda one: by_hash(f"{seed}:{one.name}"))
    found = dict[str, ToolProblem]()
    for place in range(number if tools else 0):
        tool, name = tools[place % len(tools)], f"formatted/{side}-{place}"
        made = _problem(tool, tools, name, Draws(f"{seed}:{name}:{tool.name}"), words)
        found.setdefault(made.problem.prompt, made)
    return list(found.values())


def _problem(
    tool: FormattedTool, tools: list[FormattedTool], name: str, draws: Draws, words: FormatWords
) -> ToolProblem:
    forms = drawn_forms(tool, words, draws)
    function, asked = as_function(tool, forms, draws), asked_for(tool, forms, draws)
    offered = [function]
    number = draws.below(MOST_OTHERS + 1)
    for other in draws.shuffled(tools):
        if len(offered) > number:
            break
        made = as_function(other, drawn_forms(other, words, draws), draws)
        if all(other.name != one.name and alike(content_of(made), content_of(one)) <= ALIKE for one in offered):
            offered.append(made)
    reply = call_text([Call(name=tool.name, arguments=asked.arguments)])
    tests = {"expect": "calls", "language": "python", "calls": [expected(function, asked.arguments)]}
    turns = turns_of(asked.request, draws, load_words())
    schemas = [one.schema() for one in draws.shuffled(offered)]
    return tool_problem("formatted", name, turns, schemas, reply, tests, [])


def drawn_forms(tool: FormattedTool, words: FormatWords, draws: Draws) -> Forms:
    """One of the formats that each parameter may have; its own where it has pairs."""
    return {
        one.name: words.formats[draws.one_of(one.format)] if one.format else one.own_format
        for one in tool.parameters
        if one.has_form
    }


def as_function(tool: FormattedTool, forms: Forms, draws: Draws) -> ToolFunction:
    """The tool as it is offered, with a drawn wording of each format."""
    return ToolFunction(
        name=tool.name,
        summary=tool.description,
        task=task_of(tool.description),
        parameters=tuple(_parameter(one, forms.get(one.name), draws) for one in tool.parameters),
        origin=None,
    )


def _parameter(given: FormattedParameter, form: Format | None, draws: Draws) -> Parameter:
    kind = form.type if form else JsonType(kind="string" if given.values else "integer")
    wording = draws.one_of(form.descriptions) if form else "{what}"
    return Parameter(
        name=given.name,
        type=kind,
        description=wording.format(what=given.description),
        required=given.required,
        default=given.default,
    )


def asked_for(tool: FormattedTool, forms: Forms, draws: Draws) -> Asked:
    """One of the tool's sentences with drawn values, of one format different ones."""
    request = draws.one_of(tool.requests)
    said, values = places_of(request), dict[str, SaidValue]()
    for parameter in tool.parameters:
        if parameter.name in said:
            taken = [values[name].written for name in values if _shares(name, parameter, forms)]
            value = _value(parameter, forms, draws)
            while value.written in taken:
                value = _value(parameter, forms, draws)
            values[parameter.name] = value
    text = _BEGINS_SENTENCE.sub(lambda place: capital(values[place[1]].said), request)
    text = text.format_map({name: value.said for name, value in values.items()})
    return Asked(request=_TWO_STOPS.sub(".", text), values=values)


def _shares(name: str, parameter: FormattedParameter, forms: Forms) -> bool:
    """Whether it has the format of the other parameter of this name."""
    return parameter.name in forms and forms.get(name) == forms[parameter.name]


def _value(parameter: FormattedParameter, forms: Forms, draws: Draws) -> SaidValue:
    if parameter.has_form:
        return drawn(forms[parameter.name], draws)
    if parameter.values:
        text = draws.one_of(parameter.values)
        return SaidValue(said=text, written=text)
    assert parameter.between is not None, f"{parameter.name} has a format, pairs, values or bounds"
    low, high = parameter.between
    number = low + draws.below(high - low + 1)
    return SaidValue(said=str(number), written=number)
