"""What self-reward and evolution do without Ray: problems hardened once, and whose they are."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app import rights
from app.corpus.credits import Attributed, write_attribution
from app.corpus.mining.storage import PROBLEM_SCHEMA, problem_row
from app.corpus.mining.storage import write_problems as write_problems_of
from app.corpus.records import SolvedProblem
from app.corpus.shard_files import write_rows
from app.errors import UserError
from app.files.json_files import append_json_line, read_json_lines, write_atomic, write_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.reward.drafts.asking import Asked
from app.reward.preparing import UNTOLD, hardened, write_rights, write_whose
from app.reward.problems.find import load
from app.reward.problems.store import read_all
from app.reward.records import TrainingProblem
from app.runs import Run, open_run
from tests.sums import write_problems
from tests.unit.corpus.clean.test_extract import SOLVED


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


def asked(problems: Sequence[TrainingProblem]) -> list[Asked]:
    return [Asked(problem=one, text="", prompt_ids=(1, 2)) for one in problems]


def corpus_with_problems(run: Run, *distributions: str, with_rights: bool = True) -> None:
    """A corpus of which a problem was mined from each distribution."""
    parts = []
    for name in distributions:
        problem = replace(SOLVED.problem, id=f"mined/{name}/halves", prompt=SOLVED.problem.prompt.replace("hal", name))
        origin = replace(SOLVED.origin, distribution=name)
        solved = replace(SOLVED, problem=replace(problem, entry_point=f"{name}ves"), origin=origin)
        parts.append(write_part(run.corpus / f"{name}.parquet", solved))
    write_problems_of(run.problems, parts)
    rows = [Attributed(name, "1", "MIT", "file", f"Ann of {name}", "", 0, ["shapes.py"]) for name in distributions]
    rows += [row._replace(evidence="z/LICENSE", files=["z/other.py"]) for row in rows]
    write_attribution(run.attribution, rows)
    holders = tuple(rights.Holder(who=name, lines=(f"Copyright {name}",)) for name in (*distributions, "unused"))
    notices = (rights.Notice(licence="MIT", text="Permission is granted.", holders=holders),)
    guard = rights.GuardedBy(stage="sft", unguarded=("apps",))
    if with_rights:
        rights.write(run.corpus, rights.Rights(notices=notices, guards=(guard,)))


def write_part(path: Path, solved: SolvedProblem) -> Path:
    write_rows(path, [problem_row(solved)], PROBLEM_SCHEMA)
    return path


def test_what_was_mined_is_attributed_to_whose_function_it_is_with_their_texts(tmp_path: Path) -> None:
    run, other = Run(tmp_path / "run"), Run(tmp_path / "other")
    corpus_with_problems(run, "one", "two")
    corpus_with_problems(other, "three")
    write_problems(tmp_path / "sums.jsonl")
    sources = ["mined", f"mined={other.problems}", str(tmp_path / "sums.jsonl"), "ours=datasets/problems/basics.yaml"]
    changed = with_overrides(smoke(), [f"grm.problems={json.dumps(sources)}"])
    problems = [one for one in load(sources, run.problems) if "two" not in one.given.id]
    run.grm_adapter.mkdir(parents=True)
    write_rights(run.grm_adapter, run, changed, "grm", asked(problems))
    rows = {row["distribution"]: row for row in csv.DictReader(run.grm_attribution.open())}
    assert set(rows) == {"one", "three", "user", "pocketcoder"}
    assert (rows["three"]["author"], rows["three"]["files"]) == ("Ann of three", "mined/three/halves")
    assert rows["three"]["evidence"] == "file", "what says so of its own file"
    assert rows["pocketcoder"]["author"] == "the pocketcoder developers"
    held = rights.read(run.grm_adapter)
    assert held is not None and list(rights.tables(run.grm_adapter)) == ["grm"]
    named = {holder.who for notice in held.notices for holder in notice.holders}
    assert named == {"one", "three", "user", "pocketcoder"}
    assert {guard.stage: guard.unguarded for guard in held.guards} == {"grm": (), "grm, mined": ("apps",)}
    suites = {suite["suite"]: suite for suite in held.guards[0].suites}
    assert suites["humaneval"]["problems"] == 164 and len(suites["humaneval"]["sha256"]) == 64
    texts = (run.grm_adapter / rights.NOTICES).read_text()
    assert "Permission is hereby granted, free of charge" in texts and "the pocketcoder developers" in texts


def test_problems_of_a_corpus_that_kept_no_rights_are_told_as_such(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    corpus_with_problems(run, "one", with_rights=False)
    changed = with_overrides(smoke(), ["grm.problems=[mined]"])
    run.grm_adapter.mkdir(parents=True)
    write_rights(run.grm_adapter, run, changed, "grm", asked(load(["mined"], run.problems)))
    held = rights.read(run.grm_adapter)
    assert held and held.remarks == (UNTOLD.format(number=1),)


def test_evolution_carries_on_what_its_parent_and_a_teacher_learnt_from(tmp_path: Path) -> None:
    run, teacher = Run(tmp_path / "run"), tmp_path / "Teacher-3B"
    teacher.mkdir()
    (teacher / "LICENSE").write_text("For research alone.")
    write_problems(tmp_path / "sums.jsonl")
    problems = asked(load([str(tmp_path / "sums.jsonl")]))
    of_teacher = ["grm.arm=distill", "grm.distill.teacher.source=path", f"grm.distill.teacher.name={teacher}"]
    changed = with_overrides(smoke(), [f"grm.problems={json.dumps([str(tmp_path / 'sums.jsonl')])}", *of_teacher])
    for folder in (run.grm_adapter, run.evolve_adapter):
        folder.mkdir(parents=True)
    write_rights(run.grm_adapter, run, changed, "grm", problems)
    write_json(run.grm_meta, {})
    write_rights(run.evolve_adapter, run, changed, "evolve", problems[:1], parent="grm")
    held = rights.read(run.evolve_adapter)
    assert held and [one.stage for one in held.learnt] == ["grm", "grm", "evolve"]
    assert list(rights.tables(run.evolve_adapter)) == ["evolve", "grm"]
    assert "weighed by a larger model, Teacher-3B" in rights.section(held, [])
    assert "For research alone." in (run.evolve_adapter / rights.NOTICES).read_text()
    assert str(tmp_path) not in (run.evolve_adapter / rights.FACTS).read_text()
