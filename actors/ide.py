"""The IDE on Ray Serve: the Gradio page, its sandbox, and the edge's handle, under a route of its own.

One replica: the page's sessions live in it. A shell over `app.ide`.
"""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from app.ide.application import build_application
from app.ide.backend import SandboxRunner
from app.ide.client import EdgeAssistant
from app.ide.run_list import RunList
from app.overrides import with_overrides
from app.profiles import get_profile
from app.serving.arguments import ON_HEAD, IdeArguments
from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, unavailable
from app.serving.guard import guard_ide
from app.serving.keys import Keys
from app.serving.tries import RETRY_S
from app.settings import Profile


class EdgeClient:
    """Implements `app.ide.client.EdgeHandle`. The application is looked up when it is asked: it may come up later."""

    def __init__(self, llm: str) -> None:
        self._llm = llm
        self._found: DeploymentHandle | None = None

    def _handle(self) -> DeploymentHandle:
        if self._found is None:
            try:
                self._found = serve.get_app_handle(self._llm)
            except RayServeException:
                raise unavailable("the model's server is starting: try again soon", RETRY_S) from None
        return self._found

    async def models(self) -> list[str]:
        try:
            return await self._handle().models.remote()
        except (ApiError, RayActorError, RayServeException) as error:
            raise _api_error(error) from None

    async def answer(self, path: str, raw: bytes) -> AsyncGenerator[Head | bytes, None]:
        stream = self._handle().options(stream=True).answer.remote(path, raw)
        try:
            async for part in stream:
                yield part
        except (ApiError, RayActorError, RayServeException) as error:
            raise _api_error(error) from None
        finally:
            stream.cancel()


def _api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return cast(ApiError, getattr(error, "cause", error))
    return unavailable("the server behind this page is starting anew: send that again", RETRY_S)


@serve.deployment(max_ongoing_requests=256)
@serve.ingress()
class IDE:
    async def __init__(  # type: ignore[misc]
        self,
        llm: str,
        profile: Profile,
        run: Path | None,
        keys_file: str,
        session_keys: tuple[str, ...],
        allowed_hosts: tuple[str, ...],
    ) -> None:
        self._runner = SandboxRunner(profile.sandbox)
        self._runs, self._tools = RunList(run), profile.serving.tools
        self._assistant = EdgeAssistant(EdgeClient(llm))
        self._keys = Keys(Path(keys_file), session_keys)
        self._allowed_hosts = allowed_hosts

    def __serve_build_asgi_app__(self) -> Any:
        page = build_application(self._assistant, self._runner, self._runs, self._tools)
        return guard_ide(page, self._keys, allowed_hosts=self._allowed_hosts)

    def __del__(self) -> None:
        if hasattr(self, "_runner"):
            self._runner.close()


def build(arguments: IdeArguments) -> Application:
    """The application of a serve config; `app.serving.arguments` says what it takes.

    Raises UserError for an unknown profile, or when there is no key yet.
    """
    profile = with_overrides(get_profile(arguments.profile), arguments.overrides)
    ide = cast(Any, IDE).options(ray_actor_options=ON_HEAD)
    return ide.bind(
        arguments.llm,
        profile,
        arguments.shown_run(),
        arguments.keys_path(),
        arguments.session_keys,
        arguments.allowed_hosts,
    )
