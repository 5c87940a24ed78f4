"""A build without a benchmark's files is guarded by the hashes that come with the project, and says by what."""

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.guard import SHIPPED, Guard, guard_of, read_signs, ship, shipped_suites, signs_bytes
from app.corpus.clean.signs import MAX_PROBLEMS, SIGNS, merged, signs_of
from app.errors import UserError
from app.evaluation.guarded_suites import guard_against, guard_for, guarded_texts, main
from app.evaluation.suites import humaneval
from app.evaluation.suites.registry import ALWAYS_HERE, ASKED_OTHERWISE, PARTS, SUITES, TUNING, VALIDATION, get_suite
from app.profiles import smoke
from app.records import BenchmarkText
from app.settings import EvaluationSettings

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the suites' own
MAX_BYTES = 2_000_000
FOR_CHOICES = {*VALIDATION, *TUNING} - {*ALWAYS_HERE}


@pytest.fixture(scope="module")
def tasks() -> list[humaneval.Task]:
    return humaneval.load()


@pytest.fixture(scope="module")
def shipped() -> Decontaminator:
    return Decontaminator(
        signs=[each for name in shipped_suites() for each in read_signs(SHIPPED / f"{name}.parquet")[0]]
    )


@pytest.fixture(scope="module")
def default() -> tuple[Guard, Decontaminator]:
    """The guard of a build that says nothing of suites, and what it goes by."""
    guard = guard_for(smoke().evaluation)
    return guard, Decontaminator(signs=guard.signs())


def copies(task: humaneval.Task) -> list[tuple[str, list[str]]]:
    """A solution as it is, formatted anew, and under other names, with the functions that it defines."""
    source, name = task.problem.prompt + task.canonical_solution, task.problem.entry_point
    plain = ast.unparse(ast.parse(source))
    names = {node.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arg)}
    renamed = re.sub(r'"""[\s\S]*?"""', "pass", plain)
    for number, old in enumerate(sorted({name, *names})):
        renamed = re.sub(rf"\b{old}\b", f"item_{number}", renamed)
    return [(source, [name]), (source, []), (plain, []), (renamed, [])]


def test_the_shipped_hashes_of_humaneval_are_those_of_its_problems(tasks: list[humaneval.Task], tmp_path: Path) -> None:
    made = ship("humaneval", guarded_texts("humaneval", tasks), tmp_path)
    ((ours,), facts), ((theirs,), told) = read_signs(made), read_signs(SHIPPED / "humaneval.parquet")
    assert facts == told and ours.label == theirs.label
    assert all(np.array_equal(getattr(ours, kind), getattr(theirs, kind)) for kind in SIGNS)
    before = made.read_bytes()
    assert ship("humaneval", guarded_texts("humaneval", tasks), tmp_path).read_bytes() == before


def test_hashes_alone_find_what_the_problems_find(tasks: list[humaneval.Task]) -> None:
    by_text = Decontaminator(task.benchmark_text for task in tasks)
    by_hash = Decontaminator(signs=read_signs(SHIPPED / "humaneval.parquet")[0])
    found = 0
    for task in tasks:
        for text, names in copies(task):
            reasons = [guard.hit(text, names).partition(":")[0] for guard in (by_text, by_hash)]
            assert reasons[0] == reasons[1], task.problem.id
            found += bool(reasons[0])
    assert found > 3.5 * len(tasks)


@pytest.mark.parametrize("suite", ["humaneval_plus", "leetcode", "mbpp", "mbpp_plus", "mbpp_sanitized", "tooluse"])
def test_every_suite_that_can_be_told_comes_with_the_project(suite: str) -> None:
    (signs,), facts = read_signs(SHIPPED / f"{suite}.parquet")
    assert facts["suite"] == signs.label == suite and facts["by"] == "hashes" and facts["problems"] > 100
    assert len(signs.words) > 5000
    for kind in SIGNS:
        assert not (getattr(signs, kind) >> 48).any(), "48 bits"


def test_the_hashes_are_small_and_hold_no_text() -> None:
    files = list(SHIPPED.glob("*.parquet"))
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    for path in files:
        assert b"def " not in path.read_bytes()


def test_a_public_problem_is_found_without_its_file(shipped: Decontaminator) -> None:
    """MBPP/11's statement and its entry point, and a statement of LeetCode's test split in a docstring."""
    assert shipped.hit(
        'def f(s, ch):\n    """Write a python function to remove first and last occurrence of a given character."""\n',
        ["f"],
    )
    assert shipped.hit("def remove_Occ(s, ch):\n    return s\n", ["remove_Occ"])
    statement = (
        "You have to rearrange the bits in such a way that the resulting binary number is the maximum odd binary number"
        " that can be created from this combination."
    )
    assert shipped.hit(f'def f(s):\n    """{statement}"""\n    return s\n', ["f"])


ORDINARY = [
    "from typing import List\n\n\ndef merge_all(values: List[int]) -> List[int]:\n{}",
    "from typing import List, Tuple\n\n\ndef split_sizes(sizes: List[int], most: int) -> Tuple[List[int], int]:\n{}",
    "from typing import Dict, List, Optional\n\n\ndef by_owner(rows: List[Dict[str, int]]) -> Optional[int]:\n{}",
    "from typing import List\n\n\nclass Solution:\n    def visit_rows(self, nums: List[int], k: int) -> int:\n    {}",
    "import math\nfrom typing import Any, List\n\n\ndef keep_plain(values: List[Any]) -> List[int]:\n{}",
    "from typing import List, Optional\n\n\ndef longest_row(rows: List[str], least: float = 0.5) -> Optional[str]:\n{}",
]


