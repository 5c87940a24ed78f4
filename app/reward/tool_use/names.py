"""Names of functions, told alike however they are written, and those that a benchmark has."""

import json
import re
from collections.abc import Iterable

from app.problem_sets.task import Task
from app.prompting.tool_schema import SEARCH_DOCS_TOOL

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_.]+")
_SIGNS = re.compile(r"[^a-z0-9]+")


def last_name(name: str) -> str:
    """The part of a dotted name that names the function: `textwrap.shorten` -> `shorten`."""
    return name.rpartition(".")[2]


def normalised(name: str) -> str:
    """Without case and signs: `Parse_Date`, `parseDate` and `parse.date` are one."""
    return _SIGNS.sub("", name.lower())


def words_of(name: str) -> list[str]:
    """`maxWidth`, `max_width` -> max, width."""
    return [word.lower() for word in _HUMP.split(name) if word]


def forms_of(name: str) -> set[str]:
    """What a name is known by: all of it, and its last part."""
    return {normalised(name), normalised(last_name(name))} - {""}


def benchmark_names(tasks: Iterable[Task]) -> frozenset[str]:
    """What all functions are known by that are offered in a suite's problems, but for the search of documentation."""
    own = SEARCH_DOCS_TOOL["function"]["name"]
    names = (
        tool["function"]["name"] for task in tasks if task.problem.tools for tool in json.loads(task.problem.tools)
    )
    return frozenset(form for name in names if name != own for form in forms_of(name))
