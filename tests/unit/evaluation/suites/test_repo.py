"""The suite `repo`: its own problems are right and strict, and every shape of a reply becomes the same program."""

import ast
import dataclasses
import pickle
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.corpus.mining.mutants import mutants
from app.errors import UserError
from app.evaluation.suites.registry import get_suite
from app.evaluation.suites.repo import FOLDER, Repo, Target, assembled, read_package, taken_apart
from app.problem_sets.task import Task
from app.prompting.protocols import SOURCE_STOP
from app.records import Problem, Status, Verdict
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings

SUITE = Repo()
PACKAGES = [read_package(file) for file in sorted(FOLDER.glob("*.yaml"))]
TARGETS = [target for package in PACKAGES for target in package.problems]
TASKS = SUITE.load(None)
PAIRS = list(zip(TASKS, TARGETS, strict=True))
FAILED = {Status.WRONG_ANSWER, Status.RUNTIME_ERROR}
OWN = """
package: hut
files:
  __init__.py: |
    WIDTH = 7
  kinds.py: |
    KINDS = {}

    def kind(name):
        if name in KINDS:
            raise ValueError(name)
        return lambda function: KINDS.setdefault(name, function)
problems:
  - file: doors.py
    difficulty: easy
    before: |
      from . import WIDTH
      from .kinds import kind

      SPARE = 1

      @kind("plain")
      def plain(count: int) -> int:
          return count * WIDTH
    header: |
      def doors(count: int) -> int:
          \"\"\"The width of all doors and a spare.\"\"\"
    body: |
      return plain(count) + SPARE
    wrong: |
      return count + SPARE
    driver: |
      import hut.doors

      def doors_case(count):
          return hut.doors.doors(count)
    tests: |
      def check(candidate):
          assert candidate(0) == 1
          assert candidate(3) == 22
"""


@pytest.fixture(scope="module")
def judges() -> Iterator[LocalJudges]:
    with closing(LocalJudges(SandboxSettings(timeout_s=1), confinement())) as made:
        yield made


def judged(judges: LocalJudges, problem: Problem, *programs: str) -> list[Verdict]:
    return next(judges.judge_all([(problem, programs)]))


def fenced(*files: str) -> str:
    return "Here it is.\n\n" + "\n\n".join(f"```python\n{text.rstrip()}\n```" for text in files) + "\n\nThat is all."


def function(target: Target, body: str) -> str:
    return f"{target.header.rstrip()}\n{body}"


def replies(task: Task, target: Target, body: str) -> dict[str, str]:
    """Programs of every shape in which a model may give this body."""
    package = task.problem.id.split("/")[1]
    whole = f"{target.before}\n\n{function(target, body)}"
    absolute = whole.replace("from . import", f"from {package} import").replace("from .", f"from {package}.")
    sibling = next(iter(taken_apart(task.problem.prompt).siblings.values()))
    chat = {
        "the function": fenced(function(target, body)),
        "the function without a fence": function(target, body),
        "the function after a sibling": fenced(sibling, function(target, body)),
        "the function with an import from the future": fenced(
            f"from __future__ import annotations\nimport os\n\n{function(target, body)}"
        ),
        "the whole file": fenced(whole),
        "the whole file, absolute imports": fenced(f"# {package}/{target.file}\n{absolute}"),
        "the body": fenced(body),
        "the body, not indented": fenced(textwrap.dedent(body)),
    }
    programs = {shape: SUITE.program(task.problem, "chat", reply) for shape, reply in chat.items()}
    programs["a continuation"] = SUITE.program(task.problem, "completion", f"\n{body}")
    programs["a sample of somebody else's"] = SUITE.given_program(task.problem, body)
    return programs


@pytest.mark.parametrize(
    "code", ["x = " + "-" * 8000 + "1", "x = " + "1+" * 6000 + "1", "x = a" + ".a" * 6000, "\ud800"]
)
def test_endless_repetition_is_a_wrong_program_and_no_error_of_the_harness(code: str, judges: LocalJudges) -> None:
    task, target = PAIRS[0]
    reply = f"```python\n{target.header.rstrip()}\n    {code}\n```"
    program = SUITE.program(task.problem, "chat", reply)
    ((verdict,),) = judges.judge_all([(task.problem, [program])])
    assert verdict.status in {*FAILED, Status.LOAD_ERROR, Status.MEMORY}, verdict


