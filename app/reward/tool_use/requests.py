"""What a person would say to have a function called: values drawn for its parameters, and a request that tells them.

Values go by a parameter's type, the words of its name, its default and its enumeration. Every value that a call needs
is said word by word; what is not said keeps its default.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.corpus.draws import Draws
from app.reward.tool_use.functions import Parameter, ToolFunction
from app.reward.tool_use.names import words_of
from app.reward.tool_use.words import Way, Words

OPTIONAL_SHARE = 2
"""Every second optional parameter is said. It was every fourth one, and models then left out arguments that BFCL's
requests say; with every second one they do so less often, but make no more right calls (docs/log)."""
_BARE = re.compile(r"[A-Za-z0-9][\w./:@-]*")
_ARTICLE = re.compile(r"\A(?:the|a|an)\s+", re.IGNORECASE)
Arguments = Mapping[str, Any]


def drawn_arguments(function: ToolFunction, draws: Draws, words: Words) -> dict[str, Any]:
    """Values of all parameters that a call needs, and of some others; of one where it needs none."""
    found: dict[str, Any] = {}
    one = draws.one_of(function.parameters)
    for parameter in function.parameters:
        if parameter.required or not draws.below(OPTIONAL_SHARE) or (not function.needed and parameter is one):
            value = drawn_value(parameter, draws, words)
            if value != parameter.default or type(value) is not type(parameter.default):
                found[parameter.name] = value
    return found


def drawn_value(parameter: Parameter, draws: Draws, words: Words) -> Any:
    kind = parameter.type
    if kind.members:
        return draws.one_of([member for member in kind.members if member != parameter.default])
    if kind.kind == "boolean":
        return not parameter.default if isinstance(parameter.default, bool) else bool(draws.below(2))
    if kind.kind != "array":
        return _simple(kind.kind, parameter, draws, words)
    entries = [_simple(kind.item or "string", parameter, draws, words) for _ in range(2 + draws.below(3))]
    return list(dict.fromkeys(entries))


def _simple(kind: str, parameter: Parameter, draws: Draws, words: Words) -> Any:
    name = set(words_of(parameter.name))
    if kind == "boolean":
        return bool(draws.below(2))
    if kind == "string":
        groups = (group.values for group in words.values if name & group.words or name & _plural(group.words))
        return draws.one_of(next(groups, words.plain))
    low, high = next((group.between for group in words.bounds if name & group.words), _bounds(parameter, draws))
    if kind == "integer":
        return low + draws.below(high - low + 1)
    if (low, high) == (0, 1):
        return (1 + draws.below(99)) / 100
    return round(low + draws.below((high - low) * 10 + 1) / 10, 1)


def _bounds(parameter: Parameter, draws: Draws) -> tuple[int, int]:
    default = parameter.default
    if isinstance(default, int | float) and 1 <= default <= 10_000:
        return max(1, int(default / 2)), int(3 * default) + 5
    return draws.one_of(((1, 20), (2, 99), (100, 5000)))


def request_for(function: ToolFunction, arguments: Arguments, draws: Draws, words: Words) -> str:
    """A request for one call, or for the function alone where no value is to be said."""
    if not arguments:
        return draws.one_of((f"{capital(function.task)}.", f"Please {function.task}.", f"Can you {function.task}?"))
    way = _way(function, arguments, draws)
    return _sentence(draws.one_of(words.requests[way]), function, told(function, arguments, way, draws))


def request_for_several(function: ToolFunction, calls: Sequence[Arguments], draws: Draws, words: Words) -> str:
    """A request for several calls of one function."""
    way = _way(function, calls[0], draws)
    each = "; ".join(f"({place}) {told(function, one, way, draws)}" for place, one in enumerate(calls, 1))
    number = ("two", "three", "four")[len(calls) - 2]
    template = draws.one_of(words.several).replace("{each}", each.replace("{", "{{").replace("}", "}}"))
    return _sentence(template.replace("{number}", number), function, "")


def told(function: ToolFunction, arguments: Arguments, way: Way, draws: Draws) -> str:
    """How the values are told: "width 7 and text 'a b'"."""
    by_name = {one.name: one for one in function.parameters}
    parts = [_told(by_name[name], value, way, draws) for name, value in arguments.items()]
    if way in ("equals", "bare"):
        return ", ".join(parts)
    return joined(parts)


def _told(parameter: Parameter, value: Any, way: Way, draws: Draws) -> str:
    if way == "bare":
        return spoken(value, draws)
    if way == "equals":
        return f"{parameter.name}={json.dumps(value, ensure_ascii=False)}"
    label = label_of(parameter, draws)
    if isinstance(value, bool):
        if way == "with" and draws.below(2):
            return label if value else f"no {label}"
        if way == "with":
            return f"{label} switched {'on' if value else 'off'}"
        return f"{label} is to be {str(value).lower()}" if way == "is" else f"{str(value).lower()} as the {label}"
    said = spoken(value, draws)
    return {"with": f"{label} {said}", "is": f"the {label} is {said}", "use": f"{said} as the {label}"}[way]


def spoken(value: Any, draws: Draws) -> str:
    """The value as a person writes it."""
    if isinstance(value, list):
        return (
            json.dumps(value, ensure_ascii=False) if draws.below(2) else joined([spoken(one, draws) for one in value])
        )
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if _BARE.fullmatch(value) and not draws.below(3):
        return value
    quote = '"' if "'" in value or draws.below(2) and '"' not in value else "'"
    return f"{quote}{value}{quote}"


def label_of(parameter: Parameter, draws: Draws) -> str:
    """What a parameter is called in words: by its name, or by its description where that is short."""
    description = _ARTICLE.sub("", parameter.description.rstrip(".")).strip()
    if 1 <= len(description.split()) <= 5 and description.replace(" ", "").isalpha() and draws.below(2):
        return description[:1].lower() + description[1:]
    return " ".join(words_of(parameter.name)) or parameter.name


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _way(function: ToolFunction, arguments: Arguments, draws: Draws) -> Way:
    """A value without its name is told only where it is the one that is needed, and no truth value."""
    ways: tuple[Way, ...] = ("with", "is", "use", "equals")
    is_alone = len(arguments) == 1 == len(function.needed) and function.needed[0].name in arguments
    if is_alone and not isinstance(next(iter(arguments.values())), bool) and draws.below(3):
        return "bare"
    return ways[draws.below(7) // 2]  # equals half as often


def _sentence(template: str, function: ToolFunction, values: str) -> str:
    task = function.task
    return template.format(task=task, Task=capital(task), values=values, Values=capital(values))


def _plural(words: frozenset[str]) -> set[str]:
    return {f"{word}s" for word in words if len(word) > 1}
