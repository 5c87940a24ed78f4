"""The tools that the model may call: their schemas, and the words around the documentation search, the same in training
dialogues, in the tool-use suite and in serving."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

Source = Literal["python", "fastapi", "readthedocs", "stackoverflow"]
SOURCES: tuple[str, ...] = get_args(Source)
MAX_QUERY = 256
SEARCH_DOCS_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "search_docs",
        "description": "Search the allowed documentation sites.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["query"],
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": MAX_QUERY},
                "source": {"type": "string", "enum": list(SOURCES)},
            },
        },
    },
}
MAX_CODE, MAX_TESTS = 16_000, 8_000
RUN_PYTHON_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "run_python",
        "description": (
            "Run a Python program, and tests after it if there are any, in a sandbox without network, files and input."
        ),
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["code"],
            "properties": {
                "code": {"type": "string", "minLength": 1, "maxLength": MAX_CODE, "description": "The whole program."},
                "tests": {
                    "type": "string",
                    "maxLength": MAX_TESTS,
                    "description": "Lines such as: assert add(1, 2) == 3",
                },
            },
        },
    },
}
"""Run by the server itself (`app.serving.tools.run_python`), for requests that ask for it."""
SYSTEM = (
    "You answer questions of programmers. Search the documentation for what you can't know, and only for that; say so "
    "when it was not found."
)
NOTHING = "No results."


def results_text(passages: Iterable[tuple[str, str]]) -> str:
    """What the tool gives back, from (source, text) of each passage found."""
    return "\n".join(f"[{source}] {text}" for source, text in passages) or NOTHING
