"""Problems mined from the standard library, this environment and a folder of packages: how many, and what became of
the rest.

Two worker processes, a distribution at a time. What a distribution gave is kept in OUT/parts, so that a run that was
stopped goes on; OUT/problems.jsonl and OUT/rejections.jsonl are written at the end, sorted by distribution. Nothing is
held against the benchmarks here: the corpus stage does that. Prints the funnel as one JSON line.

Run: python -m benchmarks.mining [--stdlib] [--environment] [--wheels FOLDER] [--trees FOLDER] [--limit N] --out FOLDER
where N bounds the candidates that are checked of each distribution.
"""

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from app.corpus.mining import STAGES, check_candidates, find_candidates, standard_library
from app.corpus.recipes import Recipe, split_of
from app.corpus.sources import packages
from app.corpus.sources.distributions import Distribution, read_source
from app.files.json_files import write_json, write_json_lines
from app.settings import SandboxSettings

NUM_PROCESSES = 2
ALLOW = frozenset({"PSF-2.0"})
RECIPE = Recipe.model_validate({"name": "mining", "sources": [{"kind": "standard_library"}]})


def distributions(options: argparse.Namespace) -> Iterator[Distribution]:
    """Source archives come before wheels: they hold the tests."""
    if options.stdlib:
        yield standard_library(ALLOW)
    if options.trees:
        yield from (packages.source_tree(path, ALLOW) for path in packages.trees_in(options.trees))
    if options.wheels:
        yield from (packages.wheel(path, ALLOW) for path in packages.wheels_in(options.wheels))
    if options.environment:
        yield from packages.installed(ALLOW)


def mine(distribution: Distribution, limit: int | None, part: Path) -> None:
    """Write what a distribution gives."""
    warnings.simplefilter("ignore", SyntaxWarning)
    start = time.monotonic()
    found = find_candidates(distribution, read_source, split_of(distribution.name, 0, RECIPE), also_allow=ALLOW)
    middle = time.monotonic()
    checked = check_candidates(found.candidates[:limit], SandboxSettings())
    result = {
        "counts": found.counts + checked.counts,
        "problems": [asdict(problem) for problem in checked.problems],
        "rejections": [asdict(rejected) for rejected in (*found.rejections, *checked.rejections)],
        "find_seconds": middle - start,
        "check_seconds": time.monotonic() - middle,
    }
    write_json(part, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stdlib", action="store_true", help="the standard library of this Python")
    parser.add_argument("--environment", action="store_true", help="every installed distribution")
    parser.add_argument("--wheels", metavar="FOLDER", help="with .whl files")
    parser.add_argument("--trees", metavar="FOLDER", help="with unpacked source archives")
    parser.add_argument("--limit", type=int, metavar="N", help="candidates checked of each distribution")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    named: dict[str, Distribution] = {}
    for distribution in distributions(options):
        if distribution.verdict.approved:
            named.setdefault(distribution.name.lower().replace("_", "-"), distribution)
    (options.out / "parts").mkdir(parents=True, exist_ok=True)
    parts = {name: options.out / "parts" / f"{name}.json" for name in sorted(named)}
    waiting = sorted((n for n in parts if not parts[n].exists()), key=lambda name: -len(named[name].files))
    with ProcessPoolExecutor(NUM_PROCESSES) as pool:
        for done in [pool.submit(mine, named[name], options.limit, parts[name]) for name in waiting]:
            done.result()
    counts, problems, rejections, seconds = Counter[str](), [], [], [0.0, 0.0]
    for part in parts.values():
        result = json.loads(part.read_text())
        counts.update(result["counts"])
        problems += result["problems"]
        rejections += result["rejections"]
        seconds = [seconds[0] + result["find_seconds"], seconds[1] + result["check_seconds"]]
    write_json_lines(options.out / "problems.jsonl", problems)
    write_json_lines(options.out / "rejections.jsonl", rejections)
    summary = {
        "distributions": len(parts),
        "funnel": {stage: counts[stage] for stage in STAGES},
        "difficulty": Counter(problem["problem"]["difficulty"] for problem in problems),
        "split": Counter(problem["problem"]["split"] for problem in problems),
        "rejected": dict(Counter(row["reason"].partition(":")[0] for row in rejections).most_common()),
        "find_seconds": round(seconds[0]),
        "check_seconds": round(seconds[1]),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
