"""What the guard asks of a request before anything else sees it: small functions over the ASGI scope, each raising
ApiError. They know nothing of keys or sessions.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from app.errors import UserError
from app.serving.errors import forbidden, malformed, too_large, unknown_route

Scope = Any
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path that exists behind the guard. `open`: without a key. `names`: a name may follow it."""

    path: str
    methods: frozenset[str]
    open: bool = False
    names: bool = False

    def fits(self, path: str) -> bool:
        return path.startswith(self.path) and len(path) > len(self.path) if self.names else path == self.path


GET, POST = frozenset({"GET"}), frozenset({"POST"})
EDGE_ROUTES = (
    Route(path="/", methods=GET, open=True),
    Route(path="/health", methods=GET, open=True),
    Route(path="/v1/models", methods=GET),
    Route(path="/v1/models/", methods=GET, names=True),
    Route(path="/v1/chat/completions", methods=POST),
    Route(path="/v1/completions", methods=POST),
    Route(path="/v1/messages", methods=POST),
    Route(path="/v1/messages/count_tokens", methods=POST),
    Route(path="/metrics", methods=GET),
    Route(path="/openapi.json", methods=GET),
)
TOOLS_ROUTES = (Route(path="/", methods=POST),)
"""MCP's one address; streams that stay open (GET) and sessions to be ended (DELETE) are not offered."""


def headers(scope: Scope, name: str) -> list[str]:
    """Every value of this header, in the order of arrival."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name.encode()]


def host_of(authority: str) -> str | None:
    """`name` of `name:port` in lower case; None for what is neither."""
    match = AUTHORITY.fullmatch(authority)
    return match[1].lower() if match else None


def allowed_hosts(extra: Iterable[str]) -> frozenset[str]:
    """The hosts that are listed by name; a port makes no difference, so none is given."""
    hosts = set()
    for host in extra:
        if host_of(host) != host.lower():
            raise UserError(f"allowed host {host!r} is no host name: give it without scheme and port, IPv6 in brackets")
        hosts.add(host.lower())
    return frozenset(hosts)


def check_host(scope: Scope, allowed: Collection[str]) -> str:
    """The Host header, which must name this server: a page of another site whose name was rebound to 127.0.0.1 still
    sends its own name (DNS rebinding)."""
    hosts = headers(scope, "host")
    if len(hosts) != 1 or host_of(hosts[0]) not in allowed:
        raise forbidden("this Host is not served here: use localhost, or add the name to the server's allowed hosts")
    return hosts[0]


def check_origin(scope: Scope, allowed: Collection[str]) -> str | None:
    """The authority of the page that sent this, if a page did: it must be of an allowed host."""
    origins = headers(scope, "origin")
    if not origins:
        return None
    scheme, separator, authority = origins[0].partition("://")
    if len(origins) > 1 or not separator or scheme not in ("http", "https") or host_of(authority) not in allowed:
        raise forbidden("pages of this Origin may not use this server: add its host to the server's allowed hosts")
    return authority


def check_path(path: str) -> None:
    """Refuse what a router, a file handler or a proxy behind might read in another way than this guard.

    The path is decoded already, so `%2e%2e` and `..%2f` show as what they are, and a `%` left over was encoded twice.
    """
    inner = path[1:].split("/")
    unsafe = any(part in (".", "..") for part in inner) or "" in inner[:-1]
    if not path.startswith("/") or unsafe or any(char in "\\%\x7f" or char < " " for char in path):
        raise unknown_route()


def local_path(scope: Scope, prefix: str) -> tuple[str, str]:
    """(base, path below it). A mounting server puts the base in root_path, and older ones leave it out of path."""
    base = scope.get("root_path") or prefix
    path = scope["path"]
    if base and (path == base or path.startswith(base + "/")):
        path = path[len(base) :]
    return base, path or "/"


def check_length(scope: Scope, limit: int) -> bool:
    """Whether a body may come; refuses one that is said to be too large before a byte of it is read."""
    lengths = headers(scope, "content-length")
    if len(lengths) > 1 or (lengths and not LENGTH.fullmatch(lengths[0])):
        raise malformed("Content-Length must be one number: send it once, in digits")
    if lengths and int(lengths[0]) > limit:
        raise too_large(limit)
    return bool(lengths or headers(scope, "transfer-encoding")) or scope["method"] not in ("GET", "HEAD", "OPTIONS")


def speaks_anthropic(scope: Scope) -> bool:
    """Whether the client expects Anthropic's form: by the path, or by the header that its clients always send."""
    path = scope["path"]
    return path == "/v1/messages" or path.startswith("/v1/messages/") or bool(headers(scope, "anthropic-version"))


def presented_key(scope: Scope) -> str | None:
    """The key in the headers, None if there is none; an Authorization that is not a bearer token is a wrong key."""
    authorizations = headers(scope, "authorization")
    if authorizations:
        scheme, _, token = authorizations[0].partition(" ")
        return token.strip() if len(authorizations) == 1 and scheme.lower() == "bearer" else ""
    given = headers(scope, "x-api-key") + headers(scope, "api-key")
    return (given[0].strip() if len(given) == 1 else "") if given else None


def query_key(scope: Scope) -> tuple[str | None, str]:
    """The key in the query and the query without it."""
    pairs = scope["query_string"].decode("latin-1").split("&")
    keys = [pair[4:] for pair in pairs if pair.startswith("key=")]
    rest = "&".join(pair for pair in pairs if pair and not pair.startswith("key="))
    return (keys[0] if len(keys) == 1 else None), rest
