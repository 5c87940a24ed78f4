"""How often the offline documentation search finds what a question is about: hits among the first 1, 2 and 5 passages.

The questions are in datasets/benchmarks/documentation_questions.yaml. What can be found depends on the packages that
are installed here, so compare figures of one environment only. No network. Prints one JSON line.
Run: python -m benchmarks.docs_ranking
"""

import json
import time
from pathlib import Path
from typing import Any

import yaml

from app.docsearch.sources.offline import OfflineDocs
from app.files.home import cache_root

QUESTIONS = Path(__file__).parent.parent / "datasets/benchmarks/documentation_questions.yaml"
DEPTHS = (1, 2, 5)


def main() -> None:
    docs = OfflineDocs(cache_root() / "docsearch")
    rows = yaml.safe_load(QUESTIONS.read_text())
    docs.search("json")  # makes the index
    start = time.perf_counter()
    found = [[passage.title for passage in docs.search(row["question"], top=max(DEPTHS))] for row in rows]
    seconds = time.perf_counter() - start
    pairs = list(zip(rows, found, strict=True))
    hits = {"chosen_by": _hits(pairs[::2]), "held_out": _hits(pairs[1::2])}
    print(json.dumps({"questions": len(rows), "ms_a_question": round(1000 * seconds / len(rows), 1)} | hits))


def _hits(pairs: list[tuple[dict[str, Any], list[str]]]) -> dict[str, int]:
    counts = {f"first_{depth}": sum(any(name in row["names"] for name in titles[:depth]) for row, titles in pairs)
              for depth in DEPTHS}  # fmt: skip
    return {"questions": len(pairs)} | counts


if __name__ == "__main__":
    main()
