"""A run directory belongs to one run and one process; what is written is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.corpus.recipe_files import load_recipe
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import (
    append_json_line,
    numbered_json_lines,
    read_json,
    read_json_lines,
    trim_json_lines,
    write_atomic,
    write_json,
)
from app.overrides import with_overrides
from app.profiles import laptop, rtx3070, smoke
from app.reward.preparing import facts_of
from app.running.run_settings import RETIRED, stored_profile
from app.runs import REPOSITORY, Run, latest_run, open_run, runs_root
from app.serving.keys import keys_file
from app.settings import Profile
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings


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
    with open_run(tmp_path, smoke(), resume=False) as run:
        write_json(run.corpus_manifest, {"rows": 1})
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


def test_only_what_a_stage_has_made_binds_its_settings(tmp_path: Path) -> None:
    """The advice of an error (another profile, a lower rate, fewer cores) is accepted when it is followed."""
    with open_run(tmp_path, smoke(), resume=False):
        pass
    with open_run(tmp_path, laptop(), resume=True) as run:
        assert read_json(run.info)["settings"]["name"] == "laptop"
        write_json(run.corpus_manifest, {"rows": 1})
    slower = with_overrides(laptop(), ["sft.learning_rate=1e-5", "model.quantization=nf4", "cluster.num_cpus=2"])
    with open_run(tmp_path, slower, resume=True) as run:
        assert stored_profile(run.root) == slower
        write_json(run.sft_meta, {"steps": 1})
    for change in ("sft.learning_rate=1e-4", "model.quantization=none", "corpus.seq_len=64", "seed=3"):
        with (
            pytest.raises(UserError, match=change.partition("=")[0]),
            open_run(tmp_path, with_overrides(slower, [change]), resume=True),
        ):
            pass
    for change in ("evaluation.num_problems=3", "cluster.num_cpus=1", "corpus.num_workers=2", "sft.vram_gib=4"):
        with open_run(tmp_path, with_overrides(slower, [change]), resume=True):
            pass


def test_a_run_of_before_is_read_without_a_setting_that_is_gone(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        held = read_json(run.info)
    for group, name in RETIRED:
        held["settings"][group][name] = 0.8
    write_json(tmp_path / "run.json", held)
    assert stored_profile(tmp_path) == smoke()
    held["settings"]["generation"]["gpu_memory_utilisation"] = 0.8
    write_json(tmp_path / "run.json", held)
    with pytest.raises(UserError, match="gpu_memory_utilisation"):
        stored_profile(tmp_path)


def test_a_run_of_before_trains_as_it_would_have_then(tmp_path: Path) -> None:
    with open_run(tmp_path, rtx3070(), resume=False) as run:
        held = read_json(run.info)
    assert held["settings"]["sft"].pop("when") == "auto"
    write_json(tmp_path / "run.json", held)
    stored = stored_profile(tmp_path)
    assert stored is not None and stored.sft.when == "always"
    with open_run(tmp_path, with_overrides(stored, ["sft.when=auto"]), resume=True) as run:
        assert read_json(run.info)["settings"]["sft"]["when"] == "auto"
    for stage in ("evolve", "grm"):
        del held["settings"][stage]
    write_json(tmp_path / "run.json", held)
    stored = stored_profile(tmp_path)
    assert stored is not None
    assert stored.grm == GrmSettings(when="never", timeout_s=5), "there was no such stage in a pipeline"
    assert stored.evolve == EvolveSettings(when="never")


def test_a_run_of_before_judges_on_under_the_limit_that_its_drafts_had(tmp_path: Path) -> None:
    with open_run(tmp_path, with_overrides(rtx3070(), ["sandbox.timeout_s=7"]), resume=False):
        pass
    held = read_json(tmp_path / "run.json")
    assert held["settings"]["grm"].pop("timeout_s") == 1
    write_json(tmp_path / "run.json", held)
    stored = stored_profile(tmp_path)
    assert stored is not None and facts_of(stored.for_drafts())["sandbox"]["timeout_s"] == 7
    with open_run(tmp_path, stored, resume=True) as run:
        write_atomic(run.grm_rates, "drawn")
    with open_run(tmp_path, with_overrides(stored, ["grm.timeout_s=1"]), resume=True) as run:
        assert not run.grm_rates.exists(), "no draft of one limit is counted among those of another"


def test_the_latest_run_may_be_one_that_left_training_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETCODER_RUNS", str(tmp_path))
    monkeypatch.setattr("app.runs.REPOSITORY", tmp_path)
    assert latest_run() is None
    for number, (name, change) in enumerate([("trained", {}), ("plain", {"left_out": {"sft": "why"}}), ("other", {})]):
        run = Run(tmp_path / name)
        write_json(run.info, change)
        if name == "trained":
            write_json(run.sft_meta, {})
        write_atomic(run.report_html, "")
        for path in (run.report_html, *run.sft.glob("*")):
            os.utime(path, (number, number))
    assert latest_run() == tmp_path / "plain"
    os.utime(tmp_path / "trained/sft/meta.json", (9, 9))
    assert latest_run() == tmp_path / "trained"
    write_json(Run(tmp_path / "other").grm_meta, {})
    assert latest_run() == tmp_path / "other", "it learnt by reward, and nothing else"


def test_what_an_incomplete_stage_made_under_other_settings_is_kept_and_not_gone_on_with(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        write_json(run.corpus_manifest, {"rows": 1})
        append_json_line(run.sft_metrics, {"step": 1})
    with open_run(tmp_path, with_overrides(smoke(), ["sft.checkpoint_every=1"]), resume=True) as run:
        assert run.sft_metrics.exists(), "how often it saves changes nothing about what it learns"
    with open_run(tmp_path, with_overrides(smoke(), ["sft.learning_rate=1e-5"]), resume=True) as run:
        assert not run.sft.exists() and run.corpus_manifest.exists()
    assert read_json_lines(tmp_path / "superseded/sft-1/metrics.jsonl") == [{"step": 1}]


def test_an_incomplete_corpus_goes_on_under_other_limits_of_the_sandbox(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        write_atomic(run.corpus_work / "documents/part-00000.parquet", "made")
    with open_run(tmp_path, with_overrides(smoke(), ["sandbox.timeout_s=9"]), resume=True) as run:
        assert (run.corpus_work / "documents/part-00000.parquet").exists()
        write_json(run.corpus_manifest, {"rows": 1})
    with open_run(tmp_path, with_overrides(smoke(), ["sandbox.timeout_s=9", "sandbox.num_workers=1"]), resume=True):
        pass


def test_a_broken_line_inside_a_file_of_a_run_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    for broken in (b'{"step": 2, "lo', b"[2]", b'{"step": "\xff"}', b"\x00\x00", b'{"step": 2, "step": 3}'):
        path.write_bytes(b'{"step": 1}\n' + broken + b'\n{"step": 3}\n')
        with pytest.raises(UserError, match=r"samples.jsonl, line 2"):
            read_json_lines(path)


def test_lines_can_be_appended_after_a_kill_and_no_whole_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for end, kept in ((b'{"step": 2}', 2), (b'{"step": 2', 1), (b"\x00" * 70_000, 1), (b"", 1)):
        path.write_bytes(b'{"step": 1}\n' + end)
        trim_json_lines(path)
        append_json_line(path, {"step": 3})
        assert [row["step"] for row in read_json_lines(path)] == [*range(1, kept + 1), 3]


def test_what_is_written_while_a_file_is_read_is_no_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    rows = numbered_json_lines(path)
    assert next(rows) == (1, {"step": 1})
    with path.open("a") as file:
        file.write('ep": 2}\n')
    assert list(rows) in ([], [(2, {"step": 2})])


def test_a_broken_file_of_a_run_is_told_in_a_sentence(tmp_path: Path) -> None:
    for text in ("", "{", "[1]", "\x00"):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(UserError, match=r"meta.json is broken"):
            read_json(tmp_path / "meta.json")


def test_folders_of_the_environment_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, place in (("POCKETCODER_CACHE", cache_root), ("POCKETCODER_RUNS", runs_root)):
        monkeypatch.setenv(name, "~/x")
        assert place() == tmp_path / "x"
    monkeypatch.setenv("POCKETCODER_KEYS", "~/keys.json")
    assert keys_file() == tmp_path / "keys.json"
    (tmp_path / "r.yaml").write_text((REPOSITORY / "datasets/recipes/smoke.yaml").read_text())
    assert load_recipe("~/r.yaml").sources
    with pytest.raises(UserError, match="home directory in '~nosuchuser/x' is unknown"):
        load_recipe("~nosuchuser/x")


def test_drafts_that_were_drawn_after_a_fallback_are_among_those_of_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    names = [
        "drafts/untouched.parquet",
        "arms/grpo/drafts/step-00001-0.parquet",
        "arms/grpo/drafts-kl/step-00002-0.parquet",
    ]
    for name in [*names, "problems/part-00000.parquet"]:
        (run.grm / name).parent.mkdir(parents=True, exist_ok=True)
        (run.grm / name).touch()
    assert sorted(run.grm_drafts()) == sorted(names)
