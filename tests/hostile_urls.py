"""URLs made of hostile and honest parts, and what three independent parsers say of those that the gate let through."""

import random
import urllib.parse
from collections.abc import Iterable, Iterator

import ada_url
import httpx

from app.docsearch.gate import ALLOWED, checked
from app.docsearch.records import Refused

_SCHEMES = [
    "https://"
] * 12 + "http:// HTTPS:// https:/ https:/// https: https:\\\\ // ftp:// https:// https:///".split()
_SCHEMES += [" https://", "\thttps://", "https:\n//", "view-source:https://", ""]
_HOSTS = ["docs.python.org", "fastapi.tiangolo.com", "stackoverflow.com", "pandas.readthedocs.io"] * 15
_HOSTS += """evil.com DOCS.python.ORG docs.python.org.evil.com evil-docs.python.org docs.python.org. docs.python.org..
docs..python.org .docs.python.org 127.0.0.1 0x7f000001 127.1 2130706433 [::1] [::ffff:7f00:1] localhost
evil.readthedocs.io a.b.readthedocs.io readthedocs.io xn--docs.python.org docs%2epython.org docs.python.org%00
docs_python.org docs.python.org%2f docs。python.org ｄocs.python.org docs.python.org。evil.com ⑩.0.0.1 docs.pyth0n.org
docs.python.org:443 docs.python.org:80 docs.python.org:0443 docs.python.org: stackoverflow.com:65979
docs.python.org\\.evil.com evil.com\\docs.python.org""".split()
_JOINTS = [
    "",
    "",
    "",
    "",
    "",
    "@",
    ":",
    "\\",
    "/",
    "//",
    "#",
    "?",
    "%40",
    "%2f",
    ";",
    ",",
    "&",
    "\t",
    "\r\n",
    "\0",
    " ",
    "\\@",
]
_JOINTS += [
    "/@",
    "#@",
    "?@",
    ":443@",
    ":pw@",
    "\u200b",
    "\u00ad",
    "\u3002",
    "\uff0f",
    "\uff20",
    "|",
    "^",
    "<",
    '"',
    "[",
    "]",
]
_PATHS = ["/", "/3/", "/3/library/json.html", "/3/#json", "/?q=a%20b", "/a;b=c"] * 4
_PATHS += [
    "",
    "/",
    "/3/",
    "/3/library/json.html",
    "/3/#json",
    "/?q=a%20b",
    "/3?x=/../y",
    "//evil.com/",
    "/%2e%2e/",
    "/../",
    "/.;/",
]
_PATHS += [
    "/%2f%2fevil.com",
    "/%5cevil.com",
    "/\\evil.com",
    "/%00",
    "/%0d%0aHost:x",
    "/%zz",
    "/a;b=c",
    "/@evil.com",
    "/a:b@c",
]
_PATHS += [
    "/é",
    "/\ud800",
    "/" + "a" * 2000,
    "/%252e",
    "/|x",
    "/{x}",
    "/?url=https://evil.com/",
    "?@evil.com",
    "#@evil.com/",
]


def urls(dice: random.Random, number: int) -> Iterator[str]:
    for _ in range(number):
        url = dice.choice(_SCHEMES) + dice.choice(_HOSTS)
        if dice.random() < 0.35:
            url += dice.choice(_JOINTS) + dice.choice(_HOSTS)
        url += dice.choice(_PATHS)
        while dice.random() < 0.15:  # one character more, another, or one less, anywhere
            place = dice.randrange(len(url) + 1)
            url = (
                url[:place]
                + dice.choice(["", *"./:@\\%#?&\t\n -_[]0xA\u00df\u2024"])
                + url[place + dice.randrange(2) :]
            )
        yield url


def complaints(made: Iterable[str]) -> tuple[int, list[str]]:
    """How many were allowed; and those that a parser reads otherwise: as another host, port or scheme, with a password,
    before or after they were put together anew, or as no URL."""
    allowed, found = 0, []
    for url in made:
        try:
            rebuilt = checked(url, ALLOWED)
        except Refused:
            continue
        allowed += 1
        if not (_holds(_whatwg(url)) and _whatwg(rebuilt) == _urllib(rebuilt) == _httpx(rebuilt) == _whatwg(url)):
            found.append(f"{url!r} -> {rebuilt!r}")
    return allowed, found


Place = tuple[str, str, int, str]
"""Scheme, host, port, and what stands before an @."""


def _holds(place: Place | None) -> bool:
    if place is None:
        return False
    scheme, host, port, user = place
    on_list = host in ALLOWED.hosts or any(
        host == f"{one}.{up}" for up, ones in ALLOWED.wildcards.items() for one in ones
    )
    return on_list and (scheme, port, user) == ("https", 443, "")


def _whatwg(url: str) -> Place | None:
    """By ada, the parser of Node.js. A final dot of the host names the same host."""
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return None
    port = int(parsed.port) if parsed.port else 443
    return parsed.protocol.rstrip(":"), parsed.hostname.removesuffix("."), port, parsed.username + parsed.password


def _urllib(url: str) -> Place | None:
    try:
        parsed = urllib.parse.urlsplit(url)
        user = (parsed.username or "") + (parsed.password or "")
        return parsed.scheme, parsed.hostname or "", parsed.port or 443, user
    except ValueError:
        return None


def _httpx(url: str) -> Place | None:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return None
    return parsed.scheme, parsed.host, parsed.port or 443, parsed.userinfo.decode()
