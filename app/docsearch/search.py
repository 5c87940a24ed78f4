"""One search of the documentation, from the query to passages that a model may read: every step fails closed.

In this order: the budget is charged; the query is checked; without ENV=online what is on this machine answers, and no
socket is opened; else the cache, then the sources, whose pages come through the guarded fetch alone; what links off the
list is dropped; texts lose hidden characters and foreign links and are cut. Each decision is a line of the log.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from app.docsearch.budget import Budget
from app.docsearch.cache import key_of
from app.docsearch.chosen import KEY, allowed_by, cache_of, rates_of, sources_of
from app.docsearch.decisions import DecisionLog
from app.docsearch.fetching import fetch
from app.docsearch.found import Answer, DocsSource, Found, Refusal
from app.docsearch.gate import Allowed, checked
from app.docsearch.getting import Fetch, Fetches, host_of
from app.docsearch.network_mode import require_online
from app.docsearch.page_text import cleaned, cut, without_links
from app.docsearch.query import cleaned_query
from app.docsearch.ranking import words_in
from app.docsearch.records import Refused
from app.docsearch.sources.offline import OfflineDocs
from app.docsearch.sources.readthedocs import ReadTheDocs
from app.files.home import cache_root
from app.prompting.tool_schema import SOURCES, Source
from app.stage_settings.docsearch import DocsearchSettings

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60.0, 3600.0
"""How long a source that answered with 403, 429 or 5xx is left alone, unless it says itself, and at most."""
MAX_TITLE = 120
WELL_FOUND = 0.5
"""Share of a query's words that a passage of the source that was asked for has to have."""


