"""The kinds of request by their paths: how each is read, which of the engine's routes answers it, and in which form.

All of them pass the same edge: one queue, one limit of time, the same tools and rates.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from app.serving.anthropic import answered
from app.serving.anthropic.asked import parse_count, parse_messages
from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, error_event
from app.serving.requests import Limits, parse_chat, parse_completion

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES, COUNT_TOKENS = "/v1/messages", "/v1/messages/count_tokens"
TOKENIZE = "/tokenize"
"""The engine's own route; none of the edge's."""
DEFAULT_COMPLETION_TOKENS = 16
"""Of OpenAI's API and the engine, for completions that name no number."""
Parts = AsyncGenerator[Head | bytes, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    parse: Callable[[bytes, Limits], dict[str, Any]]
    engine_path: str
    draws: bool = True
    """Whether tokens are drawn, which takes a place in the queue."""
    shown: Callable[[Parts, dict[str, Any]], Parts] | None = None
    """The answer in the client's form, where that is not the engine's."""
    error_event: Callable[[ApiError], bytes] = lambda error: error_event(error).encode()


KINDS = {
    CHAT: Kind(parse=parse_chat, engine_path=CHAT),
    COMPLETIONS: Kind(parse=parse_completion, engine_path=COMPLETIONS),
    MESSAGES: Kind(
        parse=parse_messages, engine_path=CHAT, shown=answered.as_messages, error_event=answered.error_event
    ),
    COUNT_TOKENS: Kind(parse=parse_count, engine_path=TOKENIZE, draws=False, shown=answered.as_count),
}


def most_tokens(kind: Kind, body: dict[str, Any], answers: int, size: int, room: int) -> int:
    """The tokens that a checked request may need. size: its bytes, of which four make a token; room: of the model."""
    default = DEFAULT_COMPLETION_TOKENS if kind.engine_path == COMPLETIONS else room
    drawn = body.get("max_completion_tokens", body.get("max_tokens", default))
    return size // 4 + answers * min(drawn, room)
