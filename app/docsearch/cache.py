"""Answers and search indexes that are kept for some days: in an SQLite file, or on a Redis server.

Values are JSON, so that a file or a server that somebody else wrote to can hold wrong answers but no code. Keys are
hashes: they tell nothing of the queries. Whoever asks has passed the gate of the mode before. A cache that fails gives
nothing and keeps nothing, and the search goes on without it.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from app.errors import UserError

DAY = 86_400.0
_WAIT_SECONDS = 5.0
"""For another process that is writing."""
_LEFT_ALONE_SECONDS = 30.0
"""A Redis server that did not answer: each try takes seconds, and a search makes half a dozen."""
_BROKEN = (ValueError, TypeError, RecursionError)
"""What reading a value raises that somebody else wrote."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL, bytes INTEGER NOT NULL, made REAL NOT NULL);
CREATE INDEX IF NOT EXISTS kept_made ON kept (made);
"""


class Cache(Protocol):
    def get(self, key: str) -> Any:
        """What was put under the key, as JSON gives it back; None where there is nothing, or nothing any more."""

    def put(self, key: str, value: Any) -> None:
        """Keep it, if it can be kept."""


class NoCache:
    def get(self, key: str) -> Any:
        return None

    def put(self, key: str, value: Any) -> None:
        pass


def key_of(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode(errors="replace")).hexdigest()


class SqliteCache:
    """A file that its owner alone can read; any number of processes and threads may use it."""

    def __init__(self, path: Path, *, seconds: float, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        """seconds: how long a value is kept. max_bytes: of all values; the oldest go first."""
        self._path, self._seconds, self._max_bytes, self._clock = path, seconds, max_bytes, clock

    def get(self, key: str) -> Any:
        with contextlib.suppress(sqlite3.Error, OSError, *_BROKEN), self._opened() as database:
            row = database.execute("SELECT value, made FROM kept WHERE key = ?", (key,)).fetchone()
            if row and 0 <= self._clock() - row[1] < self._seconds:
                return json.loads(row[0])
        return None

    def put(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        size = len(text.encode())
        if size > self._max_bytes:
            return
        with contextlib.suppress(sqlite3.Error, OSError), self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            now = self._clock()  # now that it is this process's turn: a value of another one is never of later
            database.execute("DELETE FROM kept WHERE made <= ? OR made > ?", (now - self._seconds, now))
            database.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)", (key, text, size, now))
            self._make_room(database, key)
            database.execute("COMMIT")

    def _make_room(self, database: sqlite3.Connection, newest: str) -> None:
        (total,) = database.execute("SELECT SUM(bytes) FROM kept").fetchone()
        for key, size in database.execute("SELECT key, bytes FROM kept WHERE key != ? ORDER BY made", (newest,)):
            if total <= self._max_bytes:
                break
            database.execute("DELETE FROM kept WHERE key = ?", (key,))
            total -= size

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: they are cheap, and can't be shared by threads or after a fork."""
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives the files that it puts beside this one the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA secure_delete = ON")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
            yield database
        except sqlite3.DatabaseError as error:
            # What is broken, or has other columns, is begun anew. A file that is locked, full or read-only stays.
            if re.search("not a database|malformed|no such column|values were supplied|has no column", str(error)):
                for suffix in ("", "-journal"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            raise
        finally:
            database.close()


class RedisCache:
    """The same on a Redis server, which forgets values by itself and drops some where it is short of memory, if it is
    told to (`maxmemory`, `maxmemory-policy allkeys-lru`)."""

    def __init__(self, url: str, *, seconds: float, max_bytes: int) -> None:
        """max_bytes: of one value. Raises UserError where the package `redis` is missing, or can't read the URL."""
        try:
            import redis
        except ImportError:
            raise UserError(
                f"docsearch.redis_url={_without_password(url)} needs the package redis: pip install redis, or leave "
                "the setting out"
            ) from None
        self._error = redis.RedisError
        self._seconds, self._max_bytes = seconds, max_bytes
        self._silent_until = 0.0
        try:
            self._server = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
        except ValueError as error:
            raise UserError(
                f"docsearch.redis_url={_without_password(url)} can't be read ({error}): give redis://HOST:PORT/NUMBER"
            ) from None

    def get(self, key: str) -> Any:
        held = self._answer(lambda server: server.get(_name(key)))
        with contextlib.suppress(*_BROKEN):
            return None if held is None else json.loads(held)
        return None

    def put(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        if len(text.encode()) <= self._max_bytes:
            self._answer(lambda server: server.set(_name(key), text, px=max(1, round(self._seconds * 1000))))

    def _answer(self, ask: Callable[[Any], Any]) -> Any:
        """What the server says; None where it says nothing, and for a while after."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            return ask(self._server)
        except (self._error, OSError):
            self._silent_until = time.monotonic() + _LEFT_ALONE_SECONDS
            return None


def _name(key: str) -> str:
    return f"pocketcoder:docsearch:{key}"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
