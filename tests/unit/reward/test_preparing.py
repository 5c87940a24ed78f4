"""What self-reward and evolution do without Ray: problems hardened once, and whose they are."""

import csv
from pathlib import Path

import pytest

from app.errors import UserError
from app.files.json_files import append_json_line, read_json_lines, write_atomic, write_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.reward.drafts.asking import Asked
from app.reward.preparing import hardened, write_whose
from app.reward.problems.find import load
from app.reward.problems.store import read_all
from app.runs import Run, open_run
from tests.sums import write_problems


def test_problems_are_hardened_once_and_anew_where_their_source_has_changed(tmp_path: Path) -> None:
    run, source = Run(tmp_path / "run"), tmp_path / "sums.jsonl"
    write_problems(source)
    made = hardened(run.grm_problems, smoke(), load([str(source)]), "grm")
    assert [bool(one.added) for one in made] == [True, True, True, False, False]
    [part] = run.grm_problems.iterdir()
    written = part.stat().st_mtime_ns
    assert (
        hardened(run.grm_problems, smoke(), load([str(source)]), "grm") == made and part.stat().st_mtime_ns == written
    )
    source.write_text(source.read_text().replace("toy/a", "toy/z"))
    part.with_name("part-00001.parquet").write_bytes(part.read_bytes())  # of when there were more
    assert hardened(run.grm_problems, smoke(), load([str(source)]), "grm")[0].problem.given.id == "toy/z"
    assert [one.problem.given.id[-1] for one in read_all(run.grm_problems)] == ["z", "b", "c", "d", "r"]


def test_problems_that_were_learnt_from_are_attributed_as_the_corpus_does(tmp_path: Path) -> None:
    write_problems(tmp_path / "sums.jsonl")
    text = (tmp_path / "sums.jsonl").read_text()
    (tmp_path / "sums.jsonl").write_text(text.replace("MIT", "CC-BY-4.0", 1))
    problems = load([str(tmp_path / "sums.jsonl")])
    run = Run(tmp_path)
    run.grm.mkdir()
    write_whose(run.grm_attribution, [Asked(problem=one, text="", prompt_ids=(1, 2, 3)) for one in problems])
    rows = list(csv.DictReader(run.grm_attribution.open()))
    assert list(rows[0]) == ["distribution", "version", "licence", "evidence", "author", "homepage", "tokens", "files"]
    assert [(row["licence"], row["tokens"], row["files"]) for row in rows] == [
        ("CC-BY-4.0", "3", "toy/a"),
        ("MIT", "12", "toy/b toy/c toy/d toy/never"),
    ]


def test_settings_set_aside_what_they_decide_and_a_complete_stage_is_bound(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        append_json_line(run.arm("grpo").metrics, {"step": 1})
        write_atomic(run.grm_rates, "drawn")
    with open_run(tmp_path, with_overrides(smoke(), ["grm.checkpoint_every=7"]), resume=True) as run:
        assert run.arm("grpo").metrics.exists(), "how often it saves changes nothing about what it learns"
    changed = with_overrides(smoke(), ["grm.learning_rate=1e-4"])
    with open_run(tmp_path, changed, resume=True) as run:
        assert not run.grm_arms.exists() and run.grm_rates.exists(), "the untouched model solves what it solved"
    assert read_json_lines(tmp_path / "superseded/grm/arms-1/grpo/metrics.jsonl") == [{"step": 1}]
    with open_run(tmp_path, with_overrides(changed, ["grm.temperature=0.7"]), resume=True) as run:
        assert not run.grm_rates.exists()
        write_json(run.grm_meta, {})
    for change in ("grm.steps=9", "model.dtype=bfloat16", "sandbox.timeout_s=9", "seed=4"):
        with (
            pytest.raises(UserError, match=change.partition("=")[0]),
            open_run(tmp_path, with_overrides(changed, ["grm.temperature=0.7", change]), resume=True),
        ):
            pass


@pytest.mark.parametrize("band", ["[0.5, 0.5]", "[-1, 0.5]", "[0.9, 0.1]"])
def test_a_band_that_holds_no_rate_is_refused(band: str) -> None:
    with pytest.raises(UserError, match="holds no solve rate: give 0 or more, then a larger one"):
        with_overrides(smoke(), [f"grm.rate_band={band}"])
