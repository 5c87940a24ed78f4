"""A corpus that is built twice, with nobody killed. tests/ray kills workers of the second build."""

from pathlib import Path

from app.records import BenchmarkText
from app.settings import Profile
from tests.ray.test_corpus import benchmarks, built, profile, undisturbed  # noqa: F401


def test_two_builds_of_one_recipe_are_identical(
    undisturbed: tuple[Path, dict[str, bytes]],  # noqa: F811
    tmp_path: Path,
    profile: Profile,  # noqa: F811
    benchmarks: list[BenchmarkText],  # noqa: F811
) -> None:
    assert built(tmp_path / "run", profile, benchmarks) == undisturbed[1]
