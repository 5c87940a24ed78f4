"""ENV is offline for as long as a training lasts, and then what it was, whatever happened."""

import os
from typing import Any

import pytest

from app import stages
from app.cluster.offline import offline
from app.profiles import smoke


def set_mode(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    if mode is None:
        monkeypatch.delenv("ENV", raising=False)
    else:
        monkeypatch.setenv("ENV", mode)


@pytest.mark.parametrize("mode", ["online", "training", "", None])
def test_env_is_offline_in_the_block_and_as_before_behind_it(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    set_mode(monkeypatch, mode)
    before = dict(os.environ)
    with offline(), offline():
        assert dict(os.environ) == before | {"ENV": "offline"}, "nothing of Hugging Face's is changed"
    assert dict(os.environ) == before
    with pytest.raises(KeyboardInterrupt), offline():
        raise KeyboardInterrupt
    assert dict(os.environ) == before


class Watched:
    """Stands for a run: notes ENV when a stage first asks it for anything, and fails."""

    def __init__(self) -> None:
        self.modes: list[str | None] = []

    def __getattr__(self, name: str) -> Any:
        self.modes.append(os.environ.get("ENV"))
        raise LookupError(name)


@pytest.mark.parametrize("stage", [stages.sft, stages.grm, stages.evolve])
@pytest.mark.parametrize("mode", ["online", None])
def test_each_training_stage_is_offline_from_its_beginning_and_env_is_back_after_an_error(
    monkeypatch: pytest.MonkeyPatch, stage: Any, mode: str | None
) -> None:
    set_mode(monkeypatch, mode)
    run = Watched()
    with pytest.raises(LookupError):
        stage(run, smoke())
    assert run.modes == ["offline"] and os.environ.get("ENV") == mode
