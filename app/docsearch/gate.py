"""Which URLs may be fetched: a strict pattern on the raw text, then a new URL put together from the parts.

Parsers disagree about hostile URLs, so nothing that a caller wrote is parsed and passed on. Host names are ASCII only,
so that no rule of internationalised names applies.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from app.docsearch.records import Refused

MAX_URL = 2048
_PARTS = re.compile(
    r"[Hh][Tt][Tt][Pp][Ss]://"
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*)(?::443)?"
    r"(?P<path>/[A-Za-z0-9/._~!$&'()*+,;=:@%-]*)?"
    r"(?P<query>\?[A-Za-z0-9/?._~!$&'()*+,;=:@%-]*)?"
    r"(?:#[A-Za-z0-9/?._~!$&'()*+,;=:@%-]*)?"
)
"""The characters that RFC 3986 allows unescaped. No credentials, no port but 443, no address in brackets."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes the host an IPv4 address for the WHATWG URL standard and for resolvers."""
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"%(?:[01][0-9a-f]|7f)", re.I)
_SEPARATOR = re.compile(r"%(?:2f|5c|25)", re.I)
"""Slash, backslash, and the percent sign that would hide another round of decoding."""


@dataclasses.dataclass(frozen=True, slots=True)
class Allowed:
    """The hosts whose pages may be fetched."""

    hosts: frozenset[str]
    wildcards: Mapping[str, frozenset[str]]
    """Parent domain to the labels allowed one level below it: {"readthedocs.io": {"pandas", ...}}."""
    endpoints: frozenset[str] = frozenset()
    """Hosts of search APIs. Only a request that a template of ours made is checked with these (`with_endpoints`); a
    redirect never leads to one of them from elsewhere."""

    def with_endpoints(self, endpoints: Iterable[str]) -> "Allowed":
        """The same list with these API hosts besides."""
        return dataclasses.replace(self, endpoints=frozenset(endpoints))

    def holds(self, host: str) -> bool:
        """Whether a host, in lower case, is on the list."""
        label, _, parent = host.partition(".")
        return host in self.hosts or host in self.endpoints or label in self.wildcards.get(parent, frozenset())


def checked(url: str, allowed: Allowed) -> str:
    """The URL rebuilt: https, host in lower case and without a final dot, port and fragment dropped. Raises Refused."""
    host, path, query = split(url)
    if not allowed.holds(host):
        raise Refused("domain", f"{host} is not on the list")
    _check_path(path)
    if _BAD_PERCENT.search(query):
        raise Refused("bad_percent", "a % in the query without two hexadecimal digits")
    if _CONTROL.search(query):
        raise Refused("encoded_separator", "an encoded control character in the query")
    return f"https://{host}{path}{query}"


def split(url: str) -> tuple[str, str, str]:
    """Host in lower case, path, and query with its question mark or nothing, of a URL of the one form that is accepted.

    Raises Refused. The host is a DNS name, on the list or not.
    """
    if len(url) > MAX_URL:
        raise Refused("too_long", f"{len(url)} characters, {MAX_URL} at most")
    if not url.isascii():
        raise Refused("non_ascii", "other characters than ASCII")
    found = _PARTS.fullmatch(url)
    if found is None:
        raise Refused("syntax", "not of the form https://host/path?query")
    host = found["host"].lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        raise Refused("ip_literal", "the host is an address")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) and label[2:4] != "--" for label in labels):
        raise Refused("label", "a part of the host name is empty, too long, or encoded (xn--)")
    return host, found["path"] or "/", found["query"] or ""


def _check_path(path: str) -> None:
    if _BAD_PERCENT.search(path):
        raise Refused("bad_percent", "a % in the path without two hexadecimal digits")
    plain = re.sub("%2e", ".", path, flags=re.I)
    if any(segment.partition(";")[0] in (".", "..") for segment in plain.split("/")):
        raise Refused("dot_segment", "a segment of the path is . or ..")
    if _CONTROL.search(path) or _SEPARATOR.search(path):
        raise Refused("encoded_separator", "an encoded separator or control character in the path")


PROJECTS = frozenset(
    """
    anyio arrow black bleach boltons cachetools channels coverage discordpy django-crispy-forms django-debug-toolbar
    django-environ django-filter django-storages dnspython docker-py eventlet faker flask-login flask-restful
    hypothesis importlib-metadata importlib-resources ipython ipywidgets jedi joblib jupyter-client jupyterlab
    keyring loguru marshmallow mock more-itertools mypy nbconvert nbformat numba pandas parso pika pillow
    platformdirs pluggy praw psutil pylint pymongo pyserial pytest-asyncio pytest-cov pytest-xdist redis requests
    rich tenacity tinydb toolz traitlets trio twine typing-extensions urllib3 vcrpy websockets wheel zarr
    """.split()
)
"""Projects that publish their own documentation on readthedocs.io, by hand: anybody can take a free name there."""
ALLOWED = Allowed(
    hosts=frozenset({"docs.python.org", "fastapi.tiangolo.com", "stackoverflow.com"}),
    wildcards=MappingProxyType({"readthedocs.io": PROJECTS}),
)
"""All that can be turned on; what the settings turn on of it says `app.docsearch.chosen`."""
