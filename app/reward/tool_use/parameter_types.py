"""The JSON type of a function's parameter: from its annotation, else from its docstring, else from its default.

Where none of them tells a type that JSON has (a callback, an array of numpy, an object of the package), there is none,
and a call can't be asked for. Of a union the first type that JSON has counts; tuples and sets are arrays.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any, Literal

from app.files.python_source import parse_expression

Kind = Literal["string", "integer", "number", "boolean", "array"]
Item = Literal["string", "integer", "number", "boolean"]
_NAMES: dict[str, Kind] = {
    "str": "string", "string": "string", "text": "string", "path": "string", "pathlike": "string", "strpath": "string",
    "int": "integer", "integer": "integer", "float": "number", "number": "number", "bool": "boolean",
    "boolean": "boolean", "list": "array", "sequence": "array", "iterable": "array", "collection": "array",
    "tuple": "array", "set": "array", "frozenset": "array",
}  # fmt: skip
_MEMBERS = re.compile(r"\{\s*((?:['\"][\w .:+/-]*['\"]\s*,?\s*){2,})\}")
_ONE_OF = re.compile(
    r"\b(?:one of|either|must be|can be|options are|choose from|any of)\b[^.;'\"`]{0,20}"
    r"((?:[`'\"]+[\w-]+[`'\"]+(?:\s*(?:,|or|and|\|)\s*)*){2,})",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[`'\"]+([\w .:+/-]*?)[`'\"]+")
_LIST_OF = re.compile(r"\b(?:list|sequence|iterable|tuple|array|set)s?\s*(?:of|\[|\()\s*(\w+)")
MAX_MEMBERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonType:
    """A type that JSON schema has. Example: JsonType(kind="array", item="string")"""

    kind: Kind
    item: Item | None = None
    """Of an array, where it is known."""
    members: tuple[Any, ...] = ()
    """The values that it may have, of an enumeration."""


def of_annotation(node: ast.expr | None) -> JsonType | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = parse_expression(node.value).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return of_annotation(node.left) or of_annotation(node.right)
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(node.id if isinstance(node, ast.Name) else node.attr)
    if not isinstance(node, ast.Subscript):
        return None
    outer = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return _of_members([one.value for one in inner if isinstance(one, ast.Constant)])
    if outer in ("Optional", "Union"):
        return next((found for one in inner if (found := of_annotation(one))), None)
    if outer == "Annotated":
        return of_annotation(inner[0])
    if (found := _named(outer)) is None or found.kind != "array":
        return None
    kinds = {one.kind if one else "" for one in (of_annotation(part) for part in inner if not _is_ellipsis(part))}
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    return JsonType(kind="array", item=kind) if kind not in ("", "array") else None  # type: ignore[arg-type]


def of_docstring(type_name: str, description: str) -> JsonType | None:
    """type_name: what the docstring gives as the parameter's type, empty where it gives none."""
    if match := _MEMBERS.search(type_name):
        return _of_members(_QUOTED.findall(match[1]))
    if match := _LIST_OF.search(type_name.lower()):
        item = _named(match[1].removesuffix("s")) or _named(match[1].removesuffix("ings") + "ing")
        return JsonType(kind="array", item=item.kind) if item and item.kind != "array" else None
    words = re.findall(r"[A-Za-z_]+", type_name.partition(",")[0])
    found = next((one for word in words if (one := _named(word)) and one.kind != "array"), None)
    if found and found.kind == "string" and (match := _ONE_OF.search(description)):
        return _of_members(_QUOTED.findall(match[1])) or found
    return found


def of_default(value: Any) -> JsonType | None:
    kinds: dict[type, Kind] = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return JsonType(kind=kinds[type(value)]) if type(value) in kinds else None


def _of_members(values: list[Any]) -> JsonType | None:
    members = tuple(dict.fromkeys(value for value in values if value is not None))
    kinds = {found.kind for value in members if (found := of_default(value))}
    if not 2 <= len(members) <= MAX_MEMBERS or len(kinds) != 1 or "" in members:
        return None
    kind = kinds.pop()
    return JsonType(kind=kind, members=members) if kind in ("string", "integer") else None


def _named(name: str) -> JsonType | None:
    kind = _NAMES.get(name.lower())
    return JsonType(kind=kind) if kind else None


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis
