"""An arm ranks drafts where no test chooses among them, and not elsewhere."""

import typing
from pathlib import Path

import pytest

from app.reward.arms import ARMS, Begun, ranking_of
from app.reward.critic.choice import local_critic
from app.reward.drafts.asking import Asked
from app.reward.imitation.selection import selected
from app.reward.records import TrainingProblem
from app.running.deadlines import NEVER
from app.runs import Run
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from tests.unit.reward.critics import critic_profile, drafts_of, planted
from tests.unit.reward.made_drafts import CountingJudge, ScriptedGenerator, problem


def begun(folder: Path, profile: Profile, problems: list[TrainingProblem]) -> Begun:
    return Begun(
        run=Run(folder),
        profile=profile,
        problems=[Asked(problem=one, text="", prompt_ids=(1,)) for one in problems],
        held_out=[],
        headroom=None,
        generator=ScriptedGenerator(lambda *_: ""),
        judge=CountingJudge(),
        facts={},
        critics=local_critic,
        deadline=NEVER,
    )


def test_every_arm_of_the_settings_can_be_taken() -> None:
    assert set(ARMS) == set(typing.get_args(GrmSettings.model_fields["arm"].annotation))


def test_drafts_are_ranked_where_a_problem_has_no_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems, given = planted(12)
    profile = critic_profile(tmp_path / "model", "grm.critic.train=never")
    assert ranking_of(begun(tmp_path, profile, problems), given) is None
    ranking = ranking_of(begun(tmp_path, profile, [*problems, problem("untested", tests="")]), given)
    untested = drafts_of("untested", 6, is_tested=False)
    assert ranking is not None
    asked = {"untested": problem("untested", tests="")}
    assert len(selected(untested, ranking(untested), problems=asked)) == 2
    assert "drafts are ranked by length: there is no critic" in capsys.readouterr().err
