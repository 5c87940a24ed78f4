"""The documentation search: one Ray actor with one cache and one budget, for all that serve.

A shell over `app.docsearch.search`. ENV of the process that starts the actor decides whether the network is used:
anything but `online` there keeps it offline for as long as it lives. Ids of requests are made in the actor; with its
process they end, and a request that goes on is refused.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import ray

from actors.answers import answer
from app.docsearch.found import Answer
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch as LocalDocsSearch
from app.settings_docsearch import DocsearchSettings

MAX_CONCURRENCY = 16
"""Searches at once: they wait for sites, not for cores."""
MAX_RESTARTS = 3


@ray.remote
class DocsSearch:
    def __init__(self, settings: DocsearchSettings, folder: Path | None, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._search = LocalDocsSearch(settings, folder)

    def begin(self) -> str:
        return self._search.begin()

    def search(self, query: str, source: str | None, request: str) -> Answer | tuple[str, str]:
        """A refusal comes as its reason and detail: Ray would wrap an exception, and log it with its arguments."""
        try:
            return self._search.search(query, source, request=request)
        except Refused as refused:
            return refused.reason, refused.detail


class DocsSearchClient:
    """Calls the actor as if it were local. A copy in another process calls the same actor, which ends with the first
    one."""

    def __init__(self, settings: DocsearchSettings, folder: Path | None = None) -> None:
        """folder: of cache, offline index and log, on the actor's node; None: in the user's cache folder."""
        environment = {"ENV": os.environ.get("ENV", "offline")}
        if settings.serpapi_key_env and (key := os.environ.get(settings.serpapi_key_env)):
            environment[settings.serpapi_key_env] = key
        options = {"num_cpus": 0, "max_concurrency": MAX_CONCURRENCY, "max_restarts": MAX_RESTARTS}
        # As an argument: what a runtime_env holds is shown on the dashboard, and a key is none of its business.
        self._actor = cast(Any, DocsSearch).options(**options).remote(settings, folder, environment)

    def begin(self) -> str:
        """The id of a new request, with a budget of its own."""
        return _get(self._actor.begin.remote())

    def search(self, query: str, source: str | None = None, *, request: str) -> Answer:
        """As `app.docsearch.search.DocsSearch.search`. Raises Refused; UserError where the actor's process ended."""
        came = _get(self._actor.search.remote(query, source, request))
        if isinstance(came, Answer):
            return came
        raise Refused(*came)

    def close(self) -> None:
        ray.kill(self._actor)


def _get(reference: Any) -> Any:
    return answer(reference, _ended)


def _ended(cause: str) -> str:
    return f"the documentation search's process ended ({cause}): ask again; its log is in Ray's session folder"
