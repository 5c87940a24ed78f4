"""Rankings are compared on unseen problems, and the critic ranks only where it was shown to be better."""

import itertools
import random
from pathlib import Path

import pytest

from app.files.json_files import read_json
from app.reward.critic.choice import choose, shortness, trained_critic
from app.reward.critic.critic import LocalCritic
from app.reward.critic.measures import (
    AGREEMENT,
    BASELINES,
    CHANCE,
    CRITIC,
    LENGTH,
    LOGPROB,
    ORACLE,
    Table,
    auc,
    best_of_n,
    groups_of,
    table_of,
)
from app.reward.critic.training import is_held_out
from app.reward.imitation.selection import mean_logprob, selected
from app.runs import Run
from tests.unit.reward.critics import RIGHT, critic_profile, drafts_of, planted
from tests.unit.reward.made_drafts import group, problem


@pytest.mark.parametrize("seed", range(20))
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    draw = random.Random(seed)
    scores, rights = [float(draw.randrange(4)) for _ in range(12)], [draw.random() < 0.5 for _ in range(12)]
    pairs = [
        (one, other)
        for (one, right), (other, wrong) in itertools.product(zip(scores, rights, strict=True), repeat=2)
        if right and not wrong
    ]
    expected = sum((one > other) + (one == other) / 2 for one, other in pairs) / len(pairs) if pairs else None
    assert auc(scores, rights) == pytest.approx(expected)


def test_all_equal_scores_are_chance_and_no_reward_at_all_is_unknown() -> None:
    assert auc([0.5] * 4, [True, False, False, False]) == 0.5
    assert auc([0.1, 0.2], [True, True]) is None and auc([], []) is None
    assert best_of_n([0.0] * 4, [True, False, False, False]) == 0.25
    assert best_of_n([1, 3, 3], [True, True, False]) == 0.5
    assert best_of_n([1, 3, 2], [True, False, True]) == 0


def test_drafts_without_a_reward_and_beyond_the_first_n_are_not_compared() -> None:
    groups = groups_of([*group("+?/!-+-+", "a"), *group("+?", "b"), *reversed(group("-+-", "c"))], best_of=3)
    assert {name: [one.draft.sample for one in held] for name, held in groups.items()} == {
        "a": [0, 4, 5],
        "c": [0, 1, 2],
    }


def table(critic_right: int, num_problems: int = 40, *, baseline_right: int = 0) -> Table:
    """The critic finds the right draft of so many problems; the likely one is right in others."""
    names = [f"p{number}" for number in range(num_problems)]
    groups = groups_of([one for name in names for one in group("+-", name)], best_of=10)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    scores = {name: {one: wrong for one in names} for name in BASELINES}
    scores[LOGPROB] = {one: right if place < baseline_right else wrong for place, one in enumerate(names)}
    scores[CRITIC] = {one: right if place < critic_right else wrong for place, one in enumerate(names)}
    return table_of(groups, scores, best_of=10)


def test_the_critic_is_used_only_where_its_interval_lies_above_the_best_baseline() -> None:
    assert choose(table(20)).ranking == CRITIC
    for few in (0, 2, 4):
        found = choose(table(few, baseline_right=1))
        assert found.ranking == LOGPROB and "the critic is not shown to be better and is not used" in found.reason
    assert choose(table(3, 4)).ranking in BASELINES, "too few problems to tell"
    beaten = choose(table(10, baseline_right=30))
    assert beaten.ranking == LOGPROB and "-50.0 points" in beaten.reason
    nothing = choose(None)
    assert nothing.ranking == LOGPROB and "no held-out problem" in nothing.reason


def test_a_table_has_every_ranking_between_chance_and_what_can_be_had() -> None:
    found = table(20, baseline_right=10)
    assert [row.ranking for row in found.rows] == [CRITIC, *BASELINES, CHANCE, ORACLE]
    values = {row.ranking: row.best_of_n.value for row in found.rows}
    assert values == {CRITIC: 0.5, LOGPROB: 0.25, LENGTH: 0, AGREEMENT: 0, CHANCE: 0.5, ORACLE: 1}
    assert (found.problems, found.mixed, found.drafts) == (40, 40, 80)
    assert found.row(ORACLE).auc_within == found.row(ORACLE).auc_pooled == 1
    assert found.row(CHANCE).auc_within == 0.5
    assert found.against[LOGPROB].num_better == 10 and found.against[LOGPROB].num_worse == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def test_a_critic_that_is_better_ranks_the_drafts_of_a_problem_without_tests(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, drafts = planted(50, num_drafts=4)
    profile = critic_profile(tmp_path, "grm.critic.epochs=6")
    asked = [*problems, problem("untested", tests="")]
    ranking = trained_critic(run, profile, asked, drafts)
    assert ranking.choice.ranking == CRITIC
    assert "drafts are ranked by critic: best of 10 " in capsys.readouterr().err
    told = read_json(run.grm_critic_metrics)
    assert told["used"] == CRITIC and told["learnt"]["rulings"] == told["learnt"]["problems"] * 4
    assert told["measured"]["problems"] == sum(is_held_out(one.given.id, 0.3, profile.seed) for one in problems)
    assert told["measured"]["rows"][0]["auc_within"] >= 0.9
    untested = drafts_of("untested", 6, is_tested=False)
    rank = ranking.of(untested)
    chosen = selected(untested, rank=rank, problems={"untested": asked[-1]})
    assert chosen and all(RIGHT in one.program for one in chosen)
    monkeypatch.setattr(LocalCritic, "learn", None)
    assert trained_critic(run, profile, asked, drafts).choice == ranking.choice, "nothing is made again"


def test_without_a_critic_the_best_of_the_others_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems, drafts = planted(12)
    profile = critic_profile(tmp_path / "model", "grm.critic.train=never")
    ranking = trained_critic(Run(tmp_path / "run"), profile, problems, drafts)
    assert ranking.choice.ranking == LENGTH, "likely drafts are wrong, and the others are as good as chance"
    assert "there is no critic" in capsys.readouterr().err
    rank = ranking.of(drafts)
    assert [rank(one) for one in drafts] == [shortness(one) for one in drafts]
    untested = [one for name in "ab" for one in drafts_of(name, 4, is_tested=False)]
    nothing = trained_critic(Run(tmp_path / "other"), profile, [problem(name, tests="") for name in "ab"], untested)
    assert nothing.choice.ranking == LOGPROB and nothing.of(untested) is mean_logprob
