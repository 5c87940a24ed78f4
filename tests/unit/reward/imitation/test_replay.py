"""Ordinary questions and answers: a head with a docstring for every problem, and no more answers than are wanted."""

import ast
import dataclasses
from pathlib import Path

import pytest

from app.records import Sampling, Status
from app.reward.drafts.asking import Asked
from app.reward.imitation.replay import answers, chosen, ordinary
from tests.unit.reward.made_drafts import CountingJudge, ScriptedGenerator, group, judged, problem
from tests.unit.reward.sources import SORTED, leetcode_problem, leetcode_row, mbpp_problem

GREEDY = Sampling(max_new_tokens=64, temperature=0.0)


def test_what_words_ask_is_asked_by_a_head_with_a_docstring() -> None:
    made = ordinary(mbpp_problem(SORTED))
    head = made.given.prompt
    assert head == (
        "def second(words):\n"
        '    """Write a function to sort a list by its second digit.\n    """\n'
    )  # fmt: skip
    assert head.strip() in made.question[0]["content"] and "b1" not in made.question[0]["content"]
    assert made.given.id == "MBPP/640" and not made.problem.tests and made.suite == "humaneval"


def test_a_method_of_a_class_is_asked_as_a_function() -> None:
    row = leetcode_row("longest", "def longest(self, s: str) -> int:", "return len(s)", ["candidate(s='a') == 1"])
    made = ordinary(leetcode_problem(row | {"query": "Do it.\nIn two\xa0lines.\n" + row["query"].partition("\n")[2]}))
    tree = ast.parse(made.given.prompt)
    (node,) = tree.body
    assert isinstance(node, ast.FunctionDef) and ast.unparse(node).startswith("def longest(s: str) -> int:")
    assert ast.get_docstring(node) == "Do it.\nIn two lines." and made.given.entry_point == "longest"


def test_a_problem_that_has_no_other_words_keeps_its_own_and_its_tests() -> None:
    by_head = problem("a")  # one of `ours`
    without = dataclasses.replace(mbpp_problem(SORTED), reference="")
    assert ordinary(by_head) == by_head and ordinary(without) == without


def test_an_answer_to_a_training_prompt_is_learnt_where_it_passes(tmp_path: Path) -> None:
    """A wrong one would be taught for a prompt that is drawn again."""
    asked = [Asked(problem=ordinary(problem(name)), text=name, prompt_ids=(1,)) for name in "ab"]
    generator = ScriptedGenerator(lambda name, sample: f"```python\ndef f(x): return {name!r}\n```")
    judge = CountingJudge()
    found = answers(tmp_path / "replay.parquet", asked, GREEDY, generator, judge)
    assert len(judge.programs) == 2 and all(one.reward == 1 for one in found)


def test_answers_that_hold_a_program_are_kept_and_none_is_run(tmp_path: Path) -> None:
    asked = [Asked(problem=problem(name, tests=""), text=name, prompt_ids=(1,)) for name in "ab"]
    generator = ScriptedGenerator(
        lambda name, sample: "```python\ndef f(x): return x\n```" if name == "a" else "def f("
    )
    judge = CountingJudge()
    found = answers(tmp_path / "replay.parquet", asked, GREEDY, generator, judge)
    assert [one.draft.problem_id for one in found] == ["a"] and not judge.programs
    assert generator.drawn == [("a", 0), ("b", 0)]
    later = ScriptedGenerator(lambda name, sample: "")
    assert answers(tmp_path / "replay.parquet", asked, GREEDY, later, judge) == found and not later.drawn


def test_so_many_answers_are_learnt_that_they_are_the_share_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    right = [judged(Status.PASSED, name=str(number)) for number in range(30)]
    found = [judged(None, name=str(number), program="def f(x): return x") for number in range(40)]
    assert len(chosen(found, 0.25, right, seed=0)) == 10 and len(chosen(found, 0.2, right, seed=0)) == 8
    assert chosen(found, 0.25, right, seed=0) != chosen(found, 0.25, right, seed=1)
    assert not capsys.readouterr().err
    assert len(chosen(found[:3], 0.25, right, seed=0)) == 3 and "there are 3 ordinary" in capsys.readouterr().err


def test_an_answer_that_is_learnt_already_is_left_out() -> None:
    right = group("+++")[:1] * 9
    found = [judged(None, name="a", program=right[0].program), judged(None, name="b", program=right[0].program)]
    assert [one.draft.problem_id for one in chosen(found, 0.5, right, seed=0)] == ["b"]
