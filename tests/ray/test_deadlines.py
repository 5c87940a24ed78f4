"""Stages past their deadline on a real Ray: each takes a step, keeps a checkpoint, says what was cut, and its figures
come to Ray's metrics agent."""

import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import ray
from safetensors.torch import load_file

from app import stages
from app.evolution.history import read_boundaries
from app.evolution.lineage import Outcome, read_lineage
from app.files.json_files import read_json, read_json_lines
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.profiles import smoke
from app.report import write_report
from app.running.deadlines import Deadline
from app.running.metrics import METRICS, PREFIX
from app.running.status import Planned, State, progress
from app.runs import Run, open_run
from app.training.sft import run_sft
from tests.ray.test_evolve import evolving
from tests.ray.test_sft import corpus

MOMENT = ["schedule.days=0.000001"]
SMALL = ["grm.when=always", "evolve.population=2", "evolve.survivors=1", "evolve.generations=3"]


@pytest.fixture(scope="module")
def cut(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Self-reward and evolution of a run that has no time."""
    profile = with_overrides(evolving(tmp_path_factory.mktemp("sums")), [*MOMENT, *SMALL])
    with open_run(tmp_path_factory.mktemp("cut"), profile, resume=False) as run:
        stages.grm(run, profile)
        stages.evolve(run, profile)
    return run


@pytest.mark.timeout(300)
def test_stages_past_their_deadline_keep_what_a_step_has_made_and_say_so(cut: Run) -> None:
    grm, evolve = read_json(cut.grm_meta), read_json(cut.evolve_meta)
    assert grm["steps"] == len(read_json_lines(cut.arm("grpo").metrics)) == 1
    assert grm["why_ended"] == "its time was over" and grm["cut"].startswith("after 1 of 8 steps")
    assert evolve["generations"] == len(read_boundaries(cut.evolve_boundaries)) == 1
    assert evolve["cut"].startswith("in generation 1 of 3") and evolve["individuals"] == 2
    assert {life.outcome for life in read_lineage(cut.evolve_lineage)} == {Outcome.FINISHED}
    for adapter in (cut.grm_adapter, cut.evolve_adapter):
        assert any(tensor.abs().sum() > 0 for name, tensor in load_file(adapter / WEIGHTS).items() if "lora_B" in name)
    assert list(cut.evolve_individuals.glob("*_*/1/tensorboard/events.*")), "each individual has curves"


def test_the_report_and_status_say_what_was_cut(cut: Run) -> None:
    told = write_report(cut).with_suffix(".md").read_text()
    assert told.count("**Cut short:**") == 2 and "after 1 of 8 steps" in told and "in generation 1 of 3" in told
    found = {one.name: one for one in progress(cut, Planned()).stages}
    assert found["grm"].state is State.DONE and found["grm"].note == read_json(cut.grm_meta)["cut"]


def test_what_a_run_exports_comes_to_rays_metrics_agent(cut: Run) -> None:
    run, end, of_sft = f'run="{cut.root.name}"', time.monotonic() + 30, {"loss"}
    wanted = {f"ray_{PREFIX}{name}" for name in METRICS.keys() - of_sft}
    while missing := wanted - {line.partition("{")[0] for line in exported() if run in line}:
        assert time.monotonic() < end, missing
        time.sleep(0.2)
    of_run = [line for line in exported() if run in line]
    assert any('status="passed"' in line and 'stage="evolve"' in line for line in of_run)
    assert any("_fitness{" in line and 'generation="1"' in line and 'individual="0.1"' in line for line in of_run)


def exported() -> list[str]:
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return urllib.request.urlopen(address, timeout=5).read().decode().splitlines()


@pytest.mark.timeout(120)
def test_a_fine_tuning_past_its_deadline_keeps_its_step_and_takes_none_when_it_goes_on(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = with_overrides(smoke(), ["sft.checkpoint_every=50"])
    over = Deadline(at=0.0, share_s=12.0)
    with open_run(tmp_path / "run", profile, resume=False) as run:
        corpus(run, profile.corpus.seq_len)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("app.training.sft.replace_folder", _interrupted)  # after the training, before it is kept
            run_sft(run, profile, over)
        run_sft(run, profile, over)
    meta = read_json(run.sft_meta)
    assert meta["steps"] == len(read_json_lines(run.sft_metrics)) == 1
    assert meta["cut"] == "after 1 of 8 steps, because the 12 s of its share were over"
    assert load_file(run.sft_adapter / WEIGHTS)


def _interrupted(*places: Any) -> None:
    raise KeyboardInterrupt
