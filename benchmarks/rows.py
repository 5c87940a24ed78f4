"""What rows teach: a reader's verdicts on rows of a build, drawn by a seed and decoded as the trainer sees them.

    python -m benchmarks.sft_rows build --run RUN                  a corpus whose samples are kept
    python -m benchmarks.rows draw --run RUN --seed 1 --out drawn.jsonl [--number 100] [--others-than read.jsonl]
    python -m benchmarks.rows dropped --run RUN --seed 1 --out drawn.jsonl --kind "one line" [--kind ...] [--number 50]
    python -m benchmarks.rows score benchmarks/rows_before.jsonl [...]

`draw` takes packed rows and of each one example, with a chance of its learnt tokens: so a share of verdicts is one of
what is learnt. It prints the examples, what is learnt between ⟦ and ⟧, and writes a line of id, form and place of each,
to which the reader adds "verdict" ("good" or "poor"), "kind" and "note". `dropped` does the same with functions that
were refused for reasons of these kinds. `score` prints one JSON line a file: the share that is poor with its 95 %
interval (Wilson), by form and by kind of fault. docs/corpus.md says what the kinds are. Limits: one reader.
"""

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from app.corpus.draws import bits, by_hash, uniform
from app.corpus.records import Origin
from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.corpus.rows.packing import Ids
from app.errors import UserError
from app.evaluation.statistics import wilson_interval
from app.models.base import ensure_model, load_tokenizer
from app.records import IGNORE
from app.running.run_settings import stored_profile
from app.runs import Run

PLACE = ("form", "distribution", "path")
"""Where an example comes from."""


def draw(arguments: argparse.Namespace) -> None:
    run, profile = Run(arguments.run), stored_profile(arguments.run)
    samples = sorted((run.corpus_work / "samples").glob("*.parquet"))
    if profile is None or not samples:
        raise UserError(f"{run.root} keeps no samples: make it with `python -m benchmarks.sft_rows build --run DIR`")
    places = dict(_places(samples))
    read = {tuple(row[name] for name in PLACE) for path in arguments.others_than for row in _json_rows(path)}
    tokenizer = load_tokenizer(ensure_model(profile.model))
    drawn: list[dict[str, str]] = []
    for name, ids, labels in _pieces(run, arguments.seed):
        place = places.get(ids.tobytes(), ("file", "", ""))
        if place not in read:
            drawn.append({"id": name} | dict(zip(PLACE, place, strict=True)))
            print(f"=== {name} {place[0]}\n{_shown(ids, labels, tokenizer)}")
        if len(drawn) == arguments.number:
            break
    _write(arguments.out, drawn)


def _pieces(run: Run, seed: int) -> Iterator[tuple[str, Ids, Ids]]:
    """Of every row one piece, in the order that the seed draws: number of part, row and piece, token ids and labels."""
    tables = [pq.read_table(path) for path in sorted(run.train_shards.glob("*.parquet"))]
    rows = [f"{part}:{row}" for part, table in enumerate(tables) for row in range(table.num_rows)]
    for name in sorted(rows, key=lambda name: by_hash(f"{seed}:row:{name}")):
        part, number = map(int, name.split(":"))
        row = tables[part].slice(number, 1).to_pylist()[0]
        ids, labels, positions = (np.array(row[column], np.int32) for column in TRAIN_SCHEMA.names)
        starts = [*np.flatnonzero(positions == 0), len(ids)]
        ends = np.cumsum([(labels[a:b] != IGNORE).sum() for a, b in itertools.pairwise(starts)])
        piece = int(np.searchsorted(ends, uniform(f"{seed}:piece:{name}") * ends[-1], side="right"))
        here = slice(starts[piece], starts[piece + 1])
        yield f"{name}:{piece}", ids[here], labels[here]


def _places(samples: Iterable[Path]) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Whose each sample's tokens are."""
    for path in samples:
        for row in pq.read_table(path, columns=["input_ids", *PLACE]).to_pylist():
            yield np.array(row["input_ids"], np.int32).tobytes(), tuple(row[name] for name in PLACE)


def _shown(ids: Ids, labels: Ids, tokenizer: Any) -> str:
    """The text of a piece, without the padding after it."""
    end = int(np.flatnonzero(labels != IGNORE)[-1]) + 1
    learnt = labels[:end] != IGNORE
    borders = [0, *(np.flatnonzero(learnt[1:] != learnt[:-1]) + 1), end]
    parts = []
    for start, stop in itertools.pairwise(borders):
        text = tokenizer.decode(ids[start:stop])
        parts.append(f"⟦{text}⟧" if learnt[start] else text)
    return "".join(parts)


def dropped(arguments: argparse.Namespace) -> None:
    run = Run(arguments.run)
    rejected = [r for r in pq.read_table(run.rejected).to_pylist() if r["reason"].partition(":")[0] in arguments.kind]
    texts = {
        (Origin.of(row), row["name"]): row["text"]
        for path in sorted((run.corpus_work / "documents").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    rejected = [row for row in rejected if (Origin.of(row), row["name"]) in texts]
    rejected.sort(key=lambda row: by_hash(f"{arguments.seed}:{json.dumps(row, sort_keys=True)}"))
    drawn = []
    for row in rejected[: arguments.number]:
        name = f"{bits(json.dumps(row, sort_keys=True)):016x}"
        place = {"form": row["what"], "distribution": row["distribution"], "path": row["path"]}
        drawn.append({"id": name, **place, "reason": row["reason"]})
        print(f"=== {name} {row['what']}: {row['reason']}\n{texts[Origin.of(row), row['name']]}")
    _write(arguments.out, drawn)


def _json_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def score(arguments: argparse.Namespace) -> None:
    for path in arguments.verdicts:
        rows = _json_rows(path)
        poor = [row for row in rows if row["verdict"] == "poor"]
        low, high = wilson_interval(len(poor), len(rows))
        found: dict[str, Any] = {"file": path.name, "read": len(rows), "poor": len(poor)}
        found |= {"share": round(len(poor) / len(rows), 3), "interval": [round(low, 3), round(high, 3)]}
        found["read_by_form"] = dict(Counter(row["form"] for row in rows).most_common())
        found["poor_by_form"] = dict(Counter(row["form"] for row in poor).most_common())
        found["poor_by_kind"] = dict(Counter(row["kind"] for row in poor).most_common())
        print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    for step in (draw, dropped):
        one = steps.add_parser(step.__name__)
        one.add_argument("--run", type=Path, required=True)
        one.add_argument("--seed", type=int, required=True)
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--number", type=int, default=100 if step is draw else 50)
        one.set_defaults(step=step)
    steps.choices["draw"].add_argument("--others-than", type=Path, nargs="*", default=[], metavar="FILE")
    steps.choices["dropped"].add_argument("--kind", action="append", required=True)
    one = steps.add_parser("score")
    one.add_argument("verdicts", type=Path, nargs="+")
    one.set_defaults(step=score)
    arguments = parser.parse_args()
    arguments.step(arguments)


if __name__ == "__main__":
    main()
