"""Function calls are compared as BFCL compares them, and nothing that a model writes breaks it."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.evaluation.suites import tooluse
from app.evaluation.suites.search_docs import reference_replies
from app.evaluation.suites.tooluse import CATEGORIES, HUB, ToolUse
from app.problem_sets.task import Task
from app.prompting.tool_calls import Call, call_text
from app.records import ProblemStyle, Status
from tests.unit.evaluation.suites.test_call_matching import ANSWER, FLIGHT, HOTEL, JAVA, JAVASCRIPT, book, judge

ROWS: dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]] = {
    "simple_python": [(FLIGHT, [{"air.book": ANSWER}])],
    "simple_java": [
        (
            JAVA,
            [{"Box.fill": {"ids": [[1, 2]], "options": [{"depth": [3]}], "count": [5], "target": ["", "box"]}}],
        )
    ],
    "simple_javascript": [
        (JAVASCRIPT, [{"fill": {"ids": [["a", "b"]], "options": ["", {"deep": [True]}], "on": ["", True]}}])
    ],
    "parallel": [(HOTEL, [{"hotel": {"city": ["Oslo"]}}, {"hotel": {"city": ["Oslo", "Rome"]}}])],
    "irrelevance": [(HOTEL, [])],
    "live_relevance": [(HOTEL, [])],
    "live_simple": [
        (HOTEL, [{"hotel": {"town": ["Oslo"]}}]),  # no call is right: the function has no such parameter
        (HOTEL, [{"hotel": {"city": ["Oslo"], "town": ["", "Oslo"]}}]),
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "possible_answer").mkdir()
    for category in CATEGORIES:
        rows, answers = [], []
        for index, (schema, answer) in enumerate(ROWS.get(category, [])):
            turns = [{"role": "user", "content": f"Question {index}?"}]
            if category == "live_simple":
                turns.insert(0, {"role": "system", "content": "Be brief."})
            name = f"{category}_{index}"
            rows.append(json.dumps({"id": name, "question": [turns], "function": [schema]}) + "\n")
            answers.append(json.dumps({"id": name, "ground_truth": answer}) + "\n")
        (tmp_path / f"BFCL_v4_{category}.jsonl").write_text("".join(rows))
        (tmp_path / "possible_answer" / f"BFCL_v4_{category}.jsonl").write_text("".join(answers))
    return tmp_path


@pytest.fixture
def tasks(folder: Path) -> dict[str, Task]:
    return {task.problem.id: task for task in ToolUse().load(folder)}


def test_every_problem_but_the_impossible_one_is_passed_by_its_canonical_solution(tasks: dict[str, Task]) -> None:
    for name, task in tasks.items():
        if name.startswith("bfcl/") and name != "bfcl/live_simple_0":
            assert judge(task, text=task.canonical_solution) == (Status.PASSED, "")
    assert tasks["bfcl/live_simple_0"].canonical_solution == ""


def test_parallel_calls_match_in_any_order_and_each_once(tasks: dict[str, Task]) -> None:
    task = tasks["bfcl/parallel_0"]
    oslo, rome = (Call(name="hotel", arguments={"city": city}) for city in ("Oslo", "Rome"))
    assert judge(task, oslo, rome)[0] == judge(task, rome, oslo)[0] == judge(task, oslo, oslo)[0] == Status.PASSED
    assert judge(task, rome, rome) == (Status.WRONG_ANSWER, "wrong value: 'city' is 'Rome', expected one of ['Oslo']")
    assert judge(task, oslo)[1] == "wrong number of calls: 1, expected 2"


def test_a_malformed_call_is_no_refusal(tasks: dict[str, Task]) -> None:
    assert judge(tasks["bfcl/irrelevance_0"], text="<tool_call>hotel</tool_call>")[0] == Status.PROTOCOL


def test_declining_and_calling_anything_are_told_apart(tasks: dict[str, Task]) -> None:
    any_call = Call(name="hotel", arguments={})
    assert judge(tasks["bfcl/irrelevance_0"], text="I can't do that.") == (Status.PASSED, "")
    assert judge(tasks["bfcl/irrelevance_0"], any_call)[1] == "called although nothing fits: 'hotel'"
    assert judge(tasks["bfcl/live_relevance_0"], any_call) == (Status.PASSED, "")
    assert judge(tasks["bfcl/live_relevance_0"], text="Sure!")[1] == "did not call: one of the functions fits"
    assert judge(tasks["bfcl/live_relevance_0"], book())[1] == "wrong function: 'air.book' is not offered"


def test_a_parameter_that_the_function_does_not_have_is_never_right(tasks: dict[str, Task]) -> None:
    impossible, optional = tasks["bfcl/live_simple_0"], tasks["bfcl/live_simple_1"]
    for arguments in ({"city": "Oslo"}, {"town": "Oslo"}, {"city": "Oslo", "town": "Oslo"}):
        assert judge(impossible, Call(name="hotel", arguments=arguments))[0] == Status.WRONG_ANSWER
    assert judge(optional, Call(name="hotel", arguments={"city": "Oslo"}))[0] == Status.PASSED
    assert judge(optional, Call(name="hotel", arguments={"city": "Oslo", "town": "Oslo"}))[1].startswith("unexpected")


def test_values_of_other_languages_must_be_source_in_a_string(tasks: dict[str, Task]) -> None:
    task = tasks["bfcl/simple_java_0"]
    right = {"ids": "new ArrayList<>(Arrays.asList(1L, 2L))", "options": 'Map.of("depth", 3)', "count": "5L"}
    assert judge(task, Call(name="Box.fill", arguments=right)) == (Status.PASSED, "")
    assert judge(task, Call(name="Box.fill", arguments=right | {"count": 5}))[1].startswith("wrong type: 'count'")
    assert judge(task, Call(name="Box.fill", arguments=right | {"count": "6"}))[1].startswith("wrong value: 'count'")


def test_tools_are_json_schema(tasks: dict[str, Task]) -> None:
    [tool] = json.loads(tasks["bfcl/simple_python_0"].problem.tools)
    parameters = tool["function"]["parameters"]
    properties = parameters["properties"]
    assert tool["type"] == "function" and tool["function"]["name"] == "air.book"
    assert parameters["type"] == "object" and parameters["required"] == ["city", "seats"]
    assert properties["price"]["type"] == "number" and "optional" not in properties["window"]
    assert properties["point"] == {"type": "array", "items": {"type": "number"}}
    assert properties["food"]["properties"] == {"main": {"type": "string"}, "drink": {}}
    [java] = json.loads(tasks["bfcl/simple_java_0"].problem.tools)
    assert java["function"]["parameters"]["properties"]["ids"] == {
        "type": "string",
        "description": "The ids. Java ArrayList of long, written as Java source in a string.",
    }


def test_a_problem_is_asked_in_both_protocols_once(tasks: dict[str, Task]) -> None:
    suite = ToolUse()
    plain, dialogue = tasks["bfcl/simple_python_0"].problem, tasks["bfcl/live_simple_0"].problem
    assert (plain.prompt, plain.difficulty, plain.style) == ("Question 0?", "simple_python", ProblemStyle.CALLS)
    assert suite.chat(plain, []) == [{"role": "user", "content": "Question 0?"}]
    assert suite.chat(dialogue, []) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question 0?"},
    ]
    text = suite.completion(dialogue, []) or ""
    assert text.endswith("System: Be brief.\nQuestion: Question 0?\nCalls:")
    assert any(stop in text for stop in suite.stop), "the worked examples end where a reply is to end"
    assert suite.chat(plain, ["x"]) is suite.completion(plain, ["x"]) is None
    verdict = suite.verdict(plain, "completion", [' [{"name": "air.book", "arguments": {"city": "nyc", "seats": 2}}]'])
    assert verdict.status == Status.PASSED


def test_the_suite_ends_with_the_documentation_search(tasks: dict[str, Task]) -> None:
    suite, ours = ToolUse(), [task.problem for task in tasks.values() if task.problem.source == "search_docs"]
    assert len(ours) >= 60 and list(tasks.values())[-1].problem == ours[-1]
    assert {problem.difficulty for problem in ours} == {"search_docs"}
    for problem in ours[:: len(ours) // 5]:
        assert suite.verdict(problem, "chat", reference_replies(problem)).status == Status.PASSED
        assert suite.chat(problem, []) and suite.completion(problem, [])


def test_without_a_path_the_problems_come_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def hub(suite: str, repository: str, file: str) -> Iterator[dict[str, Any]]:
        assert (suite, repository) == ("tooluse", HUB)
        asked.append(file)
        return iter(())

    monkeypatch.setattr(tooluse, "hub_rows", hub)
    ToolUse().load(None)
    assert "BFCL_v3_simple.json" in asked and "possible_answer/BFCL_v3_javascript.json" in asked
    assert "possible_answer/BFCL_v3_irrelevance.json" not in asked


def test_what_is_missing_or_broken_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        ToolUse().load(folder / "BFCL_v4_parallel.jsonl")
    answers = folder / "possible_answer" / "BFCL_v4_parallel.jsonl"
    answers.write_text(answers.read_text().replace("parallel_0", "parallel_7"))
    with pytest.raises(UserError, match="'parallel_0' of BFCL's category parallel"):
        ToolUse().load(folder)
    answers.unlink()
    with pytest.raises(UserError, match="BFCL_v4_parallel.jsonl in .*possible_answer"):
        ToolUse().load(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["air.book", "Box.fill", "fill", "hotel", "f"])
KEYS = st.sampled_from(["city", "seats", "days", "food", "legs", "ids", "options", "count", "x"])
PIECES = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "```",
        "[",
        "]",
        "{",
        "}",
        '"name"',
        '"arguments"',
        ":",
        ",",
        "(",
        ")",
        "f",
        "=",
        "1",
    ]
    + [
        '[{"name": "hotel", "arguments": {',
        "[hotel(city=",
        "0x" + "f" * 5000,
        "1" * 5000,
        "\\",
        "'",
        "\n",
        "\0",
        "\ud800",
    ]
)
CALLS = st.builds(
    lambda name, arguments: call_text([Call(name=name, arguments=arguments)]), NAMES, st.dictionaries(KEYS, JSON)
)


@settings(deadline=None)
@given(reply=st.text() | st.lists(PIECES).map("".join) | CALLS)
def test_any_reply_gets_a_verdict(reply: str) -> None:
    suite = ToolUse()
    for category, entries in ROWS.items():
        for schema, answer in entries:
            row = {"id": "x_0", "question": [[{"role": "user", "content": reply}]], "function": [schema]}
            problem = tooluse.bfcl_task(row, category, answer).problem
            first = suite.verdict(problem, "chat", [reply])
            assert first == suite.verdict(problem, "chat", [reply])
            assert suite.chat(problem, []) and json.dumps(first.detail)


@pytest.mark.skipif("POCKETCODER_BFCL" not in os.environ, reason="POCKETCODER_BFCL names no folder of BFCL's files")
def test_the_real_problems_are_passed_by_their_own_answers_and_by_no_other() -> None:
    suite = ToolUse()
    tasks = [task for task in suite.load(Path(os.environ["POCKETCODER_BFCL"])) if task.problem.source == "bfcl"]
    assert len(tasks) == 3641
    failed = [task.problem.id for task in tasks if judge(task, text=task.canonical_solution)[0] != Status.PASSED]
    assert failed == ["bfcl/live_multiple_862-181-3", "bfcl/live_multiple_964-207-0"]
    wanted = [task for task in tasks if "relevance" not in task.problem.difficulty and task.canonical_solution]
    by_solution = Counter(task.canonical_solution for task in wanted)
    swapped = 0
    for task, other in zip(wanted, wanted[1:] + wanted[:1], strict=True):
        if by_solution[task.canonical_solution] == 1:  # the same question is asked with several lists of functions
            swapped += judge(task, text=other.canonical_solution)[0] == Status.PASSED
    assert swapped == 0
