"""False alarms of the masks: what they cover in real code, in places per million lines, and how fast.

Reads the Python files of this environment's packages (the corpus's own material), by rule set and kind. A sample, drawn
by hash, is printed with its line for reading: only a reader can say which alarm was false. Prints one JSON line last.

Run: python -m benchmarks.secrets [--against FILE] [--files N] [--sample N]
--against: an older app/corpus/clean/secrets.py with its own find_secrets and find_emails (git show COMMIT:PATH > FILE).
"""

import argparse
import hashlib
import importlib.util
import json
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.corpus.clean.cleaning import masked
from app.corpus.clean.masks import Span, apart
from app.corpus.clean.personal import find_personal
from app.corpus.clean.secrets import find_secrets
from app.corpus.records import RejectedFileError

MAX_BYTES = 400_000


@dataclass(slots=True)
class Seen:
    """What one rule set found."""

    find: Callable[[str], list[Span]]
    kinds: Counter[str] = field(default_factory=Counter)
    alarms: list[tuple[str, str]] = field(default_factory=list)
    """Key that draws the sample, and the line to print."""
    seconds: float = 0.0

    def look(self, path: str, text: str) -> None:
        begin = time.perf_counter()
        spans = self.find(text)
        self.seconds += time.perf_counter() - begin
        if spans:
            spans = masked(text, spans)[2]
        for start, end, placeholder in spans:
            self.kinds[placeholder] += 1
            key = hashlib.sha256(f"{path} {start}".encode()).hexdigest()
            line = text[max(text.rfind("\n", 0, start) + 1, start - 70) : start]
            shown = " ".join(text[start : min(end, start + 60)].split())
            after = text[end : end + 25].partition("\n")[0]
            self.alarms.append((key, f"{placeholder:13} {path}: {line}>>>{shown}<<<{after}"))


def texts(limit: int | None) -> Iterator[tuple[str, str]]:
    """Path and text of each file, or of `limit` drawn by hash."""
    site = Path(sysconfig.get_path("purelib"))
    paths = sorted(path for path in site.rglob("*.py") if 500 < path.stat().st_size < MAX_BYTES)
    paths.sort(key=lambda path: hashlib.sha256(str(path.relative_to(site)).encode()).digest())
    for path in paths[:limit]:
        try:
            yield str(path.relative_to(site)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def older(path: Path) -> Callable[[str], list[Span]]:
    """The rules of an older file."""
    spec = importlib.util.spec_from_file_location("older_secrets", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return lambda text: apart([*module.find_secrets(text), *module.find_emails(text)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--files", type=int)
    parser.add_argument("--sample", type=int, default=100)
    given = parser.parse_args()
    sets = {"now": Seen(lambda text: apart([*find_secrets(text), *find_personal(text)]))}
    if given.against:
        sets["before"] = Seen(older(given.against))
    size = lines = files = 0
    warnings.simplefilter("ignore")
    for path, text in texts(given.files):
        try:
            for seen in sets.values():
                seen.look(path, text)
        except RejectedFileError:
            continue
        files, size, lines = files + 1, size + len(text), lines + text.count("\n")
    result: dict[str, object] = {"files": files, "lines": lines, "megabytes": round(size / 1e6, 1)}
    for name, seen in sets.items():
        for _, line in sorted(seen.alarms)[: given.sample]:
            print(f"{name:6} {line}")
        million = {kind: round(1e6 * count / lines, 1) for kind, count in sorted(seen.kinds.items())}
        total, speed = round(1e6 * sum(seen.kinds.values()) / lines, 1), round(size / 1e6 / seen.seconds, 1)
        result[name] = {"per_million_lines": million, "all": total, "megabytes_per_s": speed}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
