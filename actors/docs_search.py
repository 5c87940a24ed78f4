"""The documentation search on Ray Serve: one replica, so one cache and one budget for all who search.

A shell over `app.docsearch.search`. Ids of requests are made in the replica; with its process they end, and a request
that goes on is refused. A key of SerpAPI comes out of the environment of the Ray node: what a serve config or a
runtime_env holds is shown on the dashboard.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray import serve
from ray.serve.handle import DeploymentHandle

from app.docsearch.found import Answer
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch as LocalDocsSearch
from app.stage_settings.docsearch import DocsearchSettings

MAX_SEARCHES = 16
"""At once: they wait for sites, not for cores."""
MAX_WAITING = 64


@serve.deployment(max_ongoing_requests=MAX_SEARCHES + MAX_WAITING, max_queued_requests=MAX_WAITING)
class DocsSearch:
    def __init__(self, settings: DocsearchSettings, env: str = "", folder: Path | None = None) -> None:
        """env: ENV from now on; empty: as the process has it. folder: None: in the user's cache folder."""
        if env:
            os.environ["ENV"] = env
        self._search = LocalDocsSearch(settings, folder)
        self._threads = ThreadPoolExecutor(MAX_SEARCHES, "docsearch")

    async def begin(self, owner: str) -> str:
        return self._search.begin(owner)

    async def search(self, query: str, source: str | None, request: str) -> Answer | tuple[str, str]:
        """A refusal comes as its reason and detail: Ray would wrap an exception, and log it with its arguments."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, query, source, request)

    def _answer(self, query: str, source: str | None, request: str) -> Answer | tuple[str, str]:
        try:
            return self._search.search(query, source, request=request)
        except Refused as refused:
            return refused.reason, refused.detail


class SearchHandle:
    """Implements `app.serving.tools.server_tools.Search` over the deployment's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def begin(self, owner: str) -> str:
        return await self._handle.begin.remote(owner)

    async def search(self, query: str, source: str | None, request: str) -> Answer:
        came = await self._handle.search.remote(query, source, request)
        if isinstance(came, Answer):
            return came
        raise Refused(*came)