class DocsSearch:
    """May be used by several threads at once."""

    def __init__(self, settings: DocsearchSettings, folder: Path | None = None, *, fetch: Fetch = fetch) -> None:
        """folder: of cache, offline index and log; None: in the user's cache folder. Raises UserError."""
        self._settings, self._fetch = settings, fetch
        self.folder = folder or cache_root() / "docsearch"
        self._allowed = allowed_by(settings)
        self._budget, self._rates = Budget(settings.searches), rates_of(settings)
        self._cache = cache_of(settings, self.folder)
        self._log = DecisionLog(self.folder / "decisions.jsonl")
        self.offline = OfflineDocs(self.folder, settings.offline_packages, settings.offline_html)
        self._sources = {source.name: source for source in sources_of(settings)}
        self._paused: dict[str, float] = {}
        """By source until when."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that are on."""
        return tuple(self._sources)

    def begin(self, owner: str = "") -> str:
        """The id of a new request, with a budget of its own. It is never shown to a model.

        owner: name of the API key, whose searches a minute are counted together.
        """
        return self._budget.begin(owner)

    def search(self, query: str, source: str | None = None, *, request: str) -> Answer:
        """Passages for the query; none where nothing fits. What was refused beside them is in the answer.

        source: one of `tool_schema.SOURCES`; None: where the query fits. request: an id of `begin`.
        Raises Refused where nothing could be searched: request, budget, rate, query, secret, source, offline, failed.
        """
        try:
            return self._logged(query, source, request)
        except Refused:
            raise
        except OSError as error:  # what isn't logged isn't searched
            raise Refused("failed", f"the log {self._log.path} can't be written ({error.strerror})") from error
        except Exception as error:
            raise Refused("failed", type(error).__name__) from error

    def _logged(self, query: str, source: str | None, request: str) -> Answer:
        start = time.monotonic()
        try:
            answer = self._search(query, source, request)
        except Refused as refused:
            self._write(request, "search", "block", refused.reason, start)
            raise
        except Exception:
            self._write(request, "search", "block", "failed", start)
            raise
        self._write(request, "search", "allow", "cached" if answer.is_cached else "", start)
        return answer

    def try_source(self, name: str, query: str) -> Answer:
        """What this one source gives, whatever the others would: for people who want to know whether it works.

        Raises Refused("offline")."""
        require_online()
        request = self.begin()
        found, refused_ones = self._ask_all([self._sources[name]], cleaned_query(query), request)
        return Answer(found=self._fit(found, refused_ones, request), refused=tuple(refused_ones))

    def _search(self, query: str, source: str | None, request: str) -> Answer:
        left, owner = self._budget.take(request)
        self._rates.take(KEY, owner)
        asked = cleaned_query(query)
        if source is not None and source not in SOURCES:
            raise Refused("source", "it is none of the tool's sources")
        try:
            require_online()
        except Refused as refused:
            return self._search_offline(asked, source, request, left, refused)
        plan = self._plan(asked, source)
        key = key_of("answer", self._settings.model_dump_json(), *sorted(self._allowed.hosts), source or "", asked)
        if held := _read(self._cache.get(key)):
            self._write(request, "cache", "allow")
            return Answer(found=held, searches_left=left, is_cached=True)
        found, refused_ones = self._ask_all(plan, asked, request)
        if not found and (rated := next((refusal for refusal in refused_ones if refusal.reason == "rate"), None)):
            raise Refused("rate", f"{rated.what}: {rated.detail}")
        is_whole = all(refusal.reason == "project" for refusal in refused_ones)  # else it may be better in a minute
        answer = Answer(found=self._fit(found, refused_ones, request), refused=tuple(refused_ones), searches_left=left)
        if answer.found and is_whole:
            self._cache.put(key, [dataclasses.asdict(passage) for passage in answer.found])
        return answer

    def _search_offline(self, query: str, source: str | None, request: str, left: int, refused: Refused) -> Answer:
        """What is on this machine; the network is refused in any case."""
        self._write(request, "network", "block", refused.reason)
        if not self._settings.offline:
            raise refused
        found = self._found_offline(query, source)
        self._write(request, "offline", "allow")
        refusal = Refusal(what="network", reason=refused.reason, detail=refused.detail)
        fitted = self._fit(found, [], request)
        return Answer(found=fitted, refused=(refusal,), searches_left=left, is_offline=True)

    def _found_offline(self, query: str, source: str | None) -> list[Found]:
        """Passages of this source; of the others where it has no more than half of the words, and they have more: small
        models name a source at random."""
        top = self._settings.results
        found = self.offline.search(query, source=source or "", top=top)
        share = _share(query, found)
        if source is None or share > WELL_FOUND:
            return found
        elsewhere = self.offline.search(query, top=top)
        return elsewhere if _share(query, elsewhere) > share else found

    def _plan(self, query: str, source: str | None) -> list[DocsSource]:
        """Which sources are asked, in turn until enough was found. Raises Refused where the one asked for is off."""
        on = self._sources
        if source is not None:
            if source not in on and "serpapi" not in on:
                raise Refused("source", f"{source} is off: see docsearch.{source}")
            return [on[name] for name in (source, "serpapi") if name in on]
        projects = on.get("readthedocs")
        names = ["fastapi"] if "fastapi" in words_in(query) else []
        names += ["readthedocs"] if isinstance(projects, ReadTheDocs) and projects.named(query) else []
        names += ["python", "stackoverflow", "fastapi", "serpapi"]
        return [on[name] for name in dict.fromkeys(names) if name in on]

    def _ask_all(self, plan: Sequence[DocsSource], query: str, request: str) -> tuple[list[Found], list[Refusal]]:
        found: list[Found] = []
        refused_ones: list[Refusal] = []
        fetches = Fetches(
            request, fetch=self._fetch, cache=self._cache, allowed=self._allowed, log=self._log, rates=self._rates
        )
        for source in plan:
            if len(found) >= self._settings.results:
                break
            try:
                found += self._ask(source, query, fetches)
            except Refused as refused:
                if refused.reason == "offline":  # ENV was changed in the middle: what came before is not shown either
                    raise
                refused_ones.append(Refusal(what=source.name, reason=refused.reason, detail=refused.detail))
        return found, refused_ones

    def _ask(self, source: DocsSource, query: str, fetches: Fetches) -> Sequence[Found]:
        if (left := self._paused.get(source.name, 0.0) - time.monotonic()) > 0:
            raise Refused("unavailable", f"it is left alone for {left:.0f} s more")
        were_read = False
        try:
            found = source.search(query, fetches.of(source))
            were_read = True
            return found
        except Refused as refused:
            were_read = refused.reason not in ("format", "too_large", "offline")
            if refused.reason == "unavailable":
                pause = PAUSE_SECONDS if refused.retry_after is None else refused.retry_after
                self._paused[source.name] = time.monotonic() + min(max(pause, 1.0), MAX_PAUSE_SECONDS)
            raise
        except Exception as error:  # an answer of a form that nobody thought of
            raise Refused("failed", type(error).__name__) from error
        finally:
            fetches.settle_indexes(were_read=were_read)

    def _fit(self, found: Iterable[Found], refused_ones: list[Refusal], request: str) -> tuple[Found, ...]:
        """The best passages whose links are on the list, together no longer than one answer may be."""
        kept: dict[str, Found] = {}
        for passage in found:
            try:
                url = _shown_link(passage.url, self._allowed)
            except Refused as refused:
                refused_ones.append(Refusal(what=host_of(passage.url), reason=refused.reason, detail="a result's link"))
                self._write(request, "link", "block", refused.reason, host=host_of(passage.url))
                continue
            text = self._harmless(passage.text).strip()
            if text and len(kept) < self._settings.results:
                kept.setdefault(text, self._tidy(dataclasses.replace(passage, url=url, text=text)))
        cut_texts = self._cut(list(kept))
        return tuple(
            dataclasses.replace(passage, text=text) for whole, passage in kept.items() if (text := cut_texts[whole])
        )

    def _cut(self, texts: Sequence[str]) -> dict[str, str]:
        """By text the same cut: to equal shares, of which the short ones leave the rest to the others."""
        words, characters = self._settings.words, self._settings.characters
        shares: dict[str, str] = {}
        for number, text in enumerate(sorted(texts, key=len)):
            others = len(texts) - number
            shares[text] = cut(text, words=words // others, characters=characters // others)
            words -= len(shares[text].split())
            characters -= len(shares[text])
        return shares

    def _tidy(self, passage: Found) -> Found:
        """With its short fields on one line each, which holds nothing hidden."""

        def line(text: str) -> str:
            return " ".join(self._harmless(text).split())[:MAX_TITLE]

        title, author, licence = map(line, (passage.title, passage.author, passage.licence))
        return dataclasses.replace(passage, title=title, author=author, licence=licence)

    def _harmless(self, text: str) -> str:
        """Cleaned twice: a link that loses its address may leave a token of a chat template, as <[|](x)im_start|>."""
        return cleaned(without_links(cleaned(text), self._allowed))

    def _write(
        self, request: str, what: str, verdict: str, reason: str = "", start: float | None = None, **more: Any
    ) -> None:
        seconds = 0.0 if start is None else time.monotonic() - start
        self._log.write(request, what, verdict, reason=reason, seconds=seconds, **more)


def _shown_link(url: str, allowed: Allowed) -> str:
    """The link as the gate rebuilds it, with its anchor. Raises Refused. Nothing for what is on this machine."""
    if not url:
        return ""
    address, anchor = checked(url, allowed), url.partition("#")[2]
    return f"{address}#{anchor}" if anchor else address


def _read(held: Any) -> tuple[Found, ...]:
    """Passages that the cache holds; none where somebody else wrote there."""
    fields = {field.name for field in dataclasses.fields(Found)}
    if not isinstance(held, list) or not all(isinstance(row, dict) and row.keys() == fields for row in held):
        return ()
    if not all(isinstance(value, str) for row in held for value in row.values()):
        return ()
    return tuple(Found(**row) for row in held if row["source"] in get_args(Source))


def _share(query: str, found: Sequence[Found]) -> float:
    """The share of the query's words that the best passage has, 0 to 1."""
    words = words_in(query)
    held = set(words_in(f"{found[0].title} {found[0].text}")) if found else set()
    return sum(word in held for word in words) / max(len(words), 1)
