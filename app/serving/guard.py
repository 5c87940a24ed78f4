"""The guard in front of all public apps, as pure ASGI middleware: streams pass through it untouched.

    guard_edge(app, keys)    the OpenAI edge: only the routes in EDGE_ROUTES exist, all but /health need a key
    guard_tools(app, keys)   the tools over MCP: one address, which needs a key
    guard_ide(app, keys)     the IDE: every path needs a key or a session; its page asks for one

In order, cheapest first: Host, Origin, path, key, body. An admitted request carries the name of its key in
`request.state.key_name`. Keys are never logged nor echoed. Rates are counted behind it (`app.serving.rates`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.serving import request_checks
from app.serving.errors import (
    ApiError,
    error_response,
    forbidden,
    slow_body,
    too_large,
    unauthenticated,
    unknown_route,
    wrong_method,
)
from app.serving.keys import Keys
from app.serving.request_checks import EDGE_ROUTES, TOOLS_ROUTES, Route
from app.serving.sessions import Sessions, login_page, opened

MAX_BODY = 1 << 20
MAX_LOGIN_BODY = 4096
WRONG_KEY_DELAY_S = 0.5

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}
NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
LOGIN_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy of the guard's own answers; the page has one of its own (`app.ide.application`)."""


def guard_edge(app: ASGIApp, keys: Keys, *, allowed_hosts: Iterable[str] = ()) -> "Guard":
    return Guard(app, keys=keys, allowed_hosts=allowed_hosts, routes=EDGE_ROUTES, policy=NO_PAGE_POLICY)


def guard_tools(app: ASGIApp, keys: Keys, *, allowed_hosts: Iterable[str] = ()) -> "Guard":
    return Guard(app, keys=keys, allowed_hosts=allowed_hosts, routes=TOOLS_ROUTES, policy=NO_PAGE_POLICY, prefix="/mcp")


def guard_ide(app: ASGIApp, keys: Keys, *, allowed_hosts: Iterable[str] = ()) -> "Guard":
    sessions = Sessions(keys)
    return Guard(app, keys=keys, allowed_hosts=allowed_hosts, policy=LOGIN_POLICY, prefix="/ide", sessions=sessions)


class Guard:
    """With `routes`, nothing else exists; without, every path does. `sessions` lets browsers sign in.

    prefix: where browsers see the app, for a mounting server that gives no root_path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        policy: str,
        allowed_hosts: Iterable[str] = (),
        routes: Sequence[Route] | None = None,
        max_body: int = MAX_BODY,
        body_timeout_s: float = 30.0,
        prefix: str = "",
        sessions: Sessions | None = None,
    ) -> None:
        self.app = app
        self.keys = keys
        self.named_hosts = request_checks.allowed_hosts(allowed_hosts)
        self.hosts = self.named_hosts | set(request_checks.LOCAL_HOSTS)
        self.routes = routes
        self.max_body = max_body
        self.body_timeout_s = body_timeout_s
        self.headers = {**HEADERS, "Content-Security-Policy": policy}
        self.prefix = prefix
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            assert scope["type"] == "http", f"an ASGI scope is http, websocket or lifespan, got {scope['type']}"
            await self._http(scope, receive, self._with_headers(send))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
            if answer is None and request_checks.check_length(scope, self.max_body):
                body = await self._read(receive, self.max_body)
                if body is None:
                    return
                receive = _replay(body, receive)
        except ApiError as error:
            answer = error_response(error, anthropic=request_checks.speaks_anthropic(scope))
        await (answer or self.app)(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refused = await self._answer(scope, receive) is not None
        except ApiError:
            refused = True
        if refused:  # closed before it is accepted, which servers turn into a 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The guard's own answer to a request; None when it is admitted. Raises ApiError when it is refused."""
        authority = request_checks.check_host(scope, self.hosts)
        origin = request_checks.check_origin(scope, self.hosts)
        base, path = request_checks.local_path(scope, self.prefix)
        request_checks.check_path(path)
        if self._is_open(scope.get("method"), path):
            return None
        if self.sessions is not None:
            response = await self._sign_in(self.sessions, scope, receive, base, path)
            if response is not None:
                return response
        presented = request_checks.presented_key(scope)
        name = self.keys.match(presented) if presented is not None else self._session(scope, authority, origin)
        if name is not None:
            scope["state"] = {**scope.get("state", {}), "key_name": name}
            return None
        if self.sessions is not None and presented is None and path in ("/", "/login") and _is_page_load(scope):
            return login_page(base)
        what = "this key is not known here" if presented is not None else "a key is needed"
        raise unauthenticated(f"{what}: send `Authorization: Bearer KEY`; `python -m app keys add NAME` makes one")

    def _is_open(self, method: str | None, path: str) -> bool:
        """Whether the path needs no key. A websocket has no method, and no route of the edge takes one."""
        if self.routes is None:
            return False
        route = next((route for route in self.routes if route.fits(path)), None)
        if route is None or method is None:
            raise unknown_route()
        if method not in route.methods:
            raise wrong_method(method, ", ".join(sorted(route.methods)))
        return route.open

    def _session(self, scope: Scope, authority: str, origin: str | None) -> str | None:
        """Name of the key behind the browser's session. A browser adds the cookie by itself, so here the page must be
        this server's own: not one of another local port, unless its host was allowed by name."""
        name = self.sessions.name(request_checks.headers(scope, "cookie")) if self.sessions is not None else None
        foreign = origin is not None and origin.lower() != authority.lower()
        if name is not None and foreign and request_checks.host_of(origin or "") not in self.named_hosts:
            raise forbidden("pages of this Origin may not use this session: a proxy must pass the Host header on")
        return name

    async def _sign_in(
        self, sessions: Sessions, scope: Scope, receive: Receive, base: str, path: str
    ) -> Response | None:
        """Open a session for a key in the page's address or in the login form; None for any other request."""
        method = scope.get("method")
        query = ""
        if method == "POST" and path == "/login":
            request_checks.check_length(scope, MAX_LOGIN_BODY)
            body = await self._read(receive, MAX_LOGIN_BODY)
            key: str | None = _form_key(body or b"")
        elif method == "GET" and path == "/":
            key, query = request_checks.query_key(scope)
        else:
            return None
        if key is None:
            return None
        name = self.keys.match(key)
        if name is None:
            await asyncio.sleep(WRONG_KEY_DELAY_S)
            return login_page(base, "That key is not known here. Copy the whole key, from pk- to its end.")
        location = f"{base}/" + (f"?{query}" if query else "")
        return opened(sessions, name, location, secure=scope.get("scheme") == "https")

    async def _read(self, receive: Receive, limit: int) -> bytes | None:
        """The whole body, counted as it comes; None when the client has gone."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large(limit)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise slow_body(self.body_timeout_s) from None

    def _with_headers(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": list(message.get("headers", ()))}
                given = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    given.setdefault(name, value)
            await send(message)

        return guarded


def _is_page_load(scope: Scope) -> bool:
    return scope.get("method") == "GET" and any(
        "text/html" in value for value in request_checks.headers(scope, "accept")
    )


def _form_key(body: bytes) -> str:
    return parse_qs(body.decode("latin-1")).get("key", [""])[0].strip()


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand the body that was read on as one message, then what the server has to say, such as a disconnect."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
