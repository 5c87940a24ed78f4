"""Documented functions as tools: name, description and parameters out of signature and docstring.

A function makes a tool where its docstring begins with what it does, in words that a request can repeat, and where each
parameter that a call needs has a type that JSON has (`parameter_types`). Parameters that may be left out and have no
such type are not offered; *args and **kwargs neither.
"""

import ast
import math
import re
from dataclasses import dataclass
from typing import Any

from docstring_parser import ParseError, parse

from app.corpus.examples.quality import parsed, poor_docstring, prose_of
from app.corpus.examples.words import first_sentences
from app.corpus.records import Document, Origin
from app.prompting.passages import STOP_WORDS
from app.reward.tool_use.names import last_name, words_of
from app.reward.tool_use.parameter_types import JsonType, of_annotation, of_default, of_docstring

MAX_PARAMETERS = 6
MAX_SUMMARY = 160
MIN_SUMMARY = 20
_ROLE = re.compile(r":[\w:]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`")
_CODE_MARKS = re.compile(r"`{1,2}([^`]+)`{1,2}|\*{1,2}([^*]+)\*{1,2}")
_UNFIT = re.compile(
    r"[{}<>\[\]\\|#@$=_*\"]|::|https?:|\w\.\w|\b\w*[a-z]\w*[A-Z]|'\S*'|\b(?:self|cls|TODO|hook|fixture|decorator|"
    r"callback|monkey|mock|pytest|internal|private|this (?:function|class|module|method)|subclass|tensor|module|plugin|"
    r"placeholder|override|wrapper|instance|object|callable|coroutine|kwargs|args|dataclass|dtype|attribute|arg|param|"
    r"argument|parameter|class)(?:e?s)?\b"
)
"""What a request of somebody who does not know the package would not say."""
_WHETHER = re.compile(r"\AReturns? (?:a bool(?:ean)? )?(?:True |true )?(?:whether|if|when|iff)\b\s*")
_CUT = re.compile(
    r",? (?:and|then) (?:returns?|yields?)\b|[,;] (?:or )?(?:False|otherwise|else)\b| or False\b|,? if necessary\b"
)
_VERBS = frozenset(
    "add adjust align append apply assign average build calculate capitalize cast center check choose clamp clean "
    "clip collapse collect combine compare compress compute concatenate construct convert copy count create crop "
    "cut decode decompress decrypt delete derive detect determine display divide download drop encode encrypt "
    "ensure escape estimate evaluate execute expand export extract fetch fill filter find flatten flip format "
    "generate get give group hash identify import increment indent infer insert interpolate invert join limit list "
    "load locate log look lookup make mask match measure merge move multiply normalize normalise open order pad "
    "parse partition perform pick plot predict prepare print process produce project query quote read reduce remove "
    "rename render repeat replace report resample reset resize resolve restore retrieve return reverse rotate round "
    "sample save scale scan search select send set shift shorten show shuffle simplify simulate slice solve sort "
    "split square standardize start stop store strip subtract sum summarize swap tokenize transform translate "
    "transpose trim truncate turn unescape unpack unquote update upload validate verify view wait wrap write yield "
    "zip".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter that is offered. Made by those that make a `ToolFunction`."""

    name: str
    type: JsonType
    description: str
    """In the docstring's words; may be empty."""
    required: bool
    default: Any = None
    """Where it may be left out; None also where the default is nothing that JSON has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFunction:
    """A function as a tool. Made by `tool_of`, and by `formats` of our own; read by all that makes problems of it."""

    name: str
    """As it is offered: `shorten`, or with its module `textwrap.shorten`."""
    summary: str
    """What it does: its docstring's first sentence, without marks."""
    task: str
    """What a request asks for, as the rest of a sentence: "compute the distance between two words"."""
    parameters: tuple[Parameter, ...]
    origin: Origin | None
    """Whose it is; None of a tool of our own."""

    @property
    def needed(self) -> tuple[Parameter, ...]:
        return tuple(one for one in self.parameters if one.required)

    def schema(self) -> dict[str, Any]:
        """As OpenAI's requests and the suite `tooluse` describe a tool."""
        parameters = {
            "type": "object",
            "properties": {one.name: _schema_of(one) for one in self.parameters},
            "required": [one.name for one in self.needed],
        }
        function = {"name": self.name, "description": self.summary, "parameters": parameters}
        return {"type": "function", "function": function}


def tool_of(document: Document, origin: Origin, *, with_module: bool = False) -> ToolFunction | None:
    """None where the function makes no tool. with_module: the name begins with the module's."""
    function = parsed(document.text)
    docstring = ast.get_docstring(function) if function else None
    if function is None or not docstring or document.name.startswith("_") or poor_docstring(docstring):
        return None
    summary = _plain(first_sentences(prose_of(docstring), most=1))
    task = task_of(summary)
    if not task or not MIN_SUMMARY <= len(summary) <= MAX_SUMMARY or _UNFIT.search(summary) or not summary.isascii():
        return None
    parameters = _parameters(function, docstring)
    if not parameters:
        return None
    module = origin.path.removesuffix(".py").removesuffix("/__init__").rpartition("/")[2]
    is_shown = with_module and module.isidentifier() and not module.startswith("_")
    name = f"{module}.{document.name}" if is_shown else document.name
    return ToolFunction(name=name, summary=summary, task=task, parameters=parameters, origin=origin)


def task_of(summary: str) -> str:
    """The summary as the rest of a sentence that asks for it: "Returns True if ..." -> "check whether ..."; empty where
    it does not begin with what is done."""
    summary = _CUT.split(summary.rstrip(".!: "))[0]
    if match := _WHETHER.match(summary):
        return f"check whether {summary[match.end() :]}"
    first, _, rest = summary.partition(" ")
    verb = _base_verb(first)
    return f"{'get' if verb in ('return', 'yield', 'give') else verb} {rest}" if verb else ""


def content_of(function: ToolFunction) -> frozenset[str]:
    """Words that tell what it does: of its name and its summary."""
    return content_words(" ".join((*words_of(last_name(function.name)), function.summary)))


def content_words(text: str) -> frozenset[str]:
    """In lower case, without a plural's s, and without those that tell nothing."""
    words = (word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2 and word not in STOP_WORDS)
    return frozenset(word.removesuffix("s") for word in words)


def _base_verb(word: str) -> str:
    """The verb in its base form ("Converts" -> "convert"); empty for another word."""
    word = word.lower()
    forms = (word, word.removesuffix("s"), word.removesuffix("es"), re.sub(r"ies\Z", "y", word))
    return next((form for form in forms if form in _VERBS), "")


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, docstring: str) -> tuple[Parameter, ...]:
    """None where one that is needed has no type, or where there are too many."""
    told = _told(docstring)
    found = []
    for argument, default in _with_defaults(function.args):
        type_name, description = told.get(argument.arg, ("", ""))
        value = default.value if isinstance(default, ast.Constant) else None
        kind = of_annotation(argument.annotation) or of_docstring(type_name, description) or of_default(value)
        kind = _with_members(kind, type_name, description)
        is_untold = argument.annotation is None and not type_name and not description
        if kind is None or (default is not None and argument.arg.startswith("_")):
            if default is None:
                return ()
            continue
        if default is None and is_untold:
            return ()
        found.append(
            Parameter(
                name=argument.arg,
                type=kind,
                description=description,
                required=default is None,
                default=value if _fits(value, kind) else None,
            )
        )
    needed = [one for one in found if one.required]
    if len(needed) > MAX_PARAMETERS or any(one.name in ("self", "cls") for one in found):
        return ()
    further = [one for one in found if not one.required][: MAX_PARAMETERS - len(needed)]
    return tuple(one for one in found if one in needed or one in further)


