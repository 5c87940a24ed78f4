"""Licences as we read them beside scancode-toolkit: of distributions from a package index, and of its licence texts.

For each wheel and source archive in `--packages` both look at three things: the distribution (its metadata and own
licence files), each of its licence files, and the heads of some Python files, drawn by hash. What either says is of one
kind:

    same            both name the same licences (a GPL's "-only" and "-or-later" count as one)
    named_otherwise other names, all of them of approved licences
    we_take         ours is approved, scancode sees a licence that is not
    we_refuse       ours is a refusal, all that scancode sees is approved
    both_refuse     ours is a refusal, and scancode sees no approved licence, or another beside it
    only_ours       scancode names none
    only_scancode   we name none, and refuse nothing

`--texts` takes the 3,000 full licence texts that come with scancode instead: named by us as it names them, not at all,
or otherwise. Prints one JSON line with the counts and what is not the same, to be read and explained: docs/corpus.md
has the explanations.

The oracle goes into a virtual environment of its own:
    python -m venv FOLDER; FOLDER/bin/pip install scancode-toolkit-mini "pluggy<1.6"
    pip download --no-deps --dest PACKAGES NAME ...
Run: python -m benchmarks.licences --scancode FOLDER/bin/scancode (--packages PACKAGES [--heads 8] | --texts)
"""

import argparse
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.corpus.sources.distributions import Distribution
from app.corpus.sources.headers import judge_header
from app.corpus.sources.licences import expression_of, judge_expression, licensing, parsed
from app.corpus.sources.packages import source_tree, wheel
from app.corpus.sources.rights import is_licence

HEAD_LINES = 150
_METADATA = re.compile(r"(?:METADATA|PKG-INFO|pyproject\.toml|setup\.(?:cfg|py))$")
_VAGUE = re.compile(r"LicenseRef-scancode-(?:unknown.*|free-unknown|warranty-disclaimer|generic-.*|other-.*)$")
"""scancode's names for words about a licence that it can't tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What we say of one thing. licence: SPDX expression, empty where we name none. refused: why it can't be used."""

    licence: str
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that both read. name: package and path. level: distribution, text or head. files: its contents, by the
    names under which scancode gets them."""

    name: str
    level: str
    ours: Ours
    files: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scancode", type=Path, required=True, help="the program, in an environment of its own")
    looked = parser.add_mutually_exclusive_group(required=True)
    looked.add_argument("--packages", type=Path, help="folder of wheels and source archives")
    looked.add_argument("--texts", action="store_true")
    parser.add_argument("--heads", type=int, default=8, help="Python files of each whose heads are scanned")
    arguments = parser.parse_args()
    if arguments.texts:
        print(json.dumps({"benchmark": "licence texts"} | against_texts(arguments.scancode)))
        return
    with tempfile.TemporaryDirectory() as name:
        paths = sorted(path for path in arguments.packages.iterdir() if path.suffix in (".whl", ".gz"))
        items = [item for path in paths for item in items_of(path, Path(name), arguments.heads)]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    differ: list[dict[str, Any]] = []
    for item, seen in zip(items, scanned(arguments.scancode, items), strict=True):
        kind = kind_of(item.ours, seen)
        counts[item.level][kind] += 1
        if kind not in ("same", "silent"):
            found = {"kind": kind, "level": item.level, "name": item.name, "ours": item.ours.licence}
            differ.append(found | {"refused": item.ours.refused, "scancode": sorted(seen)})
    differ.sort(key=lambda one: (one["level"], one["kind"], one["name"]))
    print(json.dumps({"benchmark": "licences", "packages": len(paths), "counts": counts, "differ": differ}))


def items_of(path: Path, folder: Path, heads: int) -> Iterator[Item]:
    """The things to compare in a wheel or a source archive."""
    target = folder / path.name
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)
        judged, root = wheel(path, frozenset()), target
    else:
        with tarfile.open(path) as archive:
            archive.extractall(target, filter="data")
        root = next(child for child in target.iterdir() if child.is_dir())
        judged = source_tree(root, frozenset())
    files = {str(file.relative_to(root)): file for file in sorted(root.rglob("*")) if file.is_file()}
    texts = {name: _text(file) for name, file in files.items() if is_licence(name.rpartition("/")[2])}
    own = {name: text for name, text in texts.items() if _is_top(name)}
    told = {
        name: _header(name, _text(file)) for name, file in files.items() if _is_top(name) and _METADATA.search(name)
    }
    yield Item(name=judged.name, level="distribution", ours=_verdict(judged), files=own | told)
    for name, text in texts.items():
        yield Item(
            name=f"{judged.name}: {name}",
            level="text",
            ours=Ours(licence=expression_of(text) or ""),
            files={name: text},
        )
    python = [name for name in files if name.endswith(".py")]
    python.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    for name in python[:heads]:
        head = "\n".join(_text(files[name]).splitlines()[:HEAD_LINES]) + "\n"
        verdict = judge_header(head, "")
        ours = Ours(licence=verdict.licence, refused=verdict.reason)
        yield Item(name=f"{judged.name}: {name}", level="head", ours=ours, files={name: head})


def _verdict(judged: Distribution) -> Ours:
    return Ours(licence=judged.verdict.licence, refused=judged.verdict.reason)


def _is_top(name: str) -> bool:
    """Whether a file speaks of the whole: at the top of a source archive, or in a wheel's dist-info."""
    folders = name.split("/")[:-1]
    return not folders or (folders[0].endswith(".dist-info") and folders[1:] in ([], ["licenses"]))


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace")


