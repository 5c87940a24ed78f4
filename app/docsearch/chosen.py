"""What the settings say: which sources are asked and how often, which hosts may be fetched, where answers are kept."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.docsearch.cache import DAY, Cache, NoCache, RedisCache, SqliteCache
from app.docsearch.found import DocsSource
from app.docsearch.gate import PROJECTS, Allowed
from app.docsearch.rates import MINUTE, Rate, Rates
from app.docsearch.sources import fastapi, python_docs, readthedocs, stackoverflow
from app.docsearch.sources.fastapi import FastApiDocs
from app.docsearch.sources.python_docs import PythonDocs
from app.docsearch.sources.readthedocs import ReadTheDocs
from app.docsearch.sources.serpapi import SerpApi
from app.docsearch.sources.stackoverflow import StackOverflow
from app.stage_settings.docsearch import DocsearchSettings

KEY = "key"
"""Kind of a rate: searches of one API key."""


def allowed_by(settings: DocsearchSettings) -> Allowed:
    """The hosts whose text may reach a model."""
    hosts = {
        python_docs.HOST: settings.python,
        fastapi.HOST: settings.fastapi,
        stackoverflow.SHOWN_HOST: settings.stackoverflow,
    }
    return Allowed(
        hosts=frozenset(host for host, is_on in hosts.items() if is_on),
        wildcards={readthedocs.DOMAIN: frozenset(_projects(settings))},
    )


def sources_of(settings: DocsearchSettings) -> Iterator[DocsSource]:
    """Those that are on."""
    allowed = allowed_by(settings)
    if settings.python:
        yield PythonDocs()
    if settings.fastapi:
        yield FastApiDocs()
    if projects := _projects(settings):
        yield ReadTheDocs(projects)
    if settings.stackoverflow:
        yield StackOverflow()
    if settings.serpapi_key_env:
        yield SerpApi(settings.serpapi_key_env, (*sorted(allowed.hosts), readthedocs.DOMAIN), allowed)


def rates_of(settings: DocsearchSettings) -> Rates:
    """The rates of each API key, and of each source that says how often it may be asked, or that costs money."""
    return Rates(
        {
            KEY: Rate(calls=settings.searches_per_minute, seconds=MINUTE),
            ReadTheDocs.name: Rate(calls=settings.readthedocs_per_minute, seconds=MINUTE),
            StackOverflow.name: Rate(calls=settings.stackoverflow_per_day, seconds=DAY),
            SerpApi.name: Rate(calls=settings.serpapi_per_day, seconds=DAY),
        }
    )


def cache_of(settings: DocsearchSettings, folder: Path) -> Cache:
    """folder: of a cache in a file."""
    seconds = settings.cache_days * DAY
    if not seconds:
        return NoCache()
    if settings.redis_url:
        return RedisCache(settings.redis_url, seconds=seconds, max_bytes=settings.cache_bytes)
    return SqliteCache(folder / "cache.sqlite", seconds=seconds, max_bytes=settings.cache_bytes)


def _projects(settings: DocsearchSettings) -> Sequence[str]:
    return sorted(PROJECTS) if settings.readthedocs is None else settings.readthedocs
