"""What the page needs of the rest: a model to ask, and a sandbox to run programs in."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from app.ide.best_of import BestOf
from app.sandbox.local import LocalJudges
from app.sandbox.script import ScriptRun
from app.sandbox.tiers import confinement
from app.serving.tools.tool_events import ToolEvent
from app.settings import SandboxSettings

Piece = str | ToolEvent | BestOf
"""Of an answer that comes: text, a call of a tool or what came of it, or how the answer is checked."""


class Assistant(Protocol):
    """A served model and its adapters. Both methods raise UserError, one clear sentence, when refused or failed."""

    async def models(self) -> list[str]:
        """Names of the base model and of every adapter that can be asked now, and those whose answers are checked by
        tests (`app.serving.best_of.SUFFIX`)."""
        ...

    def chat(
        self,
        model: str,
        messages: list[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float | None,
        tools: Sequence[str] = (),
    ) -> AsyncGenerator[Piece, None]:
        """The answer to the conversation (role, content), in pieces. Closing the generator stops the model.

        temperature: None for the server's own. tools: of the server's, by name, that the model may call.
        """
        ...


class Runner(Protocol):
    """A sandbox that runs programs as scripts."""

    async def run(self, source: str, given: str) -> ScriptRun:
        """given: standard input. Raises UserError when no program can be run now."""
        ...


class SandboxRunner:
    """A Runner over this process's sandbox. Close it."""

    def __init__(self, settings: SandboxSettings, *, num_runs: int = 1) -> None:
        """num_runs: programs that run at the same time. Raises UserError when this machine can't confine a program."""
        self._pool = LocalJudges(settings.model_copy(update={"num_workers": num_runs}), confinement())

    async def run(self, source: str, given: str) -> ScriptRun:
        return await asyncio.wrap_future(self._pool.run_script(source, given))

    def close(self) -> None:
        self._pool.close()