def test_there_are_enough_problems_of_every_difficulty_each_with_enough_assertions() -> None:
    assert len(TASKS) >= 40 and len(PACKAGES) >= 12
    by_difficulty = [[task for task in TASKS if task.problem.difficulty == word] for word in ("easy", "medium", "hard")]
    assert all(len(tasks) >= 12 for tasks in by_difficulty)
    for task in TASKS:
        assert sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(task.problem.tests))) >= 4, (
            task.problem.id
        )
        assert (task.problem.source, task.problem.licence) == ("pocketcoder", "MIT")
    assert len({task.problem.entry_point for task in TASKS}) == len(TASKS)


def test_right_bodies_pass_and_guesses_at_the_siblings_fail(judges: LocalJudges) -> None:
    jobs = []
    for task, target in PAIRS:
        bodies = (target.body, target.wrong, "    pass\n", "    return None\n", "")
        jobs.append((task.problem, [SUITE.given_program(task.problem, body) for body in bodies]))
    for (problem, _), (right, *others) in zip(jobs, judges.judge_all(jobs), strict=True):
        assert right.status == Status.PASSED, (problem.id, right)
        assert right.tier == confinement().tier, "the tests stay apart from the program"
        assert {verdict.status for verdict in others} <= FAILED, (problem.id, others)


def test_most_mutants_of_the_right_bodies_fail(judges: LocalJudges) -> None:
    jobs = []
    for task, target in PAIRS:
        parts = taken_apart(task.problem.prompt)
        changed = [text for _, text in mutants(function(target, target.body), target.name)]
        jobs.append((task.problem, [assembled(parts, parts.before + text) for text in changed]))
    survivors, total = [], 0
    for (problem, programs), verdicts in zip(jobs, judges.judge_all(jobs), strict=True):
        passed = sum(verdict.status == Status.PASSED for verdict in verdicts)
        survivors += [problem.id] * passed
        total += len(programs)
        assert passed <= len(programs) / 4, problem.id
    assert total > 400 and len(survivors) / total < 0.03, survivors  # those known mean the same


def test_every_shape_of_a_reply_gets_the_same_verdict(judges: LocalJudges) -> None:
    right = [replies(task, target, target.body) for task, target in PAIRS]
    wrong = [replies(task, target, target.wrong) for task, target in PAIRS[::5]]
    shapes = [*zip(TASKS, right, strict=True), *zip(TASKS[::5], wrong, strict=True)]
    jobs = [(task.problem, list(dict.fromkeys(programs.values()))) for task, programs in shapes]
    for number, ((_, programs), verdicts) in enumerate(zip(jobs, judges.judge_all(jobs), strict=True)):
        for program, verdict in zip(programs, verdicts, strict=True):  # many shapes become one text
            expected = {Status.PASSED} if number < len(TASKS) else FAILED
            assert verdict.status in expected, (verdict.problem_id, program, verdict)


def test_prompts_hold_every_file_of_the_package_and_no_solution() -> None:
    for package in PACKAGES:
        for target in package.problems:
            task = next(task for task in TASKS if task.problem.id == f"repo/{package.package}/{target.name}")
            (turn,) = SUITE.chat(task.problem, []) or []
            for prompt in (turn["content"], SUITE.completion(task.problem, []) or ""):
                for name, text in package.files.items():
                    assert f"{package.package}/{name}" in prompt and text.strip() in prompt
                assert prompt.rstrip("`\n").endswith(target.header.rstrip()) and target.before.rstrip() in prompt
                assert f"{package.package}/{target.file}" in prompt
                assert textwrap.dedent(target.body).strip() not in prompt and target.driver.strip() not in prompt
            assert (
                f"Complete the function `{target.name}` of the file `{package.package}/{target.file}`"
                in turn["content"]
            )
            assert f"These are files of the package `{package.package}`:" in turn["content"]
            assert not any(stop in f"\n{target.body}" for stop in SOURCE_STOP), "greedy text would be cut"
            assert SUITE.chat(task.problem, ["done"]) is None and SUITE.completion(task.problem, ["done"]) is None


