"""Two models asked at the same time."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.errors import UserError
from app.ide.conversation import question_turn
from app.ide.side_by_side import side_by_side


class Two:
    """Two models, of which each waits for the other's first word before its second."""

    def __init__(self, *, refuses: str = "") -> None:
        self.refuses, self.closed = refuses, set[str]()
        self.began = {name: asyncio.Event() for name in ("base", "sft")}

    async def models(self) -> list[str]:
        return list(self.began)

    async def chat(self, model: str, messages: Any, **_: Any) -> AsyncGenerator[str, None]:
        try:
            if model == self.refuses:
                self.began[model].set()
                raise UserError("It is busy.")
            yield f"{model} "
            self.began[model].set()
            for event in self.began.values():
                await event.wait()
            yield "said"
        finally:
            self.closed.add(model)


def ask(two: Two, most: int | None = None) -> list[Any]:
    async def go() -> list[Any]:
        found = []
        both = side_by_side(two, ("base", "sft"), question_turn("a"), max_tokens=5, temperature=0.2)
        async for now in both:
            found.append(now)
            if len(found) == most:
                break
        await both.aclose()
        return found

    return asyncio.run(go())


def test_both_answers_grow_at_the_same_time() -> None:
    assert ask(Two())[-1] == (("base said", "sft said"), ("", ""))


@pytest.mark.parametrize("name", ["base", "sft"])
def test_one_that_fails_says_why_and_the_other_goes_on(name: str) -> None:
    texts, why = ask(Two(refuses=name))[-1]
    assert sorted(texts) == sorted(["", f"{'sft' if name == 'base' else 'base'} said"])
    assert sorted(why) == ["", "It is busy."]


def test_closing_stops_both() -> None:
    two = Two()
    ask(two, most=1)
    assert two.closed == {"base", "sft"}
