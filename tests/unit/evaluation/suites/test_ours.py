"""The suite `ours`: the problems for validation, and every shape of a reply becomes the program."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation.suites.ours import defined_name
from app.evaluation.suites.registry import NUM_PROBLEMS, get_suite
from app.problem_sets.own import FOLDER, tasks_of
from app.prompting.protocols import SOURCE_STOP
from app.records import Status
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

SUITE = get_suite("ours")
TASKS = SUITE.load(None)
CHOSEN = [*TASKS[::9], *(task for task in TASKS if task.problem.prompt.startswith("class "))][:20]


@pytest.fixture(scope="module")
def judges() -> Iterator[LocalJudges]:
    with closing(LocalJudges(SandboxSettings(timeout_s=1), confinement())) as made:
        yield made


def test_only_the_problems_for_validation_are_measured() -> None:
    assert len(TASKS) == NUM_PROBLEMS["ours"] and {task.problem.split for task in TASKS} == {"validation"}
    held = {task.problem.id for task in tasks_of()}
    assert len(held) > len(TASKS) and {task.problem.id for task in TASKS} < held
    assert len({task.problem.entry_point for task in TASKS}) == len(TASKS)


def test_every_shape_of_a_reply_becomes_the_program(judges: LocalJudges) -> None:
    jobs = []
    for task in CHOSEN:
        problem, body = task.problem, task.canonical_solution
        whole = problem.prompt + body
        chat = [
            f"Here it is.\n\n```python\n{whole}```\n\nThat is all.",
            whole,
            f"```python\nimport os\n\n{whole}\nprint('done')\n```",
            f"```python\n{body}```",
            f"```\n{problem.prompt}```\n```python\n{whole}```",
        ]
        programs = [SUITE.program(problem, "chat", reply) for reply in chat]
        programs += [SUITE.program(problem, "completion", f"\n{body}"), SUITE.given_program(problem, body)]
        jobs.append((problem, programs))
    for verdicts in judges.judge_all(jobs):
        assert {verdict.status for verdict in verdicts} == {Status.PASSED}, verdicts


def test_questions_show_signature_and_docstring_and_nothing_else() -> None:
    for task in TASKS:
        (turn,) = SUITE.chat(task.problem, []) or []
        kind = "class" if task.problem.prompt.startswith("class ") else "function"
        assert turn["content"].startswith(f"Complete the following Python {kind}. Reply with the whole {kind} in one")
        assert task.problem.prompt.strip() in turn["content"] and defined_name(task.problem.prompt) in turn["content"]
        assert task.canonical_solution.strip() not in turn["content"] and "check(" not in turn["content"]
        assert not any(stop in f"\n{task.canonical_solution}" for stop in SOURCE_STOP), "greedy text would be cut"
        assert len(turn["content"]) < 2500, "fits a small context"


def test_a_users_file_needs_problems_for_validation(tmp_path: Path) -> None:
    file = FOLDER / "choices.yaml"
    assert {task.problem.id for task in SUITE.load(file)} < {task.problem.id for task in TASKS}
    text = file.read_text().replace("split: validation", "split: train")
    (tmp_path / "choices.yaml").write_text(text)
    with pytest.raises(UserError, match="holds no problem for validation: give one that says `split: validation`"):
        SUITE.load(tmp_path)
