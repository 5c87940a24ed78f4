"""The corpus build beside datatrove: the same tree of source through comparable steps, one after the other in one run.

Both read every Python file, filter by size and line length, drop exact and near duplicates (MinHash, 5-grams, 25 bands
of 10 rows) and tokenise with the same tokenizer, on all cores. Ours also parses each file, judges its licence, masks
secrets and packs. Peak memory is the proportional set size of all processes of a side together, sampled every second:
a look at two dozen processes costs a tenth of one. datatrove hashes words between white space: its own
tokenizers of words are slower. Prints one JSON line.

The tree is made of the Python files of this environment; --mebibytes asks for more than there is, and then perturbed
copies (a renamed identifier, other constants) fill it up. The peer: `pip install --target FOLDER datatrove orjson`.
Run: python -m benchmarks.corpus --datatrove FOLDER [--mebibytes 500] [--sizes 500,1000,2000] [--skip datatrove]
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.models.base import ensure_model
from app.profiles import get_profile

MIB = 1 << 20
RECIPE = """
name: benchmark
sources:
  - {{kind: tree, path: {tree}}}
split: {{train: 1.0, validation: 0.0, test: 0.0}}
forms: {{doc_to_code: 0, code_to_doc: 0, fill_in: 0, fix_bug: 0, multi_file: 0, problem: 0, tool_use: 0, completion: 0,
         file: 1}}
"""


def make_tree(folder: Path, size: int) -> int:
    """Files of the environment, each distribution a source tree under an MIT licence, until `size` bytes are there."""
    site = Path(sysconfig.get_path("purelib"))
    files = sorted(path for path in site.rglob("*.py") if 500 < path.stat().st_size < 400_000)
    written = copy = 0
    while written < size:
        for path in files:
            parts = path.relative_to(site).parts
            target = folder / f"{parts[0].removesuffix('.py')}-{copy}" / "/".join(parts[1:] or parts)
            text = path.read_bytes()
            if copy:
                text = perturbed(text, copy)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
            licence = folder / target.relative_to(folder).parts[0] / "pyproject.toml"
            if not licence.exists():
                licence.write_text(f'[project]\nname = "{licence.parent.name}"\nversion = "1"\nlicense = "MIT"\n')
            written += len(text)
            if written >= size:
                break
        copy += 1
    return written


def perturbed(text: bytes, copy: int) -> bytes:
    """Another file with the look of this one: about every third word is spelt anew, the same way all over the file."""

    def other(match: re.Match[bytes]) -> bytes:
        word = match[0]
        if hashlib.blake2b(word, digest_size=1, key=bytes([copy % 256])).digest()[0] % 3:
            return word
        return word + b"_%d" % copy

    return re.sub(rb"\b[a-z]{5,}\b", other, text)


@contextmanager
def peak_memory(measured: dict[str, Any]) -> Iterator[None]:
    """Largest sum of the proportional set sizes of this process's descendants."""
    done = threading.Event()
    measured["peak_bytes"] = 0

    def watch() -> None:
        while not done.wait(1.0):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_full_info().pss
                except (psutil.Error, OSError):
                    continue
            measured["peak_bytes"] = max(measured["peak_bytes"], total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        measured["seconds"] = time.perf_counter() - start
        done.set()
        watcher.join()


def run_ours(tree: Path, work: Path) -> dict[str, Any]:
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.format(tree=tree))
    measured: dict[str, Any] = {}
    command = [sys.executable, "-m", "app", "corpus", "--profile", "laptop", "--run", str(work / "run")]
    command += ["--set", f"corpus.recipe={recipe}", "--set", "corpus.max_files=null", "--set", "corpus.seq_len=2048"]
    command += ["--set", "corpus.max_mined_files=0"]
    with peak_memory(measured):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    manifest = json.loads((work / "run/corpus/manifest.json").read_text())
    return measured | {"tokens": manifest["tokens"], "documents": manifest["documents"]}


def run_datatrove(tree: Path, work: Path, datatrove: Path) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    weights = ensure_model(get_profile("laptop").model)
    command = [
        sys.executable,
        "-m",
        "benchmarks.corpus_datatrove",
        str(tree),
        str(work),
        str(weights / "tokenizer.json"),
    ]
    env = os.environ | {"PYTHONPATH": str(datatrove)}
    with peak_memory(measured):
        said = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout
    return measured | json.loads(said.splitlines()[-1])


def figures(measured: dict[str, Any], size: int, cores: int) -> dict[str, Any]:
    return {
        "seconds": round(measured["seconds"], 1),
        "mb_per_s_per_core": round(size / 1e6 / measured["seconds"] / cores, 3),
        "peak_gib": round(measured["peak_bytes"] / 2**30, 2),
        "tokens": measured["tokens"],
        "documents": measured["documents"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datatrove", type=Path, help="folder that holds the peer")
    parser.add_argument("--sizes", default="200", help="MiB of source, one size or several")
    parser.add_argument("--skip", choices=("datatrove",))
    parser.add_argument("--folder", type=Path, help="where the trees go; a temporary folder otherwise")
    arguments = parser.parse_args()

    cores = os.cpu_count() or 1
    result: dict[str, Any] = {"benchmark": "corpus", "cores": cores, "sizes": {}}
    base = Path(tempfile.mkdtemp(prefix="corpus-", dir=arguments.folder))
    try:
        for mebibytes in map(int, arguments.sizes.split(",")):
            tree = base / f"tree-{mebibytes}"
            size = make_tree(tree, mebibytes * MIB)
            row: dict[str, Any] = {"mb": round(size / 1e6, 1)}
            if arguments.skip != "datatrove":
                work = base / "datatrove"
                work.mkdir()
                row["datatrove"] = figures(run_datatrove(tree, work, arguments.datatrove), size, cores)
                shutil.rmtree(work)
            work = base / "ours"
            work.mkdir()
            row["ours"] = figures(run_ours(tree, work), size, cores)
            if "datatrove" in row:
                row["speed_ratio"] = round(row["datatrove"]["seconds"] / row["ours"]["seconds"], 2)
            result["sizes"][str(mebibytes)] = row
            shutil.rmtree(work)
            shutil.rmtree(tree)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
