"""Which problems can be learnt from, by what the untouched model solves."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.profiles import smoke
from app.records import Status
from app.reward.drafts.asking import Asked
from app.reward.drafts.headroom import Headroom, learnable, measured
from tests.unit.reward.made_drafts import CountingJudge, ScriptedGenerator, problem

SOLVED = {"never": 0, "half": 4, "nearly": 7, "always": 8}
"""Of eight drafts."""
ASKED = [Asked(problem=problem(name), text=name, prompt_ids=(1, 2)) for name in SOLVED]
FACTS = {"model": "m"}


def headroom(path: Path, generator: ScriptedGenerator | None = None) -> Headroom:
    def text(name: str, sample: int) -> str:
        return f"def f(x): return {sample}, {'right' if sample < SOLVED[name] else 'wrong'}"

    judge = CountingJudge(lambda program: Status.PASSED if "right" in program else Status.WRONG_ANSWER)
    settings = smoke().grm.model_copy(update={"rate_drafts": 8})
    return measured(path, ASKED, settings, generator or ScriptedGenerator(text), judge, seed=0, facts=FACTS)


def test_problems_that_are_never_or_nearly_always_solved_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = headroom(tmp_path / "drafts/untouched.parquet")
    assert [one.problem.given.id for one in learnable(ASKED, found, (0.0, 0.9))] == ["half", "nearly"]
    assert [one.problem.given.id for one in learnable(ASKED, found, (0.5, 1.1))] == ["nearly", "always"]
    said = capsys.readouterr().err
    assert "pass@1 59.4%, pass@8 75.0%; problems by solve rate: 0: 1, to 0.5: 1, to 1.0: 1, 1: 1" in said
    with pytest.raises(UserError, match=r"none of 4 problems .* above 0.5 and below 0.8 .*: give others by grm.prob"):
        learnable(ASKED, found, (0.5, 0.8))


def test_the_drafts_of_the_untouched_model_are_drawn_once(tmp_path: Path) -> None:
    path = tmp_path / "untouched.parquet"
    found, later = headroom(path), ScriptedGenerator(lambda name, sample: "")
    assert headroom(path, later) == found and not later.drawn
