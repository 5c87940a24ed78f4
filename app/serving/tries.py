"""Another try for an answer whose engine was lost, and the one limit of time that an answer has."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from app.serving.engine_protocol import EngineLostError
from app.serving.errors import engine_died, slow_answer

T = TypeVar("T")
TRIES = 2
"""One more for a request whose engine was lost; not many, for the request itself may be what engines die of."""
RETRY_S = 5.0
"""Said to clients whose engine is starting."""
logger = logging.getLogger(__name__)


class Deadline:
    """The moment at which an answer ends, whatever it is waiting for."""

    def __init__(self, seconds: float) -> None:
        """seconds: from now, in the running event loop."""
        self._seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Raises ApiError when the time is over."""
        try:
            async with asyncio.timeout_at(self._at):
                return await awaitable
        except TimeoutError:
            raise slow_answer(self._seconds) from None


async def retried(attempt: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What an attempt yields. Where its engine was lost before it yielded anything, another attempt is made.

    Raises ApiError for a lost engine.
    """
    for number in range(1, TRIES + 1):
        passed_on = False
        try:
            async with aclosing(attempt()) as parts:
                async for part in parts:
                    passed_on = True
                    yield part
            return
        except EngineLostError as error:
            logger.warning("try %d of %d: %s", number, TRIES, error)
            if not error.may_repeat or passed_on or number == TRIES:
                raise engine_died(RETRY_S, may_repeat=error.may_repeat) from None
