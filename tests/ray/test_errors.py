"""A user's mistake that surfaces in a Ray worker still ends as one sentence; a bug keeps its traceback."""

from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
from ray.train.torch import TorchTrainer

from app.cli import _sentence
from app.errors import UserError


@ray.remote
def fail(error: Exception) -> None:
    raise error


@ray.remote
class Fails:
    def __init__(self) -> None:
        raise UserError("no card here: choose another --profile")

    def ready(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("value, cause, way out"), "value, cause, way out"),
        (OSError(28, "No space left on device", "/runs/r/corpus"), "/runs/r/corpus can't be written"),
        (OSError(2, "No such file", "/x"), None),
        (ZeroDivisionError("a bug"), None),
    ],
)
def test_errors_of_tasks(local_ray: None, error: Exception, sentence: str | None) -> None:
    with pytest.raises(type(error)) as caught:
        ray.get(fail.remote(error))
    told = _sentence(caught.value)
    assert told is None if sentence is None else told is not None and told.startswith(sentence)
    assert told is None or "Traceback" not in told and "\n" not in told


def test_errors_of_an_actor_that_can_not_start(local_ray: None) -> None:
    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(Fails.remote().ready.remote())
    assert _sentence(caught.value) == "no card here: choose another --profile"


@pytest.mark.parametrize(
    ("error", "tries", "sentence"),
    [
        (FloatingPointError("loss is nan: lower sft.learning_rate"), 1, "loss is nan: lower sft.learning_rate"),
        (ConnectionResetError("by the other worker, which was lost"), 2, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_a_training_worker(
    local_ray: None, tmp_path: Path, error: Exception, tries: int, sentence: str | None
) -> None:
    """What another try would meet again ends the training at once, all else after as many as are allowed."""
    from app.training.reports import ProgressCallback, shown

    def fail_again(config: dict[str, Any]) -> None:
        with (tmp_path / "tries").open("a") as file:
            file.write("x")
        raise error

    with shown("sft", 1, str) as channel:
        trainer = TorchTrainer(
            fail_again,
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(
                name="fails",
                storage_path=str(tmp_path),
                failure_config=ray.train.FailureConfig(max_failures=1),
                callbacks=[ProgressCallback(channel)],
            ),
        )
        with pytest.raises(ray.train.TrainingFailedError) as caught:
            trainer.fit()
    assert (tmp_path / "tries").read_text() == "x" * tries
    assert _sentence(caught.value) == sentence
