"""The problems in datasets/problems are right and strict, and a file of a user's that is wrong gets one sentence."""

import ast
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import UserError
from app.problem_sets.own import FOLDER, OwnProblem, read_problems, task_of, tasks_of
from app.records import Status
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import SandboxSettings
from tests.own_problems import arguments_of, rewritten

PROBLEMS = read_problems()
FAILED = {Status.WRONG_ANSWER, Status.RUNTIME_ERROR, Status.TIMEOUT}
OWN = r"""
theme: jam
problems:
  - id: ours/jam/sweetest
    difficulty: easy
    signature: 'def sweetest(jars: list[int]) -> bool'
    statement: |
      Tell whether "\n" or the last jar is the sweetest.
    reference: |
      return bool(jars) and jars[-1] == max(jars)
    wrong: |
      return jars[-1] == max(jars)
    tests: |
      sweetest([1, 3]) == True
      sweetest([]) == False
      sweetest([ 2, 1 ]) == False
  - id: ours/jam/pot
    split: train
    difficulty: medium
    signature: class Pot
    statement: |
      A pot.

      __init__(self, sizes: list[int]): holds them
      take(self): returns the last, raises IndexError if there is none
    reference: |
      def __init__(self, sizes):
          self.sizes = sizes

      def take(self):
          return self.sizes.pop()
    wrong: |
      def __init__(self, sizes):
          self.sizes = sizes

      def take(self):
          return self.sizes[-1]
    tests: |
      Pot([[4, 7]], [["take"], ["take"], ["take"]]) == [7, 4, "IndexError"]
"""


def program(problem: OwnProblem, body: str) -> str:
    return problem.prompt + body


def test_there_are_300_problems_and_more_of_each_difficulty_and_a_fixed_split() -> None:
    assert len(PROBLEMS) >= 300
    splits = Counter(problem.split for problem in PROBLEMS)
    assert splits["train"] >= 200 and splits["validation"] >= 100
    for held in (PROBLEMS, *([p for p in PROBLEMS if p.split == split] for split in splits)):
        difficulties = Counter(problem.difficulty for problem in held)
        assert len(difficulties) == 3 and all(0.25 < count / len(held) < 0.45 for count in difficulties.values())
    themes = {problem.id.split("/")[1] for problem in PROBLEMS}
    assert themes == {file.stem for file in FOLDER.glob("*.yaml")}
    for theme in themes:
        of_theme = [problem.split for problem in PROBLEMS if problem.id.split("/")[1] == theme]
        assert 0.2 < of_theme.count("validation") / len(of_theme) < 0.47, theme


def test_names_are_unique_and_the_readme_tells_the_numbers() -> None:
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS)
    readme = (FOLDER / "README.md").read_text()
    splits, difficulties = (Counter(getattr(p, key) for p in PROBLEMS) for key in ("split", "difficulty"))
    assert f"{len(PROBLEMS)} small problems" in readme
    assert f"{splits['train']} problems to train on, {splits['validation']} for validation" in readme
    assert all(f"| `{word}` | {count} |" in readme for word, count in difficulties.items())


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_generated_tests_are_those_that_the_references_give(file: Path) -> None:
    text = file.read_text()
    assert text == rewritten(text, read_problems(file)), "run `python -m tests.own_problems`"


def test_every_problem_says_what_it_wants_and_has_enough_tests() -> None:
    for problem in PROBLEMS:
        assert problem.id.endswith("/" + task_name(problem)), problem.id
        assert len(problem.by_hand) >= 6 and problem.inputs.strip(), problem.id
        arguments = [repr(arguments_of(case)) for case in problem.cases]
        assert len(set(arguments)) == len(arguments) >= 8, problem.id
        assert len({case.answer for case in problem.cases}) > 1, problem.id
        assert len(problem.statement) > 30, problem.id
        assert max(map(len, problem.statement.splitlines())) <= 116, problem.id
        (node,) = ast.parse(problem.prompt).body
        if isinstance(node, ast.FunctionDef):
            assert node.returns and all(argument.annotation for argument in node.args.args), problem.id
        else:
            methods = {n.name for n in ast.walk(ast.parse(program(problem, problem.reference)))
                       if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}  # fmt: skip
            assert all(f"\n{method}(self" in problem.statement for method in methods), problem.id


def task_name(problem: OwnProblem) -> str:
    """DoorBell -> door-bell, last_word -> last-word."""
    letters = (f"-{letter.lower()}" if letter.isupper() else letter for letter in problem.name)
    return "".join(letters).lstrip("-").replace("_", "-")


