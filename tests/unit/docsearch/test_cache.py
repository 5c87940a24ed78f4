"""What is kept of answers: for how long, how much, by whom it can be read, and with several processes at once."""

import contextlib
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.docsearch.cache import Cache, NoCache, RedisCache, SqliteCache, key_of
from app.errors import UserError
from tests.conftest import ROOT


@pytest.fixture(params=["sqlite", "redis"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    if request.param == "redis":
        return RedisCache(request.getfixturevalue("redis_url"), seconds=60, max_bytes=10_000)
    return SqliteCache(tmp_path / "cache.sqlite", seconds=60, max_bytes=10_000)


def test_json_comes_back_as_it_was_put(cache: Cache) -> None:
    value = {"text": "1 < 2 \u00e9", "list": [1, None, True]}
    assert cache.get(key_of("one")) is None
    cache.put(key_of("one"), value)
    cache.put(key_of("two"), ["other"])
    assert cache.get(key_of("one")) == value
    cache.put(key_of("one"), "new")
    assert cache.get(key_of("one")) == "new" and cache.get(key_of("two")) == ["other"]


def test_a_value_larger_than_the_cache_is_not_kept(cache: Cache) -> None:
    cache.put(key_of("large"), "x" * 20_000)
    assert cache.get(key_of("large")) is None


def test_a_value_ends_after_its_time_on_redis(redis_url: str) -> None:
    cache = RedisCache(redis_url, seconds=0.2, max_bytes=1000)
    cache.put(key_of("short"), 1)
    assert cache.get(key_of("short")) == 1
    time.sleep(0.3)
    assert cache.get(key_of("short")) is None


def test_a_redis_that_is_gone_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    cache = RedisCache(f"unix://{tmp_path}/none", seconds=60, max_bytes=1000)
    cache.put("key", 1)
    assert cache.get("key") is None


def test_what_somebody_else_wrote_to_redis_is_no_value(redis_url: str) -> None:
    import redis

    cache = RedisCache(redis_url, seconds=60, max_bytes=1000)
    with contextlib.closing(redis.Redis.from_url(redis_url)) as server:
        server.set("pocketcoder:docsearch:key", b"\x80\x04not json")
        assert cache.get("key") is None


def test_redis_without_its_package_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UserError, match=r"redis://host/1 needs the package redis") as error:
        RedisCache("redis://me:hunter2@host/1", seconds=60, max_bytes=1000)
    assert "hunter2" not in str(error.value)


def test_a_value_ends_after_its_time_in_the_file(tmp_path: Path) -> None:
    now = [1000.0]
    cache = SqliteCache(tmp_path / "cache.sqlite", seconds=60, max_bytes=10_000, clock=lambda: now[0])
    cache.put("key", 1)
    now[0] = 1059.9
    assert cache.get("key") == 1
    now[0] = 1060.0
    assert cache.get("key") is None
    now[0] = 900.0  # a clock that was put back makes no value last longer
    assert cache.get("key") is None


def test_the_oldest_go_first_when_the_file_is_full(tmp_path: Path) -> None:
    now = [0.0]
    cache = SqliteCache(tmp_path / "cache.sqlite", seconds=600, max_bytes=1000, clock=lambda: now[0])
    for number in range(30):
        now[0] += 1
        cache.put(str(number), "x" * 98)
    assert [number for number in range(30) if cache.get(str(number))] == list(range(20, 30))
    held = sqlite3.connect(tmp_path / "cache.sqlite").execute("SELECT SUM(bytes) FROM kept").fetchone()
    assert held == (1000,)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_file_is_its_owners_alone_and_holds_no_query(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        SqliteCache(tmp_path / "cache.sqlite", seconds=60, max_bytes=1000).put(key_of("my question"), "answer")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache.sqlite").stat().st_mode) == 0o600
    assert b"my question" not in (tmp_path / "cache.sqlite").read_bytes()


def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    place = tmp_path / "cache.sqlite"
    place.write_bytes(b"this is no database at all, but longer than its header" * 40)
    cache = SqliteCache(place, seconds=60, max_bytes=1000)
    assert cache.get("key") is None
    cache.put("key", 1)
    assert cache.get("key") == 1


def test_a_file_that_is_broken_in_the_middle_is_begun_anew(tmp_path: Path) -> None:
    """SQLite opens it, and fails only when it reads."""
    cache = SqliteCache(tmp_path / "cache.sqlite", seconds=1e9, max_bytes=1 << 20)
    for number in range(50):
        cache.put(str(number), "x" * 5000)
    whole = (tmp_path / "cache.sqlite").read_bytes()
    (tmp_path / "cache.sqlite").write_bytes(whole[:8192] + b"\xff\x07" * ((len(whole) - 8192) // 2))
    for number in range(50):
        cache.get(str(number))
    cache.put("key", 1)
    cache.put("key", 1)
    assert cache.get("key") == 1


def test_a_file_with_other_columns_is_begun_anew(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "cache.sqlite")) as database:
        database.execute("CREATE TABLE kept (key TEXT PRIMARY KEY, answer TEXT)")
    cache = SqliteCache(tmp_path / "cache.sqlite", seconds=60, max_bytes=1000)
    cache.put("key", 1)
    cache.put("key", 1)
    assert cache.get("key") == 1


@pytest.mark.parametrize("column", ["value = '['", "value = x'80'", "made = 'x'", f"value = '{'[' * 100_000}'"])
def test_what_somebody_else_wrote_into_the_file_is_no_value(tmp_path: Path, column: str) -> None:
    cache = SqliteCache(tmp_path / "cache.sqlite", seconds=60, max_bytes=1000)
    cache.put("key", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "cache.sqlite")) as database:
        database.execute(f"UPDATE kept SET {column}")
        database.commit()
    assert cache.get("key") is None


def test_a_redis_that_hangs_is_left_alone_after_the_first_try() -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        cache = RedisCache(f"redis://127.0.0.1:{mute.getsockname()[1]}/0", seconds=60, max_bytes=1000)
        start = time.monotonic()
        for number in range(5):
            cache.put(str(number), 1)
            assert cache.get(str(number)) is None
        assert time.monotonic() - start < 6


@pytest.mark.parametrize("url", ["redis://me:hunter2@host:bad", "redis://host?db=x"])
def test_a_redis_url_that_can_not_be_read_is_told_without_the_password(url: str) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    with pytest.raises(UserError, match=r"docsearch\.redis_url=redis://host") as error:
        RedisCache(url, seconds=60, max_bytes=1000)
    assert "hunter2" not in str(error.value)


def test_several_processes_use_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from app.docsearch.cache import SqliteCache\n"
        "cache, own, bad = SqliteCache(Path(sys.argv[1]), seconds=600, max_bytes=1 << 20), sys.argv[2], 0\n"
        "for number in range(60):\n"
        "    cache.put(f'{own}-{number}', [number] * 50)\n"
        "    bad += cache.get(f'{own}-{number}') != [number] * 50\n"
        "    bad += cache.get(f'0-{number}') not in (None, [number] * 50)\n"
        "print(bad)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache.sqlite")]
    started = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for number in range(4)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["0"] * 4
    with contextlib.closing(sqlite3.connect(tmp_path / "cache.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT value FROM kept").fetchall()
    assert len(rows) == 240 and all(len(json.loads(value)) == 50 for (value,) in rows)


def test_no_days_keep_nothing() -> None:
    cache = NoCache()
    cache.put("key", 1)
    assert cache.get("key") is None
