"""The MCP package's own client, as programs use it: over HTTP, with a key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client


def talk(url: str, key: str, work: Callable[[Client], Awaitable[Any]], mode: str = "auto") -> Any:
    """What `work` gives for a connected client. mode: auto, or legacy for the protocol with a handshake."""

    async def go() -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            return await work(client)

    return asyncio.run(go())


def text_of(result: Any) -> str:
    (content,) = result.content
    return content.text
