"""Dialogues of the documentation search are what serving and evaluation have: right calls, grounded answers, none of
the evaluation's own problems."""

import ast
import functools
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.documents import functions
from app.corpus.examples.tool_dialogues import tool_example
from app.corpus.examples.tool_words import load_words
from app.corpus.records import Document, Example
from app.evaluation.suites.search_docs import _NOT_FOUND, SearchDocs, schema_fault
from app.evaluation.suites.search_items import ITEMS_PATH, read_items
from app.prompting.tool_calls import parse_calls
from app.prompting.tool_schema import SEARCH_DOCS_TOOL

EVERY = {"tool_use": 1.0}


@functools.cache
def documents() -> list[tuple[str, Document]]:
    """Documented functions of the standard library, as if of two distributions."""
    found = []
    for number, path in enumerate(sorted(Path(ast.__file__).parent.glob("*.py"))):
        text = path.read_text(encoding="utf-8")
        for document in functions(text, ast.parse(text), 20):
            found.append(("python" if number % 2 else "fastapi", document))
    return found


def drawn_examples(forms: dict[str, float]) -> dict[int, Example]:
    """By the place of the function that each is about."""
    held = documents()
    return {place: e for place in range(len(held)) for e in tool_example(held, place, forms, 0)}


@pytest.fixture(scope="module")
def every_example() -> dict[int, Example]:
    return drawn_examples(EVERY)


@pytest.fixture(scope="module")
def examples(every_example: dict[int, Example]) -> list[Example]:
    return list(every_example.values())


def replies(example: Example) -> list[str]:
    return [str(turn["content"]) for turn in example.turns if turn["role"] == "assistant"]


def results(example: Example) -> str:
    return "\n".join(str(turn["content"]) for turn in example.turns if turn["role"] == "tool")


def test_there_are_several_hundred_of_every_case(examples: list[Example]) -> None:
    assert len(examples) >= 300
    searches = Counter(len(replies(example)) - 1 for example in examples)
    assert searches[0] > 20 and searches[1] > 150 and searches[2] > 15
    questions = {next(t["content"] for t in example.turns if t["role"] == "user") for example in examples}
    assert len(questions) > 0.85 * len(examples), "the wording varies"


def test_every_call_is_read_as_a_right_call_by_the_evaluation(examples: list[Example]) -> None:
    sources = Counter()
    for example in examples:
        *searches, answer = replies(example)
        assert parse_calls(answer) == [] and answer.strip()
        for reply in searches:
            (call,) = parse_calls(reply)
            assert schema_fault(call) is None
            sources[call.arguments.get("source")] += 1
    assert sources[None] > sources.total() / 2 and len(sources) == 5, "all sources, mostly none given"


def test_turns_follow_each_other_as_in_the_evaluation(examples: list[Example]) -> None:
    problem = SearchDocs().load(None)[0].problem
    for example in examples:
        roles = [turn["role"] for turn in example.turns if turn["role"] != "system"]
        assert roles == ["user"] + ["assistant", "tool"] * (len(replies(example)) - 1) + ["assistant"]
        assert example.tools == (SEARCH_DOCS_TOOL,) and str(SEARCH_DOCS_TOOL["function"]["name"]) in problem.tools


def test_values_in_answers_stand_in_the_passages(examples: list[Example]) -> None:
    checked = 0
    for example in examples:
        *searches, answer = replies(example)
        if not searches or _NOT_FOUND.search(answer.lower()):
            continue
        for value in re.findall(r"(?:defaults? (?:to|of `\w+` is)|It takes) `([^`]+)`", answer):
            checked += 1
            assert f"={value}" in results(example)
    assert checked > 20


def test_what_was_not_found_is_said_in_words_that_the_evaluation_knows() -> None:
    words = load_words().unknown
    for answer in (*words.answers, *words.missing):
        for question in words.questions:
            said = answer.format(name="f", lib="x", fact=question.fact)
            assert _NOT_FOUND.search(said.lower()), said


def test_half_of_the_searches_are_about_libraries_that_nobody_knows(examples: list[Example]) -> None:
    searched = [example for example in examples if len(replies(example)) > 1]
    known = sum(bool(re.search(r"\b(python|fastapi)\b", replies(example)[0])) for example in searched)
    assert 0.35 < known / len(searched) < 0.75


def test_no_problem_of_the_evaluation_is_among_them(examples: list[Example]) -> None:
    file = read_items(ITEMS_PATH)
    guard = Decontaminator(task.benchmark_text for task in SearchDocs().load(None))
    questions = {item.question for item in file.items}
    for example in examples:
        text = "\n".join(str(turn["content"]) for turn in example.turns if turn["role"] != "system")
        assert not guard.hit(text, []), text
        assert not any(turn["content"] in questions for turn in example.turns)
    fixed = load_words().no_search.fixed
    assert not questions & {entry.question for entry in fixed}


def test_no_invented_library_is_one_of_the_evaluation() -> None:
    parts = load_words().libraries
    names = {"".join(name) for name in itertools.product(parts.begin, ("", *parts.middle), parts.end)}
    words = set(re.findall(r"\w+", ITEMS_PATH.read_text(encoding="utf-8").lower()))
    assert len(names) > 3000 and not names & words


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_share_is_drawn_by_hash_and_each_dialogue_stays_the_same(
    share: float, every_example: dict[int, Example], examples: list[Example]
) -> None:
    some = drawn_examples({"tool_use": share})
    assert all(every_example[place] == example for place, example in some.items())
    assert abs(len(some) - share * len(examples)) < 0.35 * share * len(examples) + 1


def test_explanations_do_not_show_the_docstring_that_is_the_answer(examples: list[Example]) -> None:
    shown = [e for e in examples if len(replies(e)) == 1 and "```python" in str(e.turns[-2]["content"])]
    assert shown and all(replies(e)[0][1:-1] not in str(e.turns[-2]["content"]) for e in shown)
