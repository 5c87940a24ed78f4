"""One run, killed in its corpus, its training, its evaluation and its report, and resumed after each."""

from pathlib import Path

import pytest

from app.files.json_files import read_json, read_json_lines
from app.runs import Run
from tests.conftest import Cli
from tests.killing import assert_answers_as, assert_learnt_as, start_and_kill


@pytest.mark.timeout(1200)
def test_a_run_killed_in_every_stage_ends_as_an_uninterrupted_one(
    job: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", Run(job[0])
    run = Run(folder)

    start_and_kill(folder, lambda r: len(list(r.corpus_work.glob("documents/part-*"))) >= 1, "pipeline")
    assert not run.corpus_manifest.exists()
    start_and_kill(folder, lambda r: len(read_json_lines(r.sft_metrics)) >= 5, "pipeline", "--resume")
    assert run.corpus_manifest.exists() and not run.sft_meta.exists()
    start_and_kill(
        folder, lambda r: bool(read_json_lines(r.suite_samples("humaneval-chat-6", "base"))), "pipeline", "--resume"
    )
    assert run.sft_meta.exists() and not run.suite_result("humaneval-chat-6", "sft").exists()
    start_and_kill(folder, lambda r: (r.plots / "loss.png").exists(), "pipeline", "--resume")
    done = cli("pipeline", "--profile", "smoke", "--run", folder, "--resume")
    assert done.returncode == 0 and run.report_html.exists(), done.stderr

    for file in sorted(path for path in whole.corpus.rglob("*") if path.suffix in (".parquet", ".csv")):
        assert file.read_bytes() == (run.corpus / file.relative_to(whole.corpus)).read_bytes(), file
    assert_learnt_as(run, whole)
    assert_answers_as(run, whole)
    attempts = read_json(run.info)["stages"]
    assert [a["end"] is None for a in attempts["corpus"]] == [True, False]
    assert [a["end"] is None for a in attempts["sft"]] == [True, False]
    assert not run.corpus_work.exists() and not run.sft_work.exists(), "finished stages leave no work behind"
