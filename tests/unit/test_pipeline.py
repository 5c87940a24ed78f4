"""What the pipeline asks for and notes down where it leaves SFT or self-reward out."""

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import pytest

from app import pipeline, stages
from app.cluster import session
from app.errors import NothingToLearnError
from app.files.json_files import write_json
from app.models.base import load_tokenizer
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run, left_out, open_run
from app.sandbox.tiers import Confinement


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the cluster; every stage works, and the first that measures or trains is interrupted."""
    found: list[str] = []

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "connected", lambda _: contextlib.nullcontext())
    for module in (stages, session):
        monkeypatch.setattr(module, "require_resources", lambda what, **_: found.append(what))
    monkeypatch.setattr(stages, "corpus", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "search_training_data", lambda *_: None)
    monkeypatch.setattr(stages, "sft", interrupted)
    monkeypatch.setattr(pipeline, "measure_candidates", interrupted)
    return found


def test_what_is_left_out_asks_for_nothing_and_is_noted_for_this_call_alone(
    smoke_model: Path, asked: list[str], tmp_path: Path
) -> None:
    plain = with_overrides(smoke(), ["sft.when=auto", "sft.num_workers=64"])
    with open_run(tmp_path, plain, resume=False) as run:
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_pipeline(run, plain)
        assert asked == ["generation"] and "was taught to answer already" in left_out(run)["sft"]
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_pipeline(run, with_overrides(plain, ["sft.when=always"]))
        assert asked[1:] == ["sft.num_workers=64", "generation"] and list(left_out(run)) == ["grm", "evolve"]


def test_ray_is_connected_offline_and_what_measures_has_the_users_mode(
    smoke_model: Path, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers have the mode that they were started under, and the one Ray serves the trainings too."""
    monkeypatch.setenv("ENV", "online")
    modes: list[tuple[str, str]] = []

    def noted(what: str, then: Any) -> Any:
        return lambda *_, **__: (modes.append((what, os.environ["ENV"])), then())[1]

    monkeypatch.setattr(pipeline, "connected", noted("connected", contextlib.nullcontext))
    monkeypatch.setattr(pipeline, "measure_candidates", noted("measured", lambda: None))
    monkeypatch.setattr(stages, "report", lambda *_: None)
    profile = with_overrides(smoke(), ["sft.when=auto"])
    with open_run(tmp_path, profile, resume=False) as run:
        pipeline.run_pipeline(run, profile)
    assert modes == [("connected", "offline"), ("measured", "online")] and os.environ["ENV"] == "online"


def test_self_reward_that_finds_nothing_to_learn_is_left_out_and_the_pipeline_goes_on(
    smoke_model: Path, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error may come back from a worker, wrapped by Ray."""

    def fruitless(*_: Any) -> None:
        raise RuntimeError("a worker failed") from NothingToLearnError("no problem is solved")

    monkeypatch.setattr(stages, "grm", fruitless)
    profile = with_overrides(smoke(), ["sft.when=auto", "grm.when=auto"])
    with open_run(tmp_path, profile, resume=False) as run:
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_pipeline(run, profile)
        assert asked == ["grm, its trainer beside its generator,", "generation"]
        assert left_out(run)["grm"] == "no problem is solved", "and the evaluation was begun"
        monkeypatch.setattr(stages, "grm", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline._done_or_why_not(stages.grm, run, profile)


def test_self_reward_is_left_out_where_settings_model_or_machine_say_so(
    smoke_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(smoke_model))
    auto = with_overrides(smoke(), ["grm.when=auto"])
    run = Run(tmp_path)
    assert "grm.when=never" in pipeline.why_grm_is_left_out(run, smoke(), tokenizer, False)
    assert pipeline.why_grm_is_left_out(run, auto, tokenizer, False) == ""
    tokenizer.chat_template = None
    assert "was not taught to answer" in pipeline.why_grm_is_left_out(run, auto, tokenizer, False)
    always = with_overrides(smoke(), ["grm.when=always"])
    assert pipeline.why_grm_is_left_out(run, always, tokenizer, False) == ""
    monkeypatch.setattr(pipeline, "confinement", lambda unsafe: Confinement())
    assert "can't be confined" in pipeline.why_grm_is_left_out(run, always, tokenizer, True)
    write_json(run.grm_meta, {})
    assert pipeline.why_grm_is_left_out(run, smoke(), tokenizer, False) == "", "it has learnt already"
