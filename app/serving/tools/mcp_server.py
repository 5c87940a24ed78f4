"""The tools over MCP (Model Context Protocol, streamable HTTP), for other programs' agents: the same schemas, the same
marked texts, the same counts as for the served model.

    client -> guard (host, key, size) -> mcp_app -> ServerTools

Without sessions: the newest protocol has none, and a client could open as many as it likes. So what the server counts
by is the API key: its calls within WINDOW_S are one request with one budget, and docsearch.searches_per_minute holds
for it as for every other way in. Each message is one POST and its answer one JSON object: no stream is kept open.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from app.serving.tools.protocol import ServerTools

NAME = "pocketcoder"
WINDOW_S = 60.0


class Windows:
    """By owner the request that its calls count to: the one begun last, for a minute."""

    def __init__(self, tools: ServerTools, clock: Callable[[], float] = time.monotonic) -> None:
        self._tools, self._clock = tools, clock
        self._held: dict[str, tuple[str, float]] = {}
        """Its id, and when it ends."""
        self._lock = asyncio.Lock()

    async def request(self, owner: str) -> str:
        async with self._lock:  # the first calls of a window, sent at once, share it
            request, ends = self._held.get(owner, ("", 0.0))
            if not request or ends <= self._clock():
                request, ends = await self._tools.begin(owner), self._clock() + WINDOW_S
                self._held[owner] = request, ends
            return request


def mcp_app(tools: ServerTools, clock: Callable[[], float] = time.monotonic) -> ASGIApp:
    """To be put behind `app.serving.guard.guard_tools`, which says whose key a request came with."""
    windows = Windows(tools, clock)

    async def list_tools(*_: Any) -> ListToolsResult:
        schemas = [tool["function"] for tool in (await tools.schemas()).values()]
        return ListToolsResult(
            tools=[
                Tool(name=schema["name"], description=schema["description"], input_schema=schema["parameters"])
                for schema in schemas
            ]
        )

    async def call_tool(context: Any, call: CallToolRequestParams) -> CallToolResult:
        request = await windows.request(context.request.state.key_name)
        reply = await tools.call(request, call.name, call.arguments or {})
        return CallToolResult(content=[TextContent(type="text", text=reply.text)], is_error=reply.status != "ok")

    server: Server[Any] = Server(NAME, on_list_tools=list_tools, on_call_tool=call_tool)
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    life = Starlette(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (life if scope["type"] == "lifespan" else manager.handle_request)(scope, receive, send)

    return app
