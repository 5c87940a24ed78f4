"""Keys: kept as hashes, private, in force at once, and refused when the file can't be trusted."""

import json
import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from app.errors import UserError
from app.serving.keys import Keys, add_key, hash_key, keys_command, keys_file, limit_key, list_keys, remove_key
from app.serving.rates import Rate


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pocketcoder" / "keys.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_holds_no_key_and_only_its_owner_reads_it(path: Path) -> None:
    old = os.umask(0)
    try:
        key = add_key(path, "laptop")
        add_key(path, "phone")
    finally:
        os.umask(old)
    assert key.startswith("pk-") and len(key) >= 46
    assert key not in path.read_text() and hash_key(key) in path.read_text()
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert sorted(file.name for file in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_the_file_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POCKETCODER_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keys_file() == tmp_path / "pocketcoder/keys.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert keys_file() == Path.home() / ".config/pocketcoder/keys.json"
    monkeypatch.setenv("POCKETCODER_KEYS", str(tmp_path / "k.json"))
    assert keys_file() == tmp_path / "k.json"


def test_a_key_is_known_by_its_name_and_nothing_else_is(path: Path) -> None:
    keys = {name: add_key(path, name) for name in ("one", "two", "three")}
    known = Keys(path)
    assert {name: known.match(key) for name, key in keys.items()} == {name: name for name in keys}
    for wrong in (None, "", "pk-", keys["one"][:-1], keys["one"] + "x", hash_key(keys["one"]), "\ud800", "ключ"):
        assert known.match(wrong) is None, wrong


def test_every_stored_key_is_compared_so_that_time_tells_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = add_key(path, "first")
    for name in ("second", "third"):
        add_key(path, name)
    compared = []
    monkeypatch.setattr("app.serving.keys.hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    assert Keys(path).match(first) == "first" and len(compared) == 3


def test_adding_and_revoking_hold_at_once(path: Path) -> None:
    keys = Keys(path)
    assert not keys.any
    key = add_key(path, "laptop")
    assert keys.any and keys.match(key) == "laptop"
    remove_key(path, "laptop")
    assert not keys.any and keys.match(key) is None and keys.digest("laptop") is None
    add_key(path, "laptop")
    assert keys.match(key) is None


def test_given_hashes_are_keys_that_no_file_can_rename(path: Path) -> None:
    keys = Keys(path, [hash_key("pk-given")])
    assert keys.any and keys.match("pk-given") == "@1"
    assert Keys(path, [hash_key("")]).match("") is None
    with pytest.raises(UserError, match="key name '@1' can't be used"):
        add_key(path, "@1")
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        Keys(path, ["pk-plain-by-mistake"])


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", '{"keys": 5}', '{"keys": [{"name": "a", "sha256": "x", "created": ""}]}', "[" * 10**5, "\x00\xff"],
)
def test_a_broken_file_refuses_everybody_and_says_so_once(
    path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    key = add_key(path, "laptop")
    whole = path.read_text()
    keys = Keys(path, [hash_key("pk-given")])
    assert keys.match(key)
    path.write_bytes(broken.encode("latin-1"))
    with caplog.at_level(logging.ERROR):
        assert [keys.match(key), keys.match("pk-given"), keys.match(key)] == [None] * 3
    assert len(caplog.records) == 1 and str(path) in caplog.text and "every key is refused" in caplog.text
    for action in (lambda: add_key(path, "b"), lambda: list_keys(path), lambda: remove_key(path, "laptop")):
        with pytest.raises(UserError, match="is no list of keys: mend it"):
            action()
    path.write_text(whole)
    assert keys.match(key) == "laptop"


def test_a_file_that_can_not_be_read_refuses_everybody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(path, "laptop")
    keys = Keys(path)
    assert keys.match(key)
    path.unlink()
    path.mkdir()
    assert keys.match(key) is None and "can't be read" in caplog.text
    with pytest.raises(UserError, match="can't be read"):
        list_keys(path)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "-a", "ä", "a" * 65, "a\n", "../x"])
def test_a_name_that_could_not_stand_in_a_cookie_is_refused(path: Path, name: str) -> None:
    with pytest.raises(UserError, match="can't be used: take 1 to 64 letters"):
        add_key(path, name)
    assert not path.exists()


def test_a_doubled_and_an_unknown_name_are_refused_naming_the_way_out(path: Path) -> None:
    add_key(path, "laptop")
    with pytest.raises(UserError, match="there is a key named 'laptop' .* remove it first"):
        add_key(path, "laptop")
    with pytest.raises(UserError, match="no key named 'phone' .* the names there are laptop"):
        remove_key(path, "phone")


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        add_key(tmp_path / "file" / "keys.json", "a")


def test_two_writers_lose_no_key(path: Path) -> None:
    threads = [threading.Thread(target=add_key, args=(path, f"k{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name for name, _ in list_keys(path)} == {f"k{number}" for number in range(12)}


def test_the_command_prints_the_key_once_and_the_rest_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POCKETCODER_KEYS", str(path))
    keys_command("add", "laptop")
    output = capsys.readouterr()
    assert Keys(path).match(output.out.strip()) == "laptop" and output.out.strip() not in output.err
    keys_command("list", None)
    listed = capsys.readouterr().out
    assert listed.startswith("laptop  20") and json.loads(path.read_text())["keys"][0]["sha256"] not in listed
    keys_command("remove", "laptop")
    assert list_keys(path) == []
    with pytest.raises(UserError, match="keys add needs the key's name"):
        keys_command("add", None)


def test_a_key_may_have_rates_of_its_own_and_they_hold_at_once(path: Path) -> None:
    add_key(path, "laptop")
    add_key(path, "phone", {"requests_per_minute": 5})
    keys, usual = Keys(path, [hash_key("x")]), Rate(requests_per_minute=60, tokens_per_minute=9000)
    assert keys.rate("laptop", usual) == keys.rate("@1", usual) == keys.rate("", usual) == usual
    assert keys.rate("phone", usual) == Rate(requests_per_minute=5, tokens_per_minute=9000)
    limit_key(path, "phone", {"tokens_per_minute": 0})
    assert keys.rate("phone", usual) == Rate(requests_per_minute=5, tokens_per_minute=0)
    assert list_keys(path)[1][1].endswith("  5 requests a minute, 0 tokens a minute")
    with pytest.raises(UserError, match="no key named 'tv'"):
        limit_key(path, "tv", {"tokens_per_minute": 1})
    with pytest.raises(UserError, match="--tokens-per-minute -1 is no rate"):
        limit_key(path, "phone", {"tokens_per_minute": -1})


def test_a_rate_that_is_none_makes_the_file_a_broken_one(path: Path) -> None:
    add_key(path, "laptop")
    path.write_text(path.read_text().replace('"created"', '"tokens_per_minute": true, "created"'))
    assert not Keys(path).any


def test_the_command_takes_rates_where_they_mean_something(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETCODER_KEYS", str(path))
    keys_command("add", "laptop", {"requests_per_minute": 5})
    keys_command("limit", "laptop", {"tokens_per_minute": 7})
    assert Keys(path).rate("laptop", Rate()) == Rate(requests_per_minute=5, tokens_per_minute=7)
    with pytest.raises(UserError, match="keys limit needs a rate"):
        keys_command("limit", "laptop")
    with pytest.raises(UserError, match="keys list takes no rates"):
        keys_command("list", None, {"tokens_per_minute": 7})
