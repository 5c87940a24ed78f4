"""Values written as Java or JavaScript source, as the arguments of BFCL's simple_java and simple_javascript are.

Rules after BFCL's java_type_converter and js_type_converter (ShishirPatil/gorilla, Apache-2.0; own code). What is no
literal of the type stays the text that it is: a variable's name. More lenient than BFCL: suffixes of numbers may be
missing, strings may be quoted in both languages, lists may be written as List.of, maps as Map.of or as JSON.
"""

import json
import re
from typing import Any, Literal

Kind = Literal["string", "integer", "number", "boolean", "array", "object", "any"]
_INTEGER = re.compile(r"-?\d{1,400}[lLn]?")
_NUMBER = re.compile(r"-?\d{1,400}(?:\.\d+)?(?:[eE][+-]?\d{1,9})?[fFdD]?")
_MAX_DEPTH = 8
_GENERIC = r"(?:\s*<[^>]*>)?"
_LISTS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rf"new\s+\w*List{_GENERIC}\s*\(\s*(?:Arrays\.asList|List\.of)\s*\((.*)\)\s*\)",
        r"(?:Arrays\.asList|List\.of)\s*\((.*)\)",
        r"new\s+[\w.<>]+\s*\[\s*\]\s*\{(.*)\}",
        r"new\s+Array\s*\((.*)\)",
        rf"new\s+\w*List{_GENERIC}\s*\(\s*()\)",
        r"\[(.*)\]",
    )
]
_ADDED = re.compile(rf"new\s+\w*List{_GENERIC}\s*\(\s*\)\s*\{{\s*\{{(.*)\}}\s*\}}", re.DOTALL)
_PUT = re.compile(rf"new\s+\w*Map{_GENERIC}\s*\(\s*\)\s*\{{\s*\{{(.*)\}}\s*\}}", re.DOTALL)
_EMPTY_MAP = re.compile(rf"new\s+\w*Map{_GENERIC}\s*\(\s*\)(?:\s*\{{\s*\}})?", re.DOTALL)
_MAP_OF = re.compile(r"Map\.of\s*\((.*)\)", re.DOTALL)
_BRACES = re.compile(r"\{(.*)\}", re.DOTALL)
_STATEMENT = re.compile(r"(?:this\.)?(?:add|put)\s*\((.*)\)", re.DOTALL)


def read_source(text: str, kind: Kind, items: Kind = "any", *, depth: int = 0) -> Any:
    """The value of the source text, where it is a literal of its kind; else the text."""
    text = text.strip()
    if kind == "string":
        return _unquoted(text)
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text.rstrip("lLn"))
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text.rstrip("fFdD"))
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind == "array" and (entries := _list_entries(text)) is not None:
        return [_entry(entry, items, depth) for entry in entries]
    if kind == "object" and (pairs := _map_pairs(text)) is not None:
        return {_unquoted(key): _entry(value, "any", depth) for key, value in pairs}
    return text


def write_source(value: Any, language: str, *, top: bool = True) -> str:
    """Source that `read_source` reads as the value."""
    if isinstance(value, str):
        return value if top else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        inner = ", ".join(write_source(entry, language, top=False) for entry in value)
        return f"new ArrayList<>(Arrays.asList({inner}))" if language == "java" else f"[{inner}]"
    if isinstance(value, dict):
        pairs = [
            (json.dumps(key, ensure_ascii=False), write_source(entry, language, top=False))
            for key, entry in value.items()
        ]
        if language == "java":
            return "new HashMap<>() {{ " + " ".join(f"put({key}, {entry});" for key, entry in pairs) + " }}"
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in pairs) + "}"
    return json.dumps(value)


def _entry(text: str, kind: Kind, depth: int) -> Any:
    """An element of a collection; without a declared kind its looks decide."""
    text = text.strip()
    if depth >= _MAX_DEPTH:
        return text
    kinds: tuple[Kind, ...] = ("boolean", "integer", "number", "array", "object") if kind == "any" else (kind,)
    for guess in kinds:
        value = read_source(text, guess, depth=depth + 1)
        if type(value) is not str:
            return value
    return _unquoted(text)


def _list_entries(text: str) -> list[str] | None:
    if match := _ADDED.fullmatch(text):
        return _statements(match[1])
    for pattern in _LISTS:
        if match := pattern.fullmatch(text):
            return _split(match[1], ",")
    return None


def _map_pairs(text: str) -> list[tuple[str, str]] | None:
    if match := _PUT.fullmatch(text):
        pairs = [_split(statement, ",") for statement in _statements(match[1])]
    elif _EMPTY_MAP.fullmatch(text):
        pairs = []
    elif match := _MAP_OF.fullmatch(text):
        flat = _split(match[1], ",")
        pairs = [flat[index : index + 2] for index in range(0, len(flat), 2)]
    elif match := _BRACES.fullmatch(text):
        pairs = [_split(entry, ":", 1) for entry in _split(match[1], ",")]
    else:
        return None
    return [(pair[0], pair[1]) for pair in pairs] if all(len(pair) == 2 for pair in pairs) else None


def _statements(body: str) -> list[str]:
    """What is between the brackets of `add(...);` and `put(...);`."""
    return [match[1] for line in _split(body, ";") if (match := _STATEMENT.fullmatch(line))]


def _split(text: str, separator: str, most: int = -1) -> list[str]:
    """The parts between separators outside of quotes and brackets; an empty last part does not count."""
    parts: list[str] = []
    start, depth, quote, escaped = 0, 0, "", False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = char == "\\"
            quote = "" if char == quote else quote
        elif char in "\"'`":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == separator and depth == 0 and len(parts) != most:
            parts.append(text[start:index].strip())
            start = index + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return re.sub(r"\\([\"'\\])", r"\1", text[1:-1])
    return text
