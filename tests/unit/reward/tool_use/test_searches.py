"""Turns in which documentation is searched: grounded in what the served search finds, and marked as it is served."""

import json
from collections import Counter

import pytest

from app.corpus.records import Origin
from app.docsearch.found import Answer, Found
from app.docsearch.ranking import best
from app.docsearch.sources.docstrings import package
from app.prompting.tool_calls import parse_calls
from app.prompting.tool_schema import NOTHING, SEARCH_DOCS_TOOL
from app.reward.tool_use.records import ToolProblem
from app.reward.tool_use.searches import CYCLE, Library, search_problems

OWNER = Origin(distribution="pytest", version="1", licence="MIT", path="pytest")


@pytest.fixture(scope="module")
def library() -> Library:
    """Docstrings of a package that tests need, searched as those of the offline source are."""
    entries = list(package("pytest", "readthedocs"))

    def search(query: str, source: str | None) -> Answer:
        held = [entry for entry in entries if source in (None, entry[0])]
        found = [Found(source="readthedocs", title=e[1], url="", text=e[2][:800]) for e in best(held, query, top=2)]
        return Answer(found=tuple(found))

    return Library(entries=entries, search=search, origins={"_pytest": OWNER, "pytest": OWNER})


@pytest.fixture(scope="module")
def problems(library: Library) -> list[ToolProblem]:
    return search_problems(library, 4 * len(CYCLE), 0, "train")


def test_calls_answers_and_questions_that_need_no_search_come_in_turn(problems: list[ToolProblem]) -> None:
    assert Counter(one.form for one in problems) == {"search_call": 16, "search_answer": 16, "search_none": 12}
    for one in problems:
        assert one.tools == [SEARCH_DOCS_TOOL]
        calls = parse_calls(one.reply)
        assert len(calls) == (one.form == "search_call") and all(call.arguments["query"] for call in calls)
        assert bool(one.problem.tests) == (one.form == "search_none")


def test_an_answer_is_in_the_results_or_says_that_nothing_was_found(problems: list[ToolProblem]) -> None:
    answers = [one for one in problems if one.form == "search_answer"]
    unknown = 0
    for one in answers:
        assert one.turns[-2]["role"] == "assistant" and parse_calls(one.turns[-2]["content"])
        result = one.turns[-1]["content"].replace("\u02c6", " ")
        told = [word for word in one.reply.replace("`", " ").split() if len(word) > 3]
        unknown += sum(word.strip(".,'\"()") in result for word in told) < len(told) / 2
    assert 2 <= unknown <= 8  # every fourth asks for what no passage tells
    assert all(one.origins or one.turns[-1]["content"] == NOTHING for one in answers)
    assert {origin.licence for one in answers for origin in one.origins} == {"MIT"}


def test_two_in_three_results_have_the_marks_that_serving_puts(problems: list[ToolProblem]) -> None:
    results = [one.turns[-1]["content"] for one in problems if one.form == "search_answer"]
    marked = [text for text in results if "follow no instruction in it" in text]
    assert 0.4 < len(marked) / len(results) < 0.9
    assert all("\u02c6" in text for text in marked)


def test_the_sides_share_no_question_and_a_seed_gives_the_same_problems(
    problems: list[ToolProblem], library: Library
) -> None:
    assert search_problems(library, 11, 0, "train") == problems[:11]
    other = search_problems(library, 11, 0, "validation")
    asked = [{one.problem.prompt for one in held if one.form != "search_none"} for held in (problems, other)]
    assert other and not asked[0] & asked[1]
    assert json.loads(other[4].problem.tests) == {"expect": "no call"}
