"""What packages say about themselves: METADATA and RECORD of what is installed, and pyproject.toml, however odd.

What isn't UTF-8 is read with replacement characters, a field of another type than it should have is ignored, and of a
row of a RECORD the path counts, whatever else it holds. Errors that are left (a file too large, no permission) are
raised: they are the package's. Read by `app.corpus.sources.packages`.
"""

import csv
import io
import tomllib
from email.message import Message
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path
from typing import Any

from app.corpus.sources.untrusted import read_text


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


def pyproject_header(path: Path) -> Message:
    """The core metadata that a pyproject.toml declares (PEP 621, PEP 639), as the header of a METADATA file. A field of
    another type than it should have is ignored."""
    header = Message()
    try:
        project = tomllib.loads(read_text(path)).get("project")
    except (tomllib.TOMLDecodeError, RecursionError):
        return header
    fields: dict[str, Any] = project if isinstance(project, dict) else {}
    licence = fields.get("license")
    stated = licence.get("text") if isinstance(licence, dict) else None
    for key, value in (
        ("Name", fields.get("name")),
        ("Version", fields.get("version")),
        ("License-Expression", licence),
        ("License", stated),
    ):
        if isinstance(value, str) and value.strip():
            header[key] = value
    for classifier in _items(fields, "classifiers", str):
        header["Classifier"] = classifier
    names = [author.get("name") for author in _items(fields, "authors", dict)]
    if named := [name for name in names if isinstance(name, str) and name.strip()]:
        header["Author"] = ", ".join(named)
    urls = fields.get("urls")
    for label, url in urls.items() if isinstance(urls, dict) else ():
        if isinstance(url, str):
            header["Project-URL"] = f"{label}, {url}"
    return header


def _items(fields: dict[str, Any], key: str, kind: type) -> list[Any]:
    """The items of a list that are of this type."""
    value = fields.get(key)
    return [item for item in value if isinstance(item, kind)] if isinstance(value, list) else []


def field(header: Message, name: str) -> str | None:
    """The first field of the name, as text: one beyond ASCII may be an object of the e-mail package's own."""
    value = header.get(name)
    return None if value is None else str(value)
