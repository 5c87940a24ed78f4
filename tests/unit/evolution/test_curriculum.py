"""Easy to hard: the band holds for what an individual can do now, and its success moves what it is given."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NothingToLearnError
from app.evolution.curriculum import EASY, NEAREST, centre_of, counts_now, weights_of, window
from app.evolution.records import Genome
from app.reward.drafts.asking import Asked
from app.reward.drafts.headroom import Headroom, learnable
from app.reward.drafts.solve_rates import Rates
from app.reward.records import TrainingProblem
from app.stage_settings.grm import GrmSettings
from tests.unit.reward.made_drafts import problem
from tune_spaces.alpha_evolve import default_genome

GENOME = default_genome(GrmSettings(problems=("ours",)))
"""Band from 0 to 0.9."""
RATES = st.dictionaries(
    st.sampled_from([f"p{number}" for number in range(8)]),
    st.integers(1, 16).flatmap(lambda drafts: st.tuples(st.integers(0, drafts), st.just(drafts))),
    min_size=1,
)
PASSES = st.lists(st.tuples(st.integers(0, 16), st.just(16)), min_size=1, max_size=4)


def problems(*names: str, source: str = "pocketcoder") -> list[TrainingProblem]:
    made = [problem(name) for name in names]
    return [dataclasses.replace(one, given=dataclasses.replace(one.given, source=source)) for one in made]


def weights(genome: Genome, untouched: Rates, *own: Rates, names: tuple[str, ...] = ()) -> dict[str, float]:
    return weights_of(problems(*(names or untouched)), genome, untouched, own)


@given(RATES, st.sampled_from([(0.0, 0.9), (0.25, 0.75), (0.5, 1.1), (0.0, 1.0)]))
def test_an_individual_begins_with_the_problems_that_a_training_without_evolution_learns(
    found: Rates, band: tuple[float, float]
) -> None:
    asked = [Asked(problem=one, text="", prompt_ids=()) for one in problems(*found)]
    headroom = Headroom(num_drafts=16, solved=found, bands={}, pass_at_1=None, pass_at_n=None)
    genome = dataclasses.replace(GENOME, rate_low=band[0], rate_high=band[1])
    try:
        expected = {one.problem.given.id for one in learnable(asked, headroom, band)}
    except NothingToLearnError:
        with pytest.raises(NothingToLearnError, match=f"none of {len(found)} problems has by now a solve rate above"):
            weights(genome, found)
        return
    assert {name for name, weight in weights(genome, found).items() if weight} == expected


def test_what_was_mastered_falls_out_and_what_has_become_possible_comes_in() -> None:
    genome = dataclasses.replace(GENOME, rate_low=0.2)
    untouched = {"easy": (12, 16), "hard": (2, 16), "same": (8, 16)}
    first = weights(genome, untouched)
    assert first["hard"] == 0 < first["same"] < first["easy"]
    then = weights(genome, untouched, {"easy": (32, 32), "hard": (8, 16)})
    assert then["easy"] == 0 and then["hard"] > 0 and then["same"] > 0


def test_drafts_count_half_as_much_with_each_generation() -> None:
    own = [{"a": (4, 4)}, {"a": (0, 8), "b": (1, 2)}]
    assert counts_now({"a": (16, 16), "c": (3, 8)}, own) == {"a": (6, 14), "b": (1, 2), "c": (0.75, 2)}


@given(RATES, st.lists(RATES, max_size=5))
def test_an_old_draft_never_outweighs_a_newer_one(untouched: Rates, own: list[Rates]) -> None:
    """That all of the newest drafts pass raises the rate, that none does lowers it, whatever was before."""
    before = counts_now(untouched, own)
    for name, (passed, counted) in before.items():
        for right in (0, 16):
            now = counts_now(untouched, [*own, {name: (right, 16)}])[name]
            assert min(now) >= 0 and now[1] == pytest.approx(16 + counted / 2)
            assert (now[0] / now[1] - passed / counted) * (right - 8) >= -1e-9


def test_a_problem_that_was_never_tried_comes_in_as_the_hardest_of_the_band() -> None:
    untouched = {f"p{passed}": (passed, 16) for passed in range(17)}
    found = weights(GENOME, untouched, names=(*untouched, "new"))
    assert 0 < found["new"] < found["p1"] < found["p2"] and found["p0"] == 0
    narrow = weights(dataclasses.replace(GENOME, rate_low=0.2499), untouched, names=(*untouched, "new"))
    assert narrow["new"] == pytest.approx(narrow["p4"], rel=1e-2)


def test_a_problem_outside_the_band_is_tried_again_where_it_left_once_its_drafts_have_faded() -> None:
    untouched = {"failed": (0, 16), "mastered": (16, 16), "seldom": (1, 16), "often": (14, 16)}
    later = {"seldom": (1, 16), "often": (14, 16)}
    for generations in range(5):
        found = weights(GENOME, untouched, *([later] * generations))
        assert found["failed"] == found["mastered"] == 0, "left out for five generations"
    found = weights(GENOME, untouched, *([later] * 5))
    assert found["failed"] == pytest.approx(window(NEAREST, centre_of([later])))
    assert found["mastered"] == pytest.approx(window(0.9, centre_of([later]))) and found["mastered"] > found["failed"]


def test_an_individual_starts_with_the_easy_ones() -> None:
    found = weights(GENOME, {"rare": (1, 16), "some": (4, 16), "half": (8, 16), "most": (12, 16)})
    assert list(found.values()) == sorted(found.values()) and found["most"] == 1
    assert found["rare"] < 0.1 * found["most"]


@given(PASSES, PASSES)
def test_success_brings_harder_problems_and_failure_easier_ones(one: list[tuple[int, int]], other: list) -> None:
    """The weights of two problems beside each other, whatever else was drawn before."""
    untouched = {"hard": (4, 16), "easy": (12, 16)}

    def hard_beside_easy(passes: list[tuple[int, int]]) -> tuple[float, float]:
        drawn = {f"q{number}": counts for number, counts in enumerate(passes)}
        found = weights(GENOME, untouched, {"q9": (16, 16)}, drawn)
        return sum(passed for passed, _ in passes) / len(passes), found["hard"] / found["easy"]

    (less, first), (more, second) = sorted((hard_beside_easy(one), hard_beside_easy(other)))
    assert first <= second + 1e-9 and (less == more or first < second)


def test_the_pace_comes_to_rest_where_one_of_two_drafts_passes() -> None:
    """If an individual solves what it is given as often as the problems that come up most."""
    assert centre_of([]) == centre_of([{}]) == EASY
    centre, own = EASY, list[Rates]()
    for _ in range(8):
        own.append({"a": (round(1000 * centre), 1000)})
        centre = centre_of(own)
    assert centre == pytest.approx(0.5, abs=0.01)
    assert [window(rate, 0.5) for rate in (0.25, 0.5, 0.75)] == pytest.approx([0.75, 1, 0.75]), "4 p (1 - p)"


@given(st.floats(0, 1), st.floats(1 - EASY, EASY))
def test_no_problem_of_the_band_is_ever_left_out_and_none_comes_up_more_than_the_centre(
    rate: float, centre: float
) -> None:
    assert 0 < window(rate, centre) <= window(centre, centre) == pytest.approx(1)


def test_problems_are_alike_where_no_rate_is_known() -> None:
    assert len(set(weights(GENOME, {}, names=("a", "b", "c")).values())) == 1


def test_the_mixture_multiplies_by_where_a_problem_is_from() -> None:
    mixture = (("ours", 2.0), ("mbpp=somewhere.jsonl", 0.5), ("one.jsonl", 1.0), ("other.jsonl", 3.0))
    genome = dataclasses.replace(GENOME, mixture=mixture)
    held = [
        *problems("a"),
        *problems("b", source="mbpp"),
        *problems("c", source="user"),
    ]
    assert list(weights_of(held, genome, dict.fromkeys("abc", (12, 16))).values()) == pytest.approx([2.0, 0.5, 2.0])
    with pytest.raises(ValueError, match="the problem 'd' is of 'mined', and not of ours, mbpp=somewhere.jsonl"):
        weights_of(problems("d", source="mined"), genome, {})
