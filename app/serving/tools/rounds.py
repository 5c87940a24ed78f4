"""Rounds of an answer: what the engine is asked, one after the other, and what it said in each.

A round is one answer of the engine. One that calls tools of the server's is followed by another, which sees the calls
and their results; the last one is what the client gets. What is added to the client's messages lives here alone:
names, schemas and limits come from the request and the server, never from a result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.docsearch.marking import SPACE_SIGN
from app.docsearch.plain_text import cleaned
from app.prompting.tool_calls import is_shallow

CALL_TAG = "<tool_call>"
"""With it a call begins in the one dialect that the engine reads (`hermes`)."""
AN_ANSWER = r"(```[a-ik-z]|`[^`]|[^{<`\s])[\s\S]*"
"""What the last answer is held to while it is drawn: it does not begin as a call does, tagged, bare or in a fence of
JSON."""
MAX_STOPS = 16
"""The most that the engine takes (`app.serving.requests.Limits`)."""
TOO_LONG = "The result does not fit into what is left of the context: answer without it."
NO_MORE = "No tool can be called any more: answer now."


def names_server_tools(body: Mapping[str, Any]) -> bool:
    return any(tool["type"] != "function" for tool in body.get("tools", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as the model wrote it. Example: Call(id="c1", name="search_docs", arguments='{"query": "zip"}')"""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any] | None:
        """The arguments; None where they are no JSON object, or a very deep one."""
        try:
            value = json.loads(self.arguments.replace(SPACE_SIGN, " ").replace("\\u02c6", " ") or "{}")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) and is_shallow(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What the engine said once. Made by the two forms of an answer (`streamed`, `whole`), read by the loop."""

    content: str
    reasoning: str
    calls: tuple[Call, ...]
    """Those that are not of the client's functions; none where it was cut off."""
    is_last: bool
    """Whether it ends the answer: it calls nothing of the server's, or a function of the client's too."""
    tokens: int
    """Drawn in it."""


def round_of(
    texts: Mapping[str, str], calls: Sequence[Call], *, calls_client: bool, finish_reason: str, tokens: int
) -> Round:
    """texts: content and reasoning. calls: those that are not of the client's functions."""
    whole = tuple(calls) if finish_reason in ("stop", "tool_calls") else ()
    return Round(
        content=texts["content"],
        reasoning=texts["reasoning"],
        calls=whole,
        is_last=not whole or calls_client,
        tokens=tokens,
    )


class Dialogue:
    """What the engine is asked in each round."""

    def __init__(self, body: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """body: a checked request. schemas: of the server's tools that it names."""
        set_here = ("messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stream_options")
        self._fields = {name: value for name, value in body.items() if name not in set_here}
        self._messages: list[dict[str, Any]] = list(body["messages"])
        self._own = len(self._messages)
        """From here on they are the loop's."""
        self._functions = [tool for tool in body["tools"] if tool["type"] == "function"]
        self._tools = [tool if tool["type"] == "function" else _strict(schemas[tool["type"]]) for tool in body["tools"]]
        self._choice = _choice(body.get("tool_choice"))
        self._tokens_left: int | None = body.get("max_completion_tokens", body.get("max_tokens"))

    def asked(self, *, may_call: bool) -> dict[str, Any]:
        """The body of the next round. may_call: whether tools of the server's may be called in it."""
        tools = self._tools if may_call else self._functions
        asked = self._fields | {"messages": list(self._messages)}
        if tools:
            asked["tools"] = tools
        else:  # small models go on calling, since their last messages do
            asked["structured_outputs"] = {"regex": AN_ANSWER}
            if len(stops := asked.get("stop", [])) < MAX_STOPS:
                asked["stop"] = [*stops, CALL_TAG]
        if tools and self._choice is not None:
            asked["tool_choice"] = self._choice
        if asked.get("stream"):
            asked["stream_options"] = {"include_usage": True}
        if self._tokens_left is not None:
            asked["max_completion_tokens"] = max(1, self._tokens_left)
        return asked

    def add(self, said: Round, results: Sequence[str], *, may_go_on: bool) -> None:
        """What a round said, and what came of each of its calls. Texts are made harmless: no token of a chat template
        that somebody wrote, or that the model copied, is one in the next prompt."""
        calls = [_as_message(call) for call in said.calls]
        message: dict[str, Any] = {"role": "assistant", "content": cleaned(said.content), "tool_calls": calls}
        if said.reasoning:
            message["reasoning"] = cleaned(said.reasoning)
        self._messages.append(message)
        self._messages += [
            {"role": "tool", "tool_call_id": call.id, "content": cleaned(text)}
            for call, text in zip(said.calls, results, strict=True)
        ]
        if not may_go_on:
            self._messages[-1]["content"] += f"\n{NO_MORE}"
        self._choice = None  # what was forced has been called

    def count(self, said: Round) -> None:
        """Take a round's tokens off those that the request gives the whole answer."""
        if self._tokens_left is not None:
            self._tokens_left -= said.tokens

    def shorten(self) -> bool:
        """Replace the newest result that still has its text by a sentence; False where there is none."""
        for message in reversed(self._messages[self._own :]):
            if message["role"] == "tool" and not message["content"].startswith(TOO_LONG):
                end = f"\n{NO_MORE}" if message["content"].endswith(NO_MORE) else ""
                message["content"] = TOO_LONG + end
                return True
        return False


def _strict(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with its arguments held to its schema while they are drawn."""
    return {"type": "function", "function": {**tool["function"], "strict": True}}


def _choice(choice: Any) -> Any:
    """The choice in the engine's words."""
    if isinstance(choice, dict) and choice["type"] != "function":
        return {"type": "function", "function": {"name": choice["type"]}}
    return choice


def _as_message(call: Call) -> dict[str, Any]:
    arguments = json.dumps(_cleaned(call.parsed() or {}), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": cleaned(call.name), "arguments": arguments}}


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [_cleaned(entry) for entry in value]
    if isinstance(value, dict):
        return {cleaned(key): _cleaned(entry) for key, entry in value.items()}
    return value


class Joined:
    """The texts of several rounds as one that grows: a blank line between two rounds, no white space around it."""

    def __init__(self) -> None:
        self._is_written = self._is_begun = False
        self._held: list[str] = []
        """White space, of which a model may write a whole answer."""

    def begin(self) -> None:
        """A round begins, for the first time or once more."""
        self._is_begun, self._held = False, []

    def add(self, piece: str) -> str:
        """What may be shown by now."""
        piece = piece.replace(SPACE_SIGN, " ")  # which small models copy out of what was found
        if not piece or piece.isspace():
            self._held.append(piece)
            return ""
        text = "".join([*self._held, piece])
        if self._is_written and not self._is_begun:
            text = text.lstrip()
        shown = text.rstrip()
        self._held = [text[len(shown) :]]
        gap = "\n\n" if self._is_written and not self._is_begun else ""
        self._is_written = self._is_begun = True
        return gap + shown

    def end(self) -> str:
        """What was held back, for no round follows."""
        return "".join(self._held)


def summed(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> dict[str, Any]:
    """Two counts of tokens (`usage`) as one."""
    total: dict[str, Any] = dict(first or {})
    for name, value in (second or {}).items():
        if isinstance(value, Mapping):
            total[name] = summed(total.get(name), value)
        else:
            total[name] = (total.get(name) or 0) + value if value is not None else total.get(name)
    return total
