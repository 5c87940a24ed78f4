"""datatrove's side of `benchmarks.corpus`, in a process of its own: TREE WORK TOKENIZER_JSON. Prints one JSON line.

Read and filter -> exact duplicates (signatures, find, filter) -> MinHash (signatures, buckets, cluster, filter) ->
tokens. Documents are written once after each filter, as its examples do.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.dedup import minhash as minhash_step
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.readers.base import BaseDiskReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter


class Words:
    """Words between white space: spaCy's tokenizer, which datatrove would take, is many times slower."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


class SourceReader(BaseDiskReader):
    """One document a file."""

    name = "source files"

    def read_file(self, filepath: str) -> Any:
        with self.data_folder.open(filepath, "rb") as file:
            text = file.read().decode("utf-8", "replace")
        if document := self.get_document_from_dict({"text": text, "id": filepath}, filepath, 0):
            yield document


def fits(document: Any) -> bool:
    lines = document.text.splitlines()
    return (
        100 <= len(document.text) <= 400_000
        and max(map(len, lines)) <= 1000
        and len(document.text) / len(lines) <= 100
        and sum(map(str.isalnum, document.text)) / len(document.text) >= 0.25
    )


def main() -> None:
    tree, work, tokenizer = map(Path, sys.argv[1:4])
    cores = os.cpu_count() or 1
    tasks = 4 * cores
    minhash_step.load_word_tokenizer = lambda language: Words()

    def execute(steps: list[Any], count: int, name: str) -> None:
        LocalPipelineExecutor(steps, tasks=count, workers=cores, logging_dir=str(work / "logs" / name)).run()

    exact = ExactDedupConfig(content_getter=lambda document: document.text.encode())
    minhash = MinhashConfig(n_grams=5, num_buckets=25, hashes_per_bucket=10)
    files = {
        name: str(work / name) for name in ("read", "exact-sigs", "exact-dups", "exact", "sigs", "buckets", "remove")
    }
    read = SourceReader(str(tree), glob_pattern="**/*.py", text_key="text", id_key="id")
    execute([read, LambdaFilter(fits), JsonlWriter(files["read"], compression=None)], tasks, "read")
    execute(
        [JsonlReader(files["read"]), ExactDedupSignature(files["exact-sigs"], config=exact, finder_workers=cores)],
        tasks,
        "exact-sigs",
    )
    execute([ExactFindDedups(files["exact-sigs"], files["exact-dups"], config=exact)], cores, "exact-dups")
    execute(
        [
            JsonlReader(files["read"]),
            ExactDedupFilter(files["exact-dups"], config=exact),
            JsonlWriter(files["exact"], compression=None),
        ],
        tasks,
        "exact",
    )
    execute(
        [JsonlReader(files["exact"]), minhash_step.MinhashDedupSignature(files["sigs"], config=minhash)], tasks, "sigs"
    )
    execute([MinhashDedupBuckets(files["sigs"], files["buckets"], config=minhash)], 25, "buckets")
    execute([MinhashDedupCluster(files["buckets"], files["remove"], config=minhash)], 1, "cluster")
    execute(
        [
            JsonlReader(files["exact"]),
            MinhashDedupFilter(files["remove"]),
            DocumentTokenizer(str(work / "tokens"), tokenizer_name_or_path=str(tokenizer), eos_token="<|im_end|>"),
        ],
        tasks,
        "tokens",
    )
    tokens = sum(path.stat().st_size // 2 for path in (work / "tokens").rglob("*.ds"))
    documents = sum(path.stat().st_size // 8 for path in (work / "tokens").rglob("*.ds.index"))
    print(json.dumps({"tokens": tokens, "documents": documents}))


if __name__ == "__main__":
    main()
