"""The corpus build on a real cluster: whoever dies in the middle, the bytes are those of an undisturbed build."""

import ast
import errno
import os
import shutil
import signal
import sysconfig
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from app.cluster.job_queue import TRIES
from app.corpus.build import build_corpus
from app.corpus.clean.extract import ExtractJob, extract_shard
from app.corpus.rows import assemble as assembling
from app.corpus.rows.assemble import AssembleJob, _assembled, assemble_shards
from app.errors import UserError
from app.evaluation.suites import humaneval
from app.files.errors import sentence_of
from app.files.json_files import read_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import BenchmarkText
from app.runs import Run, open_run
from app.settings import Profile
from tests.library import FILES, write_library
from tests.unit.corpus.builds import build_in

STAGES = tuple(
    f"ray::{name}" for name in ("extract_shard", "mine_distribution", "check_chunk", "render_shard", "Map(_assembled)")
)
"""What a worker calls itself while it runs a job."""
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

BESIDE = '''"""A module that shows a sibling, which kills whoever parses it."""

from .kills import kills_lengths


def longest_run(text):
    """Return the length of the longest run of equal characters in a text, 0 for an empty one."""
    longest = 0
    for _, length in kills_lengths(text):
        longest = max(longest, length)
    return longest
'''


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("source")
    recipe = write_library(folder)
    (folder / "library" / "runs.py").write_text(DOCTESTED)
    (folder / "library" / "copy_of_runs.py").write_text("# Another comment.\n" + DOCTESTED)
    changes = [f"corpus.recipe={recipe}", "corpus.max_files=null", "corpus.max_mined_files=null"]
    return with_overrides(smoke(), [*changes, "corpus.files_per_shard=6", "corpus.seq_len=512"])


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


def test_workers_killed_in_the_middle_change_no_byte(
    undisturbed: tuple[Path, dict[str, bytes]], tmp_path: Path, profile: Profile, benchmarks: list[BenchmarkText]
) -> None:
    done, killed = threading.Event(), Counter[str]()

    def kill() -> None:
        """The first worker found at work in each quarter of a second, of each stage two: a third death of one thing
        would leave it out."""
        while not done.wait(0.25):
            for process in psutil.Process().children(recursive=True):
                try:
                    name = (process.cmdline() or [""])[0]
                    if name in STAGES and killed[name] < TRIES - 1:
                        process.kill()
                        killed[name] += 1
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
    assert killed.total() >= 2, "nobody was killed, so nothing was tested"
    assert found == undisturbed[1]


def test_a_function_with_doctests_becomes_a_problem_once_and_its_copy_is_dropped(
    undisturbed: tuple[Path, dict[str, bytes]],
) -> None:
    manifest = read_json(undisturbed[0] / "corpus/manifest.json")
    assert manifest["problems"]["train"]["mined"] >= 1 and manifest["duplicates"]["near-duplicate"] >= 1
    assert manifest["funnel"]["a mutant fails"] == sum(sum(split.values()) for split in manifest["problems"].values())


