"""The kill campaign: thirty runs of the pipeline, each struck by a seed's moments and victims."""

from pathlib import Path

import pytest

from tests.campaign import Undisturbed, fight_by, undisturbed  # noqa: F401


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.timeout(1800)
def test_a_run_that_is_struck_ends_as_an_undisturbed_one(
    seed: int,
    undisturbed: Undisturbed,  # noqa: F811
    tmp_path: Path,
) -> None:
    print(fight_by(seed, undisturbed, tmp_path))
