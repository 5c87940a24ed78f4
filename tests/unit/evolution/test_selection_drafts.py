"""Drafts are asked for where they can decide something, and never beyond the tokens of selection."""

import pytest

from app.errors import UserError
from app.evolution.records import Metrics
from app.evolution.selection import ranked
from app.evolution.selection_drafts import (
    Further,
    budget_of,
    first_draws,
    fresh_draws,
    further_draws,
    with_more,
)
from app.stage_settings.evolve import EvolveSettings
from tests.unit.evolution.made_metrics import first_of, solving

SETTINGS = EvolveSettings()
PROBLEMS = [f"p{number}" for number in range(100)]
ENOUGH = 10**9


def further(measured: dict[str, Metrics], budget: int = ENOUGH) -> Further:
    return further_draws(measured, ranked(measured, SETTINGS), SETTINGS, budget=budget)


def test_everybody_is_asked_the_same_problems_as_many_as_can_be_paid() -> None:
    whole = first_draws("ab", PROBLEMS, SETTINGS, tokens_a_draft=50, budget=20_000)
    assert [(draw.name, draw.samples) for draw in whole] == [("a", (0, 1)), ("b", (0, 1))]
    assert whole[0].problems == whole[1].problems == tuple(PROBLEMS)
    less = first_draws("ab", PROBLEMS, SETTINGS, tokens_a_draft=50, budget=2_199)
    assert len(less[0].problems) == 10 and less[0].problems == less[1].problems
    assert list(less[0].problems) == sorted(less[0].problems, key=PROBLEMS.index)
    assert less == first_draws("ab", PROBLEMS, SETTINGS, tokens_a_draft=50, budget=2_199), "drawn by hash"
    assert less != first_draws("ab", PROBLEMS, SETTINGS, tokens_a_draft=50, budget=2_199, seed=1)
    with pytest.raises(UserError, match="199 tokens, and one problem for 2 individuals takes 200: raise"):
        first_draws("ab", PROBLEMS, SETTINGS, tokens_a_draft=50, budget=199)


def test_what_is_decided_gets_no_more_drafts() -> None:
    measured = {"a": first_of(72), "b": first_of(70), "c": first_of(10), "d": first_of(8)}
    assert further(measured) == Further(draws=(), close=(), unpaid=())


def test_only_the_undecided_and_those_that_could_replace_them_get_more() -> None:
    measured = {"a": first_of(70), "b": first_of(68), "c": first_of(67), "d": first_of(10)}
    found = further(measured)
    assert [(pair.ahead, pair.behind) for pair in found.close] == [("a", "c"), ("b", "c")]
    assert {draw.name: draw.samples for draw in found.draws} == {"a": (2, 3), "c": (2, 3), "b": (2, 3)}
    assert all(len(draw.problems) == 100 for draw in found.draws) and not found.unpaid


def test_drafts_double_up_to_the_most() -> None:
    measured = {name: first_of(40) for name in "abcd"}
    asked = []
    for _ in range(4):
        draws = further(measured).draws
        asked.append({draw.samples for draw in draws})
        for draw in draws:
            more = solving([len(draw.samples)] * 40 + [0] * 60, drafts=len(draw.samples))
            measured[draw.name] = with_more(measured[draw.name], more)
    assert asked == [{(2, 3)}, {(4, 5, 6, 7)}, set(), set()]
    assert all(one.drafts == 8 and one.rates["p0"] == (8, 8) for one in measured.values())
    assert measured["a"].num_tokens == 8 * 100 * 100


def test_the_pair_that_is_nearest_to_a_decision_is_paid_first() -> None:
    """Each individual has drawn 20,000 tokens, and would draw as many again."""
    measured = {"a": first_of(70), "b": first_of(68), "c": first_of(67), "d": first_of(10)}
    found = further(measured, budget=80_000 + 40_000)
    assert [draw.name for draw in found.draws] == ["a", "c"]
    assert [(pair.ahead, pair.behind) for pair in found.unpaid] == [("b", "c")]
    nothing = further(measured, budget=80_000 + 39_999)
    assert nothing.draws == () and nothing.unpaid == nothing.close and len(nothing.close) == 2
    assert further(measured, budget=0).draws == (), "what was drawn already counts"


def test_selection_never_draws_more_than_its_share() -> None:
    budget = budget_of(500_000, SETTINGS)
    assert budget == 100_000
    measured = {name: first_of(40 + place) for place, name in enumerate("abcd")}
    for _ in range(5):
        for draw in further(measured, budget).draws:
            more = solving([1] * 100, drafts=len(draw.samples))
            measured[draw.name] = with_more(measured[draw.name], more)
        assert sum(one.num_tokens for one in measured.values()) <= budget


def test_a_problem_that_gets_its_first_verdict_later_is_added() -> None:
    before = Metrics(rates={"a": (1, 2)}, drafts=2, num_tokens=10, kl=0.1, speeds=(1.0,))
    more = Metrics(rates={"a": (0, 1), "b": (2, 2)}, drafts=2, num_tokens=12, kl=0.3)
    found = with_more(before, more)
    assert found.rates == {"a": (1, 3), "b": (2, 2)} and (found.drafts, found.num_tokens) == (4, 22)
    assert (found.kl, found.speeds) == (0.1, (1.0,)) and before.rates == {"a": (1, 2)}


def test_the_final_choice_is_measured_on_drafts_that_no_selection_saw() -> None:
    fresh = fresh_draws(["best", "start"], PROBLEMS, SETTINGS)
    assert [draw.name for draw in fresh] == ["best", "start"]
    assert all(draw.samples == tuple(range(8, 16)) and draw.problems == tuple(PROBLEMS) for draw in fresh)
