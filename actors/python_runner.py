"""The tool `run_python` on Ray Serve: one replica on the head node, whose sandbox runs the programs of all requests.

A shell over `app.serving.tools.run_python`. No CPU is reserved: the model decodes on all of them, and runs are short.
"""

from typing import Any, cast

from ray import serve
from ray.serve import Application

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

    def __del__(self) -> None:
        if hasattr(self, "_runs"):
            self._runs.close()


def bound(settings: SandboxSettings) -> Application:
    """The deployment, to be bound into an application that calls its `run`."""
    return cast(Any, PythonRunner).options(ray_actor_options=ON_HEAD).bind(settings)