def test_a_file_that_kills_or_hangs_every_worker_is_left_out_and_named_and_the_build_ends_whole(
    local_ray: None, tmp_path: Path, profile: Profile, benchmarks: list[BenchmarkText], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser itself is given a file that it dies of, and one that it does not come back from, in the workers."""
    tree = tmp_path / "library"
    tree.mkdir()
    (tree / "pyproject.toml").write_text('[project]\nname = "odd"\nversion = "1"\nlicense = "MIT"\n')
    for name in ("kills", "hangs", "good"):
        (tree / f"{name}.py").write_text(DOCTESTED.replace("run_lengths", f"{name}_lengths"))
    (tree / "beside.py").write_text(BESIDE)
    os.mkfifo(tree / "pipe.py")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: odd\nsources:\n  - {{kind: tree, path: {tree}}}\nsplit: {{train: 1, validation: 0, test: 0}}\n"
    )
    odd = with_overrides(profile, [f"corpus.recipe={recipe}", "corpus.files_per_shard=3"])
    monkeypatch.setattr("app.corpus.build.extract_shard", extract_with_poison)
    monkeypatch.setattr("app.corpus.build.FILE_S", 3.0)
    built(tmp_path / "run", odd, benchmarks)
    rejected = pq.read_table(tmp_path / "run/corpus/rejected.parquet").to_pylist()
    reasons = {row["path"]: row["reason"] for row in rejected if row["what"] == "file"}
    assert reasons["kills.py"].startswith("crashes: its worker died 3 times")
    assert reasons["hangs.py"].startswith("hangs: it took longer than 3 s")
    assert "a named pipe" in reasons["pipe.py"] and reasons.keys() == {"kills.py", "hangs.py", "pipe.py"}
    manifest = read_json(tmp_path / "run/corpus/manifest.json")
    assert manifest["rejected"]["crashes"] == manifest["rejected"]["hangs"] == 1 and manifest["rows"] > 0


def extract_with_poison(job: ExtractJob) -> None:
    """`extract_shard`, in whose process the parser dies of one file and never comes back from another."""
    real = ast.parse

    def parse(text: Any, *given: Any, **more: Any) -> Any:
        if "def kills_lengths" in str(text):
            os.kill(os.getpid(), signal.SIGSEGV)
        if "def hangs_lengths" in str(text):
            time.sleep(3600)
        return real(text, *given, **more)

    ast.parse = parse
    try:
        extract_shard(job)
    finally:
        ast.parse = real


SMALL = "cleaning: {min_chars: 10}\nsplit: {train: 1, validation: 0, test: 0}\n"


def small(folder: Path, forms: str, *, num_files: int = 4) -> Profile:
    """A recipe of a few files and without mining; written again, it is a recipe that somebody has edited."""
    tree = folder / "small"
    if not tree.exists():
        tree.mkdir(parents=True)
        (tree / "pyproject.toml").write_text('[project]\nname = "small"\nversion = "1"\nlicense = "MIT"\n')
        for name in FILES[:num_files]:
            shutil.copy(Path(sysconfig.get_path("stdlib")) / name, tree / name)
    recipe = folder / "small.yaml"
    recipe.write_text(f"name: small\nsources:\n  - {{kind: tree, path: {tree}}}\nforms: {forms}\n{SMALL}")
    changes = [f"corpus.recipe={recipe}", "corpus.max_files=null", "corpus.max_mined_files=0"]
    return with_overrides(smoke(), [*changes, "corpus.files_per_shard=1", "corpus.seq_len=256"])


def corpus_files(folder: Path) -> dict[str, bytes]:
    run = Run(folder)
    return {path.name: path.read_bytes() for path in sorted(run.train_shards.iterdir())}


def build(folder: Path, profile: Profile, benchmarks: list[BenchmarkText]) -> dict[str, bytes]:
    with open_run(folder, profile, resume=True) as run:
        build_corpus(run, profile, benchmarks)
    return corpus_files(folder)


def test_a_build_that_goes_on_is_what_a_new_one_would_be(
    local_ray: None,
    tmp_path: Path,
    benchmarks: list[BenchmarkText],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The recipe, a source and the guard change between a build that broke off at its end and the one that goes on."""
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError("the disk is full")

        broken.setattr("app.corpus.build.manifest.write_tables", fail)
        with pytest.raises(OSError, match="full"):
            build(tmp_path / "run", small(tmp_path, "{file: 1.0}"), benchmarks)
    before = corpus_files(tmp_path / "run")
    assert len(before) == 4
    times = {path.name: path.stat().st_mtime_ns for path in Run(tmp_path / "run").train_shards.iterdir()}
    build(tmp_path / "run", small(tmp_path, "{file: 1.0}"), benchmarks)
    assert {p.name: p.stat().st_mtime_ns for p in Run(tmp_path / "run").train_shards.iterdir()} == times, (
        "nothing changed"
    )
    Run(tmp_path / "run").corpus_manifest.unlink()
    (tmp_path / "small" / FILES[1]).unlink()
    edited = small(tmp_path, "{file: 1.0, completion: 1.0}")
    went_on = build(tmp_path / "run", edited, benchmarks[:10])
    assert went_on == build(tmp_path / "new", edited, benchmarks[:10]) and len(went_on) == 3
    assert went_on != before


def test_a_recipe_edited_in_the_middle_is_honoured_and_said(
    local_ray: None,
    tmp_path: Path,
    benchmarks: list[BenchmarkText],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError("the disk is full")

        broken.setattr("app.corpus.build.find_duplicates", fail)
        with pytest.raises(OSError, match="full"):
            build(tmp_path / "run", small(tmp_path, "{file: 1.0}", num_files=2), benchmarks)
    edited = small(tmp_path, "{file: 1.0, completion: 1.0, doc_to_code: 0.0}", num_files=2)
    went_on = build(tmp_path / "run", edited, benchmarks)
    assert "recipe.forms.completion: 0.05 -> 1.0" in capsys.readouterr().err
    assert went_on == build(tmp_path / "new", edited, benchmarks)
    manifest = read_json(Run(tmp_path / "run").corpus_manifest)
    assert manifest["identity"]["recipe"]["forms"]["completion"] == 1.0
    assert [suite["problems"] for suite in manifest["guard"]["suites"]] == [164]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """Stands for the counts of a shard."""

    index: int


def packing_jobs(folder: Path) -> list[AssembleJob]:
    build = build_in(folder)
    return [AssembleJob(index=index, identity="one", build=build, take=[], cuts={}) for index in range(3)]


def assemble_with_deaths(row: dict[str, AssembleJob]) -> dict[str, Any]:
    """`_assembled`, whose worker dies of shard 1 as often as a file says."""

    def assemble(job: AssembleJob) -> Numbered:
        log = job.build.work / "died"
        if job.index == 1 and log.stat().st_size < int((job.build.work / "deaths").read_text()):
            with open(log, "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGSEGV)
        return Numbered(index=job.index)

    real, assembling.assemble_shard = assembling.assemble_shard, assemble  # type: ignore[assignment]
    try:
        return _assembled(row)
    finally:
        assembling.assemble_shard = real


@pytest.mark.parametrize("deaths", [TRIES - 1, 1000])
def test_a_worker_that_dies_while_it_packs_is_replaced_and_a_shard_that_kills_each_ends_the_build_in_a_sentence(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    jobs = packing_jobs(tmp_path)
    (tmp_path / "work/deaths").write_text(str(deaths))
    (tmp_path / "work/died").touch()
    monkeypatch.setattr(assembling, "_assembled", assemble_with_deaths)
    if deaths < TRIES:
        assert [shard.index for shard in assemble_shards(jobs, None)] == [0, 1, 2]
    else:
        for _ in range(2):  # told again where the build is started again
            with pytest.raises(UserError, match="shard 1 killed its worker 3 times: .*more memory"):
                assemble_shards(jobs, 1)
    assert (tmp_path / "work/died").read_text() == "x" * (deaths if deaths < TRIES else 2 * TRIES)


def assemble_on_a_full_disk(row: dict[str, AssembleJob]) -> dict[str, Any]:
    """`_assembled`, where a disk fills without the system's word on which file."""

    def assemble(job: AssembleJob) -> Numbered:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real, assembling.assemble_shard = assembling.assemble_shard, assemble  # type: ignore[assignment]
    try:
        return _assembled(row)
    finally:
        assembling.assemble_shard = real


def test_a_disk_that_fills_while_shards_are_packed_is_told_in_its_own_words(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assembling, "_assembled", assemble_on_a_full_disk)
    with pytest.raises(OSError) as caught:
        assemble_shards(packing_jobs(tmp_path), 1)
    assert sentence_of(caught.value) == (
        "the run directory can't be written (No space left on device): free space or give another --run"
    )
    assert "Traceback" not in capfd.readouterr().err