def _with_defaults(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    return [
        *zip(positional, [*defaults, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]


def _told(docstring: str) -> dict[str, tuple[str, str]]:
    """Type and description of each parameter that the docstring tells of."""
    try:
        entries = parse(docstring).params
    except (ParseError, LookupError, ValueError):  # an entry without its colon; the last two escape from its parsers
        return {}
    found = {}
    for entry in entries:
        text = _plain(first_sentences(entry.description or "", most=1))
        for name in entry.arg_name.split(", "):
            found[name.strip("*` ")] = entry.type_name or "", text if len(text) <= MAX_SUMMARY else ""
    return found


def _with_members(kind: JsonType | None, type_name: str, description: str) -> JsonType | None:
    """A text whose values the docstring lists is an enumeration."""
    if kind is None or kind.kind != "string" or kind.members:
        return kind
    told = (of_docstring(type_name, description), of_docstring("str", description))
    return next((one for one in told if one and one.kind == "string" and one.members), kind)


def _fits(value: Any, kind: JsonType) -> bool:
    """Whether a default is a value of its parameter's type that a schema can hold."""
    own = of_default(value)
    if own is None or isinstance(value, float) and not math.isfinite(value):
        return False
    return own.kind == kind.kind or (own.kind, kind.kind) == ("integer", "number")


def _schema_of(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type.kind}
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.type.members:
        schema["enum"] = list(parameter.type.members)
    if parameter.type.item:
        schema["items"] = {"type": parameter.type.item}
    if parameter.default is not None:
        schema["default"] = parameter.default
    return schema


def _plain(text: str) -> str:
    """On one line, without the marks of Markdown and reStructuredText."""
    text = _ROLE.sub(r"\1", text)
    text = _CODE_MARKS.sub(lambda match: match[1] or match[2], text)
    return " ".join(text.replace("``", "").split())
