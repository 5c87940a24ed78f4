"""SerpAPI: Google's results, restricted to the sites of the list. A paid service: off unless the settings name the
environment variable that holds its key, and never used while training, where nothing is online.

The key is part of the address that is fetched, so that address is told to nobody: not to the log, not in a refusal.
Results are addresses and a few words; the pages come by the guard, each through the same gate.
"""

import json
import os
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from app.docsearch.found import Found, Get
from app.docsearch.gate import Allowed, checked
from app.docsearch.records import Refused
from app.docsearch.sources import fastapi, python_docs, stackoverflow
from app.docsearch.sources.sections import text_of_part
from app.prompting.tool_schema import Source

HOST = "serpapi.com"
MAX_PAGES = 2
_SOURCES: dict[str, Source] = {
    python_docs.HOST: "python",
    fastapi.HOST: "fastapi",
    stackoverflow.SHOWN_HOST: "stackoverflow",
}


class SerpApi:
    name = "serpapi"
    hosts = (HOST,)

    def __init__(self, key_env: str, sites: Sequence[str], allowed: Allowed) -> None:
        """sites: hosts that results may be of. allowed: what may be fetched; other results are dropped."""
        self._key_env, self._sites, self._allowed = key_env, tuple(sites), allowed

    def search(self, query: str, get: Get) -> list[Found]:
        key = os.environ.get(self._key_env, "")
        if not key:
            raise Refused("key", f"the environment variable {self._key_env} holds no key of SerpAPI")
        words = " OR ".join(f"site:{site}" for site in self._sites)
        asked = {"engine": "google", "num": 10, "q": f"{query} ({words})", "api_key": key}
        try:
            page = get(f"https://{HOST}/search.json?{urlencode(asked, quote_via=quote)}")
        except Refused as refused:  # whose detail may hold the address
            raise Refused(refused.reason, "SerpAPI", retry_after=refused.retry_after) from None
        found: list[Found] = []
        for title, link in _results(page.body):
            url, _, anchor = link.partition("#")
            if len(found) < MAX_PAGES and (address := self._on_the_list(url)):
                try:
                    text = text_of_part(get(address), anchor)
                except Refused as refused:
                    if refused.reason == "offline":  # ENV was changed: what came before is not shown either
                        raise
                    continue  # the next one may come; the log has this one
                found.append(Found(source=_source(address), title=title, url=link, text=text))
        return found

    def _on_the_list(self, url: str) -> str:
        try:
            return checked(url, self._allowed)
        except Refused:
            return ""


def _results(body: bytes) -> list[tuple[str, str]]:
    try:
        results = json.loads(body).get("organic_results", [])
        return [(str(result["title"]), str(result["link"])) for result in results]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("format", "no answer of SerpAPI") from None


def _source(address: str) -> Source:
    host = address.split("/")[2]
    return _SOURCES.get(host, "readthedocs")
