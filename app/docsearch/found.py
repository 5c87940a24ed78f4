"""What a search brings up: passages, what was refused beside them, and what a source of passages is."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from app.docsearch.records import Page
from app.prompting.tool_schema import Source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One passage. Made by a source; read by `app.docsearch.search`, which cuts its text and checks its link.

    Example: Found(source="python", title="json.loads", url="https://docs.python.org/3/library/json.html",
    text="json.loads(s, ...) Deserialize s ...")
    """

    source: Source
    title: str
    url: str
    """Where a person reads on; empty for what is on this machine."""
    text: str
    licence: str = ""
    """Where the source's terms ask for it."""
    author: str = ""
    """The same."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What did not come, and why."""

    what: str
    """A source, or a host."""
    reason: str
    """One word, as `app.docsearch.records.Refused` has it."""
    detail: str = ""
    """For people; holds no text of a page."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one search gives. Made by `app.docsearch.search`; written for a model by `app.docsearch.marking`."""

    found: tuple[Found, ...]
    refused: tuple[Refusal, ...] = ()
    searches_left: int = 0
    is_cached: bool = False
    is_offline: bool = False
    """Out of what is on this machine."""


class Get(Protocol):
    """The guarded fetch, as a source sees it."""

    def __call__(self, url: str, *, is_index: bool = False) -> Page:
        """is_index: the index of a whole site, which may be larger, comes with other media types and is kept for days.
        Raises Refused."""


class DocsSource(Protocol):
    """One site, or what is on this machine."""

    @property
    def name(self) -> str: ...

    @property
    def hosts(self) -> tuple[str, ...]:
        """That it asks."""

    def search(self, query: str, get: Get) -> Sequence[Found]:
        """Passages that fit the query, best first. Raises Refused."""
