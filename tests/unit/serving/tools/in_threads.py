"""The documentation search of this process, as the tools reach it, over stand-ins of the sites."""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.docsearch.fetching import fetch
from app.docsearch.found import Answer
from app.docsearch.search import DocsSearch
from app.stage_settings.docsearch import DocsearchSettings
from tests import loopback_sites
from tests.loopback_sites import Sites, certificates
from tests.unit.docsearch import made_up_sites


@dataclass(frozen=True, slots=True)
class InThreads:
    """Implements `app.serving.tools.server_tools.Search`."""

    local: DocsSearch

    async def begin(self, owner: str) -> str:
        await asyncio.sleep(0)  # as a handle does: others get their turn
        return self.local.begin(owner)

    async def search(self, query: str, source: str | None, request: str) -> Answer:
        return await asyncio.to_thread(self.local.search, query, source, request=request)


@contextmanager
def searching(
    folder: Path, settings: DocsearchSettings, answer: loopback_sites.Answer = made_up_sites.site
) -> Iterator[tuple[InThreads, Sites]]:
    """The production guard with the addresses of tests; ENV is online."""
    with loopback_sites.serving(certificates(folder), answer) as sites, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENV", "online")
        reaching = functools.partial(fetch, resolver=sites.resolver, opener=sites.opener)
        yield InThreads(DocsSearch(settings, folder, fetch=reaching)), sites
