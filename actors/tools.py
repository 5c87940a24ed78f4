"""The server's own tools on Ray Serve: for the served model by handle, for other programs over MCP.

    serve_configs/<place>.yaml -> build -> Tools (ingress at /mcp; counts, marks) -> DocsSearch
                                                                                  -> PythonRunner (the sandbox)

A shell over `app.serving.tools`. One replica each, so that what is counted is counted in one place; none of what
`serving.tools` leaves out, which is then offered to nobody.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from actors.docs_search import DocsSearch, SearchHandle
from actors.python_runner import bound
from app.best_of.testing import DraftOutcome, Trial
from app.overrides import with_overrides
from app.profiles import get_profile
from app.serving.arguments import ON_HEAD, ToolsArguments
from app.serving.errors import ApiError, nothing_confined
from app.serving.guard import guard_tools
from app.serving.keys import Keys
from app.serving.tools.protocol import ToolReply
from app.serving.tools.server_tools import RUN_PYTHON, SEARCH_DOCS
from app.serving.tools.server_tools import Tools as ToolsLogic

MAX_CALLS, MAX_WAITING = 256, 256


class RunnerHandle:
    """Implements `app.serving.tools.server_tools.Runner` over the deployment's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def run(self, code: str, tests: str, runs_left: int) -> ToolReply:
        return await self._handle.run.remote(code, tests, runs_left)


@serve.deployment(max_ongoing_requests=MAX_CALLS, max_queued_requests=MAX_WAITING)
@serve.ingress()
class Tools:
    """Its methods are those of `app.serving.tools.protocol.ServerTools`."""

    async def __init__(  # type: ignore[misc]
        self,
        search: DeploymentHandle | None,
        runner: DeploymentHandle | None,
        runs_for_models: bool,
        keys_file: str,
        session_keys: tuple[str, ...],
        allowed_hosts: tuple[str, ...],
    ) -> None:
        self._tools = ToolsLogic(
            None if search is None else SearchHandle(search),
            RunnerHandle(runner) if runner is not None and runs_for_models else None,
        )
        self._runner = runner
        self._keys = Keys(Path(keys_file), session_keys)
        self._allowed_hosts = allowed_hosts

    def __serve_build_asgi_app__(self) -> Any:
        from app.serving.tools.mcp_server import mcp_app  # here, since its package takes a second

        return guard_tools(mcp_app(self._tools), self._keys, allowed_hosts=self._allowed_hosts)

    async def schemas(self) -> dict[str, dict[str, Any]]:
        return await self._tools.schemas()

    async def begin(self, owner: str) -> str:
        return await self._tools.begin(owner)

    async def call(self, request: str, name: str, arguments: Mapping[str, Any]) -> ToolReply:
        return await self._tools.call(request, name, arguments)

    async def trial(self, question: str) -> Trial | None:
        """As `app.serving.best_of.Tester` has it. Raises ApiError."""
        return await self._tested("trial", question)

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        return await self._tested("test", trial, programs)

    async def _tested(self, method: str, *arguments: Any) -> Any:
        if self._runner is None:
            raise nothing_confined()
        response = getattr(self._runner, method).remote(*arguments)
        try:
            return await response
        except ApiError as error:
            raise getattr(error, "cause", error) from None
        finally:
            response.cancel()


def build(arguments: ToolsArguments) -> Application:
    """The application of a serve config; `app.serving.arguments` says what it takes.

    Raises UserError for an unknown profile, or when there is no key yet.
    """
    profile = with_overrides(get_profile(arguments.profile), arguments.overrides)
    keys_file = arguments.keys_path()
    offered = profile.serving.tools
    search = cast(Any, DocsSearch).options(ray_actor_options=ON_HEAD)
    tools = cast(Any, Tools).options(ray_actor_options=ON_HEAD)
    return tools.bind(
        search.bind(profile.docsearch, arguments.env) if SEARCH_DOCS in offered else None,
        bound(profile.sandbox) if RUN_PYTHON in offered or profile.serving.best_of else None,
        RUN_PYTHON in offered,
        keys_file,
        arguments.session_keys,
        arguments.allowed_hosts,
    )
