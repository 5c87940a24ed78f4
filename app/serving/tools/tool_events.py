"""What clients are told of the calls that the server ran for them: `tool_events` of a message or of a chunk's delta."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from app.docsearch.query import secret_in
from app.prompting.tool_schema import MAX_CODE, MAX_TESTS
from app.serving.tools.protocol import Passage, ToolReply
from app.serving.tools.rounds import Call

MOST_SHOWN = 2 * (MAX_CODE + MAX_TESTS)
"""Characters of arguments; what the schemas allow is shorter, escapes of JSON included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEvent:
    """A call that began, or what came of it, under the same id. Made by the loop, shown by clients."""

    id: str
    type: str
    status: Literal["started", "ok", "refused", "failed"]
    arguments: str
    """JSON, as the model wrote it but for texts that hold a secret or are far too long."""
    reason: str = ""
    passages: tuple[Passage, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def started(call: Call) -> ToolEvent:
    return ToolEvent(id=call.id, type=call.name, status="started", arguments=_shown(call))


def ended(call: Call, reply: ToolReply) -> ToolEvent:
    return ToolEvent(
        id=call.id,
        type=call.name,
        status=reply.status,
        arguments=_shown(call),
        reason=reply.reason,
        passages=reply.passages,
    )


def event_from(held: Mapping[str, Any]) -> ToolEvent:
    """From what `as_json` made, for clients of our own; further fields, such as `index`, are left out."""
    known = {field.name for field in fields(ToolEvent)}
    passages = tuple(Passage(**one) for one in held.get("passages", ()))
    return ToolEvent(**{name: value for name, value in held.items() if name in known} | {"passages": passages})


def _shown(call: Call) -> str:
    """The arguments for screens and logs of clients, which outlive the answer: no secret goes with them."""
    text, arguments = call.arguments, call.parsed()
    if arguments is not None:
        shown = {_left_out(name) or name: _without_secret(value) for name, value in arguments.items()}
        text = text if shown == arguments else json.dumps(shown)
    instead = _left_out(text)  # a name and a value may be a secret together
    return json.dumps({"arguments": instead}) if instead else text


def _without_secret(value: Any) -> Any:
    return _left_out(value if isinstance(value, str) else json.dumps(value)) or value


def _left_out(text: str) -> str:
    """What is shown in the text's place; empty where it can be shown."""
    if len(text) > MOST_SHOWN:
        return f"[left out: {len(text)} characters]"
    return f"[left out: {kind}]" if (kind := secret_in(text)) else ""
