"""Settings as text, and merged into a file that a user has already: nothing of theirs is changed, and the file as it
was stays beside it.

Entries of ours are those named `pocketcoder`, or whose name begins so; they are replaced whole. JSON may have comments
and commas before a closing bracket, as Zed and opencode write it. A rewritten file has no comments any more (the copy
does): the caller is told.
"""

import copy
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.connect import kept_yaml
from app.connect.clients import OWN, ClientSettings
from app.errors import UserError, first_line
from app.files.json_files import write_atomic
from app.files.text import has_surrogates

IDENTITIES = ("model_id", "name")
"""What tells the items of a list apart: llm's and everybody else's."""
MOST_BYTES = 4 << 20
"""Of a file of settings."""
JSON_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
"""Strings, which may hold what looks like a comment, and comments."""
JSON_COMMAS = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*+[}\]])', re.DOTALL)
"""Strings, and commas before a closing bracket."""
YAML_COMMENT = re.compile(r"(?m)(?:^|\s)#")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a file. Made by `write`; read by the command."""

    file: Path
    backup: Path | None
    """The file as it was; None: there was none, or nothing to change."""
    is_changed: bool
    lost_comments: bool


def text_of(settings: ClientSettings) -> str:
    """A whole file of these settings alone."""
    content = settings.content
    return _dump({**settings.defaults, **content} if isinstance(content, Mapping) else content, settings.form)


def write(settings: ClientSettings, file: Path, *, is_ours: bool) -> Written:
    """Merge the settings into a file, or make it. is_ours: whether other values of the same settings are replaced.

    Raises UserError for a file that can't be read, or that says something else where these settings have to stand.
    """
    file = file.resolve()  # of a link into a folder of dotfiles, the file that it leads to is written
    was = _text(file)
    held = _load(was, file, settings.form) if was is not None else None
    if held is None:  # nothing there, or nothing but comments
        held = [] if isinstance(settings.content, list) else {}
    merged = _merged(held, settings.content, "", file, is_ours)
    for name, value in settings.defaults.items():
        _default(merged, name, value)
    if was is not None and merged == held:
        return Written(file=file, backup=None, is_changed=False, lost_comments=False)
    backup = _backup(file) if was is not None else None
    mode = file.stat().st_mode & 0o777 if was is not None else 0o666
    text = _dump(merged, settings.form)
    # The file's own line ends, which Windows' editors make.
    write_atomic(file, text.replace("\n", "\r\n") if "\r\n" in (was or "") else text, mode)
    return Written(file=file, backup=backup, is_changed=True, lost_comments=_has_comments(was or "", settings.form))


def _text(file: Path) -> str | None:
    """Of a file of the user's; None where there is none. Windows' mark of UTF-8 at the beginning is left out."""
    try:
        if not file.exists():
            return None
        state = file.stat()
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"{file} can't be read (it is no regular file): give another --write FILE")
        if not state.st_mode & 0o222:
            raise UserError(f"{file} is read-only: make it writable, or give another --write FILE")
        if state.st_size > MOST_BYTES:
            raise UserError(
                f"{file} has over {MOST_BYTES >> 20} MiB, so it holds no settings: give another --write FILE"
            )
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({first_line(error)}): mend it, or give another --write FILE") from None


def _merged(held: Any, new: Any, path: str, file: Path, is_ours: bool) -> Any:
    if isinstance(held, dict) and isinstance(new, Mapping):
        whole = dict(held)
        for name, value in new.items():
            below = f"{path}.{name}" if path else name
            replaced = held.get(name) is None or name == OWN
            whole[name] = value if replaced else _merged(held[name], value, below, file, is_ours)
        return whole
    if isinstance(held, list) and isinstance(new, list):
        return [item for item in held if not _identity(item).startswith(OWN)] + new
    if held == new or (is_ours and isinstance(held, type(new))):
        return new
    # What is nested may hold a key of the user's.
    kind = "a mapping" if isinstance(held, dict) else "a list" if isinstance(held, list) else repr(held)[:80]
    raise UserError(
        f"{file} has {path or 'at its top'} {kind} of its own, which is left as it is: give another --write FILE, or "
        "put the settings in by hand (without --write they are printed)"
    )


def _default(held: Any, name: str, value: Any) -> None:
    """Set what the user's file says nothing of, deep within it too."""
    if isinstance(held.get(name), dict) and isinstance(value, Mapping):
        held[name] = copy.copy(held[name])
        for inner, one in value.items():
            _default(held[name], inner, one)
    else:
        held.setdefault(name, value)


def _identity(item: Any) -> str:
    found = (item.get(name) for name in IDENTITIES) if isinstance(item, dict) else iter(())
    return next((name for name in found if isinstance(name, str)), "")


def _load(text: str, file: Path, form: str) -> Any:
    try:
        if form == "yaml":
            return kept_yaml.load(text)
        return json.loads(plain_json(text)) if text.strip() else None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{file} is no {form.upper()} ({first_line(error)}): mend it, or give another --write FILE"
        ) from None


def plain_json(text: str) -> str:
    """JSON without comments and without commas before a closing bracket, line by line where it was."""

    def without(piece: re.Match[str]) -> str:
        return "" if piece[0] == "," else piece[0] if not _is_comment(piece[0]) else " " + "\n" * piece[0].count("\n")

    return JSON_COMMAS.sub(without, JSON_PIECES.sub(without, text))


def _is_comment(piece: str) -> bool:
    """Whether it is one of JSON_PIECES that is a comment and ends."""
    return piece.startswith("//") or (piece.startswith("/*") and piece.endswith("*/") and len(piece) > len("/*/"))


def _has_comments(text: str, form: str) -> bool:
    if form == "yaml":
        return YAML_COMMENT.search(text) is not None
    return any(_is_comment(piece[0]) for piece in JSON_PIECES.finditer(text))


def _dump(content: Any, form: str) -> str:
    if form == "json":
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        return json.dumps(content, indent=2) + "\n" if has_surrogates(text) else text
    return kept_yaml.dump(content)


def _backup(file: Path) -> Path:
    """A copy under the first free name, with the file's own mode."""
    number = 1
    while True:
        backup = file.with_name(f"{file.name}.bak{'' if number == 1 else number}")
        try:
            handle = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.stat().st_mode & 0o777)
        except FileExistsError:
            number += 1
            continue
        with open(handle, "wb") as copied:
            copied.write(file.read_bytes())
        return backup
