"""Problems to learn from: which are taken, in which words they are asked, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from app.corpus.mining.storage import PROBLEM_SCHEMA, problem_row
from app.corpus.records import Origin, SolvedProblem
from app.corpus.shard_files import write_rows
from app.errors import NothingToLearnError, UserError
from app.evaluation.suites import humaneval
from app.overrides import with_overrides
from app.planning.reward import num_problems
from app.problem_sets import own
from app.profiles import laptop, smoke
from app.records import Problem, ProblemStyle
from app.reward.drafts.drafting import program_in
from app.reward.problems.early import check
from app.reward.problems.find import given_source, licences, load, num_untested, of_arm
from app.settings import ValidationSettings
from app.stage_settings.grm import GrmSettings
from tests.suite_files import real, written
from tests.unit.reward.sources import (
    CODE,
    HEAD,
    TESTS,
    TEXT,
    USER,
    jsonl,
    leetcode_row,
    mbpp_row,
    without_tests,
)


def test_ours_are_those_to_train_on() -> None:
    problems = load(["ours"])
    assert len(problems) == 249 and {problem.given.split for problem in problems} == {"train"}
    assert all(problem.reference.startswith(problem.given.prompt) for problem in problems)
    assert licences(problems) == {("pocketcoder", "MIT"): 249} and given_source("ours") == "pocketcoder"
    (turn,) = problems[0].question
    assert turn["role"] == "user" and problems[0].given.prompt.strip() in turn["content"]
    assert problems[0].problem == problems[0].given


def test_problems_of_the_project_are_found_and_known_as_its_own_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (named,) = laptop().grm.problems
    at_home = load([named])
    monkeypatch.chdir(tmp_path)
    assert load([named]) == at_home and {one.given.source for one in at_home} == {given_source(named)}
    assert num_problems([named]) == len(at_home) > 20


def test_mbpp_is_its_training_split_and_shows_its_given_tests(tmp_path: Path) -> None:
    rows = [mbpp_row(number, TEXT, CODE, TESTS) for number in (2, 11, 520, 700)]
    source = f"mbpp={written(tmp_path / 'mbpp.jsonl', rows)}"
    (problem,) = load([source])
    assert problem.given.source == given_source(source) == given_source("mbpp")
    assert (problem.given.id, problem.given.licence, problem.suite) == ("MBPP/700", "CC-BY-4.0", "mbpp")
    assert "\n".join(TESTS) in problem.question[0]["content"]
    assert program_in(problem, f"Sure:\n```python\n{CODE}\n```") == CODE + "\n"


def test_leetcode_is_without_its_problems_for_validation_and_keeps_what_its_rows_say_of_inputs(tmp_path: Path) -> None:
    row = leetcode_row(
        "x", "def pair(self, xs: List[int]) -> int:", "return len(xs) // 2", ["candidate(xs = [1]) == 0"]
    )
    told = {"question_title": "...\n\nConstraints:\n\n1 <= xs.length <= 100\nxs is sorted.\n\nFollow-up: faster?"}
    more = {"meta": {"difficulty": "Easy"} | told, "response": "```python\nclass Solution:\n    pass\n```"}
    rows = [row | more | {"task_id": f"pair-{number}"} for number in range(410)]
    source = f"leetcode={written(tmp_path / 'leetcode.jsonl.gz', rows)}"
    problems = load([source])
    assert len(problems) == 10 and {one.given.source for one in problems} == {given_source(source)}
    assert problems[0].constraints == "1 <= xs.length <= 100\nxs is sorted."
    assert "class Solution:\n    pass" in problems[0].second
    assert problems[0].reference.startswith("from typing import *")
    assert "Constraints" not in problems[0].question[0]["content"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "unknown source of problems ''"),
        ("our", "did you mean 'ours'"),
        ("leetcode", "write leetcode=FILE"),
        ("leetcode=nowhere.jsonl", "is no file"),
        ("mined=nowhere", "write mined=RUN/corpus/problems"),
        ("nowhere.jsonl", "can't be read"),
    ],
)
def test_a_source_that_is_none_is_refused_with_the_way_out(source: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        load([source])


def test_no_source_and_a_file_without_training_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source of problems"):
        load([])
    path = written(tmp_path / "mbpp.jsonl", [mbpp_row(11, TEXT, CODE, TESTS)])
    with pytest.raises(UserError, match="holds no problem to learn from"):
        load([f"mbpp={path}"])


def test_what_a_test_suite_holds_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = humaneval.load()[0]
    copied = mbpp_row(701, task.problem.prompt, task.problem.prompt + task.canonical_solution, ["assert True"])
    copied["test_list"] = ["assert has_close_elements([1.0], 0.5) == False"]
    rows = [copied, mbpp_row(700, TEXT, CODE, TESTS)]
    problems = load([f"mbpp={written(tmp_path / 'mbpp.jsonl', rows)}"])
    assert [problem.given.id for problem in problems] == ["MBPP/700"]
    assert "mbpp: 1 of 2 problems left out, because test suites hold the like" in capsys.readouterr().err


MINED = Problem(
    id="mined/pkg/f",
    source="mined",
    licence="BSD-3-Clause",
    prompt='LIMIT = 3\n\n\ndef trimmed_words(text):\n    """Return the first words of the text."""\n',
    entry_point="trimmed_words",
    tests="assert trimmed_words('a b c d') == ['a', 'b', 'c']\n",
    style=ProblemStyle.ASSERTIONS,
    split="train",
)


def test_mined_problems_of_the_training_side_are_asked_for_as_training_shows_them(tmp_path: Path) -> None:
    given = MINED
    others = [
        dataclasses.replace(given, id="two-sum", source="leetcode"),
        dataclasses.replace(given, id="mined/pkg/C", entry_point="C"),
    ]
    origin = Origin(distribution="pkg", version="1", licence="BSD-3-Clause", path="pkg.py")
    solution = given.prompt + "    return text.split()[:LIMIT]\n"
    held = [
        SolvedProblem(problem=p, solution=solution, description="", bugs=(), origin=origin) for p in (given, *others)
    ]
    write_rows(tmp_path / "train.parquet", [problem_row(one) for one in held], PROBLEM_SCHEMA)
    (problem,) = load([f"mined={tmp_path}"])
    assert (problem.given.licence, problem.reference) == ("BSD-3-Clause", solution)
    assert problem.question[0]["content"].startswith("Complete the following Python function.")
    reply = "```python\ndef trimmed_words(text):\n    return text.split()[:LIMIT]\n```"
    assert program_in(problem, reply).startswith("LIMIT = 3")
    assert load(["mined"], mined=tmp_path) == [problem], "of the run's own corpus"
    assert problem.given.source == given_source("mined") == given_source(f"mined={tmp_path}")


def test_a_run_s_own_corpus_may_have_mined_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "train.parquet", [], PROBLEM_SCHEMA)
    assert len(load(["ours", "mined"], mined=tmp_path)) == 249
    assert "mined: the run's corpus has none" in capsys.readouterr().err
    with pytest.raises(NothingToLearnError, match="has no mined problems: add to grm.problems, of ours, mbpp"):
        load(["mined"], mined=tmp_path)
    check(GrmSettings(problems=("mined",)))  # nothing is known of them before the corpus is built
    with pytest.raises(UserError, match="unknown source of problems 'mind': did you mean 'mined'"):
        check(GrmSettings(problems=("mined", "mind")))


def test_a_user_s_own_are_asked_for_by_head_or_in_their_own_words(tmp_path: Path) -> None:
    words = USER | {"id": "shop/2", "prompt": "Write net_price(gross, rate), please."}
    check = "def check(candidate):\n    assert candidate(119, 19) == 100\n"
    checked = USER | {"id": "shop/3", "entry_point": "Shop().net_price", "prompt": "Write a shop.", "tests": check}
    del checked["reference"]
    source = jsonl(tmp_path, USER, words, checked)
    first, second, third = load([source])
    assert {one.given.source for one in (first, second, third)} == {given_source(source)}
    assert first.question[0]["content"].startswith("Complete the following Python function.")
    assert first.reference == USER["reference"] and third.reference == ""
    assert second.question == ({"role": "user", "content": words["prompt"]},)
    assert (first.given.style, third.given.style) == (ProblemStyle.ASSERTIONS, ProblemStyle.CHECK)
    assert {problem.given.licence for problem in (first, second, third)} == {"MIT"}
    reply = "```python\ndef net_price(gross, rate):\n    return gross\n```"
    assert program_in(first, reply) == program_in(second, reply)


def test_a_user_s_prompt_needs_no_tests_and_grpo_leaves_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question, head = (
        without_tests(prompt="Write a script that prints 3."),
        without_tests(id="h", entry_point="net_price", prompt=HEAD.replace("cents", "pence")),
    )
    path = jsonl(tmp_path, USER, question, head)
    tested, asked, begun = load([path])
    assert tested.has_tests and not asked.has_tests and asked.question[0]["content"] == question["prompt"]
    assert program_in(asked, "So:\n```python\nprint(3)\n```\nand\n```sh\npython x.py\n```") == "print(3)\n"
    asked_for = tested.question[0]["content"].replace("cents", "pence")
    assert begun.question[0]["content"] == asked_for, "a head is asked for as with tests"
    assert num_untested([path, "ours"]) == 2
    assert of_arm([tested, asked, begun], "rft") == [tested, asked, begun] and of_arm([tested, asked], "grpo") == [
        tested
    ]
    assert "1 of 2 problems have no tests, and grm.arm=grpo leaves them out" in capsys.readouterr().err
    nothing = with_overrides(smoke(), [f"grm.problems=[{jsonl(tmp_path, question)}]"]).grm
    with pytest.raises(
        NothingToLearnError, match="grm.arm=grpo learns from verdicts, and none of 1 problems has tests"
    ):
        check(nothing)
    check(nothing.model_copy(update={"arm": "upft"}))


TAKEN = humaneval.load()[3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"licence": None}, "the field 'licence' is missing: a problem has id, prompt, licence"),
        ({"entry_point": None}, "the field 'entry_point' is missing: name what the tests call"),
        ({"tests": None}, "a reference without tests is of no use, since further tests are made from given ones"),
        (
            {"tests": None, "reference": None, "entry_point": None},
            "the prompt begins the function net_price, and the field 'entry_point' is missing",
        ),
        (
            {"tests": None, "reference": None, "entry_point": "below_zero", "prompt": TAKEN.problem.prompt},
            "the problem 'shop/1' is one of a test suite's by its text or its function's name",
        ),
        ({"refrence": "x"}, "the field 'refrence' is unknown: did you mean 'reference'"),
        ({"entry_point": 7}, "entry_point is '7', not text: write it as a JSON string"),
        ({"prompt": " "}, "prompt is empty: fill it in"),
        ({"reference": ""}, "reference is empty: leave it out"),
        ({"licence": "\ud800"}, "licence holds half a surrogate pair, which no file can hold: write it as UTF-8"),
        ({"entry_point": "net price"}, "entry_point 'net price' can't be called: give a function's name such as net"),
        ({"entry_point": "lambda: 3"}, "entry_point 'lambda: 3' can't be called"),
        ({"tests": "assert net_price("}, "the tests don't compile: '(' was never closed"),
        ({"tests": "net_price(1, 2)"}, "tests hold no assertion, so every program would pass: write some"),
        (
            {"tests": "assert 1 == 1"},
            "tests do not call the entry point net_price, so they say nothing about a program",
        ),
        ({"tests": "def check(f):\n    assert 1"}, "check does not call its argument f, so they say nothing"),
        ({"tests": "def check(f, g):\n    assert f()"}, "tests: check has to take the function, and nothing else"),
        ({"tests": "assert net_price(1, 2).cents == 3"}, "tests: the tests use .cents of what the program returns"),
        ({"reference": "def net_price(:"}, "reference is no Python: mend it, or leave it out"),
        ({"reference": "def gross(): pass"}, "reference does not define 'net_price': give a whole program"),
        (
            {"id": "HumanEval/3"},
            "the id 'HumanEval/3' is one of a test suite's, and what is measured is not learnt from",
        ),
        ({"id": "MBPP/20"}, "the id 'MBPP/20' is one of a test suite's"),
        (
            {"prompt": TAKEN.problem.prompt, "reference": TAKEN.problem.prompt + TAKEN.canonical_solution}
            | {"entry_point": "below_zero", "tests": "assert below_zero([1]) == False"},
            "the problem 'shop/1' is one of a test suite's by its text or its function's name",
        ),
    ],
)
def test_a_user_s_bad_row_is_refused_in_a_sentence(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    row = {key: value for key, value in (USER | change).items() if value is not None}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(USER | {"id": "shop/0"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError) as error:
        load([str(path)])
    said = str(error.value)
    assert said.startswith(f"{path}, line 2: {sentence}") and "\n" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no problem: give JSON lines with id, prompt"),
        ("{", "line 1 is no JSON"),
        (json.dumps(USER) + "\n" + json.dumps(USER), "line 2: the id 'shop/1' is that of line 1 too"),
    ],
)
def test_a_user_s_file_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load([str(path)])


@pytest.mark.parametrize("again", [HEAD, HEAD.replace("\n", "\r\n"), HEAD.rstrip()])
def test_a_prompt_under_two_ids_in_a_file_is_refused_with_both_lines(again: str, tmp_path: Path) -> None:
    other = USER | {"id": "shop/3", "prompt": again}
    path = jsonl(tmp_path, USER, USER | {"id": "shop/2", "prompt": HEAD.replace("cents", "pence")}, other)
    with pytest.raises(UserError, match="line 3: the prompt of 'shop/3' is that of line 1 too, so it would be learnt"):
        load([path])


def test_a_prompt_that_an_earlier_source_asks_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mbpp = f"mbpp={written(tmp_path / 'mbpp.jsonl', [mbpp_row(700, TEXT, CODE, TESTS)])}"
    path = jsonl(tmp_path, without_tests(prompt=f"{TEXT}\n"), USER)
    assert [one.given.id for one in load([mbpp, path])] == ["MBPP/700", "shop/1"]
    said = capsys.readouterr().err
    assert f"{path}: 1 of 2 problems left out, because a source before it asks the same" in said
    assert [one.given.id for one in load([path, mbpp])] == ["shop/untested", "shop/1"]


def test_two_sources_with_one_problem_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path, USER)
    with pytest.raises(UserError, match=r"the problem 'shop/1' is in .*, twice: leave one of them out"):
        load([path, path])


def test_what_decides_whether_the_training_is_kept_is_not_learnt_from(tmp_path: Path) -> None:
    """By the suites that the run validates by, whatever these are."""
    held = own.tasks_of(own.FOLDER)
    deciding = next(task for task in held if task.problem.split == "validation" and "_" in task.problem.entry_point)
    row = without_tests(prompt=deciding.problem.prompt, entry_point=deciding.problem.entry_point)
    by_ours = smoke().validation
    with pytest.raises(
        UserError, match=r"line 1: the problem 'shop/untested' is by its text or its function's name one"
    ):
        check(GrmSettings(problems=(jsonl(tmp_path, row),), arm="rft"), by_ours)
    path = written(tmp_path / "mbpp.jsonl", [mbpp_row(number, TEXT, CODE, TESTS) for number in range(511, 519)])
    by_mbpp = ValidationSettings(suites=("mbpp_validation",), problems=(f"mbpp_validation={path}",))
    source = [jsonl(tmp_path, without_tests(prompt=f"{TEXT} It has to be quick.", entry_point="marked_crates"))]
    with pytest.raises(UserError, match=r"decide in this run whether the training is kept \(validation.suites\)"):
        load(source, decided_by=by_mbpp)
    assert load(source, decided_by=by_ours) == load(source)


def test_the_real_training_splits(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"mbpp": real("mbpp/mbpp.jsonl"), "leetcode": real("leetcode/LeetCodeDataset-v0.2.0-train.jsonl.gz")}
    problems = load([f"{name}={path}" for name, path in files.items()])
    assert licences(problems) == {("mbpp", "CC-BY-4.0"): 218, ("leetcode", "MIT"): 1427}
    assert sum(bool(problem.constraints) for problem in problems) == 1408


@pytest.mark.parametrize(
    "licence",
    ["NONE", "NOASSERTION", "unknown", "proprietary", "CC-BY-NC-4.0", "MIT AND Own-1.0", "\uff2d\uff29\uff34", "()"],
)
def test_a_user_s_problem_under_no_licence_that_is_taken_ends_the_reading(licence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: licence .* is none under which a problem may be learnt from"):
        load([str(jsonl(tmp_path, USER | {"licence": licence}))])


@pytest.mark.parametrize(
    ("licence", "held"),
    [("mit", "MIT"), (" MIT ", "MIT"), ("CC-BY-4.0", "CC-BY-4.0"), ("LicenseRef-Own", "LicenseRef-Own"),
     ("MIT OR CC-BY-NC-4.0", "MIT")],
)  # fmt: skip
def test_a_user_s_problem_keeps_the_licence_that_is_relied_on(licence: str, held: str, tmp_path: Path) -> None:
    (problem,) = load([str(jsonl(tmp_path, USER | {"licence": licence}))])
    assert problem.given.licence == held


@pytest.mark.parametrize("licence", ["", "   ", "LicenseRef-", "Own-1.0", "CC-BY-NC-4.0"])
def test_mined_problems_without_a_licence_that_is_taken_are_refused(licence: str, tmp_path: Path) -> None:
    problem = dataclasses.replace(MINED, licence=licence)
    origin = Origin(distribution="pkg", version="1", licence=licence, path="pkg.py")
    solved = SolvedProblem(problem=problem, solution=MINED.prompt, description="", bugs=(), origin=origin)
    write_rows(tmp_path / "problems" / "train.parquet", [problem_row(solved)], PROBLEM_SCHEMA)
    with pytest.raises(UserError, match=r"the problem 'mined/pkg/f' is under .*, and may not be learnt from"):
        load([f"mined={tmp_path / 'problems'}"])
    if licence.startswith(("Own", "CC")):
        recipe = {"licences": {"also_allow": ["CC-BY-NC-4.0"]}}
        (tmp_path / "manifest.json").write_text(json.dumps({"recipe": recipe}))
        if licence.startswith("CC"):
            assert load([f"mined={tmp_path / 'problems'}"]), "its corpus' recipe takes it"


def test_own_problems_of_a_user_have_the_licence_that_their_file_names_and_none_is_none(tmp_path: Path) -> None:
    text = (own.FOLDER / "basics.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="names no licence, and nothing without one is learnt from: write"):
        load([f"ours={tmp_path / 'mine.yaml'}"])
    (tmp_path / "mine.yaml").write_text(f"licence: LicenseRef-Own\n{text}")
    source = f"ours={tmp_path / 'mine.yaml'}"
    assert set(licences(load([source]))) == {("user", "LicenseRef-Own")} and given_source(source) == "user"
