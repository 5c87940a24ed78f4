"""Which URLs may be fetched: a strict pattern on the raw text, then a new URL put together from the parts.

Parsers disagree about hostile URLs, so nothing that a caller wrote is parsed and passed on.
"""

import dataclasses
from collections.abc import Iterable, Mapping


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


def checked(url: str, allowed: Allowed) -> str:
    """The URL rebuilt: https, host in lower case, port and fragment dropped. Raises Refused."""
    raise NotImplementedError


ALLOWED = Allowed(hosts=frozenset(), wildcards={})
"""The list that is in use: filled in below."""
