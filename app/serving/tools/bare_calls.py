"""Calls that a model writes without the tags of its chat template, as small coder models do, instead of an answer:

    {"name": "search_docs", "arguments": {"query": "zip strict"}}        bare, or in a fence of JSON

The engine's parser reads tags alone, so to it this is text. Here it is a call if the message begins with it and it has
the name of a tool that the request names, the server's (`loop`) or a function of the client's (`client_calls`), unless
the user asks how such JSON looks (`wants_json`). Its arguments were not held to the schema while they were drawn; the
server's are checked like any others. What is no call is text, and all of it is shown.
"""

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.prompting.tool_calls import MalformedCallError, parse_calls
from app.serving.tools.rounds import Call

FENCES = ("```json\n", "```\n")
MOST_UNJUDGED = 200
"""Characters, white space mostly, after which a message that has not begun a call is text."""
_CALLS = re.compile(r"\b(?:tool|function)[ _-]?calls?\b", re.I)


def wants_json(messages: Sequence[Mapping[str, Any]], names: Iterable[str]) -> bool:
    """Whether the user's last words are about the JSON of a call, which is then the answer and nothing to run."""
    content = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    return "json" in text.lower() and bool(_CALLS.search(text) or any(name in text for name in names))


class BareCalls:
    """The text of one round as it grows: held back for as long as it may be such a call."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._starts = [f'{opening}{{"name":"{name}"' for name in names for opening in ("", "[")]
        self._held: list[str] = []
        self._is_call: bool | None = None
        """None: nothing says it yet."""

    def add(self, piece: str) -> str:
        """What may be shown by now."""
        if self._is_call is False:
            return piece
        self._held.append(piece)
        if self._is_call is None:
            self._is_call = self._judged()
        return self._released() if self._is_call is False else ""

    def end(self, *, is_whole: bool) -> tuple[str, tuple[Call, ...]]:
        """What was held back: text to show, or calls. is_whole: whether the message came to its own end, and the engine
        has read no other call."""
        calls = self._calls() if self._is_call and is_whole else ()
        return ("", calls) if calls else (self._released(), ())

    def _judged(self) -> bool | None:
        held = "".join(self._held)
        text = held.lstrip()
        if text and any(fence.startswith(text) for fence in FENCES):
            return None
        for fence in FENCES:
            text = text.removeprefix(fence)
        compact = "".join(text.split())
        if any(compact.startswith(start) for start in self._starts):
            return True
        is_open = len(held) <= MOST_UNJUDGED and any(start.startswith(compact) for start in self._starts)
        return None if is_open else False

    def _calls(self) -> tuple[Call, ...]:
        try:
            calls = parse_calls("".join(self._held))
        except MalformedCallError:
            return ()
        if any(call.name not in self._names or "properties" in call.arguments for call in calls):
            return ()  # with properties it is the tool's definition
        return tuple(
            Call(id=f"call-{secrets.token_hex(8)}", name=call.name, arguments=json.dumps(call.arguments))
            for call in calls
        )

    def _released(self) -> str:
        text, self._held = "".join(self._held), []
        return text
