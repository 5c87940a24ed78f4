"""The log tells what was decided, and never what was asked or read."""

import json
import os
import stat
from pathlib import Path

import pytest

from app.docsearch.decisions import DecisionLog


def test_a_decision_is_one_line_with_its_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "online")
    log = DecisionLog(tmp_path / "log" / "decisions.jsonl")
    log.write("request-id", "fetch", "allow", host="docs.python.org", num_bytes=7, seconds=0.25)
    log.write("request-id", "link", "block", reason="domain", host='evil.com/?q="\n{}')
    one, other = map(json.loads, log.path.read_text().splitlines())
    assert one.keys() == {"at", "id", "mode", "what", "verdict", "reason", "host", "bytes", "ms"}
    assert (one["mode"], one["host"], one["bytes"], one["ms"]) == ("online", "docs.python.org", 7, 250)
    assert other["host"] == "?" and one["id"] == other["id"]
    assert "request-id" not in log.path.read_text()
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("env", "mode"), [(None, "unset"), ("training", "training"), ("Online", "other")])
def test_the_mode_is_told_in_known_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str | None, mode: str
) -> None:
    monkeypatch.delenv("ENV", raising=False)
    if env is not None:
        monkeypatch.setenv("ENV", env)
    log = DecisionLog(tmp_path / "decisions.jsonl")
    log.write("request", "search", "block", reason="offline")
    assert json.loads(log.path.read_text())["mode"] == mode


def test_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "decisions.jsonl", max_bytes=2000)
    for _ in range(100):
        log.write("request", "search", "allow")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"decisions.jsonl", "decisions.jsonl.1"} and max(sizes.values()) < 2400


def test_two_that_see_a_full_log_at_once_keep_what_was_written(tmp_path: Path) -> None:
    """The slower one must not put the new file over the full one."""
    log = DecisionLog(tmp_path / "decisions.jsonl", max_bytes=100)
    log.write("request", "search", "allow")  # 190 bytes or so
    full = log.path.with_name("decisions.jsonl.1").read_bytes()
    log.path.write_bytes(b"new\n")
    with log.path.with_name("decisions.jsonl.1").open("ab") as file:
        log._begin_anew(file.fileno())
    assert log.path.read_bytes() == b"new\n" and log.path.with_name("decisions.jsonl.1").read_bytes() == full


def test_a_line_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left"):
            DecisionLog(Path("/dev/full")).write("request", "search", "allow")
    monkeypatch.setattr(os, "write", lambda file, data: len(data) - 5)  # the last bytes of a disk
    with pytest.raises(OSError, match="No space left"):
        DecisionLog(tmp_path / "decisions.jsonl").write("request", "search", "allow")
