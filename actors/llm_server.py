"""The OpenAI-compatible server on Ray Serve: an edge before engines, one application.

    serve_configs/<place>.yaml -> build -> Edge (ingress; keys, limits, queue) -> LLMServer (vLLM; one a card)
                                            └ application `tools`, for requests that name tools of the server's

Shells over `app.serving.edge` and `app.serving.engine`. Handle `answer` and `models` of Edge serve other applications
(the IDE) as its HTTP routes serve clients.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from app.best_of.testing import DraftOutcome, Trial
from app.serving.arguments import ON_HEAD, LLMArguments
from app.serving.edge import Edge as EdgeLogic
from app.serving.engine import Engine
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import ApiError, tools_unavailable
from app.serving.guard import guard_edge
from app.serving.keys import Keys
from app.serving.tools.protocol import ToolReply
from app.serving.tries import RETRY_S
from app.settings import ModelSettings, ServingSettings

logger = logging.getLogger("ray.serve")
Parts = AsyncGenerator[Head | bytes, None]


@serve.deployment(health_check_period_s=5)
class LLMServer:
    async def __init__(self, model: ModelSettings, settings: ServingSettings, run: str | None) -> None:  # type: ignore[misc]
        self._engine = await Engine.start(model, settings, Path(run) if run else None)
        logger.info("serving %s: %s", self._engine.models(), self._engine.plan)

    async def models(self) -> tuple[list[str], int]:
        """Names, and the tokens that prompt and answer may have together."""
        return self._engine.models(), self._engine.plan.max_model_len

    async def call(self, path: str, body: dict[str, Any]) -> Parts:
        try:
            async with aclosing(self._engine.call(path, body)) as parts:
                async for part in parts:
                    yield part
        except EngineLostError:
            self._end_soon()
            raise

    async def whole(self, path: str, body: dict[str, Any]) -> list[Head | bytes]:
        """`call` as one message: the round trips of a stream are half of what an engine's Serve hop costs."""
        return [part async for part in self.call(path, body)]

    async def check_health(self) -> None:
        try:
            self._engine.check_health()
        except EngineLostError:
            self._end_soon()
            raise

    def _end_soon(self) -> None:
        """An engine does not come back in its process, and Serve would wait for the third failed check.

        Not at once: the answers that are under way have to say so.
        """
        logger.error("the engine has died: this replica ends, and Serve starts another")
        asyncio.get_running_loop().call_later(1.0, os._exit, 1)

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()


class Engines:
    """Implements `app.serving.engine_protocol.Upstream` over the deployment's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        # By value: answers come over gRPC instead of Ray's object store, which took 4 ms more for one of a token. The
        # public way is RAY_SERVE_USE_GRPC_BY_DEFAULT in the environment of every process of the cluster.
        self._handle = handle.options(_by_reference=False)
        self._streams = handle.options(_by_reference=False, stream=True)

    async def models(self) -> tuple[list[str], int]:
        try:
            return await self._handle.models.remote()
        except (RayActorError, RayServeException) as error:
            raise EngineLostError(str(error), may_repeat=True) from None

    async def call(self, path: str, body: dict[str, Any]) -> Parts:
        streamed = bool(body.get("stream"))
        answer = self._streams.call.remote(path, body) if streamed else self._handle.whole.remote(path, body)
        try:
            if streamed:
                async for part in answer:
                    yield part
            else:
                for part in await answer:
                    yield part
        except (ApiError, EngineLostError) as error:
            raise getattr(error, "cause", error) from None
        except (RayActorError, RayServeException) as error:
            raise EngineLostError(str(error), may_repeat=True) from None
        finally:
            answer.cancel()


class ToolsApplication:
    """Implements `app.serving.tools.protocol.ServerTools` and `app.serving.best_of.Tester` over the handle of another
    application, which is looked up when it is first asked: it may come up later. A `call` whose process is lost raises;
    the loop answers that."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: DeploymentHandle | None = None

    async def schemas(self) -> dict[str, dict[str, Any]]:
        """Raises ApiError where the application is not there."""
        return await self._ready("schemas")

    async def begin(self, owner: str) -> str:
        """Raises ApiError where the application is not there."""
        return await self._ready("begin", owner)

    async def call(self, request: str, name: str, arguments: Mapping[str, Any]) -> ToolReply:
        return await self._asked("call", request, name, dict(arguments))

    async def trial(self, question: str) -> Trial | None:
        """Raises ApiError where the application is not there, or runs nothing."""
        return await self._ready("trial", question)

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        """Raises ApiError as `trial`."""
        return await self._ready("test", trial, list(programs))

    async def _ready(self, method: str, *arguments: Any) -> Any:
        try:
            return await self._asked(method, *arguments)
        except ApiError as error:
            raise getattr(error, "cause", error) from None
        except (RayActorError, RayServeException) as error:
            logger.warning("application %s: %s", self._name, error)
            raise tools_unavailable(RETRY_S) from None

    async def _asked(self, method: str, *arguments: Any) -> Any:
        self._found = self._found or serve.get_app_handle(self._name)
        response = getattr(self._found, method).remote(*arguments)
        try:
            return await response
        finally:
            response.cancel()


