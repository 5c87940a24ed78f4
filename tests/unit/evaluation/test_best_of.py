"""A question's own examples choose among drafts, hidden tests never do, and a killed run draws nothing twice."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.best_of.choice import ChosenBy
from app.evaluation.best_of import Chosen, chosen
from app.evaluation.best_of_score import SystemScore, describe
from app.evaluation.statistics import compare
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.verdict_counts import mean_score
from app.records import Problem, Prompt, Sampling
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.unit.evaluation.test_measure import ScriptedGenerator

HOT = Sampling(max_new_tokens=8, temperature=0.7)
HEAD = 'def f(xs):\n    """The sum.\n\n    >>> f([1, 2])\n    3\n    """\n'
RIGHT, LENGTH, PRODUCT = "def f(xs): return sum(xs)", "def f(xs): return len(xs)", "def f(xs): return 3"
PROBLEM = Problem(
    id="p", source="own", licence="MIT", prompt=HEAD, entry_point="f",
    tests="def check(candidate):\n    assert candidate([5]) == 'the hidden tests are wrong'\n",
)  # fmt: skip


class Tokenizer:
    """As much of one as a chat prompt needs."""

    chat_template = "a template"

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return "\n".join(message["content"] for message in messages)


@pytest.fixture(scope="module")
def judges() -> Iterator[LocalJudges]:
    with closing(LocalJudges(SandboxSettings(timeout_s=1, num_workers=1), confinement())) as made:
        yield made


def drafted(folder: Path, generator: Any, judges: LocalJudges, *problems: Problem) -> list[Chosen]:
    return chosen(folder, HumanEval(), problems, 3, HOT, Tokenizer(), generator, judges)


def test_examples_choose_whatever_the_hidden_tests_say(judges: LocalJudges, tmp_path: Path) -> None:
    texts = [LENGTH, RIGHT, LENGTH]
    generator = ScriptedGenerator(lambda prompt, sample: texts[sample])
    (one,) = drafted(tmp_path, generator, judges, PROBLEM)
    assert one.choice is not None and (one.index, one.choice.chosen_by) == (1, ChosenBy.EXAMPLES)
    other = dataclasses.replace(PROBLEM, tests=PROBLEM.tests.replace("[5]", "[6]"), prelude="x = 1")
    (again,) = drafted(tmp_path, generator, judges, other)
    assert again.choice == one.choice and one.num_tokens == sum(map(len, texts))


def test_what_is_drawn_is_kept_and_a_killed_measurement_goes_on(judges: LocalJudges, tmp_path: Path) -> None:
    def draw(prompt: Prompt, sample: int) -> str:
        return RIGHT if "I ran this code and `f([1, 2])` returns `2`" in prompt.text else LENGTH

    with pytest.raises(InterruptedError):
        drafted(tmp_path, ScriptedGenerator(draw, die_after=2), judges, PROBLEM)
    rest = ScriptedGenerator(draw)
    (one,) = drafted(tmp_path, rest, judges, PROBLEM)
    assert rest.asked == [2], "one draft was missing, and the repair"
    assert one.was_repaired and one.choice is not None and one.choice.chosen_by == ChosenBy.REPAIR
    assert one.program.endswith(RIGHT) and one.index == 3
    (again,) = drafted(tmp_path, ScriptedGenerator(draw, die_after=0), judges, PROBLEM)
    assert again == one


def test_a_system_score_is_told_with_pass_at_1_and_the_tokens_of_both() -> None:
    rates = {str(number): float(number % 2) for number in range(8)}
    score = SystemScore(
        suite="humaneval",
        candidate="base",
        num_drafts=8,
        score=mean_score([1.0] * 8),
        against_pass_at_1=compare(rates, dict.fromkeys(rates, 1.0)),
        tokens_a_problem=2210.4,
        pass_at_1_tokens_a_problem=231.0,
        chosen_by={"examples": 6, "repair": 2},
        with_examples=7,
    )
    text = describe(score)
    assert "best of 8 with tests 100.0 %" in text and "2,210 tokens a problem" in text
    assert "+50.0 points" in text and "to pass@1 at 231" in text and "6 by examples, 2 by repair" in text
