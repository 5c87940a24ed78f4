"""API keys: made here, shown once, kept as hashes in a file that only its owner reads.

    $POCKETCODER_KEYS, else $XDG_CONFIG_HOME/pocketcoder/keys.json, else ~/.config/pocketcoder/keys.json
    {"keys": [{"name": "laptop", "sha256": "9f86...", "created": "2026-11-25T10:00:00+0000", "tokens_per_minute": 9}]}

Plain SHA-256 is enough: a key is 256 random bits, so nobody can guess through a list of likely ones, which is what a
salt and a slow hash defend passwords from; and a fast hash lets every request be checked without a cache of plain keys.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from app.errors import UserError
from app.files.home import home
from app.files.json_files import write_atomic
from app.files.user_files import user_path
from app.progress import say
from app.serving.rates import Rate

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # is put into a cookie as it is, so neither dots nor spaces
DIGEST = re.compile(r"[0-9a-f]{64}")
RATES = ("requests_per_minute", "tokens_per_minute")
"""Fields of `Rate` that an entry may hold; what it leaves out is the server's (`ServingSettings`)."""
MOST_A_MINUTE = 10**9

Stamp = tuple[int, int, int] | None


def keys_file() -> Path:
    given = os.environ.get("POCKETCODER_KEYS")
    if given:
        return user_path(given).absolute()
    config = os.environ.get("XDG_CONFIG_HOME")
    return (user_path(config).absolute() if config else home() / ".config") / "pocketcoder" / "keys.json"


