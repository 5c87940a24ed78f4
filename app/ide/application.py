"""The page as an application that a server or Ray Serve mounts, at / or under a prefix that arrives as `root_path`.

The page has no login: what listens here must be on the loopback interface, or behind something that asks for a key.
"""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ide.backend import Assistant, Runner
from app.ide.page import SERVER_TOOLS, build_page
from app.ide.run_list import RunList
from app.ide.theme import CSS, page_theme

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline'",  # Gradio's page carries its configuration in inline scripts
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy: the browser loads nothing from another host, whatever a message says."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
FOLDERS = ("/assets/", "/static/")
CALLS = ("queue/join", "queue/data", "cancel", "reset", "startup-events", "info")
"""The part of Gradio's own API that the page calls. The rest (upload, files, proxy, login, ...) is of no use here."""


KEYS = Path(__file__).with_name("keys.js")


def build_application(
    assistant: Assistant, runner: Runner, runs: RunList | None = None, tools: Sequence[str] = SERVER_TOOLS
) -> FastAPI:
    """The page as an application, whose state is kept in the process: run one replica.

    runs: that may be shown; left out, those of the usual folders. tools: those that the server runs for a model.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(OnlyThePage)
    return gr.mount_gradio_app(
        app,
        build_page(assistant, runner, runs or RunList(), tools),
        path="/",
        ssr_mode=False,
        theme=page_theme(),
        css=CSS,
        head=f"<script>{KEYS.read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        show_error=False,
        allowed_paths=[],
        blocked_paths=["/"],
    )


class OnlyThePage:
    """Middleware that lets through what the page needs, and gives every answer the headers that keep it to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and is_needed(scope["path"].removeprefix(scope.get("root_path", ""))):
            await self._app(scope, receive, with_headers)
        elif scope["type"] == "http":
            await PlainTextResponse("not found\n", 404)(scope, receive, with_headers)


def is_needed(path: str) -> bool:
    """Whether the page asks for this path, relative to where it is mounted."""
    called = path.removeprefix("/gradio_api/")
    if called != path:
        return called in CALLS or called.startswith("heartbeat/")
    return path in ("", *PAGES) or path.startswith(FOLDERS)
