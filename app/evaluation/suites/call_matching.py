"""Whether tool calls are the right ones: BFCL's possible answers, by structure.

Rules after BFCL's AST checker (ShishirPatil/gorilla, bfcl_eval/eval_checker/ast_eval/ast_checker.py, Apache-2.0; own
code): every required parameter, none that is not expected, its type, one of its possible values; "" among these marks
a parameter that may be left out; strings are compared without case, spaces and ,./-_*^; parallel calls in any order.
Names of functions are compared with dots read as underscores, which some templates demand.

Deliberate differences. Stricter: true is not 1; punctuation alone does not equal another punctuation or a left-out
value; where some call is wanted, its function must be one of those offered. More lenient: an integer is a number
inside lists too; a possible value of another type than the declared one may be any of the possible values, not the
first only; nested dictionaries are compared value by value; parallel calls are matched as well as they can be, not
greedily; Java and JavaScript as `source_values` reads them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.evaluation.suites.source_values import read_source
from app.prompting.tool_calls import Call

WRONG_FUNCTION = "wrong function"
MISSING_PARAMETER = "missing parameter"
UNEXPECTED_PARAMETER = "unexpected parameter"
WRONG_TYPE = "wrong type"
WRONG_VALUE = "wrong value"
WRONG_NUMBER = "wrong number of calls"
CALLED = "called although nothing fits"
DID_NOT_CALL = "did not call"
_PUNCTUATION = re.compile(r"[ ,./\-_*^]")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
Expected = Mapping[str, Any]
"""A call that is wanted: {"name", "required": [names], "parameters": {name: {"kind", "items", "values", "known"}}}.

