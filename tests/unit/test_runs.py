"""A run directory belongs to one run and one process; what is written is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import UserError
from app.profiles import laptop, smoke
from app.runs import REPOSITORY, open_run, read_json_lines, write_atomic
from app.settings import Profile


def test_a_new_run_records_settings_versions_and_seed(tmp_path: Path) -> None:
    with open_run(tmp_path / "r", smoke(), resume=False) as run:
        text = run.info.read_text()
    assert Profile.model_validate(json.loads(text)["settings"]) == smoke()
    assert '"ray": "2.60.0"' in text and '"seed": 0' in text


def test_the_same_run_goes_on_only_with_resume(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False):
        pass
    with (
        pytest.raises(UserError, match="already holds this run: pass --resume"),
        open_run(tmp_path, smoke(), resume=False),
    ):
        pass
    with open_run(tmp_path, smoke(), resume=True):
        pass


def test_a_directory_with_another_run_is_refused_naming_difference_and_ways_out(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False):
        pass
    with pytest.raises(UserError) as caught, open_run(tmp_path, laptop(), resume=True):
        pass
    for word in ("holds another run", "name: 'smoke' -> 'laptop'", "choose another --run", "remove"):
        assert word in str(caught.value), word


def test_a_directory_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is no run"), open_run(tmp_path, smoke(), resume=True):
        pass


def test_a_run_killed_before_it_was_described_can_be_opened_again(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    (tmp_path / ".run.json.123.tmp").write_text('{"half":')
    (tmp_path / ".probe").touch()
    with open_run(tmp_path, smoke(), resume=True) as run:
        assert run.info.exists()


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from app.profiles import smoke; from app.runs import open_run\n"
        f"with open_run(Path({str(tmp_path)!r}), smoke(), resume=True): pass"
    )
    with open_run(tmp_path, smoke(), resume=False):
        other = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert "in use by another process" in other.stderr


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"
    write_atomic(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"


def test_a_line_cut_off_by_a_kill_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_json_lines(path) == [{"step": 1}, {"step": 2}]


def test_an_attempt_that_was_killed_has_no_end(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        with pytest.raises(RuntimeError), run.attempt("corpus"):
            raise RuntimeError("killed")
        with run.attempt("corpus"):
            pass
        first, second = json.loads(run.info.read_text())["stages"]["corpus"]
    assert first["end"] is None and second["end"] >= second["start"]
    assert run.stage_seconds()["corpus"] == second["end"] - second["start"]
