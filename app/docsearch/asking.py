"""`python -m app docsearch --query TEXT` and `--self-check`: a search as a person sees it, and a try of each source."""

import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from app.docsearch.found import Answer, Found
from app.docsearch.network_mode import ONLINE
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch
from app.errors import UserError
from app.stage_settings.docsearch import DocsearchSettings

SELF_CHECK = {
    "python": "json.loads",
    "fastapi": "fastapi path parameters",
    "readthedocs": "requests timeout",
    "stackoverflow": "python sort a dictionary by value",
    "serpapi": "python json.loads",
}
"""What each source is asked."""
_HOW = {
    "stackoverflow": "docsearch.stackoverflow=true",
    "serpapi": "docsearch.serpapi_key_env=VARIABLE",
    "python": "docsearch.python=true",
    "fastapi": "docsearch.fastapi=true",
    "readthedocs": "docsearch.readthedocs=null",
}
_SENTENCES = {
    "offline": "the network is off, since ENV is not online: set ENV=online to use it",
    "dns": "its name was not found: there is no network, or the name server does not know it",
    "connection": "no connection could be made: check the network, and whether a firewall or a proxy is in the way",
    "timeout": "it did not answer in time",
    "unavailable": "it answered that it can't, or wants to be left alone",
    "rate": "it was asked as often as it may be in that time: wait, or see the rates in the settings under docsearch",
    "missing": "the page that it is asked by is not there any more: its search has moved",
    "format": "what it answered could not be read: its search has changed",
    "project": "the query names none of its projects: write its name into the query, as in `requests timeout`",
    "secret": "the query would tell a secret or a file of yours: leave it out",
    "query": "there is nothing to search for: give some words",
    "source": "there is no such source, or it is turned off: see the settings under docsearch",
    "domain": "it leads to a host that is not on the list",
}


def ask(
    settings: DocsearchSettings, query: str, source: str | None, *, as_json: bool, folder: Path | None = None
) -> None:
    """Search once and print what came and what was refused. Raises UserError where nothing could be searched."""
    search = DocsSearch(settings, folder)
    try:
        answer = search.search(query, source, request=search.begin())
    except Refused as refused:
        told = _sentence(refused.reason, refused.detail)
        raise UserError(f"the search was refused ({refused.reason}): {told}") from None
    if as_json:
        print(json.dumps(dataclasses.asdict(answer)))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # documentation holds letters that a terminal may not have
    for found in answer.found:
        print(_shown(found))
    for refusal in answer.refused:
        print(f"refused: {refusal.what}: {refusal.reason}: {_sentence(refusal.reason, refusal.detail)}")
    place = f"; searched was {search.offline.covers()}" if answer.is_offline else ""
    place += ", out of the cache" if answer.is_cached else ""
    print(f"docsearch: {len(answer.found)} passages, {len(answer.refused)} refused{place}; log: {search.folder}")


def self_check(settings: DocsearchSettings, *, as_json: bool, folder: Path | None = None) -> None:
    """Ask each source once, past the cache, and print a line for each."""
    search = DocsSearch(settings.model_copy(update={"cache_days": 0.0}), folder)
    rows = [_tried(search, name, query) for name, query in SELF_CHECK.items()]
    rows.append(_tried_offline(search))
    if as_json:
        print(json.dumps({"sources": rows, "answered": sum(row["found"] > 0 for row in rows)}))
        return
    for row in rows:
        print(f"{row['source']}: {row['said']}")
    print(f"docsearch: {sum(row['found'] > 0 for row in rows)} of {len(rows)} sources answered; log: {search.folder}")


def _tried(search: DocsSearch, name: str, query: str) -> dict[str, Any]:
    if name not in search.sources:
        return _row(name, 0, f"off: --set {_HOW[name]} turns it on")
    if os.environ.get("ENV") != ONLINE:
        return _row(name, 0, f"not asked: {_SENTENCES['offline']}")
    try:
        answer = search.try_source(name, query)
    except Refused as refused:
        return _row(name, 0, f"nothing came: {_sentence(refused.reason, refused.detail)}")
    if not answer.found:
        why = "; ".join(_sentence(refusal.reason, refusal.detail) for refusal in answer.refused)
        return _row(name, 0, f"nothing came: {why or 'nothing fits the query'}")
    return _row(name, len(answer.found), _came(answer, query))


def _tried_offline(search: DocsSearch) -> dict[str, Any]:
    try:
        found = search.offline.search(SELF_CHECK["python"])
    except Refused as refused:
        return _row("offline", 0, f"nothing came: {refused.detail}")
    covers = search.offline.covers()
    return _row("offline", len(found), f"{len(found)} passages for {SELF_CHECK['python']!r}, out of {covers}")


def _came(answer: Answer, query: str) -> str:
    first = answer.found[0]
    return f"{len(answer.found)} passages for {query!r}, the first is {first.title!r} at {first.url}"


def _row(source: str, found: int, said: str) -> dict[str, Any]:
    return {"source": source, "found": found, "said": said}


def _shown(found: Found) -> str:
    named = "  ".join(filter(None, (found.title, found.url, found.author, found.licence)))
    return f"[{found.source}] {named}\n{found.text}\n"


def _sentence(reason: str, detail: str) -> str:
    """What to tell of a refusal; detail is the guard's own words."""
    return _SENTENCES.get(reason, detail or reason)
