"""HumanEval+ and MBPP+: answers are compared with the reference's, as EvalPlus compares them. The rows are invented.

The real files are tried where POCKETCODER_DATA names a folder that holds evalplus/.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.suites.evalplus import HumanEvalPlus, MbppPlus, is_close, is_distance, is_root, is_surface
from app.records import Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings
from tests.suite_files import failing_references, real, statuses, written


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SandboxSettings(timeout_s=3)) as made:
        yield made


def plus_row(**changes: Any) -> dict[str, Any]:
    return {
        "task_id": "HumanEval/0",
        "prompt": 'def halves(values: list) -> list:\n    """Halve each."""\n',
        "entry_point": "halves",
        "canonical_solution": "    return [value / 2 for value in values]\n",
        "base_input": [[[1, 2]], [[]]],
        "plus_input": [[[-1, 0.1]]],
        "atol": 0,
    } | changes


def test_plus_answers_are_compared_with_the_references(tmp_path: Path, supervisor: Supervisor) -> None:
    path = written(tmp_path / "HumanEvalPlus.jsonl.gz", [plus_row()])
    suite, base = HumanEvalPlus(), HumanEvalPlus()
    base.base_only = True
    problem, base_problem = suite.load(path)[0].problem, base.load(path)[0].problem
    bodies = {
        "    return [value / 2 for value in values]\n": ["passed", "passed"],
        "    return [value / 2 + 1e-9 for value in values]\n": ["passed", "passed"],  # allclose, as there
        "    return [value / 2 + 1e-3 for value in values]\n": ["wrong_answer"] * 2,
        "    return tuple(value / 2 for value in values)\n": ["wrong_answer"] * 2,
        "    return [abs(value) / 2 for value in values]\n": ["wrong_answer", "passed"],  # only an added input shows it
        "    return [value / 2 for value in values if values.clear() or 1]\n": ["wrong_answer"] * 2,
        "    return 1 // 0\n": ["runtime_error"] * 2,
    }
    for body, expected in bodies.items():
        program = suite.given_program(problem, body)
        got = [supervisor.judge(problem, program).status, supervisor.judge(base_problem, program).status]
        assert got == expected, body
    assert suite.chat(problem, []) and suite.completion(problem, []) == problem.prompt


def test_a_slow_reference_runs_once_a_judge_and_gives_programs_four_times_its_time(tmp_path: Path) -> None:
    spin = "    from time import process_time\n    end = process_time() + {}\n    while process_time() < end: pass\n"
    row = plus_row(canonical_solution=spin.format(0.25) + "    return values\n", base_input=[[[1]]], plus_input=[])
    suite = HumanEvalPlus()
    problem = suite.load(written(tmp_path / "plus.jsonl", [row]))[0].problem
    programs = [suite.given_program(problem, spin.format(seconds) + "    return values\n") for seconds in (0.6, 0.6, 3)]
    with Supervisor(SandboxSettings(timeout_s=0.2)) as impatient:
        verdicts = [impatient.judge(problem, program) for program in programs]
    assert [verdict.status for verdict in verdicts] == [Status.PASSED, Status.PASSED, Status.TIMEOUT]
    assert max(verdict.cpu_seconds for verdict in verdicts[:2]) < 0.8  # without the reference's quarter of a second


def test_an_input_whose_answer_can_not_cross_is_left_out(tmp_path: Path, supervisor: Supervisor) -> None:
    row = plus_row(canonical_solution="    return values * 10 ** values[0]\n", base_input=[[[1]]], plus_input=[[[6]]])
    suite = HumanEvalPlus()
    problem = suite.load(written(tmp_path / "plus.jsonl", [row]))[0].problem
    program = suite.given_program(problem, row["canonical_solution"])
    assert statuses(supervisor, problem, [program, program.replace("10", "11")]) == ["passed", "wrong_answer"]


def test_mbpp_plus_restores_tuples_and_has_oracles_of_its_own(tmp_path: Path, supervisor: Supervisor) -> None:
    shared = plus_row(
        task_id="Mbpp/2",
        prompt='"""\nShared elements.\nassert set(similar_elements((1, 2), (2, 3))) == {2}\n"""\n',
        entry_point="similar_elements",
        canonical_solution="def similar_elements(a, b):\n    return tuple(sorted(set(a) & set(b)))\n",
        base_input=[[[1, 2, 3], [3, 2]]],
        plus_input=[[[], []]],
    )
    match = shared | {
        "task_id": "Mbpp/787",
        "entry_point": "text_match_three",
        "canonical_solution": "import re\ndef text_match_three(text):\n    return re.search('b', text)\n",
        "base_input": [["abc"], ["c"]],
        "plus_input": [],
    }
    suite = MbppPlus()
    first, second = (task.problem for task in suite.load(written(tmp_path / "plus.jsonl", [shared, match])))
    question = suite.question(first)
    assert "Shared elements." in question and '"""' not in question
    programs = [
        "def similar_elements(a, b):\n    assert type(a) is tuple\n    return [3, 2] if a else []\n",
        "def similar_elements(a, b):\n    return a\n",
    ]
    programs = [suite.given_program(first, program) for program in programs]
    assert statuses(supervisor, first, programs) == [Status.PASSED, Status.WRONG_ANSWER]
    answers = ["re.search('b', text)", "'b' in text", "re.search('c', text)"]
    programs = [f"import re\ndef text_match_three(text):\n    return {answer}\n" for answer in answers]
    programs = [suite.program(second, "chat", f"```python\n{program}```") for program in programs]
    assert statuses(supervisor, second, programs) == [Status.PASSED, Status.PASSED, Status.WRONG_ANSWER]