def new_key() -> str:
    return "pk-" + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def add_key(path: Path, name: str, rates: Mapping[str, int] | None = None) -> str:
    """Make a key and return it in the clear, for the only time. rates: those of RATES that are its own."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"key name {name[:80]!r} can't be used: take 1 to 64 letters, digits, '-' and '_', beginning with a letter"
            " or digit"
        )
    with _locked(path):
        entries = _read(path)
        if any(entry["name"] == name for entry in entries):
            raise UserError(f"there is a key named {name!r} in {path}: remove it first or choose another name")
        key = new_key()
        entry = {"name": name, "sha256": hash_key(key), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        _write(path, [*entries, entry | _checked_rates(rates or {})])
    return key


def limit_key(path: Path, name: str, rates: Mapping[str, int]) -> None:
    """Give a key rates of its own; those that are left out stay. They hold at once."""
    with _locked(path):
        entries = _read(path)
        entry = next((entry for entry in entries if entry["name"] == name), None)
        if entry is None:
            raise _unknown(path, name, entries)
        entry.update(_checked_rates(rates))
        _write(path, entries)


def remove_key(path: Path, name: str) -> None:
    with _locked(path):
        entries = _read(path)
        kept = [entry for entry in entries if entry["name"] != name]
        if len(kept) == len(entries):
            raise _unknown(path, name, entries)
        _write(path, kept)


def list_keys(path: Path) -> list[tuple[str, str]]:
    """Name and time of creation of each key, the oldest first, and the rates that are its own."""
    own = [
        (entry, ", ".join(f"{entry[rate]} {_words(rate)}" for rate in RATES if rate in entry)) for entry in _read(path)
    ]
    return [(entry["name"], entry["created"] + (f"  {rates}" if rates else "")) for entry, rates in own]


def keys_command(
    action: Literal["add", "list", "limit", "remove"], name: str | None, rates: Mapping[str, int] | None = None
) -> None:
    """`python -m app keys`: the result goes to standard output, what it means to standard error."""
    path, rates = keys_file(), rates or {}
    if rates and action not in ("add", "limit"):
        raise UserError(f"keys {action} takes no rates: give them to `keys add NAME` or `keys limit NAME`")
    if action == "list":
        for known, created in list_keys(path):
            print(f"{known}  {created}")
        return
    if name is None:
        raise UserError(f"keys {action} needs the key's name: give one, such as `keys {action} laptop`")
    if action == "add":
        print(add_key(path, name, rates))
        say(f"key {name!r} holds from now on; keep it, it can't be shown again ({path} has only its hash)")
    elif action == "limit":
        if not rates:
            raise UserError(
                "keys limit needs a rate: give --requests-per-minute N or --tokens-per-minute N, 0 for none"
            )
        limit_key(path, name, rates)
        print(f"key {name!r}: " + ", ".join(f"{rates[rate]} {_words(rate)}" for rate in rates) + ", from now on")
    else:
        remove_key(path, name)
        print(f"removed key {name!r}: it is refused from now on")


def _words(rate: str) -> str:
    return rate.replace("_per_", " a ")


def _unknown(path: Path, name: str, entries: list[dict[str, Any]]) -> UserError:
    known = ", ".join(entry["name"] for entry in entries) or "none"
    return UserError(f"there is no key named {name[:80]!r} in {path}: the names there are {known}")


def _checked_rates(rates: Mapping[str, int]) -> dict[str, int]:
    for rate, value in rates.items():
        if not 0 <= value <= MOST_A_MINUTE:
            flag = f"--{rate.replace('_', '-')}"
            raise UserError(f"{flag} {value} is no rate: give 1 to {MOST_A_MINUTE}, or 0 for as much as the key likes")
    return dict(rates)


class Keys:
    """The keys that are good right now: those in the file and those given as hashes, which are named @1, @2, ...

    The file is read again when it changed, so a key holds or is refused at once, without a restart. A file that can't
    be read refuses everybody, the given hashes too: what is broken there may have been a revocation.
    """

    def __init__(self, path: Path, extra_sha256: Sequence[str] = ()) -> None:
        for digest in extra_sha256:
            if not DIGEST.fullmatch(digest):
                raise UserError("a key's hash is 64 hexadecimal digits in lower case: one of those given is not")
        self._path = path
        self._extra = {f"@{number}": digest for number, digest in enumerate(extra_sha256, 1)}
        self._digests: dict[str, str] = {}
        self._rates: dict[str, dict[str, int]] = {}
        self._stamp: Stamp = None
        self._fresh = False
        self._complaint: str | None = None

    @property
    def any(self) -> bool:
        return bool(self._current())

    def match(self, presented: str | None) -> str | None:
        """Name of the key that was presented; takes as long for a wrong key as for any other."""
        digests = self._current()
        digest = hash_key(presented or "")
        found = None
        for name, known in digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found if presented else None

    def digest(self, name: str) -> str | None:
        """The stored hash of the key with this name, None once it is revoked."""
        return self._current().get(name)

    def rate(self, name: str, default: Rate) -> Rate:
        """What the key may do in a minute: the default, but for what is written beside the key."""
        self._current()
        return dataclasses.replace(default, **self._rates.get(name, {}))

    def _current(self) -> dict[str, str]:
        try:
            stamp = _stamp(self._path)
            if not self._fresh or stamp != self._stamp:
                entries = _read(self._path)
                self._digests = {**self._extra, **{entry["name"]: entry["sha256"] for entry in entries}}
                self._rates = {
                    entry["name"]: {rate: entry[rate] for rate in RATES if rate in entry} for entry in entries
                }
                self._stamp, self._fresh, self._complaint = stamp, True, None
        except (OSError, UserError) as error:
            self._digests, self._fresh = {}, False
            if self._complaint != str(error):
                self._complaint = str(error)
                log.error("every key is refused: %s", error)
        return self._digests


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> list[dict[str, Any]]:
    """The entries; none without a file. Raises UserError for a file that can't be read or is not ours."""
    try:
        entries = json.loads(path.read_text())["keys"]
        is_ours = isinstance(entries, list) and all(map(_is_entry, entries))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"keys file {path} can't be read ({error.strerror}): make it yours and mode 600") from None
    except (ValueError, LookupError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise UserError(f"keys file {path} is no list of keys: mend it, or remove it and add the keys anew")
    return entries


def _is_entry(entry: dict[str, Any]) -> bool:
    is_named = NAME.fullmatch(entry["name"]) and DIGEST.fullmatch(entry["sha256"])
    rates = [entry[rate] for rate in RATES if rate in entry]
    has_rates = all(type(rate) is int and 0 <= rate <= MOST_A_MINUTE for rate in rates)
    return is_named is not None and isinstance(entry["created"], str) and has_rates


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    with _usable(path):
        write_atomic(path, json.dumps({"keys": entries}, indent=2) + "\n", 0o600)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; a second one waits, since each needs milliseconds."""
    with _usable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"keys file {path} can't be written ({error.strerror}): free the place or point POCKETCODER_KEYS elsewhere"
        ) from None