kind and items (of a list's elements) are JSON schema's types or "any"; values are BFCL's possible answers; known is
false where the function's own schema has no such parameter.
"""


def mismatch_of_calls(calls: Sequence[Call], expected: Sequence[Expected], language: str) -> str | None:
    """The rule that the calls break and how, "rule: detail"; None for calls that are right, in any order."""
    if not calls:
        return f"{DID_NOT_CALL}: expected {_names(expected)}"
    if len(calls) != len(expected):
        return f"{WRONG_NUMBER}: {len(calls)}, expected {len(expected)}"
    faults = [[mismatch(call, wanted, language) for call in calls] for wanted in expected]
    takers: dict[int, int] = {}
    for index in range(len(expected)):
        if not _assign(index, faults, takers, set()):
            return _nearest_fault(calls, expected[index], faults[index])
    return None


def mismatch(call: Call, expected: Expected, language: str) -> str | None:
    """The same for one call."""
    if not _is_named(call, expected):
        return f"{WRONG_FUNCTION}: {_clip(call.name)}, expected {_clip(expected['name'])}"
    parameters = expected["parameters"]
    for name in expected["required"]:
        if name not in call.arguments:
            return f"{MISSING_PARAMETER}: {_clip(name)}"
    for name, value in call.arguments.items():
        if name not in parameters or not parameters[name]["known"]:
            return f"{UNEXPECTED_PARAMETER}: {_clip(name)}"
        if fault := mismatch_of_value(name, value, parameters[name], language):
            return fault
    for name, parameter in parameters.items():
        if name not in call.arguments and "" not in parameter["values"]:
            return f"{MISSING_PARAMETER}: {_clip(name)}"
    return None


def same_name(one: str, other: str) -> bool:
    return one.replace(".", "_") == other.replace(".", "_")


def pick(expected: Expected) -> dict[str, Any]:
    """Arguments that are right: of each parameter that may not be left out the first possible value."""
    return {
        name: _pick_value(parameter["values"])
        for name, parameter in expected["parameters"].items()
        if parameter["known"] and (name in expected["required"] or "" not in parameter["values"])
    }


def _pick_value(values: Sequence[Any]) -> Any:
    value = next((value for value in values if value != ""), "")
    if isinstance(value, dict):
        return {key: _pick_value(inner) for key, inner in _alternatives(value).items() if "" not in inner}
    if isinstance(value, list):
        return [_pick_value([entry]) for entry in value]
    return value


def _assign(index: int, faults: list[list[str | None]], takers: dict[int, int], seen: set[int]) -> bool:
    """Give the wanted call a call that nobody else needs (Kuhn's algorithm). takers: wanted call of each call."""
    for call, fault in enumerate(faults[index]):
        if fault is None and call not in seen:
            seen.add(call)
            if call not in takers or _assign(takers[call], faults, takers, seen):
                takers[call] = index
                return True
    return False


def _nearest_fault(calls: Sequence[Call], wanted: Expected, faults: Sequence[str | None]) -> str:
    """What is wrong with the call that is nearest to the wanted one: the first that names its function."""
    named = [fault for call, fault in zip(calls, faults, strict=True) if fault and _is_named(call, wanted)]
    return next((fault for fault in [*named, *faults] if fault), f"{WRONG_VALUE}: a call was made twice")


def mismatch_of_value(name: str, value: Any, parameter: Mapping[str, Any], language: str) -> str | None:
    """The rule that one argument breaks; parameter: of `Expected`."""
    if language != "python":
        if type(value) is not str:
            return f"{WRONG_TYPE}: {_clip(name)} is {_clip(value)}, expected {language} source in a string"
        value = read_source(value, parameter["kind"], parameter["items"])
    values = parameter["values"]
    if not _has_type(value, parameter["kind"], parameter["items"], values):
        return f"{WRONG_TYPE}: {_clip(name)} is {_clip(value)}, expected {parameter['kind']}"
    if any(_is_same(value, possible) for possible in values):
        return None
    return f"{WRONG_VALUE}: {_clip(name)} is {_clip(value)}, expected one of {_clip(values)}"


def _has_type(value: Any, kind: str, items: str, values: Sequence[Any]) -> bool:
    """The declared type, or that of a possible value: a variable's name may mean anything."""
    if kind == "any":
        return True
    if type(value) in _TYPES[kind]:
        if kind != "array" or items == "any":
            return True
        lists = [possible for possible in values if type(possible) is list]
        seen = {type(entry) for possible in lists for entry in possible}
        return all(type(entry) in _TYPES[items] or type(entry) in seen for entry in value)
    return type(value) in {type(possible) for possible in values if possible != ""}


def _is_same(value: Any, possible: Any) -> bool:
    if isinstance(possible, dict):
        return isinstance(value, dict) and _is_same_dict(value, _alternatives(possible))
    if isinstance(possible, list):
        return (
            isinstance(value, list)
            and len(value) == len(possible)
            and all(_is_same(entry, wanted) for entry, wanted in zip(value, possible, strict=True))
        )
    if isinstance(value, str) and isinstance(possible, str):
        plain = _standard(possible)
        return _standard(value) == plain if plain else value == possible
    return isinstance(value, bool) == isinstance(possible, bool) and bool(value == possible)


def _is_same_dict(value: dict[str, Any], wanted: dict[str, list[Any]]) -> bool:
    if any(key not in wanted or not any(_is_same(value[key], one) for one in wanted[key]) for key in value):
        return False
    return all(key in value or "" in wanted[key] for key in wanted)


def _alternatives(possible: dict[str, Any]) -> dict[str, list[Any]]:
    """The possible values of each key; some answers give one value instead of a list of them."""
    return {key: inner if isinstance(inner, list) else [inner] for key, inner in possible.items()}


def _standard(text: str) -> str:
    return _PUNCTUATION.sub("", text).lower().replace("'", '"')


def _is_named(call: Call, expected: Expected) -> bool:
    return same_name(call.name, expected["name"])


def _names(expected: Sequence[Expected]) -> str:
    return ", ".join(_clip(wanted["name"]) for wanted in expected)


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
