"""The corpus build on a real cluster: whoever dies in the middle, however often it is built, the bytes are the same."""

import shutil
import sysconfig
import threading
from pathlib import Path

import psutil
import pytest

from app.corpus.build import build_corpus
from app.evaluation import humaneval
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import BenchmarkText
from app.runs import open_run, read_json
from app.settings import Profile

FILES = (
    "textwrap.py bisect.py colorsys.py statistics.py shlex.py heapq.py difflib.py calendar.py string.py fractions.py "
    "quopri.py keyword.py html/__init__.py base64.py"
).split()
DOCTESTED = '''"""A module whose functions are problems."""


def run_lengths(text):
    """Return the runs of equal characters of a text as pairs of character and length.

    >>> run_lengths("aab")
    [('a', 2), ('b', 1)]
    >>> run_lengths("")
    []
    """
    found = []
    for character in text:
        if found and found[-1][0] == character:
            found[-1] = (character, found[-1][1] + 1)
        else:
            found.append((character, 1))
    return found
'''


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("source")
    tree = folder / "library"
    for name in FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(sysconfig.get_path("stdlib")) / name, tree / name)
    (tree / "runs.py").write_text(DOCTESTED)
    (tree / "copy_of_runs.py").write_text("# Another comment.\n" + DOCTESTED)
    (tree / "pyproject.toml").write_text('[project]\nname = "library"\nversion = "1"\nlicense = "MIT"\n')
    recipe = folder / "recipe.yaml"
    split = "split: {train: 1, validation: 0, test: 0}"
    recipe.write_text(f"name: small\nsources:\n  - {{kind: tree, path: {tree}}}\n{split}\n")
    changes = [f"corpus.recipe={recipe}", "corpus.max_files=null", "corpus.max_mined_files=null"]
    return with_overrides(smoke(), [*changes, "corpus.files_per_shard=3", "corpus.seq_len=512"])


@pytest.fixture(scope="module")
def benchmarks() -> list[BenchmarkText]:
    return [task.benchmark_text for task in humaneval.load()]


def built(folder: Path, profile: Profile, benchmarks: list[BenchmarkText]) -> dict[str, bytes]:
    """Every file of the corpus but the manifest, which holds the commit."""
    with open_run(folder, profile, resume=False) as run:
        build_corpus(run, profile, benchmarks)
    return {
        str(path.relative_to(run.corpus)): path.read_bytes()
        for path in sorted(run.corpus.rglob("*"))
        if path.is_file() and path != run.corpus_manifest
    }


@pytest.fixture(scope="module")
def undisturbed(
    local_ray: None, tmp_path_factory: pytest.TempPathFactory, profile: Profile, benchmarks: list[BenchmarkText]
) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("first") / "run"
    return folder, built(folder, profile, benchmarks)


def test_two_builds_of_one_recipe_are_identical(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, profile: Profile, benchmarks: list[BenchmarkText]
) -> None:
    assert built(tmp_path / "run", profile, benchmarks) == undisturbed[1]


def test_workers_killed_in_the_middle_change_no_byte(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, profile: Profile, benchmarks: list[BenchmarkText]
) -> None:
    done, killed = threading.Event(), []

    def kill() -> None:
        """The first worker found at work in each quarter of a second, eight at most."""
        while not done.wait(0.25) and len(killed) < 8:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::Map"):
                        process.kill()
                        killed.append(process.pid)
                        break
                except psutil.Error:
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = built(tmp_path / "run", profile, benchmarks)
    finally:
        done.set()
        killer.join()
    assert len(killed) >= 2, "nobody was killed, so nothing was tested"
    assert found == undisturbed[1]


def test_a_function_with_doctests_becomes_a_problem_once_and_its_copy_is_dropped(
    undisturbed: tuple[Path, dict[str, bytes]],
) -> None:
    manifest = read_json(undisturbed[0] / "corpus/manifest.json")
    assert manifest["problems"]["train"]["mined"] >= 1 and manifest["duplicates"]["near-duplicate"] >= 1
    assert manifest["funnel"]["a mutant fails"] == sum(sum(split.values()) for split in manifest["problems"].values())
