"""Drafts are run in the real sandbox: examples choose, agreement breaks ties, and what fails can be repaired."""

from collections.abc import Iterator

import pytest

from app.best_of.choice import Choice, ChosenBy, choose, with_repaired
from app.best_of.repair import repair_request
from app.best_of.stated import stated_in
from app.best_of.testing import Trial, run_drafts, trial_of
from app.records import Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

QUESTION = """```python
def f(xs, k):
    \"\"\"The sum of the k largest.

    >>> f([3, 1, 2], 2)
    5
    >>> f([], 0)
    0
    \"\"\"
```"""
RIGHT = "def f(xs, k): return sum(sorted(xs, reverse=True)[:k])"
SAME = "def f(xs, k):\n    xs = sorted(xs)[::-1]\n    return sum(xs[:k])"
NEARLY = "def f(xs, k): return sum(sorted(xs)[-k:])"
SMALLEST = "def f(xs, k): return sum(sorted(xs)[:k])"
CRASHING = "def f(xs, k): return xs[k]"
BROKEN = "def f(xs, k) return 1"


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SandboxSettings(timeout_s=1)) as made:
        yield made


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trial_for(QUESTION)


def trial_for(question: str) -> Trial:
    stated = stated_in(question)
    assert stated is not None
    return trial_of(stated)


def chosen(trial: Trial, programs: list[str], supervisor: Supervisor) -> Choice:
    return choose(trial, programs, run_drafts(trial, programs, supervisor))


def test_the_one_draft_that_passes_is_chosen_wherever_it_stands(trial: Trial, supervisor: Supervisor) -> None:
    choice = chosen(trial, [CRASHING, SMALLEST, RIGHT, BROKEN], supervisor)
    assert (choice.index, choice.chosen_by) == (2, ChosenBy.EXAMPLES)
    assert (choice.examples, choice.passed, choice.drafts_passed) == (2, 2, 1)
    assert choice.failed is None and not choice.wants_repair and choice.tier


def test_of_drafts_that_pass_the_largest_group_that_agrees_is_chosen(trial: Trial, supervisor: Supervisor) -> None:
    choice = chosen(trial, [NEARLY, RIGHT, SAME, SMALLEST], supervisor)
    assert (choice.index, choice.chosen_by, choice.agreeing, choice.drafts_passed) == (1, ChosenBy.AGREEMENT, 2, 3)
    assert choice.inputs > 2


def test_drafts_that_all_do_the_same_leave_nothing_to_choose(trial: Trial, supervisor: Supervisor) -> None:
    choice = chosen(trial, [RIGHT, SAME, RIGHT], supervisor)
    assert (choice.index, choice.chosen_by, choice.agreeing) == (0, ChosenBy.FIRST, 3)


def test_the_best_failing_draft_is_told_its_example_with_the_values(trial: Trial, supervisor: Supervisor) -> None:
    choice = chosen(trial, [CRASHING, BROKEN, SMALLEST], supervisor)
    assert choice.wants_repair and choice.failed is not None
    assert (choice.index, choice.passed, choice.drafts_passed) == (2, 1, 0)
    assert choice.failed.example == "f([3, 1, 2], 2) == 5" and choice.failed.got == "3"
    assert "`f([3, 1, 2], 2)` returns `3`, but it has to return `5`" in repair_request(choice.failed)


def test_an_example_that_gives_a_float_is_told_beside_one_that_gives_none(supervisor: Supervisor) -> None:
    mean = trial_for("Write mid(xs).\nmid([1, 2, 3]) == 2\nmid([1, 2]) == 1.5\nmid([3, 3]) == 3")
    choice = chosen(mean, ["def mid(xs): return sorted(xs)[len(xs) // 2]"], supervisor)
    assert choice.passed == 2 and choice.failed is not None
    assert (choice.failed.example, choice.failed.got) == ("mid([1, 2]) == 1.5", "2")


def test_an_example_whose_value_is_not_plain_is_told_only_where_nothing_else_is_known(supervisor: Supervisor) -> None:
    endless = trial_for("Write mid(xs).\nassert mid([]) == float('inf')\nassert mid([1, 2]) == 2\nassert mid([3]) == 3")
    first, second = (
        chosen(endless, [f"def mid(xs): return {value}"], supervisor)
        for value in ("xs[-1] if xs else 0", "9 if xs else float('inf')")
    )
    assert first.failed is not None and (first.passed, first.failed.example) == (2, "")
    assert second.failed is not None and second.failed.example == "mid([1, 2]) == 2"


def test_a_repaired_draft_is_the_answer_only_where_it_passes_more(trial: Trial, supervisor: Supervisor) -> None:
    choice = chosen(trial, [SMALLEST, CRASHING], supervisor)
    found = run_drafts(trial, [RIGHT, CRASHING], supervisor)
    better, worse = (with_repaired(choice, found[program], 2) for program in (RIGHT, CRASHING))
    assert (better.index, better.chosen_by, better.passed, better.failed) == (2, ChosenBy.REPAIR, 2, None)
    assert worse == choice


def test_a_crash_and_a_syntax_error_are_told_in_words(trial: Trial, supervisor: Supervisor) -> None:
    crashed, broken = (chosen(trial, [one], supervisor).failed for one in ("def f(xs, k): return 1 / 0", BROKEN))
    assert crashed is not None and (crashed.got, crashed.error) == ("", "ZeroDivisionError")
    assert broken is not None and "SyntaxError" in broken.error
    assert "fails: ZeroDivisionError" in repair_request(crashed)


def test_what_runs_is_chosen_where_the_question_has_no_example(supervisor: Supervisor) -> None:
    without = trial_for("```python\ndef f(xs, k):\n    '''The sum of the k largest.'''\n```")
    choice = chosen(without, [BROKEN, RIGHT], supervisor)
    assert (choice.index, choice.examples, choice.chosen_by, choice.wants_repair) == (1, 0, ChosenBy.FIRST, False)


def test_a_program_that_takes_its_verdict_into_its_own_hands_passes_nothing(
    trial: Trial, supervisor: Supervisor
) -> None:
    forging = (
        "import os\nos.write(1, b'{}\\n' * 99)\n"
        "class Five(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
        "def f(xs, k): return Five(7)"
    )
    found = run_drafts(trial, [forging], supervisor)[forging]
    assert found.status != Status.PASSED and found.num_passed < 2
