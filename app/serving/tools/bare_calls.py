"""Calls that a model writes without the tags of its chat template, as small coder models do, instead of an answer:

    {"name": "search_docs", "arguments": {"query": "zip strict"}}        bare, or in a fence of JSON

The engine's parser reads tags alone, so to it this is text. Here it is a call if the message begins with it and it has
the name of a tool of the server's that the request names. Its arguments were not held to the schema while they were
drawn; they are checked like any others.
"""

import json
import secrets

from app.prompting.tool_calls import MalformedCallError, parse_calls
from app.serving.tools.rounds import Call

FENCES = ("```json\n", "```\n")


class BareCalls:
    """The text of one round as it grows: held back for as long as it may be such a call."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._starts = [f'{{"name":"{name}"' for name in names]
        self._held = ""
        self._is_call: bool | None = None
        """None: nothing says it yet."""

    def add(self, piece: str) -> str:
        """What may be shown by now."""
        if self._is_call is False:
            return piece
        self._held += piece
        if self._is_call is None:
            self._is_call = self._judged()
        return self._released() if self._is_call is False else ""

    def end(self, *, is_alone: bool) -> tuple[str, tuple[Call, ...]]:
        """What was held back: text to show, or calls. is_alone: whether the engine has read no other call."""
        calls = self._calls() if self._is_call and is_alone else ()
        return ("", calls) if calls else (self._released(), ())

    def _judged(self) -> bool | None:
        text = self._held.lstrip()
        if any(fence.startswith(text) for fence in FENCES):
            return None
        for fence in FENCES:
            text = text.removeprefix(fence)
        compact = "".join(text.split())
        if any(compact.startswith(start) for start in self._starts):
            return True
        return None if any(start.startswith(compact) for start in self._starts) else False

    def _calls(self) -> tuple[Call, ...]:
        try:
            calls = parse_calls(self._held)
        except MalformedCallError:
            return ()
        if any(call.name not in self._names for call in calls):
            return ()
        return tuple(
            Call(
                id=f"call-{secrets.token_hex(8)}",
                name=call.name,
                arguments=json.dumps(call.arguments, ensure_ascii=False),
            )
            for call in calls
        )

    def _released(self) -> str:
        text, self._held = self._held, ""
        return text