def _header(name: str, text: str) -> str:
    """Core metadata without the description: that is a page about the package, and we don't read it."""
    return text.partition("\n\n")[0] if name.endswith(("METADATA", "PKG-INFO")) else text


def scanned(scancode: Path, items: list[Item]) -> list[set[str]]:
    """SPDX keys that scancode finds in the files of each item."""
    with tempfile.TemporaryDirectory() as name:
        folder, result = Path(name) / "in", Path(name) / "out.json"
        for number, item in enumerate(items):
            (folder / str(number)).mkdir(parents=True)
            for index, (path, text) in enumerate(item.files.items()):
                (folder / str(number) / f"{index}-{path.rpartition('/')[2]}").write_text(text)
        command = [str(scancode), "--license", "--quiet", "--json", str(result), str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        held = json.loads(result.read_text())["files"]
    found: list[set[str]] = [set() for _ in items]
    for file in held:
        if expression := file.get("detected_license_expression_spdx"):
            found[int(file["path"].split("/")[1])] |= keys_of(expression)
    return found


def keys_of(expression: str) -> set[str]:
    """The SPDX ids of an expression; none for an empty one and for scancode's words for what it can't tell."""
    node = parsed(expression) if expression else None
    keys = set(licensing().license_keys(node)) if node is not None else {expression} - {""}
    return {key for key in keys if not _VAGUE.match(key)}


def _family(key: str) -> str:
    return re.sub(r"-(?:only|or-later)$", "", key)


def kind_of(ours: Ours, seen: set[str]) -> str:
    held = keys_of(ours.licence)
    refused_too = [key for key in seen if not judge_expression(key).approved]
    if ours.refused:
        return "both_refuse" if refused_too or not seen else "we_refuse"
    if not held or not seen:
        return "only_ours" if held else "only_scancode" if seen else "silent"
    if set(map(_family, held)) == set(map(_family, seen)):
        return "same"
    return "we_take" if refused_too else "named_otherwise"


def against_texts(scancode: Path) -> dict[str, Any]:
    """How we name the full licence texts that come with scancode, those of approved licences and the others."""
    (data,) = scancode.parents[1].glob("lib/python*/site-packages/licensedcode/data")
    names: dict[str, str] = {}
    texts: list[tuple[str, str, str]] = []
    for path in (*sorted(data.glob("licenses/*.LICENSE")), *sorted(data.glob("rules/*.RULE"))):
        match = re.match(r"---\n(.*?)\n---\n?(.*)", path.read_text(encoding="utf-8", errors="replace"), re.S)
        if match is None or (path.suffix == ".RULE" and "is_license_text: yes" not in match[1]):
            continue
        fields = yaml.safe_load(match[1])
        if path.suffix == ".LICENSE":
            names[fields["key"]] = fields.get("spdx_license_key", "")
        if spdx := names.get(fields.get("key") or fields["license_expression"]):
            texts.append((spdx, path.name, match[2]))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    otherwise = []
    for spdx, name, text in texts:
        if len(text.strip()) < 200:
            continue
        ours = expression_of(text) or ""
        kind = "unknown" if not ours else "same" if _family(ours) == _family(spdx) else "otherwise"
        counts["approved" if judge_expression(spdx).approved else "others"][kind] += 1
        if kind == "otherwise":
            otherwise.append({"text": name, "scancode": spdx, "ours": ours})
    return {"counts": counts, "otherwise": otherwise}


if __name__ == "__main__":
    main()