def test_prompts_fit_a_small_context() -> None:
    # SmolLM2's tokenizer makes at least three characters of such source a token; all prompts have under 700 tokens
    lengths = sorted(len(SUITE.question(task.problem)) for task in TASKS)
    assert lengths[-1] < 3600


def test_a_problem_alone_is_enough_to_judge_by(judges: LocalJudges) -> None:
    task = TASKS[0]
    problem = pickle.loads(pickle.dumps(task.problem))
    program = get_suite("repo").program(problem, "completion", "\n" + task.canonical_solution)
    assert judged(judges, dataclasses.replace(problem, id="x"), program)[0].status == Status.PASSED


def test_a_users_own_package_with_definitions_before_the_function(tmp_path: Path, judges: LocalJudges) -> None:
    (tmp_path / "hut.yaml").write_text(OWN)
    (task,), (same,) = SUITE.load(tmp_path), SUITE.load(tmp_path / "hut.yaml")
    assert task == same and task.problem.id == "repo/hut/doors" and task.problem.entry_point == "doors_case"
    target = read_package(tmp_path / "hut.yaml").problems[0]
    programs = replies(task, target, target.body)
    spare = fenced(f"SPARE = 1\n\n{function(target, target.body)}")
    whole = fenced(f"import hut\nimport hut.kinds as k\n\n{target.before}\n{function(target, target.body)}")
    inside = fenced(function(target, "    from hut.kinds import KINDS\n    return KINDS['plain'](count) + 1\n"))
    own = [SUITE.program(task.problem, "chat", reply) for reply in (spare, whole, inside)]
    verdicts = judged(judges, task.problem, *programs.values(), *own)
    assert [verdict.status for verdict in verdicts] == [Status.PASSED] * len(verdicts), verdicts
    other = fenced(f"SPARE = 2\n\n{function(target, target.body)}"), fenced(target.before), "```python\ndef (\n```"
    verdicts = judged(judges, task.problem, *(SUITE.program(task.problem, "chat", reply) for reply in other))
    assert verdicts[0].status == Status.WRONG_ANSWER, "the reply's own definition wins"
    assert Status.PASSED not in {verdict.status for verdict in verdicts}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("package: hut", "package: json", "package = 'json' is not possible .*choose another"),
        ("package: hut", "packages: hut", "package = .* is not possible .*required"),
        ("difficulty: easy", "difficulty: simple", r"problems\.0\.difficulty = 'simple' is not possible"),
        ("difficulty: easy", "difficulty: easy\n    hint: none", r"problems\.0\.hint = 'none' is not possible"),
        ("return plain(count) + SPARE", "return (", r"problems\.0\.body .*no Python"),
        ("WIDTH = 7", "# hut/other.py\n    WIDTH = 7", r"files\.__init__\.py .*begins a file"),
        ("  kinds.py:", "  kinds.txt:", "files.kinds.txt"),
        ("file: doors.py", "file: kinds.py", r"problems\.0\.file = 'kinds.py' is one of the siblings"),
        ("def doors(count: int) -> int:", "class Doors:", r"problems\.0\.header ends in no function"),
        ("def doors_case(count):", "class Case:", r"problems\.0\.driver ends in no function"),
        ("def check(candidate)", "def test(candidate)", r"problems\.0\.tests define no check"),
        ("package: hut", "package: [", "can't be read as YAML"),
    ],
)
def test_a_file_that_is_wrong_gets_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in OWN
    file = tmp_path / "hut.yaml"
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=says) as caught:
        SUITE.load(file)
    assert len(str(caught.value).removeprefix(str(file))) < 300 and "\n" not in str(caught.value)


def test_a_path_without_problems_or_with_the_same_one_twice_gets_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match="holds no problems: give a YAML file, or a folder"):
            SUITE.load(path)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(OWN)
    with pytest.raises(UserError, match="'repo/hut/doors' is there twice"):
        SUITE.load(tmp_path)
