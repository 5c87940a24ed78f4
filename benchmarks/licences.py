"""Licences as we read them beside scancode-toolkit: of some distributions of this environment.

For each distribution that both can read, scancode scans its licence files, its METADATA and the first Python files; the
licences that it finds there (SPDX keys) are compared with our verdict. Each pair is of one kind: `same`; `ours_wider`
(we take a licence that scancode does not see); `scancode_wider` (it sees licences that we do not name: texts of bundled
code, references, guesses); `we_refuse` (ours is a rejection, with its reason's kind). Prints one JSON line with the
counts and, for each kind but `same`, examples to explain.

The oracle goes into a virtual environment of its own:
    python -m venv FOLDER; FOLDER/bin/pip install scancode-toolkit-mini "pluggy<1.6"
Run: python -m benchmarks.licences --scancode FOLDER/bin/scancode [--distributions 60] [--heads 5]
"""

import argparse
import hashlib
import json
import subprocess
import tempfile
from collections import Counter, defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

from app.corpus.sources.distributions import Distribution
from app.corpus.sources.licences import licensing, parsed
from app.corpus.sources.package_headers import info_text, recorded
from app.corpus.sources.packages import installed
from app.corpus.sources.rights import is_licence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scancode", type=Path, required=True, help="the program, in an environment of its own")
    parser.add_argument("--distributions", type=int, default=60)
    parser.add_argument("--heads", type=int, default=5, help="Python files of each whose heads are scanned")
    arguments = parser.parse_args()
    ours = {found.name.lower(): found for found in installed(frozenset())}
    items = [item for item in metadata.distributions() if (item.name or "").lower() in ours]
    items.sort(key=lambda item: hashlib.sha256(item.name.lower().encode()).hexdigest())
    kinds: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    items = items[: arguments.distributions]
    for item, seen in zip(items, scanned(arguments.scancode, items, arguments.heads), strict=True):
        verdict = ours[item.name.lower()]
        kind = kind_of(verdict, seen)
        kinds[kind] += 1
        if kind != "same":
            found = {"name": item.name, "ours": verdict.verdict.licence, "reason": verdict.verdict.reason}
            examples[kind].append(found | {"scancode": sorted(seen)})
    print(json.dumps({"distributions": sum(kinds.values()), "kinds": dict(kinds), "examples": examples}))


def files_of(item: metadata.Distribution, heads: int) -> list[Path]:
    """Metadata, licence files and the first Python files of a distribution."""
    paths = recorded(info_text(item, "RECORD"))
    told = [path for path in paths if path.endswith("/METADATA") or is_licence(path.rpartition("/")[2])]
    python = [path for path in paths if path.endswith(".py")][:heads]
    return [place for path in (*told, *python) if (place := Path(str(item.locate_file(path)))).is_file()]


def scanned(scancode: Path, items: list[metadata.Distribution], heads: int) -> list[set[str]]:
    """SPDX keys that scancode finds in the files of each distribution."""
    with tempfile.TemporaryDirectory() as name:
        folder, result = Path(name) / "in", Path(name) / "out.json"
        for number, item in enumerate(items):
            (folder / str(number)).mkdir(parents=True)
            for index, file in enumerate(files_of(item, heads)):
                (folder / str(number) / f"{index}-{file.name}").write_bytes(file.read_bytes())
        command = [str(scancode), "--license", "--quiet", "--json", str(result), str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        held = json.loads(result.read_text())["files"]
    found: list[set[str]] = [set() for _ in items]
    for file in held:
        if expression := file.get("detected_license_expression_spdx"):
            found[int(file["path"].split("/")[1])] |= keys_of(expression)
    return found


def keys_of(expression: str) -> set[str]:
    node = parsed(expression)
    return set(licensing().license_keys(node)) if node is not None else {expression}


def kind_of(ours: Distribution, seen: set[str]) -> str:
    if not ours.verdict.approved:
        return "we_refuse"
    held = keys_of(ours.verdict.licence) if ours.verdict.licence else set()
    if held <= seen:
        return "same" if held == seen else "scancode_wider"
    return "ours_wider"


if __name__ == "__main__":
    main()