def test_a_task_of_mbpp_plus_whose_reference_is_wrong_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "def sum_div(n):\n    res = 0\n    res += number / i\n    return res\n"
    row = plus_row(task_id="Mbpp/295", entry_point="sum_div", canonical_solution=wrong)
    mended = row | {"canonical_solution": "def sum_div(n):\n    return sum(i for i in range(1, n) if n % i == 0)\n"}
    other = row | {"task_id": "Mbpp/9"}
    tasks = MbppPlus().load(written(tmp_path / "plus.jsonl", [row, mended, other]))
    assert [(task.problem.id, task.canonical_solution == wrong) for task in tasks] == [
        ("Mbpp/295", False),
        ("Mbpp/9", True),
    ]
    assert "1 of 3 tasks left out, Mbpp/295, whose reference is wrong" in capsys.readouterr().err


def test_inputs_that_no_program_could_be_given_or_answer_are_left_out(tmp_path: Path, supervisor: Supervisor) -> None:
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"a": deep}
    body = "    if values == [2]:\n        raise MemoryError\n    return values\n"
    row = plus_row(canonical_solution=body, base_input=[[[1]]], plus_input=[[[2]], [deep]])
    suite = HumanEvalPlus()
    problem = suite.load(written(tmp_path / "plus.jsonl", [row]))[0].problem
    programs = [suite.given_program(problem, f"    return {answer}\n") for answer in ("[1]", "[2]")]
    assert statuses(supervisor, problem, programs) == ["passed", "wrong_answer"]


def test_numbers_are_compared_as_numpy_compares_them() -> None:
    assert is_close([1.0, [2.0]], [1.0 + 1e-8, [2]], 1e-6) and is_close(float("inf"), float("inf"), 1e-6)
    assert not is_close(1.0, 1.0 + 1e-8, 0) and not is_close((1.0,), [1.0], 1e-6) and not is_close(1, 1.0, 1e-6)
    assert not is_close(1.0, float("inf"), 1e-6) and not is_close(float("nan"), float("nan"), 1e-6)
    assert not is_close(["a"], ["b"], 1e-6) and not is_close([1.0], [1.0, 1.0], 1e-6)
    assert is_root(-0.5, 0, [[1, 2]], 1e-4) and not is_root(0.5, 0, [[1, 2]], 1e-4)
    assert is_surface(33, 0, [3, 4], 0) is False and is_surface(35, 0, [3, 4], 0)
    assert is_distance(6, 0, [23, 56], 0) and not is_distance(5, 0, [23, 56], 0)


def test_the_plus_suites_say_where_their_files_are() -> None:
    for suite in (HumanEvalPlus(), MbppPlus()):
        with pytest.raises(UserError, match=r"release file: give .*https://github.com/evalplus"):
            suite.load(None)


def test_a_file_of_the_other_plus_suite_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "plus.jsonl", [plus_row()])
    with pytest.raises(UserError, match=r"holds HumanEval/0 instead of Mbpp/\.\.\."):
        MbppPlus().load(path)
    with pytest.raises(UserError, match="holds no problem"):
        HumanEvalPlus().load(written(path, []))


@pytest.mark.parametrize("base_only", [True, False])
def test_every_reference_of_humaneval_plus_passes(base_only: bool) -> None:
    suite = HumanEvalPlus()
    suite.base_only = base_only
    tasks = suite.load(real("evalplus/HumanEvalPlus.jsonl.gz"))
    assert len(tasks) == 164 and failing_references(suite, tasks, 5) == []


def test_every_reference_of_mbpp_plus_passes() -> None:
    tasks = MbppPlus().load(real("evalplus/MbppPlus-v0.1.0.jsonl.gz"))
    assert len(tasks) == 397 and failing_references(MbppPlus(), tasks, 5) == []
