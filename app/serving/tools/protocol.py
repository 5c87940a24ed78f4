"""What passes between those who let a model use tools (agent loop, MCP) and those who run them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Where something that the model was shown comes from, for people. Made by the search; shown by clients."""

    source: str
    title: str
    url: str
    """As text: nothing fetches it. Empty for what is on this machine."""
    words: int = 0
    """Of its text that the model was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReply:
    """What came of one call. Made by `ServerTools.call`; read by the agent loop and by the MCP server.

    Example: ToolReply(status="refused", text="The search was refused (budget). ...", reason="budget")
    """

    status: Literal["ok", "refused", "failed"]
    text: str
    """What the model reads in the `tool` role."""
    reason: str = ""
    """One word for a refusal or a failure."""
    passages: tuple[Passage, ...] = ()


class ServerTools(Protocol):
    """The tools as their users see them. Implemented over Serve handles by `actors.tools`."""

    async def schemas(self) -> dict[str, dict[str, Any]]:
        """By name what a request may ask for: OpenAI's form of a tool, {"type": "function", "function": ...}."""
        ...

    async def begin(self, owner: str) -> str:
        """The id of a new request with budgets of its own; no model and no client sees it. owner: name of the API key,
        by which calls a minute are counted."""
        ...

    async def call(self, request: str, name: str, arguments: Mapping[str, Any]) -> ToolReply:
        """Run one call, and count it. Raises nothing for what a model or a page says: that is a status."""
        ...
