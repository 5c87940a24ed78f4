"""Sources of problems that can't be used are refused before anything runs, whichever command is given."""

from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.errors import UserError
from app.reward.problems.early import check
from app.stage_settings.grm import GrmSettings
from tests.suite_files import written
from tests.unit.reward.sources import CODE, TESTS, TEXT, USER, jsonl, mbpp_row, without_tests

OURS = ("ours=datasets/problems/basics.yaml",)


def validated(*validation: str, problems: tuple[str, ...] = OURS) -> GrmSettings:
    return GrmSettings(problems=problems, validate_every=5, validation=validation)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("our", "unknown source of problems 'our': did you mean 'ours'"),
        ("leetcode", "write leetcode=FILE"),
        ("mbpp=/no/mbpp.jsonl", "mbpp=/no/mbpp.jsonl is no file"),
        ("/no/own.jsonl", "/no/own.jsonl"),
        ("mined=/no/run", "is no folder of mined problems"),
    ],
)
def test_a_source_to_validate_by_that_is_none_is_told_before_a_corpus_is_built(source: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(validated(source))
    check(validated(source).model_copy(update={"validate_every": 0}))
    check(validated(source).model_copy(update={"arm": "rft"}))


def test_sources_that_hold_nothing_to_validate_by_are_told_before_a_corpus_is_built(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of which ours=datasets/problems/basics.yaml holds none"):
        check(validated())
    path = jsonl(tmp_path, without_tests(prompt="Write a script that prints 3."))
    with pytest.raises(UserError, match="own.jsonl holds none: name a source by grm.validation"):
        check(validated(path))
    rows = [mbpp_row(700, TEXT, CODE, TESTS)]
    with pytest.raises(UserError, match="holds no problem to validate by: give another, or leave it out"):
        check(validated(f"mbpp={written(tmp_path / 'mbpp.jsonl', rows)}"))


def test_what_is_learnt_from_too_is_told_before_a_corpus_is_built(tmp_path: Path) -> None:
    path = jsonl(tmp_path, USER)
    with pytest.raises(UserError, match="the problem 'shop/1' is in grm.validation and is learnt from too"):
        check(validated(path, "mined", problems=(path, "mined")))


def test_what_is_to_come_may_hold_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own corpus is not built yet, and a plan fetches nothing."""
    monkeypatch.setattr("app.reward.problems.find.hub_rows", lambda *_: pytest.fail("it is fetched"))
    check(validated("mined", problems=("mined",)))
    check(validated("mbpp", problems=("ours", "mbpp")), fetches=False)
    with pytest.raises(UserError, match="unknown source"):
        check(validated("mined", "mind"))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("setting", ["grm.problems=[{}]", "grm.validation=[{}]"])
@pytest.mark.parametrize("command", ["plan", "grm", "pipeline"])
def test_a_command_refuses_a_bad_source_before_it_makes_anything(
    setting: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also not a run that a bad setting would be written into."""
    run: list[Any] = [] if command == "plan" else ["--run", str(tmp_path / "run")]
    settings = ["grm.when=always", "grm.validate_every=1", setting.format(tmp_path / "none.jsonl")]
    with pytest.raises(SystemExit) as ended:
        main([command, "--profile", "smoke", *run, *(part for one in settings for part in ("--set", one))])
    said = f"{ended.value} {capsys.readouterr().err}"
    assert "none.jsonl" in said and "can't be read" in said
    assert not (tmp_path / "run").exists()
