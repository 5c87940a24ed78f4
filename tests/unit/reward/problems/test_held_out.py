"""Problems to validate checkpoints by: which are taken, and that none of them is learnt from."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation.suites.splits import half_of
from app.overrides import with_overrides
from app.profiles import smoke
from app.reward.problems.find import load
from app.reward.problems.held_out import held_out
from app.stage_settings.grm import GrmSettings
from tests.suite_files import written
from tests.unit.reward.sources import CODE, HEAD, TESTS, TEXT, USER, jsonl, mbpp_row, without_tests


def validated(*settings: str) -> GrmSettings:
    return with_overrides(smoke(), ["grm.validate_every=1", *settings]).grm


def test_checkpoints_are_validated_by_the_tuning_half_of_what_is_held_out(tmp_path: Path) -> None:
    rows = [mbpp_row(number, TEXT, CODE, TESTS) for number in (2, 11, *range(511, 601))]
    rows.append(mbpp_row(700, f"{TEXT} Again.", CODE, TESTS))
    source = f"mbpp={written(tmp_path / 'mbpp.jsonl', rows)}"
    settings, learnt = validated(f"grm.problems=[{source}]"), load([source])
    found = held_out(settings, learnt)
    names = {one.given.id for one in found}
    assert names == {f"MBPP/{number}" for number in range(511, 601) if half_of(f"MBPP/{number}") == "tuning"}
    fewer = held_out(settings.model_copy(update={"validation_problems": 5}), learnt)
    assert fewer == found[:5] and names != {one.given.id for one in fewer}
    assert held_out(settings.model_copy(update={"validate_every": 0}), learnt) == []


def test_a_user_s_file_validates_where_it_is_named_and_not_where_it_is_learnt(tmp_path: Path) -> None:
    path = jsonl(tmp_path, USER)
    learnt = load([path])
    with pytest.raises(
        UserError, match=r"asks for problems with tests that are not learnt from, of which .* holds none: name"
    ):
        held_out(validated(f"grm.problems=[{path}]"), learnt)
    with pytest.raises(UserError, match="of which ours holds none"):  # the gate decides by these
        held_out(validated("grm.problems=[ours]"), load(["ours"]))
    assert held_out(validated("grm.problems=[ours]", "grm.validation=[ours]"), load(["ours"]))
    named = validated("grm.problems=[ours]", f"grm.validation=[{path}]")
    assert [one.given.id for one in held_out(named, load(["ours"]))] == ["shop/1"]
    with pytest.raises(UserError, match="the problem 'shop/1' is in grm.validation and is learnt from too"):
        held_out(named, learnt)


def test_what_is_learnt_under_another_id_validates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "learnt").mkdir()
    learnt = load([jsonl(tmp_path / "learnt", USER)])
    again, other = (USER | {"id": name} for name in ("shop/2", "shop/3"))
    again["prompt"] = HEAD.replace("\n", "\r\n")
    other["prompt"] = HEAD.replace('"""', '"""Once more: ', 1)
    path = jsonl(tmp_path, again, other)
    assert [one.given.id for one in held_out(validated(f"grm.validation=[{path}]"), learnt)] == ["shop/3"]
    assert "1 of 2 problems to validate by left out" in capsys.readouterr().err


def test_what_has_no_tests_validates_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path, USER, without_tests(prompt="Write a script that prints 3."))
    held = validated("grm.problems=[ours]", f"grm.validation=[{path}]")
    assert [one.given.id for one in held_out(held, load(["ours"]))] == ["shop/1"]


def test_two_files_to_validate_by_with_one_problem_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path, USER)
    (tmp_path / "other").mkdir()
    both = f"grm.validation=[{path},{jsonl(tmp_path / 'other', USER | {'prompt': HEAD + '# Once more.'})}]"
    with pytest.raises(UserError, match=r"the problem 'shop/1' is in .*own.jsonl and .*: leave one of them out"):
        held_out(validated(both), load(["ours"]))


def test_a_source_that_is_named_and_holds_nothing_to_validate_by_is_refused_beside_one_that_does(
    tmp_path: Path,
) -> None:
    learnt = f"mbpp={written(tmp_path / 'mbpp.jsonl', [mbpp_row(700, TEXT, CODE, TESTS)])}"
    named = validated("grm.problems=[ours]", f"grm.validation=[{jsonl(tmp_path, USER)},{learnt}]")
    with pytest.raises(UserError, match=r"mbpp=.* holds no problem to validate by: give another, or leave it out"):
        held_out(named, load(["ours"]))
