"""Settings of the documentation search (`app.docsearch`), gathered with the others in `app.settings.Profile`."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from app.stage_settings.base import Settings

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class DocsearchSettings(Settings):
    """Where documentation is looked up, and how much of it. The network is used only while the environment variable ENV
    is exactly `online`."""

    python: bool = True
    """docs.python.org, by its own search index."""
    fastapi: bool = True
    """fastapi.tiangolo.com, by its own search index."""
    readthedocs: tuple[str, ...] | None = None
    """Projects of readthedocs.io that may be asked, each by the search of its own host; None: those of
    `app.docsearch.gate`; empty: none. Anybody may publish on that domain, so it is a list, no wildcard."""
    stackoverflow: bool = False
    """Stack Exchange's API (api.stackexchange.com); answers come with author and link, as its licence asks."""
    serpapi_key_env: str = ""
    """The environment variable that holds a key of SerpAPI, a paid web search: asked where the others found nothing.
    Empty: it is off."""
    offline: bool = True
    """Answer out of what is on this machine while ENV is not `online`; false: such a search is refused."""
    offline_packages: tuple[str, ...] = ()
    """Installed packages whose docstrings are searched offline beside the standard library's; empty: those that
    `app.docsearch.sources.offline` names, where they are installed."""
    offline_html: tuple[str, ...] = ()
    """Folders of HTML pages that are searched offline, as SOURCE=FOLDER, with python, fastapi or readthedocs as
    SOURCE."""
    searches: int = Field(default=5, ge=1, le=100)
    """Of one request; what is refused, fails or comes out of the cache counts as well."""
    searches_per_minute: int = Field(default=30, ge=1, le=10_000)
    """Of one API key, all its requests together."""
    readthedocs_per_minute: int = Field(default=5, ge=1, le=10_000)
    """Requests to Read the Docs, whoever asks: it answers 5 a minute to those who have no account."""
    stackoverflow_per_day: int = Field(default=300, ge=1, le=1_000_000)
    """Requests to Stack Exchange, which answers 300 a day without a key; a search makes two."""
    serpapi_per_day: int = Field(default=100, ge=1, le=1_000_000)
    """Requests to SerpAPI: each costs you money."""
    results: int = Field(default=2, ge=1, le=10)
    """Passages of one search, as in the dialogues that teach it."""
    words: int = Field(default=500, ge=20, le=5000)
    """Of all passages of one search together."""
    characters: int = Field(default=4000, ge=100, le=50_000)
    """The same in characters."""
    cache_days: float = Field(default=7.0, ge=0, le=365)
    """How long answers and search indexes are kept; 0: not at all."""
    cache_bytes: int = Field(default=256 << 20, ge=1 << 20)
    """On disk; the oldest go first."""
    redis_url: str = ""
    """redis://HOST:PORT/NUMBER of a server that keeps the cache in place of a file: one of yours, since it can change
    answers. A run's settings are written into its run.json, a password in here too."""

    @field_validator("readthedocs")
    @classmethod
    def _are_project_names(cls, projects: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if bad := next((name for name in projects or () if not _SLUG.fullmatch(name)), None):
            raise ValueError(f"{bad!r} is no project of readthedocs.io: give the first part of its host, as in psutil")
        return projects

    @field_validator("serpapi_key_env")
    @classmethod
    def _is_a_variable(cls, name: str) -> str:
        if name and not _VARIABLE.fullmatch(name):
            raise ValueError("it names an environment variable: put the key there, and its name here")
        return name

    @field_validator("offline_html")
    @classmethod
    def _name_a_source(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        for folder in folders:
            source, separator, place = folder.partition("=")
            if not (separator and place and source in ("python", "fastapi", "readthedocs")):
                raise ValueError(f"{folder!r} is not SOURCE=FOLDER, with python, fastapi or readthedocs as SOURCE")
        return folders

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        if url and urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("it begins with redis://, rediss:// or unix://")
        return url
