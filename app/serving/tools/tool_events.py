"""What clients are told of the calls that the server ran for them: `tool_events` of a message or of a chunk's delta."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.serving.tools.protocol import Passage, ToolReply
from app.serving.tools.rounds import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEvent:
    """A call that began, or what came of it, under the same id. Made by the loop, shown by clients."""

    id: str
    type: str
    status: Literal["started", "ok", "refused", "failed"]
    arguments: str
    """JSON, as the model wrote it."""
    reason: str = ""
    passages: tuple[Passage, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passages": [asdict(passage) for passage in self.passages]}


def started(call: Call) -> ToolEvent:
    return ToolEvent(id=call.id, type=call.name, status="started", arguments=call.arguments)


def ended(call: Call, reply: ToolReply) -> ToolEvent:
    return ToolEvent(
        id=call.id,
        type=call.name,
        status=reply.status,
        arguments=call.arguments,
        reason=reply.reason,
        passages=reply.passages,
    )
