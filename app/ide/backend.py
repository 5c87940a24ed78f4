"""What the page needs of the rest: a model to ask, and a sandbox to run programs in."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol

from app.sandbox.script import ScriptRun
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings


class Assistant(Protocol):
    """A served model and its adapters. Both methods raise UserError, one clear sentence, when refused or failed."""

    async def models(self) -> list[str]:
        """Names of the base model and of every adapter that can be asked now."""
        ...

    def chat(
        self, model: str, messages: list[dict[str, str]], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str, None]:
        """The answer to the conversation (role, content), in pieces. Closing the generator stops the model."""
        ...


class Runner(Protocol):
    """Runs programs as scripts."""

    async def run(self, source: str, given: str) -> ScriptRun:
        """given: standard input. Raises UserError when no program can be run now."""
        ...


class SandboxRunner:
    """A Runner with supervisors in threads of this process. Close it."""

    def __init__(self, settings: SandboxSettings, confined: Confinement | None = None, *, num_runs: int = 1) -> None:
        """num_runs: programs that run at the same time. Raises UserError when this machine can't confine a program."""
        self._idle: SimpleQueue[Supervisor] = SimpleQueue()
        self._supervisors = [Supervisor(settings, confined) for _ in range(num_runs)]
        for supervisor in self._supervisors:
            self._idle.put(supervisor)
        self._threads = ThreadPoolExecutor(num_runs)

    async def run(self, source: str, given: str) -> ScriptRun:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, source, given)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for supervisor in self._supervisors:
            supervisor.close()

    def _run(self, source: str, given: str) -> ScriptRun:
        supervisor = self._idle.get()
        try:
            return supervisor.run_script(source, given)
        finally:
            self._idle.put(supervisor)
