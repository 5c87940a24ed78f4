"""How much of each benchmark problem is in a run's training data: its longest run of words that occurs there.

Words are what the corpus' decontamination compares (`\\w+`, lower case), so the two figures can be held against each
other: that one leaves out every document that shares 10 words in a row, this one measures what is left. The search
seeds at SEED words and extends; shorter overlaps are everywhere and are reported as 0. Training data are the packed
shards of corpus/train; drafts and mined problems join here when stages make them. Each shard is one Ray task, unless
there is little to search.
Run: python -m app evaluate --contamination --run DIR
"""

import dataclasses
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from app.corpus.clean.decontamination import NGRAM, words
from app.corpus.shard_files import read_whole
from app.files.json_files import read_json, write_atomic, write_json
from app.models.base import ensure_model, load_tokenizer, sha256_of
from app.problem_sets.task import Task
from app.progress import say
from app.runs import Run
from app.settings import ModelSettings

SEED = 5
"""Words of the shortest overlap that is looked for."""
SMALL_BYTES = 2 << 20
"""Training data of so few bytes are searched in this process: a worker takes longer to start."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The longest run of words that a benchmark problem shares with the training data."""

    problem_id: str
    words: int
    """0 for fewer than SEED."""
    text: str


class OverlapIndex:
    """Benchmark texts; `add` looks a training text up in all of them at once."""

    def __init__(self, texts: dict[str, str]) -> None:
        """texts: by problem id."""
        self._words = {name: words(text) for name, text in texts.items()}
        self._seeds: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
        for name, found in self._words.items():
            for start in range(len(found) - SEED + 1):
                self._seeds[tuple(found[start : start + SEED])].append((name, start))
        self._vocabulary = {word for seed in self._seeds for word in seed}
        self.longest: dict[str, tuple[int, int]] = dict.fromkeys(texts, (0, 0))
        """By problem: length in words and start of its longest overlap so far."""

    def add(self, text: str) -> None:
        found = words(text)
        run = 0  # a seed can only lie in a run of words that all occur in some benchmark
        open_matches: set[tuple[str, int]] = set()
        for end, word in enumerate(found, start=1):
            run = run + 1 if word in self._vocabulary else 0
            if run < SEED:
                open_matches = set()
                continue
            begin = end - SEED
            places = self._seeds.get(tuple(found[begin:end]), ())
            for name, start in places:
                if (name, start - 1) not in open_matches:  # else it lies within the one that began a word earlier
                    self._extend(found, begin, name, start)
            open_matches = set(places)

    def _extend(self, found: Sequence[str], begin: int, name: str, start: int) -> None:
        benchmark, length = self._words[name], SEED
        most = min(len(found) - begin, len(benchmark) - start)
        while length < most and found[begin + length] == benchmark[start + length]:
            length += 1
        if length > self.longest[name][0]:
            self.longest[name] = (length, start)

    def words_of(self, name: str, length: int, start: int) -> str:
        return " ".join(self._words[name][start : start + length])


def overlaps(
    run: Run, suite: str, tasks: list[Task], model: ModelSettings, chosen: Collection[str] | None = None
) -> dict[str, Any] | None:
    """The summary that results carry, over the `chosen` problems; None for a run without training data.

    The problems of the whole suite, one by one, are in `run.contamination(suite)`, which is made here unless it is
    there for the same texts and shards. Needs a connected Ray with a free core."""
    if not run.corpus_manifest.exists():
        return None
    path = run.contamination(suite)
    texts = {task.problem.id: task.benchmark_text.text for task in tasks}
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    shards = sha256_of(sorted(run.train_shards.glob("*.parquet")))
    before = read_json(path) if path.exists() else {}
    if (before.get("texts_sha256"), before.get("shards_sha256")) != (digest, shards):
        found = sorted(_search(run, suite, texts, model), key=lambda overlap: -overlap.words)
        problems = [dataclasses.asdict(overlap) for overlap in found]
        facts: dict[str, Any] = {"suite": suite, "unit": "words", "sources": ["corpus/train"], "texts_sha256": digest}
        write_json(path, facts | {"shards_sha256": shards, "problems": problems})
    rows = [row for row in read_json(path)["problems"] if chosen is None or row["problem_id"] in chosen]
    return {
        "suite": suite,
        "problems": len(rows),
        "longest_words": rows[0]["words"],
        "longest_in": rows[0]["problem_id"],
        f"problems_with_{NGRAM}_words": sum(row["words"] >= NGRAM for row in rows),
        "each": str(path.relative_to(run.root)),
    }


def _search(run: Run, suite: str, texts: dict[str, str], model: ModelSettings) -> list[Overlap]:
    shards = sorted(run.train_shards.glob("*.parquet"))
    say(f"  contamination: {len(texts)} problems of {suite} against {len(shards)} training shards")
    place = run.contamination(suite).with_suffix(".texts.json")
    write_atomic(place, json.dumps(texts))
    jobs = [_SearchJob(index=index, shard=shard, texts=place, model=model) for index, shard in enumerate(shards)]
    best: dict[str, tuple[int, int]] = dict.fromkeys(texts, (0, 0))
    for longest in _searched(suite, jobs):
        for name, (length, start) in longest.items():
            best[name] = max(best[name], (length, start), key=lambda found: found[0])
    place.unlink()
    index = OverlapIndex(texts)
    return [Overlap(problem_id=name, words=length, text=index.words_of(name, length, start))
            for name, (length, start) in best.items()]  # fmt: skip


def _searched(suite: str, jobs: Sequence["_SearchJob"]) -> Iterable[dict[str, tuple[int, int]]]:
    if sum(job.shard.stat().st_size for job in jobs) <= SMALL_BYTES:
        return map(search_shard, jobs)
    from app.cluster.job_queue import run_tasks

    return run_tasks(f"contamination, {suite}", search_shard, jobs)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _SearchJob:
    """A shard to search. Made here, for `search_shard`."""

    index: int
    shard: Path
    texts: Path
    """JSON of the problems' texts by id."""
    model: ModelSettings
    """Its tokenizer reads the shard."""


def search_shard(job: _SearchJob) -> dict[str, tuple[int, int]]:
    """One shard against all problems: length and start of the longest overlap of each that has one. Runs without
    Ray."""
    index = OverlapIndex(json.loads(job.texts.read_text()))
    for text in shard_texts(job.shard, _tokenizer(job.model)):
        index.add(text)
    return {name: found for name, found in index.longest.items() if found[0]}


def shard_texts(path: Path, tokenizer: Any) -> Iterator[str]:
    """The documents of a packed shard (`app.corpus.rows.packing`), as text."""
    import pyarrow.parquet as pq

    with read_whole(path.parent):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256, columns=["input_ids", "position_ids"]):
            segments = [
                segment for row in batch.to_pylist() for segment in _segments(row["input_ids"], row["position_ids"])
            ]
            yield from tokenizer.batch_decode(segments, skip_special_tokens=True)


def _segments(ids: Sequence[int], positions: Sequence[int]) -> Iterable[Sequence[int]]:
    """A row of several documents; each one's positions begin at 0."""
    starts = [place for place, position in enumerate(positions) if position == 0]
    return (ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True))


@functools.lru_cache(maxsize=1)
def _tokenizer(model: ModelSettings) -> Any:
    return load_tokenizer(ensure_model(model))
