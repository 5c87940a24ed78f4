"""Facts that a documented function's signature and docstring hold: what a question can ask and a passage can answer.

Docstrings in the styles of Google, Sphinx, numpydoc and Epydoc are read by docstring-parser.
Limits: it takes one style a docstring, and nothing of one with a malformed entry, such as a line without its colon.
"""

import ast
from dataclasses import dataclass
from typing import Any, Literal

from docstring_parser import Docstring, ParseError, parse

from app.corpus.draws import Draws
from app.corpus.examples.quality import parsed, poor_docstring, prose_of
from app.corpus.examples.words import base_of, first_sentences
from app.corpus.mining.statement import bare_arguments
from app.corpus.records import Document

Kind = Literal["default", "summary", "which", "argument", "error"]
MAX_TEXT = 240
MAX_SIGNATURE = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing to ask about a function. Made here; put into words by `app.corpus.examples.tool_dialogues`."""

    kind: Kind
    """What the word list asks by."""
    values: dict[str, str]
    """What fills the word list's places, except {lib} and {name}."""
    said: str
    """The sentence of the documentation that tells it, beside signature and summary; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A function as documentation tells it."""

    name: str
    signature: str
    """Name, parameters and defaults, without annotations."""
    summary: str
    facts: tuple[Fact, ...]


def described(document: Document, draws: Draws, *, is_altered: bool) -> Described | None:
    """What the documentation of the function says; None where it says little.

    is_altered: numbers among the defaults become others, so that only who reads them knows them.
    """
    function = parsed(document.text)
    docstring = ast.get_docstring(function) if function else None
    is_hidden = document.name.startswith("_") or document.name == "main"  # no documentation tells of such
    if function is None or is_hidden or not docstring or poor_docstring(docstring):
        return None
    arguments = bare_arguments(function.args)
    everyone = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if is_altered:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if isinstance(default, ast.Constant):
                default.value = _altered(default.value, draws)
    try:
        signature = f"{document.name}({ast.unparse(arguments)})"
        f"{signature}{docstring}".encode()
    except ValueError:  # a number of thousands of digits, half a surrogate pair
        return None
    summary = first_sentences(prose_of(docstring), most=1)
    is_copied = summary.rstrip(".").lower() in document.text.removeprefix(document.header).lower()
    if is_copied or len(signature) > MAX_SIGNATURE or not 15 <= len(summary) <= MAX_TEXT or "::" in summary:
        return None
    facts = [Fact(kind="summary", values={"text": summary}, said="")]
    first, _, rest = summary.rstrip(".").partition(" ")
    if (base := base_of(first.lower())) and len(rest) <= 100:
        facts.append(Fact(kind="which", values={"doing": f"{base} {rest}"}, said=""))
    facts += _defaults(arguments)
    names = {argument.arg for argument in everyone}
    try:
        told = parse(docstring)
    except (ParseError, LookupError, ValueError):  # an entry without its colon; the last two escape from its parsers
        told = Docstring()
    facts += _arguments(told, names)
    facts += _errors(told)
    return Described(name=document.name, signature=signature, summary=summary, facts=tuple(facts))


def _altered(value: Any, draws: Draws) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float):
        return round(value * (1.5 + draws.below(6)), 6) or 0.5
    return value + 1 + draws.below(60) if abs(value) < 10_000 else value


def _defaults(arguments: ast.arguments) -> list[Fact]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [
        Fact(kind="default", values={"param": argument.arg, "value": f"`{default.value!r}`"}, said="")
        for argument, default in pairs
        if isinstance(default, ast.Constant) and default.value not in (None, "") and len(repr(default.value)) < 40
    ]


def _arguments(told: Docstring, names: set[str]) -> list[Fact]:
    facts = []
    for entry in told.params:
        line = first_sentences(entry.description or "", most=1)
        if not 15 <= len(line) <= MAX_TEXT or '"""' in line:
            continue
        for name in entry.arg_name.split(", "):  # numpydoc tells of several at once
            if name in names:
                facts.append(Fact(kind="argument", values={"param": name, "text": line}, said=f"{name}: {line}"))
    return facts


def _errors(told: Docstring) -> list[Fact]:
    facts = []
    for entry in told.raises:
        name, line = entry.type_name or "", first_sentences(entry.description or "", most=1).rstrip(".")
        when = line[:1].lower() + line[1:]
        if when.startswith(("if ", "when ")) and len(when) <= 120 and name[:1].isupper():
            said = f"Raises {name} {when}."
            facts.append(Fact(kind="error", values={"error": name, "when": when}, said=said))
    return facts
