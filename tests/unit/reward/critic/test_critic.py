"""The critic learns from drafts which programs are right, on problems that it has not seen, and goes on where it was
ended."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.files.json_files import read_json_lines
from app.models.adapters import WEIGHTS
from app.models.base import load_tokenizer
from app.records import Status
from app.reward.critic import training as critic_training
from app.reward.critic.critic import LocalCritic
from app.reward.critic.measures import auc
from app.reward.critic.questions import Questions, claim_of
from app.reward.critic.training import is_held_out, learn, rulings_of, samples_of
from app.reward.records import JudgedDraft, TrainingProblem
from app.stage_settings.grm import CriticSettings
from tests.unit.reward.critics import critic_profile, drafts_of, planted
from tests.unit.reward.made_drafts import group, judged, problem

PROBLEMS, DRAFTS = planted(30)
BY_ID = {one.given.id: one for one in PROBLEMS}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> CriticSettings:
    return critic_profile(tmp_path_factory.mktemp("critic")).grm.critic


@pytest.fixture(scope="module")
def whole(settings: CriticSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A critic's folder whose training nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "critic"
    learn(folder, rulings_of(BY_ID, DRAFTS, settings, 0), settings, 0)
    return folder


def by_id(*names: str) -> dict[str, TrainingProblem]:
    return {name: problem(name) for name in names}


def seen(settings: CriticSettings, number: int = 1) -> list[str]:
    """Names of problems that are not held out."""
    return [name for name in map(str, range(100)) if not is_held_out(name, settings.held_out, 0)][:number]


def test_a_planted_signal_is_learnt_for_problems_that_were_not_seen(whole: Path, settings: CriticSettings) -> None:
    unseen = [one for one in DRAFTS if is_held_out(one.draft.problem_id, settings.held_out, 0)]
    assert 40 <= len(unseen) < len(DRAFTS) / 2
    scores = LocalCritic(whole, settings, 0).score([claim_of(BY_ID[one.draft.problem_id], one) for one in unseen])
    found = auc(scores, [one.reward == 1 for one in unseen])
    assert found is not None and found >= 0.9


def test_a_score_depends_on_the_claim_and_not_on_its_company(whole: Path, settings: CriticSettings) -> None:
    critic = LocalCritic(whole, settings, 0)
    claims = [claim_of(BY_ID[one.draft.problem_id], one) for one in DRAFTS[:40]]
    claims.append((" ".join(["word"] * 30), claims[0][1]))
    together = critic.score(claims)
    assert all(0 < score < 1 for score in together)
    alone = [critic.score([claim])[0] for claim in claims]
    assert together == pytest.approx(alone, abs=1e-5)
    assert critic.score([claims[3], claims[0], claims[3]])[::2] == pytest.approx([together[3]] * 2, abs=1e-5)
    assert critic.score([]) == []


@pytest.mark.parametrize("at", [3, 17])  # before the first checkpoint, between two
def test_a_training_that_was_killed_ends_as_an_undisturbed_one(
    at: int, whole: Path, settings: CriticSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rulings, write = rulings_of(BY_ID, DRAFTS, settings, 0), critic_training.append_json_line

    def dying(path: Path, row: dict[str, object]) -> None:
        write(path, row)
        if row["step"] == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(critic_training, "append_json_line", dying)
        learn(tmp_path, rulings, settings, 0)
    learnt = learn(tmp_path, rulings, settings, 0)
    assert (tmp_path / "adapter" / WEIGHTS).read_bytes() == (whole / "adapter" / WEIGHTS).read_bytes()
    ours, theirs = (read_json_lines(folder / "metrics.jsonl") for folder in (tmp_path, whole))
    assert len(ours) == learnt.steps > at
    assert [row | {"seconds": 0} for row in ours] == [row | {"seconds": 0} for row in theirs]
    assert not (tmp_path / "checkpoints").exists()


def test_what_is_learnt_once_is_not_learnt_again_and_other_lessons_begin_anew(
    whole: Path, settings: CriticSettings
) -> None:
    rulings = rulings_of(BY_ID, DRAFTS, settings, 0)
    state = (whole / "adapter" / WEIGHTS).stat().st_mtime_ns
    learn(whole, rulings, settings.model_copy(update={"batch_size": 3, "num_cpus": 2}), 0)
    assert (whole / "adapter" / WEIGHTS).stat().st_mtime_ns == state
    folder = whole.with_name("others")
    few = settings.model_copy(update={"epochs": 1})
    first = learn(folder, rulings, few, 0)
    again = learn(folder, rulings[:40], few, 0)
    assert again.steps < first.steps and again.rulings == 40
    assert len(read_json_lines(folder / "metrics.jsonl")) == again.steps


def test_of_each_problem_as_many_right_as_wrong_drafts_are_learnt(settings: CriticSettings) -> None:
    names = seen(settings, 4)
    drafts = [*group("+" * 9 + "-", names[0]), *group("+" * 9 + "-" * 9, names[1]), *group("+++", names[2]),
              *group("---", names[3])]  # fmt: skip
    rulings = rulings_of(by_id(*names), drafts, settings, 0)
    counts = {name: [one.is_right for one in rulings if one.problem_id == name] for name in names}
    assert [sorted(held) for held in counts.values()] == [[False, True], [False] * 4 + [True] * 4, [], []]
    assert len({one.claim for one in rulings}) == len(rulings)
    assert rulings_of(by_id(*names), list(reversed(drafts)), settings, 0) == rulings
    few = rulings_of(by_id(*names), drafts, settings.model_copy(update={"max_drafts": 5}), 0)
    assert sum(one.is_right for one in few) == 2 and len(few) == 4


def test_copies_and_what_has_no_reward_are_not_learnt(settings: CriticSettings) -> None:
    (name,) = seen(settings)
    copies = [
        judged(status, name=name, sample=sample, program=f"def f(x): return {status == Status.PASSED}  # {sample}")
        for sample in range(4)
        for status in (Status.PASSED, Status.WRONG_ANSWER)
    ]
    assert len(rulings_of(by_id(name), copies, settings, 0)) == 2
    for marks in ("+??", "+//", "!-", "+"):
        assert rulings_of(by_id(name), group(marks, name), settings, 0) == []
    assert rulings_of({}, copies, settings, 0) == [], "drafts of a problem that is not known"
    with pytest.raises(UserError, match="nothing to learn"):
        learn(Path("/nowhere"), [], settings, 0)


def test_no_problem_is_both_learnt_from_and_held_out(settings: CriticSettings) -> None:
    learnt = {one.problem_id for one in rulings_of(BY_ID, DRAFTS, settings, 0)}
    held_out = {name for name in BY_ID if is_held_out(name, settings.held_out, 0)}
    assert learnt | held_out == BY_ID.keys() and not learnt & held_out
    assert held_out != {name for name in BY_ID if is_held_out(name, settings.held_out, 1)}


def test_only_the_answer_is_learnt(settings: CriticSettings) -> None:
    questions = Questions(load_tokenizer(Path(settings.model.name)), settings.seq_len)
    for sample, ruling in zip(
        samples_of(rulings_of(BY_ID, DRAFTS, settings, 0), questions),
        rulings_of(BY_ID, DRAFTS, settings, 0),
        strict=True,
    ):
        assert sample.labels[-1] == (questions.yes if ruling.is_right else questions.no)
        assert set(sample.labels[:-1]) == {-100}


def test_a_claim_that_is_too_long_loses_the_ends_of_problem_and_program(settings: CriticSettings) -> None:
    questions = Questions(load_tokenizer(Path(settings.model.name)), 40)
    short, long = questions.ids(("Yes", "No")), questions.ids(("Yes " * 99, "No " * 99))
    assert len(questions.answered(("Yes " * 99, "No " * 99), is_right=True)) == 40 > len(short)
    assert long.count(questions.yes) > 1 and abs(long.count(questions.yes) - long.count(questions.no)) <= 1
    assert questions.ids(("Yes", "No " * 99)).count(questions.no) > long.count(questions.no)
    with pytest.raises(UserError, match="seq_len=10 leaves no room"):
        Questions(load_tokenizer(Path(settings.model.name)), 10)


def test_a_reply_without_a_program_is_judged_by_its_text() -> None:
    (one,) = drafts_of("a", 1)
    assert claim_of(problem("a"), one) == ("Complete f of a.", one.program)
    silent: JudgedDraft = judged(Status.LOAD_ERROR, name="a", program="I don't know")
    assert claim_of(problem("a"), silent)[1] == "I don't know"
