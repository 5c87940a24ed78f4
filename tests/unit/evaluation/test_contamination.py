"""The longest overlap between a benchmark problem and training data is found, wherever it lies."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.clean.decontamination import words
from app.corpus.rows.packing import Sample, pack
from app.evaluation.contamination import SEED, OverlapIndex, shard_texts
from app.evaluation.suites import humaneval
from app.models.base import load_tokenizer


def longest(texts: dict[str, str], *training: str) -> dict[str, int]:
    index = OverlapIndex(texts)
    for text in training:
        index.add(text)
    return {name: length for name, (length, _) in index.longest.items()}


def brute_force(benchmark: str, training: str) -> int:
    ours, theirs = words(benchmark), words(training)
    best = 0
    for i in range(len(ours)):
        for j in range(len(theirs)):
            length = 0
            while i + length < len(ours) and j + length < len(theirs) and ours[i + length] == theirs[j + length]:
                length += 1
            best = max(best, length)
    return best if best >= SEED else 0


def test_overlaps_are_those_of_a_search_over_all_pairs() -> None:
    draw = random.Random(0)
    for _ in range(150):
        texts = {str(n): " ".join(draw.choices("abcd", k=40)) for n in range(3)}
        training = [" ".join(draw.choices("abcde", k=60)) for _ in range(2)]
        wanted = {name: max(brute_force(text, t) for t in training) for name, text in texts.items()}
        assert longest(texts, *training) == wanted


def test_a_planted_problem_is_found_whole_and_others_are_not() -> None:
    tasks = humaneval.load()
    texts = {task.problem.id: task.benchmark_text.text for task in tasks}
    planted = tasks[7].problem.prompt
    found = longest(texts, "unrelated words come first\n" + planted.upper() + "\nand after")
    assert max(found, key=lambda name: found[name]) == "HumanEval/7"
    assert found["HumanEval/7"] == len(words(planted))
    assert sorted(found.values())[-2] < 20


def test_the_documents_of_a_packed_shard_come_back_as_texts(smoke_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(smoke_model)
    texts = ["def f(x):\n    return x + 1\n", "import os\n\nprint(os.name)\n", "# only a comment"]
    encoded = [tokenizer(text).input_ids for text in texts]
    rows = pack([Sample(input_ids=ids, labels=ids) for ids in encoded], 32, tokenizer.pad_token_id)
    columns = {name: [getattr(row, name) for row in rows] for name in ("input_ids", "labels", "position_ids")}
    pq.write_table(pa.table(columns), tmp_path / "part.parquet")
    assert {text for text in shard_texts(tmp_path / "part.parquet", tokenizer) if text} == set(texts)
