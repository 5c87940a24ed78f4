"""What the page says of an answer that was checked by tests, and of calls of tools."""

import dataclasses

import pytest

from app.ide.best_of import BestOf, Failed, best_of_from
from app.ide.work_markup import side
from app.serving.tools.protocol import Passage
from app.serving.tools.tool_events import ToolEvent

SEARCH = ToolEvent(id="1", type="search_docs", status="started", arguments='{"query": "<b>zip</b>"}')


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (BestOf(stage="drafting", drafts=8, examples=3), "Drawing drafts: 8 drafts, 3 examples in the question."),
        (BestOf(stage="testing", drafts=1), "Running them: 1 draft."),
        (
            BestOf(drafts=8, examples=3, passed=3, drafts_passed=2, inputs=20, agreeing=5),
            "Best of 8: passes all 3 examples of the question (2 of 8 drafts did; 5 drafts alike on 20 inputs).",
        ),
        (BestOf(drafts=8, examples=1, passed=1), "Best of 8: passes the one example of the question."),
        (
            BestOf(drafts=8, examples=3, passed=2, repaired=True),
            "Best of 8: passes 2 of 3 examples of the question (repaired once).",
        ),
        (
            BestOf(drafts=4, inputs=1, agreeing=1),
            "Best of 4: the question states no example, so nothing was held against it (1 draft alike on 1 input).",
        ),
    ],
)
def test_one_sentence_says_what_was_checked(found: BestOf, sentence: str) -> None:
    assert found.sentence == sentence and sentence in side([], found)
    assert found.is_good == (found.examples > 0 and found.passed == found.examples and not found.stage)


def test_fields_that_are_null_or_not_known_are_left_out() -> None:
    held = {"stage": None, "drafts": 8, "soon": 1, "failed": {"example": "f(1) == 2", "got": None, "soon": 1}}
    assert best_of_from(held) == BestOf(drafts=8, failed=Failed(example="f(1) == 2"))


def test_the_first_example_that_fails_is_shown_with_both_values_as_text() -> None:
    failed = Failed(example="f('<b>') == 3", expected="3", error="ZeroDivisionError")
    shown = side([], BestOf(drafts=8, examples=2, passed=1, failed=failed))
    assert "f(&#x27;&lt;b&gt;&#x27;) == 3" in shown and "ZeroDivisionError" in shown and "\n" not in shown


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "working"),
        ({"status": "ok"}, "0 passages"),
        ({"status": "ok"}, "Nothing was found."),
        ({"status": "refused", "reason": "budget"}, "refused: budget"),
        ({"status": "failed"}, "failed"),
        ({"type": "run_python", "status": "ok", "reason": "passed"}, 'class="good">passed'),
        ({"type": "run_python", "status": "ok", "reason": "wrong_answer"}, 'class="bad">an assertion failed'),
        ({"type": "other", "arguments": "no <json>"}, "no &lt;json&gt;"),
        ({"arguments": "[1, 2]"}, "[1, 2]"),
    ],
)
def test_a_card_says_what_came_of_its_call(changed: dict[str, str], word: str) -> None:
    assert word in side([dataclasses.replace(SEARCH, **changed)], None)


def test_a_search_shows_query_source_words_and_the_link_as_text() -> None:
    passage = Passage(source="python", title="zip <i>", url="https://docs.python.org/3/#zip", words=1212)
    shown = side([dataclasses.replace(SEARCH, status="ok", passages=(passage,))], None)
    for text in (
        "&lt;b&gt;zip&lt;/b&gt;",
        "in all sources",
        "zip &lt;i&gt;",
        "python · 1,212 words",
        passage.url,
        "1 passage<",
    ):
        assert text in shown, text
    assert "<a" not in shown and side([], None) == ""
