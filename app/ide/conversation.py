"""The conversation behind the page: plain data and functions, no Gradio.

A turn is {"role": "user" or "assistant", "content": text}, as the model gets it.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.errors import UserError
from app.ide.backend import Assistant
from app.ide.best_of import BestOf
from app.prompting.fences import fenced
from app.prompting.replies import code_block, unix
from app.serving.best_of import SUFFIX
from app.serving.tools.tool_events import ToolEvent

Turn = dict[str, str]
MAX_QUESTION = 20_000
MAX_CODE = 100_000
"""Characters; a model of this size has room for far less."""


class Way(StrEnum):
    """How an answer is made."""

    PLAIN = "As it comes"
    TOOLS = "With tools"
    TESTS = "Checked by tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer so far. Made by `answered`; shown by the page."""

    turns: list[Turn]
    """The conversation; the answer is its last turn, once a word of it is there."""
    calls: tuple[ToolEvent, ...] = ()
    """Of tools, in the order in which they began, each as it is now."""
    checked: BestOf | None = None

    @property
    def is_begun(self) -> bool:
        return self.turns[-1]["role"] == "assistant"


def question_turn(question: str, code: str = "") -> Turn:
    """The user's turn, the editor's code after the question. Raises UserError for an empty or too long one."""
    if not question.strip():
        raise UserError("There is no question yet: type one.")
    if len(question) > MAX_QUESTION:
        raise UserError(f"The question has {len(question)} characters, {MAX_QUESTION} are allowed: shorten it.")
    check_code(code)
    content = question.strip()
    if code.strip():
        content += f"\n\n{fenced(code)}"
    return {"role": "user", "content": content}


def check_code(code: str) -> None:
    if len(code) > MAX_CODE:
        raise UserError(f"The editor holds {len(code)} characters, {MAX_CODE} are allowed: shorten it.")


async def answered(
    assistant: Assistant,
    model: str,
    turns: Sequence[Turn],
    *,
    max_tokens: int | None,
    temperature: float | None,
    way: Way = Way.PLAIN,
    tools: Sequence[str] = (),
) -> AsyncGenerator[Answer, None]:
    """The answer so far, each time a piece of it came. Raises UserError, also in the middle.

    An answer that tests check is drawn at the server's own temperature, since drafts have to differ. tools: those that
    the server runs, which an answer with tools may call.
    """
    if not model:
        raise UserError("No model is chosen: pick one, or reload the list.")
    if max_tokens is None or temperature is None:
        raise UserError("Max tokens and temperature need a number each, such as 512 and 0.2.")
    stream = assistant.chat(
        model + SUFFIX if way == Way.TESTS else model,
        list(turns),
        max_tokens=max_tokens,
        temperature=None if way == Way.TESTS else temperature,
        tools=tools if way == Way.TOOLS else (),
    )
    said, calls, checked = "", dict[str, ToolEvent](), None
    async with contextlib.aclosing(stream) as pieces:
        async for piece in pieces:
            if isinstance(piece, ToolEvent):
                calls[piece.id] = piece
            elif isinstance(piece, BestOf):
                checked = piece
            else:
                said += piece
            answer = {"role": "assistant", "content": said}
            yield Answer(turns=[*turns, answer] if said else [*turns], calls=tuple(calls.values()), checked=checked)
    if not said:
        raise UserError("The model answered nothing: ask in other words.")


def last_code(turns: Sequence[Turn]) -> str:
    """The first code block of the last answer, with what it needs of the others. Raises UserError without one."""
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    if not answers:
        raise UserError("There is no answer yet: ask first.")
    code = code_block(answers[-1], "")
    if code == unix(answers[-1]):
        raise UserError("The last answer has no code block.")
    return code.rstrip() + "\n"
