"""What packages say about themselves: METADATA and RECORD of what is installed, and the
packaging files of a source tree, however odd.

What isn't UTF-8 is read with replacement characters, a field of another type than it should have is ignored, and of a
row of a RECORD the path counts, whatever else it holds. Errors that are left (a file too large, no permission) are
raised: they are the package's. Read by `app.corpus.sources.packages`.
"""

import ast
import configparser
import csv
import io
import re
import tomllib
from collections.abc import Callable, Mapping
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

from app.corpus.sources.untrusted import read_text
from app.files.python_source import parsed

MAX_SETUP_CHARS = 100_000


def info_header(item: metadata.Distribution) -> Message:
    """The core metadata of an installed distribution; an empty header where it has none."""
    text = info_text(item, "METADATA") or info_text(item, "PKG-INFO") or _old_info(item)
    return HeaderParser().parsestr(text)


def named_by_folder(item: metadata.Distribution) -> tuple[str, str]:
    """Name and version as the folder NAME-VERSION.dist-info has them; empty where there is none."""
    folder = Path(str(getattr(item, "_path", ""))).name  # importlib has no public way to it
    name, _, version = folder.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")
    return name, version


def info_text(item: metadata.Distribution, name: str) -> str:
    """A file of the distribution's metadata; empty where there is none. importlib's own way ends at a byte that isn't
    UTF-8."""
    folder = getattr(item, "_path", None)
    if isinstance(folder, Path):
        return read_text(folder / name) if (folder / name).is_file() else ""
    return item.read_text(name) or ""


def _old_info(item: metadata.Distribution) -> str:
    """Metadata that is one file NAME.egg-info."""
    folder = getattr(item, "_path", None)
    return read_text(folder) if isinstance(folder, Path) and folder.is_file() else ""


def recorded(record: str) -> list[str]:
    """The paths that a RECORD names, one a row of path, hash and size. What has more commas has them in its path."""
    rows = [row for row in csv.reader(io.StringIO(record)) if row and row[0]]
    return list(dict.fromkeys(",".join(row[:-2]) if len(row) > 3 else row[0] for row in rows))


def declared(files: Mapping[str, str]) -> tuple[Message, list[str]]:
    """The core metadata that packaging files of one folder declare, as the header of a METADATA file, and the paths or
    patterns of the licence files that they name. files: their texts by name, of METADATA; the first that has a field
    counts. A field of another type than it should have is ignored."""
    header, named = Message(), list[str]()
    for name, read in _READERS.items():
        if name not in files:
            continue
        fields, paths = read(files[name])
        is_licensed = any(key in header for key in _OF_LICENCE)
        for key in dict.fromkeys(fields.keys()):
            if key not in header and not (is_licensed and key in _OF_LICENCE):
                for value in fields.get_all(key, []):
                    header[key] = str(value)
        named += paths
    return header, named


def _pyproject(text: str) -> tuple[Message, list[str]]:
    """PEP 621 and PEP 639, or Poetry's table, of a pyproject.toml."""
    header = Message()
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return header, []
    tool = data.get("tool")
    fields = _table(data, "project")
    other = _table(tool if isinstance(tool, dict) else {}, "poetry")
    licence = fields.get("license")
    table = licence if isinstance(licence, dict) else {}
    for key, value in (
        ("Name", fields.get("name") or other.get("name")),
        ("Version", fields.get("version") or other.get("version")),
        ("License-Expression", licence),
        ("License", table.get("text") or (None if licence else other.get("license"))),
    ):
        if isinstance(value, str) and value.strip():
            header[key] = value
    for classifier in _items(fields, "classifiers", str) or _items(other, "classifiers", str):
        header["Classifier"] = classifier
    authors = [author.get("name") for author in _items(fields, "authors", dict)] or _items(other, "authors", str)
    if names := [name for name in authors if isinstance(name, str) and name.strip()]:
        header["Author"] = ", ".join(names)
    for label, url in _table(fields, "urls").items():
        if isinstance(url, str):
            header["Project-URL"] = f"{label}, {url}"
    files = [table.get("file"), *_items(fields, "license-files", str)]
    return header, [path for path in files if isinstance(path, str) and path.strip()]


def _setup_cfg(text: str) -> tuple[Message, list[str]]:
    """The section `metadata` of a setup.cfg."""
    header, parser = Message(), configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return header, []
    held = (
        {key.replace("-", "_"): value for key, value in parser.items("metadata")}
        if parser.has_section("metadata")
        else {}
    )
    _fill(header, {key: value for key, value in held.items() if value and not value.startswith(("attr:", "file:"))})
    for classifier in (held.get("classifiers") or "").splitlines():
        if "::" in classifier:
            header["Classifier"] = classifier.strip()
    files = re.split(r"[\n,]", f"{held.get('license_file') or ''}\n{held.get('license_files') or ''}")
    stated = held.get("license") or ""
    files += [stated.removeprefix("file:")] if stated.startswith("file:") else []
    return header, [path.strip() for path in files if path.strip()]


def _setup_py(text: str) -> tuple[Message, list[str]]:
    """What a setup.py gives to setup() as plain text; it is never run."""
    header = Message()
    tree = parsed(text) if len(text) < MAX_SETUP_CHARS else None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "setup":
            held = {word.arg: word.value for word in node.keywords if word.arg}
            texts = {key: value.value for key, value in held.items() if isinstance(value, ast.Constant)}
            _fill(header, {key: value for key, value in texts.items() if isinstance(value, str) and value.strip()})
            for item in getattr(held.get("classifiers"), "elts", ()):
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    header["Classifier"] = item.value
            break
    return header, []


def _fill(header: Message, held: Mapping[str, str]) -> None:
    for key, name in (
        ("name", "Name"),
        ("version", "Version"),
        ("license", "License"),
        ("license_expression", "License-Expression"),
        ("author", "Author"),
        ("url", "Home-Page"),
    ):
        if key in held:
            header[name] = held[key]


_OF_LICENCE = ("License-Expression", "License", "Classifier")
_READERS: dict[str, Callable[[str], tuple[Message, list[str]]]] = {
    "PKG-INFO": lambda text: (HeaderParser().parsestr(text), []),
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
}
METADATA = tuple(_READERS)
"""Packaging files of a source tree, by the order in which they count."""


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _items(fields: dict[str, Any], key: str, kind: type) -> list[Any]:
    """The items of a list that are of this type."""
    value = fields.get(key)
    return [item for item in value if isinstance(item, kind)] if isinstance(value, list) else []


def field(header: Message, name: str) -> str | None:
    """The first field of the name, as text: one beyond ASCII may be an object of the e-mail package's own."""
    value = header.get(name)
    return None if value is None else str(value)
