"""Documentation that is on this machine: docstrings of the standard library and of installed packages, the language
reference, and folders of HTML pages. No socket, whatever ENV says.

It covers the standard library, those of PACKAGES (or docsearch.offline_packages) that are installed, and what
docsearch.offline_html names; `covers` says which. The index is made once for these versions and folders, in seconds,
and kept in the user's cache folder. A passage counts to the source whose site would have it: `python`, `fastapi`,
`readthedocs`. For `stackoverflow` there is nothing.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from app.docsearch.cache import key_of
from app.docsearch.found import Found
from app.docsearch.page_text import text_of
from app.docsearch.ranking import Entry, fill, ranked
from app.docsearch.records import MIB, Page, Refused
from app.docsearch.sources.docstrings import chunks, package, standard_library, version_of
from app.errors import UserError
from app.files.user_files import user_path
from app.progress import say
from app.prompting.tool_schema import Source

PACKAGES = (
    "fastapi", "starlette", "pydantic", "httpx", "requests", "urllib3", "aiohttp", "websockets", "click", "typer",
    "rich", "numpy", "pandas", "pytest", "hypothesis", "psutil", "pillow", "filelock", "platformdirs", "packaging",
    "more-itertools", "python-dateutil", "sortedcontainers", "tenacity", "jsonschema", "jinja2", "pyyaml", "tomlkit",
    "attrs", "anyio", "trio", "fsspec", "loguru", "sqlalchemy", "redis", "openpyxl", "networkx", "tqdm",
)  # fmt: skip
"""Of PyPI. Few enough that they are read in a moment."""
FASTAPI = frozenset({"fastapi", "starlette"})
MAX_PAGES = 5000
_FORMAT = "2"
"""Version of the index' format: to be raised where names, passages or columns change."""
_KEPT_INDEXES = 3


class OfflineDocs:
    name = "offline"
    hosts = ()

    def __init__(self, folder: Path, packages: Sequence[str] = (), html: Sequence[str] = ()) -> None:
        """folder: of the index. packages: installed ones to read; none: PACKAGES. html: folders, as SOURCE=FOLDER."""
        self._folder = folder
        self._packages = [(name, version) for name in packages or PACKAGES if (version := version_of(name))]
        self._html = [_html_folder(given) for given in html]

    def covers(self) -> str:
        """What is searched, in a sentence."""
        names = ", ".join(name for name, _ in self._packages) or "none"
        version = ".".join(map(str, sys.version_info[:3]))
        folders = "".join(f"; {folder}" for _, folder in self._html)
        return f"the standard library and the language reference of Python {version}; packages: {names}{folders}"

    def search(self, query: str, *, source: str = "", top: int = 4) -> list[Found]:
        """The passages that fit best. Raises Refused("index") where no index can be made or read."""
        try:
            entries = self._entries_for(query, source, top)
        except (sqlite3.Error, OSError) as error:
            raise Refused("index", f"the offline index in {self._folder} can't be used ({error})") from None
        return [Found(source=cast(Source, own), title=name, url=url, text=text) for own, name, text, url in entries]

    def _entries_for(self, query: str, source: str, top: int) -> list[Entry]:
        path = self._index()
        try:
            return _read(path, query, source, top)
        except sqlite3.DatabaseError:  # broken, or removed just now by a process with other packages: made once more
            path.unlink(missing_ok=True)
            return _read(self._index(), query, source, top)

    def _index(self) -> Path:
        """The index of what is installed now; made where there is none."""
        pages = [(source, str(folder), _stamp(folder)) for source, folder in self._html]
        path = self._folder / f"offline-{key_of(_FORMAT, sys.version, json.dumps([self._packages, pages]))[:16]}.sqlite"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / "offline.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._make(path)
            finally:
                os.close(lock)
        return path

    def _make(self, path: Path) -> None:
        say("documentation search: makes the offline index")
        start, unfinished = time.monotonic(), path.with_suffix(".tmp")
        self._drop_unfinished()
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(unfinished)) as database:
                count = fill(database, self._entries())
            os.replace(unfinished, path)
        except BaseException:  # a full disk is not kept full
            self._drop_unfinished()
            raise
        indexes = sorted(self._folder.glob("offline-*.sqlite"), key=lambda old: old.stat().st_mtime)
        for old in indexes[:-_KEPT_INDEXES]:
            old.unlink(missing_ok=True)
        say(f"  {count} passages in {time.monotonic() - start:.0f} s: {path}")

    def _drop_unfinished(self) -> None:
        """What a process left that was ended in the middle: whoever holds the lock is the only one at work."""
        for left in self._folder.glob("offline-*.tmp*"):
            left.unlink(missing_ok=True)

    def _entries(self) -> Iterator[Entry]:
        yield from standard_library()
        for name, _ in self._packages:
            yield from package(name, "fastapi" if name in FASTAPI else "readthedocs")
        for source, folder in self._html:
            for page in _pages(folder):
                with contextlib.suppress(OSError, Refused):
                    yield from _of_page(source, page)


def _read(path: Path, query: str, source: str, top: int) -> list[Entry]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        return ranked(database, query, top=top, source=source)


def _html_folder(given: str) -> tuple[Source, Path]:
    source, _, place = given.partition("=")
    folder = user_path(place).resolve()
    if not folder.is_dir():
        raise UserError(f"docsearch.offline_html names {place}, which is no folder: give one that holds HTML pages")
    return cast(Source, source), folder


def _pages(folder: Path) -> list[Path]:
    """HTML files that lie in the folder itself: no link leads out of it."""
    pages = (page for page in sorted(folder.rglob("*.htm*")) if os.path.isfile(page))
    return [page for page in pages if Path(os.path.realpath(page)).is_relative_to(folder)][:MAX_PAGES]


def _stamp(folder: Path) -> list[int]:
    """Changes where a page does."""
    states = []
    for page in _pages(folder):
        with contextlib.suppress(OSError):  # removed just now
            states.append(page.stat())
    latest = max((state.st_mtime_ns for state in states), default=0)
    return [len(states), sum(state.st_size for state in states), latest]


def _of_page(source: Source, path: Path) -> Iterator[Entry]:
    if path.stat().st_size > 4 * MIB:
        return
    text = text_of(Page(url="", content_type="text/html", body=path.read_bytes()))
    title = text.strip().partition("\n")[0][:120] or path.stem
    yield from chunks(source, title, text)
