"""The self-reward stage on a real Ray, with its real generator, judges and trainer, in a pipeline without SFT: reward
rises, the adapter is validated, measured and told of, and a worker that is lost costs the steps since its checkpoint
and no draft."""

import contextlib
import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from app import pipeline, stages
from app.evaluation.gate import read_decision
from app.files.json_files import read_json, read_json_lines
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.reward.by_reward import learning
from app.reward.by_reward.validation import read_validations
from app.reward.drafts.audit import read_lines
from app.reward.drafts.files import read_drafts
from app.reward.imitation.lessons import read_lessons, write_lessons
from app.reward.imitation.training import imitate_in_files, total_steps
from app.reward.problems.store import read_all
from app.running.arm_paths import ArmPaths
from app.runs import Run, left_out, open_run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import Profile
from tests.library import write_library
from tests.ray.killing import Killed, kill_a_worker
from tests.sums import SUM, row, sums

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """It validates by two problems of their own, one with a reference."""
    folder = tmp_path_factory.mktemp("sums")
    rows = [row(name, "assert f([5, 2]) == 7") for name in ("held-x", "held-y")]
    rows[0]["reference"] = SUM
    (folder / "held.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    validates = ["grm.validate_every=4", f"grm.validation=[{folder / 'held.jsonl'}]", "grm.validation_drafts=8"]
    return with_overrides(sums(folder), validates)


@contextlib.contextmanager
def with_a_kill(run: Run, arm: ArmPaths) -> Iterator[list[Killed]]:
    """The training of this arm loses its worker."""
    killed: list[Killed] = []
    work = run.grm_work / arm.folder.name
    killer = threading.Thread(target=kill_a_worker, args=(work, arm.metrics, killed), daemon=True)
    killer.start()
    yield killed
    killer.join()


@dataclass(frozen=True, slots=True)
class Disturbed:
    run: Run
    killed: Killed
    said: str


@pytest.fixture(scope="module")
def disturbed(local_ray: None, profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """A pipeline without SFT, whose training by reward lost its worker."""
    small = [f"corpus.recipe={write_library(tmp_path_factory.mktemp('corpus'))}", "corpus.max_mined_files=0"]
    changed = with_overrides(profile, ["grm.when=always", "sft.when=auto", *small])
    with (
        open_run(tmp_path_factory.mktemp("whole"), changed, resume=False) as run,
        contextlib.redirect_stderr(io.StringIO()) as said,
        with_a_kill(run, run.arm("grpo")) as killed,
    ):
        pipeline.run_pipeline(run, changed)
    return Disturbed(run, killed[0], said.getvalue())


@pytest.fixture(scope="module")
def whole(disturbed: Disturbed) -> Run:
    return disturbed.run


def test_the_model_learns_from_its_own_drafts(whole: Run, profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    meta, rows = read_json(whole.grm_meta), read_json_lines(whole.arm("grpo").metrics)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert meta["reward_first"] == rows[0]["reward_mean"] < 0.4 < 0.5 < rows[-1]["reward_mean"] == meta["reward_last"]
    assert meta["why_ended"] == "all steps were taken"
    validated = [(one.step, one.mean) for one in read_validations(whole.arm("grpo").validation)]
    assert meta["validations"] == {str(step): mean for step, mean in validated}
    assert [step for step, _ in validated] == [0, 4, 8] and validated[0][1] < validated[2][1]
    hardened = meta["hardening_of_validation"]
    assert hardened["problems"] == 2 and hardened["not_hardened"] == {"it has no reference": 1}
    assert meta["steps"] == 8 and meta["drafts"] == sum(row["num_drafts"] for row in rows)
    [problems] = meta["problems"]
    assert problems.pop("solve_rates")["0"] == 1
    assert problems == {"source": "user", "licence": "MIT", "given": 5, "learnt": 4, "untested": 0}
    assert meta["untouched"]["problems_by_solve_rate"]["0"] == 1, "one that is never solved is not learnt from"
    assert len(read_drafts(whole.grm_rates)) == 5 * 24
    [row] = csv.DictReader(whole.grm_attribution.open())
    assert (row["distribution"], row["licence"], row["files"]) == ("user", "MIT", "toy/a toy/b toy/c toy/d")
    assert (whole.arm("grpo").adapter / WEIGHTS).read_bytes() == (whole.grm_adapter / WEIGHTS).read_bytes()
    assert list(whole.arm("grpo").tensorboard.glob("events.*")) and not whole.grm_work.exists()
    stages.grm(whole, profile)
    assert capsys.readouterr().err == "grm: complete\n"


def test_passing_drafts_are_audited_on_fresh_inputs(whole: Run) -> None:
    found, lines = read_json(whole.grm_meta)["audit"], read_lines(whole.grm_audit)
    assert found["audited"] > 0 == found["false_passes"], "a sum is right on all inputs"
    assert {one.problem_id for one in lines if one.why_not == "it has no reference"} == {"toy/d"}
    assert found["passing"] >= len(lines) == found["audited"] + sum(found["not_audited"].values())


def test_the_adapter_is_validated_measured_and_told_of(whole: Run) -> None:
    decision = read_decision(whole, "grm")
    assert decision is not None and not decision.kept and decision.reason.startswith("too few problems to tell")
    assert whole.adapters() == {} and whole.trained() == {"grm": whole.grm_adapter}
    assert read_json(whole.suite_result("humaneval-chat-6", "grm"))["adapter"] == str(whole.grm_adapter)
    text = whole.report_md.read_text()
    for words in ("Validation of grm, **not kept**", "| user | MIT | 5 | 4 |", "](plots/grm.png)", "**Audit:** of"):
        assert words in text, words
    assert list(left_out(whole)) == ["sft", "evolve"] and "The adapter grm against the base model" in text


def test_a_training_whose_worker_is_killed_ends_as_one_without_ray(
    disturbed: Disturbed, profile: Profile, tmp_path: Path
) -> None:
    run, (_, before) = disturbed.run, disturbed.killed
    assert disturbed.said.count("was lost") == 1 and len(before) < 8, "the worker was killed in the middle"
    learnt = {one.draft.problem_id for path in run.arm("grpo").drafts.glob("*.parquet") for one in read_drafts(path)}
    problems = [one.problem for one in read_all(run.grm_problems) if one.problem.given.id in learnt]
    engine = TransformersEngine(profile.model, profile.generation)
    with contextlib.closing(LocalJudges(profile.sandbox, confinement())) as judges:
        validates = [one.problem for one in read_all(run.grm_validation_problems)]
        adapter = learning.learn(tmp_path, profile, problems, engine, judges, CPU, held_out=validates)
    rows, others = read_json_lines(run.arm("grpo").metrics), read_json_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 9)), "no step is lost, none is there twice"
    for ours, theirs in zip(rows, others, strict=True):
        assert ours["reward_mean"] == theirs["reward_mean"] and ours["num_tokens"] == theirs["num_tokens"]
        assert ours["entropy"] == pytest.approx(theirs["entropy"], rel=1e-4)
    by_hardened, others = (
        json.loads(pq.read_schema(folder / "validation-00008.parquet").metadata[b"settings"])["problems_sha256"]
        for folder in (run.arm("grpo").drafts, tmp_path / "drafts")
    )
    assert by_hardened == others
    ours, theirs = load_file(run.grm_adapter / WEIGHTS), load_file(adapter / WEIGHTS)
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() <= 1e-3 * tensor.norm(), name


@pytest.mark.timeout(600)
def test_right_and_well_ranked_drafts_are_imitated_by_a_worker_that_may_be_lost(
    local_ray: None, profile: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One problem has no tests."""
    untested = {name: value for name, value in row("untested", "").items() if name != "tests"}
    (tmp_path / "own.jsonl").write_text(f"{json.dumps(untested)}\n")
    sources = f"grm.problems=[{profile.grm.problems[0]},{tmp_path / 'own.jsonl'}]"
    settings = ["grm.arm=rft", "grm.imitate.rounds=1", "grm.imitate.batch=2", "grm.imitate.epochs=2"]
    settings += [sources, "grm.critic.train=never", "grm.imitate.drafts=24", "grm.imitate.learning_rate=0.005"]
    profile = with_overrides(profile, settings)
    with open_run(tmp_path / "run", profile, resume=False) as run, with_a_kill(run, run.arm("rft")) as killed:
        stages.grm(run, profile)
    arm = run.arm("rft")
    said = capsys.readouterr().err
    assert said.count("was lost") == 1 and "problems are learnt from" not in said
    meta, rows, lessons = read_json(run.grm_meta), read_json_lines(arm.metrics), read_lessons(arm.lessons)
    steps = total_steps(len(lessons), profile)
    assert [row["step"] for row in rows] == list(range(1, steps + 1)) and len(killed[0][1]) < steps
    half = steps // 2
    assert mean(row["loss"] for row in rows[:half]) > mean(row["loss"] for row in rows[-half:]), "epoch by epoch"
    assert list(arm.tensorboard.glob("events.*"))
    [of_round] = meta["rounds"]
    assert meta["arm"] == "rft" and meta["steps"] == of_round["steps"] == steps
    assert meta["drafts"] == of_round["drafts"] == 6 * 24 and sum(of_round["lessons"].values()) == len(lessons)
    drawn = {(one.draft.problem_id, one.verdict.tier) for one in read_drafts(arm.drafts / "round-1.parquet")}
    assert drawn == {("toy/untested", "untested")}, "the others are those of the solve rates"
    assert sum(of_round["by_solve_rate"].values()) == of_round["lessons"]["right"] and of_round["problems"] == 5
    assert of_round["by_solve_rate"]["untested"] == 2 and [one["untested"] for one in meta["problems"]] == [1]
    assert meta["ranking"] == read_json(run.grm_critic_metrics) and meta["ranking"]["measured"]
    assert meta["hardening"]["not_hardened"]["it has no tests"] == 1
    assert "toy/untested" in run.grm_attribution.read_text()
    assert run.adapters() == {"grm": run.grm_adapter} and not run.grm_work.exists()
    undisturbed = ArmPaths(tmp_path / "undisturbed")
    write_lessons(undisturbed.lessons, lessons)
    imitate_in_files(undisturbed, profile, CPU)
    ours, theirs = load_file(run.grm_adapter / WEIGHTS), load_file(undisturbed.adapter / WEIGHTS)
    assert all((tensor - theirs[name]).abs().max() <= 1e-6 for name, tensor in ours.items())
