"""The turn that asks a model to repair a draft, with the example that it fails and the values there."""

from collections.abc import Sequence

from app.best_of.testing import FailedExample
from app.prompting.protocols import Message

MAX_CHARS = 600
"""Characters of each value that the model is shown."""


def repair_dialogue(question: Sequence[Message], reply: str, failed: FailedExample) -> list[Message]:
    """The dialogue of the draft, the draft, and what is wrong with it; open for the repaired one."""
    return [*question, {"role": "assistant", "content": reply}, {"role": "user", "content": repair_request(failed)}]


def repair_request(failed: FailedExample) -> str:
    call, expected, got, error = (_cut(text) for text in (failed.call, failed.expected, failed.got, failed.error))
    if not call:
        wrong = f"it does not pass the examples of the question ({error})"
    elif not expected:
        wrong = f"`{call}` fails: {error}"
    elif got:
        wrong = f"`{call}` returns `{got}`, but it has to return `{expected}`"
    else:
        wrong = f"`{call}` has to return `{expected}`, but it fails: {error}"
    return f"I ran this code and {wrong}. Find the mistake, and reply with the whole corrected code in one code block."


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} [...]"
