"""Files that can't be read, written, entered or held are told apart, each with its way out."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.files.errors import sentence_of
from tests.conftest import ROOT

WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Root that modes of files hold for, as they do for every other user."""


def told(*arguments: str | Path, **env: str) -> str:
    """The one sentence of a command whose user is bound by the modes of files."""
    is_root = os.geteuid() == 0
    if is_root and (shutil.which("setpriv") is None or subprocess.run([*WITHOUT_RIGHTS, "true"]).returncode):
        pytest.skip("root can't give up its rights over files here: setpriv is needed")
    command = [*(WITHOUT_RIGHTS if is_root else []), sys.executable, "-m", "app", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    """A run whose run.json nobody may read."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    (tmp_path / "run/run.json").chmod(0)
    return tmp_path / "run"


@pytest.mark.parametrize("command", [["report"], ["evaluate"], ["corpus"], ["sft", "--profile", "smoke"], ["plan"]])
def test_a_file_that_can_not_be_read_is_not_said_to_be_unwritable(unreadable: Path, command: list[str]) -> None:
    sentence = told(*command, "--run", unreadable)
    assert "run.json can't be read (Permission denied)" in sentence and "written" not in sentence


def test_a_folder_that_can_not_be_entered_is_named(unreadable: Path) -> None:
    unreadable.chmod(0)
    try:
        assert f"let this user enter {unreadable}" in told("report", "--run", unreadable / "inner")
    finally:
        unreadable.chmod(0o755)


def test_a_file_of_samples_or_cases_that_can_not_be_read_is_said_to_be_so(unreadable: Path) -> None:
    for command in (["evaluate", "--suite", "humaneval", "--samples"], ["sandbox", "--cases"]):
        assert "can't be read (Permission denied)" in told(*command, unreadable / "run.json")
        assert "can't be read (Is a directory)" in told(*command, unreadable)
        assert "can't be read (No such file or directory)" in told(*command, unreadable / "none")


def test_a_cache_that_can_not_be_written_names_its_variable(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    home = {"HOME": str(tmp_path), "POCKETCODER_CACHE": "", "XDG_CACHE_HOME": ""}
    for place in (home, home | {"POCKETCODER_CACHE": str(tmp_path / "cache")}):
        sentence = told("pull", "--profile", "smoke", **place)
        assert "can't be written (Permission denied)" in sentence and "POCKETCODER_CACHE" in sentence


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ["can't be written", "free space", "another --run"]),
        (errno.EDQUOT, ["can't be written", "free space"]),
        (errno.EROFS, ["can't be written", "another --run"]),
        (errno.EISDIR, ["is a folder where a file is needed"]),
        (errno.ENOTDIR, ["lies under a file"]),
        (errno.ENAMETOOLONG, ["too long a path"]),
    ],
)
def test_each_cause_has_its_sentence(tmp_path: Path, number: int, words: list[str]) -> None:
    sentence = sentence_of(OSError(number, os.strerror(number), str(tmp_path / "x")))
    assert sentence is not None and str(tmp_path) in sentence
    assert all(word in sentence for word in words), sentence


def test_no_place_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/x']")
    assert "set TMPDIR" in (sentence_of(error) or "")
    assert sentence_of(OSError(errno.ENOENT, "No such file or directory", "/x")) is None, "a bug keeps its traceback"


def test_a_disk_that_fills_while_a_folder_is_copied_is_named_by_what_could_not_be_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "weights").write_bytes(bytes(1 << 16))

    def onto_a_full_disk(name: str, place: str) -> str:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(Path(name).read_bytes())
        return place

    with pytest.raises(shutil.Error) as caught:
        shutil.copytree(source, target, copy_function=onto_a_full_disk)
    sentence = sentence_of(caught.value)
    assert sentence and sentence.startswith(f"{target / 'weights'} can't be written (No space left on device): free")
    assert sentence_of(shutil.Error("Cannot move a directory into itself")) is None, "a fault of ours"
