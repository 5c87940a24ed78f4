"""What the pipeline asks for and notes down where it leaves SFT out."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from app import pipeline
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import left_out, open_run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the cluster; every stage works, and the first that measures or trains is interrupted."""
    found: list[str] = []

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "connected", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(pipeline, "require_resources", lambda what, **_: found.append(what))
    monkeypatch.setattr(pipeline, "corpus", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "search_training_data", lambda *_: None)
    for stage in ("sft", "measure_candidates"):
        monkeypatch.setattr(pipeline, stage, interrupted)
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
        assert asked[1:] == ["sft.num_workers=64", "generation"] and not left_out(run)
