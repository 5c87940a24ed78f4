"""One question to two models at the same time: both answers as they grow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.errors import UserError
from app.ide.backend import Assistant
from app.ide.conversation import Turn, answered

Texts = tuple[str, str]


async def side_by_side(
    assistant: Assistant, models: tuple[str, str], turn: Turn, *, max_tokens: int | None, temperature: float | None
) -> AsyncGenerator[tuple[Texts, Texts], None]:
    """The two answers so far, and the sentences of those that failed, each time a piece of one came. Closing the
    generator stops both models."""
    said, why = ["", ""], ["", ""]
    news: asyncio.Queue[bool] = asyncio.Queue()

    async def ask(place: int) -> None:
        try:
            answer = answered(assistant, models[place], [turn], max_tokens=max_tokens, temperature=temperature)
            async with aclosing(answer) as pieces:
                async for now in pieces:
                    said[place] = now.turns[-1]["content"] if now.is_begun else ""
                    news.put_nowait(False)
        except UserError as error:
            why[place] = str(error)
        finally:
            news.put_nowait(True)

    tasks = [asyncio.create_task(ask(place)) for place in (0, 1)]
    try:
        at_work = len(tasks)
        while at_work:
            at_work -= await news.get()
            while not news.empty():  # one picture of all that came meanwhile
                at_work -= news.get_nowait()
            yield (said[0], said[1]), (why[0], why[1])
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
