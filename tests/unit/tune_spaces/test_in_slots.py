"""Which failure of one candidate leaves the others to go on."""

import pytest
import torch
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from tune_spaces.in_slots import is_its_own, last_line


def raised_in_a_task(cause: Exception) -> RayError:
    """As `ray.get` raises it."""
    error: RayError = RayTaskError("live_in_slot", "a traceback", cause).as_instanceof_cause()
    return error


@pytest.mark.parametrize(
    "error",
    [
        raised_in_a_task(FloatingPointError("loss is nan at step 3")),
        raised_in_a_task(ValueError("a KL of nan nats a token has no worth")),
        raised_in_a_task(torch.OutOfMemoryError("CUDA out of memory")),
        WorkerCrashedError(),
    ],
)
def test_one_that_diverges_or_is_lost_is_left_out(error: RayError) -> None:
    assert is_its_own(error) and last_line(error)


@pytest.mark.parametrize("cause", [AssertionError("the generator gave no draft"), KeyError("genome"), TypeError("no")])
def test_a_fault_of_the_program_is_no_failure_of_a_candidate(cause: Exception) -> None:
    assert not is_its_own(raised_in_a_task(cause))
