"""What an actor answers, or the one sentence that a user gets where its process has ended."""

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError

from app.errors import UserError


def answer(reference: Any, sentence: Callable[[str], str]) -> Any:
    """ray.get, whose error for a process that ended says nothing to a user. sentence: made of what Ray gives as the
    cause. Raises UserError with it; an error of the actor's constructor, and of its methods, comes as it is."""
    try:
        return ray.get(reference)
    except RayActorError as error:
        if error.args and isinstance(error.args[0], BaseException):  # its constructor failed: that error says why
            raise
        lines = str(error).strip().splitlines()
        raise UserError(sentence(lines[-1] if lines else type(error).__name__)) from None
