"""The documentation search is scored by what happened: a right episode passes every item, each bad habit fails on its
own rule, and nothing passes by accident."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UserError
from app.evaluation.suites import search_docs
from app.evaluation.suites.search_docs import MAX_SEARCHES, SEARCH_DOCS_TOOL, SearchDocs, play, reference_replies
from app.evaluation.suites.search_items import ITEMS_PATH, Item
from app.problem_sets.task import Task
from app.prompting.passages import Passage, search
from app.prompting.tool_calls import Call, call_text
from app.records import Problem, Status

SUITE = SearchDocs()
TASKS = SUITE.load(None)
ITEMS: dict[str, Item] = {
    task.problem.id: Item.model_validate(json.loads(task.problem.tests)["item"]) for task in TASKS
}
SEARCHED = [task for task in TASKS if task.problem.difficulty != "no_search"]
UNSEARCHED = [task for task in TASKS if task.problem.difficulty == "no_search"]
CLAIM = "I could not find anything, nothing was found."


def ask(query: Any = "anything", **more: Any) -> str:
    return call_text([Call(name="search_docs", arguments={"query": query} | more)])


def judge(problem: Problem, replies: list[str], protocol: str = "chat") -> tuple[Status, str]:
    verdict = SUITE.verdict(problem, protocol, replies)
    return verdict.status, verdict.detail.partition(":")[0]


def failed(task: Task, replies: list[str]) -> str:
    status, rule = judge(task.problem, replies)
    assert status == Status.WRONG_ANSWER, f"{task.problem.id}: {replies}"
    return rule


def searches(task: Task) -> list[str]:
    return reference_replies(task.problem)[:-1]


def named(name: str) -> Task:
    return next(task for task in TASKS if task.problem.id == f"search_docs/{name}")


@pytest.mark.parametrize("task", TASKS, ids=[task.problem.id for task in TASKS])
def test_a_right_episode_passes_in_both_protocols(task: Task) -> None:
    problem, replies = task.problem, reference_replies(task.problem)
    for turn in range(len(replies)):
        messages, text = SUITE.chat(problem, replies[:turn]), SUITE.completion(problem, replies[:turn])
        assert messages is not None and text is not None
        assert [m["role"] for m in messages] == ["system", "user"] + ["assistant", "tool"] * turn
        assert all(type(message["content"]) is str for message in messages)
        assert text.endswith("Calls:") and text.rpartition("Question:")[2].count("\nResults: ") == turn
        assert "\n\n" not in text.rpartition("Question:")[2], "a blank line ends a completion"
    assert SUITE.chat(problem, replies) is SUITE.completion(problem, replies) is None
    assert judge(problem, replies) == (Status.PASSED, "")
    written = [json.dumps([json.loads(reply[len("<tool_call>") : -len("</tool_call>")])]) for reply in replies[:-1]]
    last = " []\nAnswer: " + " ".join(replies[-1].split())
    assert judge(problem, [*written, last], "completion") == (Status.PASSED, "")


def test_every_category_has_problems_and_all_are_told_apart() -> None:
    counts = {
        category: sum(item.category == category for item in ITEMS.values())
        for category in ("needs_search", "two_searches", "source", "nothing_found", "no_search")
    }
    assert len(TASKS) >= 60 and min(counts.values()) >= 8
    assert len({item.question for item in ITEMS.values()}) == len(TASKS)


@pytest.mark.parametrize("reply", ["", "   ", "```\n```", "[]", "Sure!", CLAIM, "42"])
def test_no_problem_is_passed_without_an_answer_of_its_own(reply: str) -> None:
    for task in TASKS:
        assert judge(task.problem, [reply])[0] != Status.PASSED
        assert judge(task.problem, [reply], "completion")[0] != Status.PASSED
    assert all(judge(task.problem, [])[0] != Status.PASSED for task in TASKS)


def test_an_echo_of_the_question_or_of_its_own_rules_passes_nothing() -> None:
    for task in TASKS:
        item = ITEMS[task.problem.id]
        assert judge(task.problem, [*searches(task), task.problem.prompt])[0] != Status.PASSED
        assert not any(
            search_docs._holds(search_docs._plain(item.question), value) for value in (*item.facts, *item.wrong)
        )


def test_never_searching_fails_wherever_a_search_is_needed() -> None:
    for task in SEARCHED:
        assert failed(task, [reference_replies(task.problem)[-1]]) == "did not search"
        assert failed(task, [CLAIM]) == "did not search"


def test_always_searching_fails_wherever_none_is_needed() -> None:
    for task in UNSEARCHED:
        assert failed(task, [ask(task.problem.prompt[:256]), *reference_replies(task.problem)]).startswith(
            "searched although"
        )
        assert failed(task, [ask()] * 9).startswith("searched although")


def test_the_sixth_search_fails_whether_it_comes_alone_or_at_once() -> None:
    for task in SEARCHED:
        *asked, answer = reference_replies(task.problem)
        padded = [ask()] * (MAX_SEARCHES - len(asked)) + asked
        assert judge(task.problem, [*padded, answer]) == (Status.PASSED, "")
        assert failed(task, [ask(), *padded, answer]) == "too many searches"
        assert failed(task, ["\n".join([ask()] * (MAX_SEARCHES + 1)), answer]) == "too many searches"
        assert SUITE.chat(task.problem, padded) is not None
        assert SUITE.chat(task.problem, [ask(), *padded]) is None


@pytest.mark.parametrize("query", ["documentation", "help", "how does it work", "default value"])
def test_a_vague_query_fails(query: str) -> None:
    for task in SEARCHED:
        assert failed(task, [ask(query), reference_replies(task.problem)[-1]]) == "useless query"


def test_the_first_of_two_searches_is_not_enough_and_neither_is_the_question() -> None:
    for task in SEARCHED:
        first, answer = searches(task)[0], reference_replies(task.problem)[-1]
        if task.problem.difficulty == "two_searches":
            assert failed(task, [first, answer]) == "useless query"
            assert failed(task, [ask(task.problem.prompt), answer]) == "useless query"
        elif task.problem.difficulty != "source":
            assert judge(task.problem, [ask(task.problem.prompt), answer])[0] == Status.PASSED, (
                "a plain query is enough"
            )


def test_an_answer_that_is_not_what_came_back_fails() -> None:
    for task in SEARCHED:
        item, asked = ITEMS[task.problem.id], searches(task)
        for value in item.wrong:
            expected = "invented answer" if item.category == "nothing_found" else "ungrounded answer"
            assert failed(task, [*asked, f"It is {value}, {CLAIM}"]) == expected
        if item.category == "nothing_found":
            assert failed(task, [*asked, "It is 77777, as the page says."]) == "did not say that nothing was found"
        else:
            assert failed(task, [*asked, CLAIM]) == "ungrounded answer"
        assert failed(task, [*asked, " \n"]) == failed(task, asked) == "no answer"


def test_pasting_the_results_is_no_answer() -> None:
    for task in SEARCHED:
        source = ITEMS[task.problem.id].source
        asked = ask(task.problem.prompt, **({"source": source} if source else {}))
        pasted = "\n".join(play(task.problem, [asked]).results[0])
        assert judge(task.problem, [asked, pasted])[0] != Status.PASSED


def test_a_source_that_is_asked_for_must_be_searched() -> None:
    for task in SEARCHED:
        item = ITEMS[task.problem.id]
        if item.source:
            replies = [ask(item.queries[0].query + " " + item.passages[item.needed[0]].text[:150]), item.answer]
            assert failed(task, replies) == "wrong source"


@pytest.mark.parametrize(
    ("rule", "call"),
    [
        ("wrong function", Call(name="search", arguments={"query": "x"})),
        ("wrong schema", Call(name="search_docs", arguments={})),
        ("wrong schema", Call(name="search_docs", arguments={"query": ""})),
        ("wrong schema", Call(name="search_docs", arguments={"query": "x" * 257})),
        ("wrong schema", Call(name="search_docs", arguments={"query": ["x"]})),
        ("wrong schema", Call(name="search_docs", arguments={"query": "x", "limit": 3})),
        ("wrong schema", Call(name="search_docs", arguments={"query": "x", "source": "github"})),
        ("wrong schema", Call(name="search_docs", arguments={"query": "x", "source": None})),
        ("wrong schema", Call(name="search_docs", arguments={"query": "x", "source": ["python"]})),
    ],
)
def test_a_call_that_breaks_the_schema_ends_the_episode(rule: str, call: Call) -> None:
    for task in TASKS:
        replies = [call_text([call]), *reference_replies(task.problem)]
        assert failed(task, replies) == rule
        assert SUITE.chat(task.problem, replies[:1]) is None


def test_a_malformed_call_is_told_from_a_wrong_one() -> None:
    for task in TASKS:
        assert judge(task.problem, ['<tool_call>{"name": "search_docs"'])[0] == Status.PROTOCOL


def test_the_tool_is_the_one_of_serving_and_training() -> None:
    parameters = SEARCH_DOCS_TOOL["function"]["parameters"]
    assert parameters["required"] == ["query"] and parameters["additionalProperties"] is False
    assert parameters["properties"]["source"]["enum"] == ["python", "fastapi", "readthedocs", "stackoverflow"]
    assert all(json.loads(task.problem.tools) == [SEARCH_DOCS_TOOL] for task in TASKS)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("It waits **37** seconds.", Status.PASSED),
        ("37s?", Status.WRONG_ANSWER),
        ("It waits 137 seconds.", Status.WRONG_ANSWER),
        ("It waits 37.5 seconds.", Status.WRONG_ANSWER),
        ("It waits 2,37 seconds.", Status.WRONG_ANSWER),
        ("It waits `Thirty-Seven`\nseconds.", Status.PASSED),
    ],
)
def test_a_fact_is_matched_as_a_whole_word(answer: str, status: Status) -> None:
    task = named("tarnq-connect")
    assert judge(task.problem, [*searches(task), answer])[0] == status


@pytest.mark.parametrize(
    "said",
    [
        "I couldn’t find that.",
        "The documentation does not mention it.",
        "There is no information on this.",
        "It isn't documented.",
        "No results were found.",
        "I was unable to find it.",
        "I don't know; the search came back empty.",
        "This is not specified anywhere.",
    ],
)
def test_ways_to_say_that_nothing_was_found(said: str) -> None:
    task = named("henbane-missing")
    assert judge(task.problem, [*searches(task), said]) == (Status.PASSED, "")


def test_the_search_ranks_rare_words_first_and_keeps_to_the_source() -> None:
    passages = [
        Passage(source="python", text="sorting a list of rows in memory"),
        Passage(source="python", text="sorting a list with zork in memory"),
        Passage(source="fastapi", text="zork, zork and the zorks again here"),
    ]
    assert search(passages, "Zork list") == [passages[1], passages[2]]
    assert search(passages, "zork", "python") == [passages[1]]
    assert search(passages, "the of a") == search(passages, "???") == search([], "zork") == []


def test_nothing_is_what_an_empty_search_says() -> None:
    messages = SUITE.chat(named("plain-product").problem, [ask("xyzzy")])
    assert messages is not None and messages[-1] == {"role": "tool", "content": "No results."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "items.0.colour"),
        ({"category": "hard"}, "items.0.category"),
        ({"needed": ["z"]}, "passages that are not there"),
        ({"facts": []}, "has facts exactly if"),
        ({"source": "python"}, "has a source exactly if"),
        ({"queries": []}, "has no queries"),
        ({"category": "two_searches"}, "needed passages"),
        ({"passages": {}, "needed": []}, "0 passages"),
        ({"category": "no_search"}, "needs no search"),
        ({"id": "velloc-page"}, "two items"),
    ],
)
def test_a_wrong_item_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = yaml.safe_load(ITEMS_PATH.read_text(encoding="utf-8"))
    file["items"][0] |= change
    path = tmp_path / "items.yaml"
    path.write_text(yaml.safe_dump(file))
    with pytest.raises(UserError, match=message):
        SUITE.load(path)


@pytest.mark.parametrize("text", [None, "", "items: [", "items: 3", "- 1", "\0"])
def test_a_file_that_is_none_is_named(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "items.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match="items.yaml"):
        SUITE.load(path)


REPLIES = st.lists(
    st.text()
    | st.sampled_from([ask("tarnq"), ask("x", source="python"), "[]", "<tool_call>", "Answer: 37", CLAIM])
    | st.builds(ask, st.text(max_size=300) | st.integers() | st.none(), source=st.none() | st.text(max_size=9)),
    max_size=8,
)


@settings(deadline=None)
@given(replies=REPLIES, task=st.sampled_from(TASKS), protocol=st.sampled_from(["chat", "thinking", "completion"]))
def test_any_replies_get_a_verdict_and_the_same_again(replies: list[str], task: Task, protocol: str) -> None:
    verdict = SUITE.verdict(task.problem, protocol, replies)
    assert verdict == SUITE.verdict(task.problem, protocol, replies)
    assert (SUITE.chat(task.problem, replies) is None) == (SUITE.completion(task.problem, replies) is None)
