"""The conversation behind the page: plain data and functions, no Gradio.

A turn is {"role": "user" or "assistant", "content": text}, as the model gets it.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence

from app.errors import UserError
from app.ide.backend import Assistant
from app.prompting.fences import fenced
from app.prompting.replies import code_block, unix

Turn = dict[str, str]
MAX_QUESTION = 20_000
MAX_CODE = 100_000
"""Characters; a model of this size has room for far less."""


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
    assistant: Assistant, model: str, turns: Sequence[Turn], *, max_tokens: int | None, temperature: float | None
) -> AsyncGenerator[list[Turn], None]:
    """The turns with the answer so far, each time a piece came. Raises UserError, also in the middle."""
    if not model:
        raise UserError("No model is chosen: pick one, or reload the list.")
    if max_tokens is None or temperature is None:
        raise UserError("Max tokens and temperature need a number each, such as 512 and 0.2.")
    answer = ""
    stream = assistant.chat(model, list(turns), max_tokens=max_tokens, temperature=temperature)
    async with contextlib.aclosing(stream) as pieces:
        async for piece in pieces:
            answer += piece
            yield [*turns, {"role": "assistant", "content": answer}]
    if not answer:
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