@serve.deployment
@serve.ingress()
class Edge:
    async def __init__(  # type: ignore[misc]
        self,
        engines: DeploymentHandle,
        settings: ServingSettings,
        num_engines: int,
        tools: str,
        keys_file: str,
        session_keys: tuple[str, ...],
        allowed_hosts: tuple[str, ...],
    ) -> None:
        self._keys = Keys(Path(keys_file), session_keys)
        beside = ToolsApplication(tools)
        self._edge = EdgeLogic(Engines(engines), settings, num_engines, beside, keys=self._keys, tester=beside)
        self._allowed_hosts = allowed_hosts

    def __serve_build_asgi_app__(self) -> Any:
        return guard_edge(self._edge.app(), self._keys, allowed_hosts=self._allowed_hosts)

    async def models(self) -> list[str]:
        """Those that answer with tests included."""
        return await self._edge.offered()

    async def answer(self, path: str, raw: bytes, owner: str = "") -> Parts:
        """Raises ApiError before the first part only. owner: name of the key behind it; empty for the page."""
        async with aclosing(self._edge.answer(path, raw, owner)) as parts:
            async for part in parts:
                yield part


def build(arguments: LLMArguments) -> Application:
    """The application of a serve config; `app.serving.arguments` says what it takes.

    Raises UserError for an unknown profile, a folder that is no run, or when there is no key yet.
    """
    place = arguments.resolve()
    serving = place.profile.serving
    room = arguments.engines * serving.max_num_seqs + serving.max_waiting
    scale: dict[str, Any] = {}
    if arguments.engines > 1:
        most = max(1, serving.max_num_seqs * 3 // 4)
        scale["autoscaling_config"] = {
            "min_replicas": 1,
            "max_replicas": arguments.engines,
            "target_ongoing_requests": most,
        }
    # A request too many is the edge's to refuse, so it has to reach the edge; and questions about names come on top.
    spare = 16
    engines = cast(Any, LLMServer).options(
        max_ongoing_requests=room + spare,
        graceful_shutdown_timeout_s=serving.timeout_s,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(serving.use_gpu)},
        **scale,
    )
    edge = cast(Any, Edge).options(
        max_ongoing_requests=2 * room + spare,
        graceful_shutdown_timeout_s=serving.timeout_s,
        ray_actor_options=ON_HEAD,
    )
    return edge.bind(
        engines.bind(place.profile.model, serving, place.run),
        serving,
        arguments.engines,
        arguments.tools,
        place.keys_file,
        arguments.session_keys,
        arguments.allowed_hosts,
    )
