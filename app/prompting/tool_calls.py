"""Tool calls out of what a model wrote, whatever its dialect.

Read are Qwen3's and Hermes' `<tool_call>{...}</tool_call>`, SmolLM2's `<tool_call>[{...}, ...]</tool_call>`, JSON
objects and arrays of {"name", "arguments" or "parameters"} bare or in a code fence, and Python's `[f(a=1), g()]`,
which is parsed and never run. Anything else is prose and holds no call; what starts as a call and is none is malformed.
Limits: a bare call counts only at the start of a line, and a call in Python's dialect only with its brackets and with
named arguments.
"""

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.files.python_source import parse_expression
from app.prompting.fences import fences
from app.prompting.replies import unix

_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_SPAN = re.compile(r"```[\w+#.-]*[ \t]*([^`\n]+)(?:```|\Z)")
_JSON_START = re.compile(r"\A\[?\s*\{")
_JSON_CALL_LINE = re.compile(r'^[ \t]*+(?=\[?\s*+\{\s*+"name"\s*+:)', re.MULTILINE)
_PYTHON_START = re.compile(r"\A\[\s*+[A-Za-z_][\w.]*\(\s*(?:\w+\s*=[^=]|\))")
_PYTHON_CALL_LINE = re.compile(r"^[ \t]*+(?=\[\s*+[A-Za-z_][\w.]*\(\s*(?:\w+\s*=[^=]|\)))", re.MULTILINE)
_BETWEEN = " \t\r\n,;"
_MAX_DEPTH = 32
_MAX_INT_BITS = 4096
"""A longer number can't be written out in decimal, which details of verdicts do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a tool. Example: Call(name="search_docs", arguments={"query": "tuple unpacking"})"""

    name: str
    arguments: dict[str, Any]


class MalformedCallError(ValueError):
    """The reply starts a tool call that can't be read; the text says what is wrong with it."""


def parse_calls(reply: str) -> list[Call]:
    """The calls in a reply, in its order; none for prose. Raises MalformedCallError."""
    if "<tool_call>" in reply:
        calls = [call for body in _TAGGED.findall(reply) for call in _tagged(body)]
    elif _starts_call(reply.lstrip()):  # before looking for fences, which may stand inside its arguments
        calls = _bare(reply)
    else:
        calls = [call for text in _fenced(reply) for call in _bare(text)] or _bare(reply)
    for call in calls:
        if not is_shallow(call.arguments):
            raise MalformedCallError(f"the arguments of {call.name[:80]!r} are nested too deeply")
    return calls


def call_text(calls: Sequence[Call]) -> str:
    """The reply that makes these calls, as Qwen3 writes them."""
    return "\n".join(
        "<tool_call>\n"
        + json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        + "\n</tool_call>"
        for call in calls
    )


def _tagged(body: str) -> list[Call]:
    """The text between the tags must be calls."""
    text = body.strip()
    if text.startswith("```"):
        text = next(iter(_fenced(text)), text).strip()
    if _PYTHON_START.match(text):
        return _python_calls(text)
    calls, rest = _json_calls(text, strict=True)
    if rest:
        raise MalformedCallError(f"a tool call is followed by {rest[:60]!r} inside its tags")
    return calls


def _fenced(text: str) -> list[str]:
    """What fences hold; where there is none, code spans of three backticks in a line."""
    return [block.text for block in fences(unix(text))] or _SPAN.findall(text)


def _bare(text: str) -> list[Call]:
    """Calls at the start of the text, else of its first line that begins one."""
    text = text.strip()
    if not _starts_call(text):
        starts = [match.end() for line in (_JSON_CALL_LINE, _PYTHON_CALL_LINE) if (match := line.search(text))]
        if not starts:
            return []
        text = text[min(starts) :]
    if _PYTHON_START.match(text):
        return _python_calls(text)
    return _json_calls(text, strict=False)[0]


def _starts_call(text: str) -> bool:
    return bool(_PYTHON_START.match(text) or _JSON_START.match(text))


def _json_calls(text: str, *, strict: bool) -> tuple[list[Call], str]:
    """The calls that the text begins with, and what follows them. strict: anything but calls is malformed."""
    decoder = json.JSONDecoder()
    calls: list[Call] = []
    if strict and not text:
        raise MalformedCallError("an empty tool call")
    while text and (strict or _JSON_START.match(text)):
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError) as error:
            if not strict and (calls or not _meant_as_call(text)):
                return calls, text
            raise MalformedCallError(f"a tool call is no JSON ({_reason(error)}): {text[:60]!r}") from None
        found = _calls_of(value)
        if found is None:
            if strict:
                raise MalformedCallError(f"a tool call needs a name and an object of arguments: {text[:60]!r}")
            return calls, text
        calls += found
        text = text[end:].lstrip(_BETWEEN)
    return calls, text


def _meant_as_call(text: str) -> bool:
    return '"name"' in text and ('"arguments"' in text or '"parameters"' in text)


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]


def _calls_of(value: Any) -> list[Call] | None:
    """The calls that a JSON value means; None where it means something else."""
    values = value if type(value) is list else [value]
    calls = [_call_of(entry) for entry in values]
    present = [call for call in calls if call is not None]
    return present if len(present) == len(values) else None


def _call_of(value: Any) -> Call | None:
    if type(value) is not dict:
        return None
    if type(value.get("function")) is dict:  # the shape of OpenAI's replies
        value = value["function"]
    name = value.get("name")
    arguments = value.get("arguments")
    if arguments is None and "description" not in value:  # with one it is the tool's own definition, repeated
        arguments = value.get("parameters")
    if type(arguments) is str:
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if type(name) is not str or not name or type(arguments) is not dict:
        return None
    return Call(name=name, arguments=arguments)


def _python_calls(text: str) -> list[Call]:
    """The calls of a list in Python's syntax; what follows the last bracket is prose."""
    text = text[: text.rfind("]") + 1] or text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # an escape that Python does not know
            tree = parse_expression(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise MalformedCallError(f"a tool call is no Python list of calls: {text[:60]!r}") from None
    if not isinstance(tree.body, ast.List):
        raise MalformedCallError(f"a tool call is no Python list of calls: {text[:60]!r}")
    return [_python_call(node, text) for node in tree.body.elts]


def _python_call(node: ast.expr, text: str) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
        raise MalformedCallError(f"a list of calls holds something else: {text[:60]!r}")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise MalformedCallError(f"a tool call has arguments without names: {text[:60]!r}")
    arguments = {keyword.arg: _python_value(keyword.value, text) for keyword in node.keywords if keyword.arg}
    return Call(name=_source(node.func, text), arguments=arguments)


def _python_value(node: ast.expr, text: str) -> Any:
    """The value of a literal; of any other expression its source, as BFCL reads a variable's name."""
    try:
        return _plain(ast.literal_eval(node))
    except (ValueError, TypeError, MemoryError, RecursionError, SyntaxError):
        return _source(node, text)


def _plain(value: Any) -> Any:
    """The value as JSON has it. Raises ValueError for what JSON has not."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(entry) for key, entry in value.items()}
    if value is None or isinstance(value, str | float | bool):
        return value
    if isinstance(value, int) and value.bit_length() <= _MAX_INT_BITS:
        return value
    raise ValueError("no value of JSON")


def _source(node: ast.expr, text: str) -> str:
    return ast.get_source_segment(text, node) or ""


def is_shallow(value: Any) -> bool:
    """Whether what reads the arguments may recurse into them."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for entry in level
            if isinstance(entry, dict | list)
            for inner in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if not level:
            return True
    return False