def test_references_pass_in_the_sandbox_and_hasty_bodies_fail() -> None:
    jobs = []
    for problem in PROBLEMS:
        bodies = (problem.reference, problem.wrong)
        jobs.append((task_of(problem).problem, [program(problem, body) for body in bodies]))
    with closing(LocalJudges(SandboxSettings(timeout_s=1), confinement())) as judges:
        for (problem, _), (right, wrong) in zip(jobs, judges.judge_all(jobs), strict=True):
            assert right.status == Status.PASSED, (problem.id, right)
            assert right.tier == confinement().tier, "the tests stay apart from the program"
            assert wrong.status in FAILED, (problem.id, wrong)


def test_answers_are_compared_with_their_types(tmp_path: Path) -> None:
    (tmp_path / "jam.yaml").write_text(OWN)
    jam, pot = tasks_of(tmp_path)
    assert (jam.problem.split, pot.problem.split, pot.problem.entry_point) == ("validation", "train", "use_Pot")
    assert (jam.problem.source, jam.problem.licence, jam.problem.difficulty) == ("user", "", "easy"), "nobody says more"
    assert jam.problem.prompt == (
        'def sweetest(jars: list[int]) -> bool:\n    """Tell whether "\\\\n" or the last jar is the sweetest.\n\n'
        '    >>> sweetest([1, 3])\n    True\n    """\n'
    )
    bodies = [jam.canonical_solution, "    return int(bool(jars) and jars[-1] == max(jars))\n"]
    with closing(LocalJudges(SandboxSettings(timeout_s=1), confinement())) as judges:
        jobs = [(jam.problem, [jam.problem.prompt + body for body in bodies])]
        jobs.append((pot.problem, [pot.problem.prompt + pot.canonical_solution]))
        (right, whole), (also_right,) = judges.judge_all(jobs)
    assert (right.status, whole.status, also_right.status) == (Status.PASSED, Status.WRONG_ANSWER, Status.PASSED)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("difficulty: easy", "difficulty: simple", r"problems\.0\.difficulty = 'simple' is not possible"),
        ("difficulty: easy", "hint: none", r"problems\.0\.difficulty = .* is not possible .*required"),
        ("theme: jam", "topic: jam", r"theme = .* is not possible"),
        ("split: train", "split: test", r"problems\.1\.split = 'test' is not possible"),
        ("id: ours/jam/pot", "id: pot", r"problems\.1\.id = 'pot' is not possible"),
        (
            "id: ours/jam/pot",
            "id: ours/jam/sweetest",
            "sweetest' is there twice: give one of them another id",
        ),
        ("'def sweetest(jars: list[int]) -> bool'", "sweetest(jars)", r"problems\.0\.signature .*neither the head"),
        ("return bool(jars)", "return (", r"problems\.0\.reference .*no Python"),
        ("sweetest([]) == False", "sweetest([]) is False", r"problems\.0 .*'sweetest\(\[\]\) is False' has not the"),
        ("sweetest([]) == False", "sweetest(x) == False", r"problems\.0 .*plain values"),
        ("sweetest([]) == False", "sweet([]) == False", r"problems\.0 .*the form `sweetest\("),
        ("sweetest([]) == False", "sweetest([]) ==", r"problems\.0 .*tests: no Python"),
        ("theme: jam", "theme: [", "can't be read as YAML"),
    ],
)
def test_a_file_that_is_wrong_gets_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in OWN
    file = tmp_path / "jam.yaml"
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=says) as caught:
        read_problems(file)
    assert len(str(caught.value).removeprefix(str(file))) < 350 and "\n" not in str(caught.value)


def test_a_file_that_is_written_again_in_place_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "jam.yaml"
    for level in ("easy", "hard"):
        file.write_text(OWN.replace("difficulty: easy", f"difficulty: {level}"))
        assert [problem.difficulty for problem in read_problems(file)] == [level, "medium"]


def test_a_path_without_problems_gets_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match="holds no problems: give a YAML file, or a folder of them"):
            read_problems(path)
    (tmp_path / "jam.yaml").write_text(OWN.replace("sweetest([1, 3]) == True\n      sweetest([]) == False\n", "")
                                       .replace("      sweetest([ 2, 1 ]) == False\n", "      # none\n"))  # fmt: skip
    with pytest.raises(UserError, match="it has no tests"):
        read_problems(tmp_path)
