"""Driving an ASGI app without a server: as a well-behaved client and with scopes that no such client makes."""

import asyncio
from typing import Any

import httpx

BASE = "http://127.0.0.1:8000"
HTML = {"accept": "text/html,application/xhtml+xml"}


class Behind:
    """The app behind the guard: notes what reached it and answers with the body it got."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, str | None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append((scope["path"], scope.get("state", {}).get("key_name")))
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        await send({"type": "http.response.body", "body": body})


def ask(app: Any, method: str, url: str, **options: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path=options.pop("root_path", ""))
        async with httpx.AsyncClient(transport=transport, base_url=options.pop("base", BASE)) as client:
            return await client.request(method, url, **options)

    return asyncio.run(go())


def raw(
    app: Any,
    path: str,
    headers: list[tuple[bytes, bytes]],
    messages: list[dict[str, Any]] | None = None,
    **scope: Any,
) -> list[dict[str, Any]]:
    """What the app sends to a scope that no well-behaved client makes."""
    sent: list[dict[str, Any]] = []
    pending = list(messages or [{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return pending.pop(0) if pending else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    defaults = {"type": "http", "method": "GET", "query_string": b"", "scheme": "http", "root_path": ""}
    asyncio.run(app({**defaults, "path": path, "headers": headers, **scope}, receive, send))
    return sent


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def pairs(key: str, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"127.0.0.1:8000"), (b"authorization", b"Bearer " + key.encode()), *more]
