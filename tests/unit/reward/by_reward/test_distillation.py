"""On-policy distillation: a tiny model comes nearer to a larger one by what that says of the tokens it drew."""

import string
from pathlib import Path
from typing import Any

import pytest
import torch

from app.errors import UserError
from app.generation import scoring
from app.generation.transformers_engine import TransformersEngine
from app.models.adapters import WEIGHTS
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import IGNORE, Prompt, Sampling
from app.reward.by_reward import distillation
from app.reward.by_reward.credit import Credit
from app.reward.by_reward.distillation import by_teacher
from app.reward.by_reward.policy import ADVANTAGES, DRAWN
from app.reward.records import JudgedDraft
from app.settings import Profile
from tests.tiny_model import write_model
from tests.unit.reward.letters import (
    DRAFTS,
    PROBLEMS,
    STEPS,
    EndedError,
    Ending,
    RefusesAll,
    learn,
    profile_of,
    same,
    verdict,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice as wide, and of another mind."""
    folder = tmp_path_factory.mktemp("teacher")
    write_model(folder, list(string.ascii_lowercase), seed=1, width=64)
    return folder


def distilled(letters: Path, teacher: Path, *settings: str) -> Profile:
    given = ["grm.arm=distill", "grm.distill.teacher.source=path", f"grm.distill.teacher.name={teacher}"]
    return profile_of(letters, *given, "grm.distill.teacher.dtype=float32", *settings)


def test_the_reverse_kl_to_the_teacher_falls(
    engine: TransformersEngine, letters: Path, teacher: Path, tmp_path: Path
) -> None:
    rows = learn(tmp_path, engine, distilled(letters, teacher, "grm.steps=10"))
    assert len(rows) == 10, "what passes does not matter"
    assert rows[0]["teacher_kl"] > 0.3
    assert sum(row["teacher_kl"] for row in rows[-3:]) / 3 < 0.8 * rows[0]["teacher_kl"]
    assert all(row["reward_mean"] is not None for row in rows), "where there are tests, they are told"


def test_a_distillation_that_was_ended_goes_on_exactly(
    engine: TransformersEngine, letters: Path, teacher: Path, tmp_path: Path
) -> None:
    profile = distilled(letters, teacher)
    undisturbed = learn(tmp_path / "whole", engine, profile)
    ending = Ending(engine, after=3 * DRAFTS + 20)
    with pytest.raises(EndedError):
        learn(tmp_path / "cut", ending, profile)  # type: ignore[arg-type]
    rest = Ending(engine, after=1_000_000)
    assert same(learn(tmp_path / "cut", rest, profile)) == same(undisturbed)  # type: ignore[arg-type]
    assert rest.drawn == DRAFTS * STEPS - ending.drawn
    one, other = (tmp_path / name / "adapter" / WEIGHTS for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()


def credit_of(engine: TransformersEngine, teacher: TransformersEngine) -> tuple[Credit, list[JudgedDraft]]:
    prompts = [Prompt(id="ada", text="ask a d a <end> say", samples=(0, 1, 2))]
    drawn = engine.generate(prompts, Sampling(max_new_tokens=12, temperature=1.0))
    judged = [
        JudgedDraft(draft=one, program="", shape="", verdict=verdict(PROBLEMS[0].given, is_right=False))
        for one in drawn
    ]
    return by_teacher(teacher), judged


def test_a_tokens_advantage_is_what_the_teacher_finds_it_likelier(
    engine: TransformersEngine, letters: Path, teacher: Path
) -> None:
    """Drafts that were cut and drafts that are wrong are learnt like all others."""
    profile = distilled(letters, teacher)
    holder = TransformersEngine(profile.grm.distill.teacher, profile.generation)
    credit, drafts = credit_of(engine, holder)
    ids = tuple(engine._tokenise("ask a d a <end> say"))
    credited = credit({"ada": ids}, drafts)
    scores = holder.score_ids([(ids, one.draft.token_ids) for one in drafts])
    for sample, one, theirs in zip(credited.samples["ada"], drafts, scores, strict=True):
        assert tuple(sample.input_ids) == (*ids, *one.draft.token_ids)
        assert [label for label in sample.labels if label != IGNORE] == list(one.draft.token_ids)
        ours = one.draft.token_logprobs
        gains = [other - mine for mine, other in zip(ours, theirs, strict=True)]
        assert list(sample.columns[ADVANTAGES][len(ids) :]) == pytest.approx(gains)
        assert list(sample.columns[DRAWN][len(ids) :]) == list(ours)
    assert len(credited.teacher_gaps) == sum(one.draft.num_tokens for one in drafts)
    itself, _ = credit_of(engine, engine)
    assert max(map(abs, itself({"ada": ids}, drafts).teacher_gaps)) < 1e-4, "nothing is to be learnt from oneself"


def test_a_teacher_that_finds_no_memory_scores_fewer_tokens_at_once_from_then_on(
    engine: TransformersEngine,
    letters: Path,
    teacher: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also fewer than a draft has."""
    monkeypatch.setattr(distillation, "FEWEST_A_PASS", 8)
    profile = distilled(letters, teacher)
    holder = TransformersEngine(profile.grm.distill.teacher, profile.generation)
    holder.max_tokens = 32
    credit, drafts = credit_of(engine, holder)
    ids = {"ada": tuple(engine._tokenise("ask a d a <end> say"))}
    wanted = credit(ids, drafts).teacher_gaps
    plain, asked, most = scoring._states, list[int](), 8

    def states(model: Any, rows: torch.Tensor, max_tokens: int) -> torch.Tensor:
        asked.append(max_tokens)
        if max_tokens > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(model, rows, max_tokens)

    monkeypatch.setattr(scoring, "_states", states)
    assert credit(ids, drafts).teacher_gaps == pytest.approx(wanted, abs=1e-5)
    assert asked[:3] == [32, 16, 8] and {*asked[3:]} == {8}
    assert "so the pass of the teacher is made again: 8 tokens at once instead of 16" in capsys.readouterr().err
    assert credit(ids, drafts).teacher_gaps == pytest.approx(wanted, abs=1e-5) and {*asked[3:]} == {8}
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        credit(ids, drafts)


def test_a_teacher_of_other_tokens_is_refused(engine: TransformersEngine, letters: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "other", [*string.ascii_lowercase[:-1], "zz"])
    with pytest.raises(UserError, match=r"has another vocabulary than .*\(2 entries differ, 'z'.* of the same family"):
        learn(tmp_path / "run", engine, distilled(letters, tmp_path / "other"))
    write_model(tmp_path / "ends", list(string.ascii_lowercase))
    settings = tmp_path / "ends/tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"eos_token": "<end>"', '"eos_token": "<pad>"'))
    with pytest.raises(UserError, match="has the eos_token '<pad>', and .* '<end>'"):
        learn(tmp_path / "run", engine, distilled(letters, tmp_path / "ends"))


def test_a_teacher_in_four_bits_is_refused() -> None:
    with pytest.raises(UserError, match="has a rounding that would be learnt: set it to none"):
        with_overrides(smoke(), ["grm.distill.teacher.quantization=nf4"])


def test_what_judges_does_not_change_what_is_learnt(
    engine: TransformersEngine, letters: Path, teacher: Path, tmp_path: Path
) -> None:
    profile = distilled(letters, teacher, "grm.steps=2")
    learn(tmp_path / "one", engine, profile)
    learn(tmp_path / "other", engine, profile, RefusesAll())
    one, other = (tmp_path / name / "adapter" / WEIGHTS for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
