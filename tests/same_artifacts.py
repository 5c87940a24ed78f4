"""What two runs of the same settings left behind, held against each other: everything but times."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.torch import load_file

TIMES = ("seconds", "_s", "per_second", "speed", "speeds", "created", "commit", "peak_gib", "memory_gib")
"""Ends of the names of what is measured anew each time: times, speeds and memory."""
PLACES_BY_CHANCE = (
    "evolve/tune/",
    "evolve/tune_state.zip",
    "/tensorboard/",
    "plots/",
    "report.html",
    "run.lock",
    "now.json",
)
"""Ray's and TensorBoard's own files, and pictures, whose figures are compared where they come from."""
POOL = "evolve/pool/verdicts-"
"""Verdicts by who judged first, compared as one: after a kill Tune may let another trial begin."""
UNLIKE = ("stages", "deadlines", "peak_memory_bytes", "run_id")
"""Of run.json: times, memory and the run's name."""
TOLD_TIMES = re.compile(r"made 20|tokens/s| took \d|\d s\b|GiB|^\| [\w ]+ \| \d+ \|( [\w. ]* \|)?$")
"""Lines of the report that tell of them."""


def differences(one: Path, other: Path) -> list[str]:
    """In words, a line each; none where both hold the same."""
    ours, theirs = _files(one), _files(other)
    found = [f"only one has {name}" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        found += [f"{name}: {what}" for what in _compared(_read(ours[name], one), _read(theirs[name], other), "")]
    return found + [f"{POOL}: {what}" for what in _compared(_verdicts(one), _verdicts(other), "")]


def _files(root: Path) -> dict[str, Path]:
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not any(place in name for place in (*PLACES_BY_CHANCE, POOL)):
            found[name] = path
    return found


def _verdicts(root: Path) -> list[dict[str, Any]]:
    """Of all files together, in the order of their keys. A program that was judged twice is there twice."""
    rows = [row for path in root.glob(f"{POOL}*.jsonl") for row in _read(path, root)]
    return sorted(rows, key=lambda row: row["key"])


def _read(path: Path, root: Path) -> Any:
    """The file as plain data, without what differs by chance."""
    if path.suffix == ".safetensors":
        return {name: tensor.tolist() for name, tensor in load_file(path).items()}
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        held = {k.decode(): json.loads(v) for k, v in (table.schema.metadata or {}).items() if v[:1] in (b"{", b"[")}
        data: Any = {"metadata": held, "rows": table.to_pylist()}
    elif path.suffix == ".json":
        data = json.loads(path.read_text())
        if path.name == "run.json":
            data = {name: value for name, value in data.items() if name not in UNLIKE}
    elif path.suffix == ".jsonl":
        data = [json.loads(line) for line in path.read_text().splitlines()]
    elif path.name == "report.md":
        data = _without_times(path.read_text())
    else:
        data = path.read_text()
    return _cleaned(data, str(root))


def _without_times(report: str) -> list[str]:
    return [line for line in report.splitlines() if not TOLD_TIMES.search(line)]


def _cleaned(data: Any, root: str) -> Any:
    if isinstance(data, dict):
        pairs = {_cleaned(k, root): v for k, v in data.items() if not str(k).endswith(TIMES)}
        return {name: _cleaned(value, root) for name, value in pairs.items()}
    if isinstance(data, list):
        return [_cleaned(one, root) for one in data]
    if isinstance(data, str):
        return data.replace(root, "RUN").replace(f"pocketcoder: {Path(root).name}", "pocketcoder: RUN")
    return data


def _compared(ours: Any, theirs: Any, place: str) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [line for name in ours for line in _compared(ours[name], theirs[name], f"{place}.{name}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for number, (a, b) in pairs for line in _compared(a, b, f"{place}[{number}]")][:3]
    if (
        ours == theirs
        or isinstance(ours, float)
        and isinstance(theirs, float)
        and math.isnan(ours)
        and math.isnan(theirs)
    ):
        return []
    return [f"{place}: {str(ours)[:150]} beside {str(theirs)[:150]}"]
