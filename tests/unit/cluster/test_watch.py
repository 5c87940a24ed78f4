"""What is said where a part of Ray is lost, without a Ray."""

import threading
import time

import pytest
from ray import exceptions

from app.cluster import watch


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ActorDiedError(),
        exceptions.WorkerCrashedError(),
        exceptions.NodeDiedError("the node died\nat length"),
        exceptions.LocalRayletDiedError(),
        exceptions.ObjectLostError("aa" * 28, None, ""),
        exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.\nIts memory: 1 GB"),
        exceptions.ObjectStoreFullError("full"),
        exceptions.OutOfDiskError("full"),
    ],
)
def test_a_loss_is_told_in_one_line_with_the_way_to_go_on(error: Exception) -> None:
    said = watch.sentence_of(error)
    assert said and "\n" not in said and "`pipeline` with --resume" in said


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("x"), exceptions.RayTaskError("f", "tb", ValueError())])
def test_any_other_error_is_no_loss(error: Exception) -> None:
    assert watch.sentence_of(error) is None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the watch says at the end, which here ends no process."""
    found: list[str] = []
    monkeypatch.setattr(watch, "_end", found.append)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.01)
    return found


def test_a_head_that_ends_ends_the_command(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    gone = threading.Event()
    monkeypatch.setattr(watch, "_lost_here", lambda: "Ray's raylet has ended" if gone.is_set() else "")
    with watch.watched(""):
        time.sleep(0.05)
        assert not said
        gone.set()
        for _ in range(200):
            if said:
                break
            time.sleep(0.01)
    assert said[0] == f"Ray's raylet has ended: {watch.AGAIN}"
    number = len(said)
    time.sleep(0.05)
    assert len(said) <= number + 1, "the watch ends with its block"


def test_an_error_of_a_lost_ray_is_told_as_the_loss_and_another_as_it_is(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 60.0)
    monkeypatch.setattr(watch, "_lost_here", lambda: "")
    with pytest.raises(ValueError, match="a bug"), watch.watched(""):
        raise ValueError("a bug")
    assert not said
    monkeypatch.setattr(watch, "_lost_here", lambda: "Ray's raylet has ended")
    with pytest.raises(exceptions.LocalRayletDiedError), watch.watched(""):
        raise exceptions.LocalRayletDiedError
    assert said == [f"Ray's raylet has ended: {watch.AGAIN}"]
