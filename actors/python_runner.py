"""The server's sandbox on Ray Serve: one replica on the head node, which runs the programs of all requests, for the
tool `run_python` and for answers that are tested.

A shell over `app.serving.tools.run_python`. No CPU is reserved: the model decodes on all of them, and runs are short.
"""

from collections.abc import Sequence
from typing import Any, cast

from ray import serve
from ray.serve import Application

from app.best_of.testing import DraftOutcome, Trial
from app.serving.arguments import ON_HEAD
from app.serving.tools.protocol import ToolReply
from app.serving.tools.run_python import PythonRuns
from app.settings import SandboxSettings


@serve.deployment(max_ongoing_requests=1024)
class PythonRunner:
    async def __init__(self, settings: SandboxSettings) -> None:  # type: ignore[misc]
        self._runs = PythonRuns(settings)

    async def run(self, code: str, tests: str, runs_left: int) -> ToolReply:
        """runs_left: this run included."""
        return await self._runs.run(code, tests, runs_left)

    async def trial(self, question: str) -> Trial | None:
        """None for a question that asks for nothing that can be called. Raises ApiError."""
        return await self._runs.trial(question)

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        """Raises ApiError."""
        return await self._runs.test(trial, programs)

    def __del__(self) -> None:
        if hasattr(self, "_runs"):
            self._runs.close()


def bound(settings: SandboxSettings) -> Application:
    """The deployment, to be bound into an application that calls it."""
    return cast(Any, PythonRunner).options(ray_actor_options=ON_HEAD).bind(settings)