@pytest.mark.parametrize("opening", ORDINARY)
@pytest.mark.parametrize("body", ["    result = []\n", "    return [\n", "    if not values:\n        return []\n"])
def test_an_ordinary_signature_is_no_benchmark(shipped: Decontaminator, opening: str, body: str) -> None:
    document = opening.format('    """Sort by size and keep what the caller has room for."""\n' + body)
    assert shipped.hit(document, re.findall(r"def (\w+)", document)) == ""


def test_what_many_problems_share_is_no_evidence() -> None:
    shared = "Complete the following Python function so that its hidden checks succeed in every single case."
    own = "problem {} weighs copper against number {} of silver until the brass balance tips over at noon"
    texts = [
        BenchmarkText(problem_id=str(n), entry_point="", text=f"{shared}\n\n{own.format(f'x{n}x', f'y{n}y')}")
        for n in range(MAX_PROBLEMS + 1)
    ]
    assert Decontaminator(texts).hit(shared, []) == ""
    assert Decontaminator(texts[:-1]).hit(shared, [])


def test_signs_come_back_from_their_file_as_they_were(tmp_path: Path, tasks: list[humaneval.Task]) -> None:
    signs = signs_of(task.benchmark_text for task in tasks[:3])
    (tmp_path / "signs.parquet").write_bytes(signs_bytes([*signs, merged("all", signs)], {"a": 1}))
    held, facts = read_signs(tmp_path / "signs.parquet")
    assert facts == {"a": 1} and [each.label for each in held] == [*(each.label for each in signs), "all"]
    for before, after in zip(signs, held, strict=False):
        assert all((getattr(before, kind) == getattr(after, kind)).all() for kind in SIGNS)


def mbpp_row(task: int, text: str) -> dict[str, Any]:
    return {
        "task_id": task,
        "text": text,
        "code": "def stack_lanterns(a):\n    return sorted(a)",
        "test_list": ["assert stack_lanterns([2, 1]) == [1, 2]"],
        "test_setup_code": "",
    }


def test_the_default_guard_is_every_suite_and_names_what_it_lacks(default: tuple[Guard, Decontaminator]) -> None:
    guard, _ = default
    named = {suite.suite: suite for suite in guard.suites}
    assert {*named} | {*guard.unguarded} == {*SUITES} - {*FOR_CHOICES, *ASKED_OTHERWISE}
    assert {*guard.unguarded} == {"apps", *PARTS}
    assert all(named[name].by == "text" for name in ALWAYS_HERE)
    assert named["mbpp"].by == "hashes" and (named["mbpp"].problems, named["leetcode"].problems) == (500, 200)
    assert {row["suite"] for row in guard.facts()["suites"]} == {*named}


def test_problems_for_validation_are_guarded_where_a_run_is_measured_by_them(
    tmp_path: Path, default: tuple[Guard, Decontaminator]
) -> None:
    row = mbpp_row(596, "Write a function to stack the amber lanterns of a northern harbour by distance from the quay.")
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row))
    validation = EvaluationSettings(
        suites=("ours", "mbpp_validation"), problems=(f"mbpp_validation={tmp_path / 'mbpp.jsonl'}",)
    )
    guard = guard_for(smoke().evaluation, validation)
    assert next(s for s in guard.suites if s.suite == "mbpp_validation").problems == 1
    assert Decontaminator(signs=guard.signs()).hit(f'"""{row["text"]}"""', [])
    assert not default[1].hit(f'"""{row["text"]}"""', [])


def test_a_file_that_is_given_is_guarded_by_its_text_and_the_hashes_stay(tmp_path: Path) -> None:
    row = mbpp_row(11, "Write a function to stack the amber lanterns of a northern harbour by distance from the quay.")
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row))
    guard = guard_for(EvaluationSettings(problems=(f"mbpp={tmp_path / 'mbpp.jsonl'}",)))
    mbpp = next(suite for suite in guard.suites if suite.suite == "mbpp")
    assert (mbpp.by, mbpp.problems) == ("text", 1)
    held = Decontaminator(signs=guard.signs())
    assert held.hit(f'"""{row["text"]}"""', []) and held.hit("def remove_Occ(s):\n    return s\n", ["remove_Occ"])
    (tmp_path / "mbpp.jsonl").write_text("no JSON\n")
    with pytest.raises(UserError, match="mbpp"):
        guard_for(EvaluationSettings(problems=(f"mbpp={tmp_path / 'mbpp.jsonl'}",)))


def test_a_suite_that_a_corpus_was_not_guarded_against_is_told(tasks: list[humaneval.Task]) -> None:
    guard = guard_of({"humaneval": guarded_texts("humaneval", tasks)}, shipped=["mbpp"])
    manifest = {"guard": guard.facts()}
    assert guard_against(manifest, "humaneval", tasks) == ""
    assert "without a guard against leetcode" in guard_against(manifest, "leetcode", tasks)
    assert "another edition of mbpp, of 500 problems" in guard_against(manifest, "mbpp", tasks)
    changed = [dataclasses.replace(tasks[0], canonical_solution="    pass\n"), *tasks[1:]]
    assert "another edition" in guard_against(manifest, "humaneval", changed)
    assert "older version" in guard_against({}, "humaneval", tasks)


def test_a_suite_measured_from_another_one_s_problems_is_guarded_there() -> None:
    search = get_suite("search_docs").load(None)
    assert len(guarded_texts("search_docs", search)) == len(search) and guarded_texts("tooluse", search) == []


def test_the_command_makes_the_hashes_of_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["humaneval", "--to", str(tmp_path)])
    assert "164 problems" in capsys.readouterr().out and (tmp_path / "humaneval.parquet").exists()
    with pytest.raises(SystemExit, match="mbpp_plus needs its release file"):
        main(["mbpp_plus", "--to", str(tmp_path)])
