"""What passes between the edge and the engines behind it. Light: neither side's libraries are needed to know it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Head:
    """The first thing an answer yields; the body's parts follow as bytes."""

    status: int
    headers: list[tuple[bytes, bytes]]


class EngineLostError(Exception):
    """The engine, or the process that holds it, ended under a request or before it.

    may_repeat: nothing says that the request itself was the cause, so another engine may try it.
    """

    def __init__(self, message: str, may_repeat: bool) -> None:
        super().__init__(message)
        self.may_repeat = may_repeat

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it crosses from a Ray actor whole."""
        return EngineLostError, (str(self), self.may_repeat)


class Upstream(Protocol):
    """The engines as the edge sees them. Implemented over a Serve handle by `actors.llm_server`."""

    async def models(self) -> tuple[list[str], int]:
        """The base model's name, then its adapters', and the tokens that prompt and answer may have together.

        Raises EngineLostError.
        """
        ...

    def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        """A Head, then the body as it grows; closing it aborts the request. Raises EngineLostError or
        ApiError."""
        ...
