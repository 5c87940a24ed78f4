"""What stands beside the conversation, as inert HTML: calls of tools, how an answer was checked, a proposed change."""

import json
from collections.abc import Sequence
from html import escape

from app.ide.best_of import BestOf
from app.ide.changes import Line
from app.ide.markup import block
from app.serving.tools.protocol import Passage
from app.serving.tools.tool_events import ToolEvent

NAMES = {"search_docs": "Documentation", "run_python": "Sandbox"}
ENDED = {
    "passed": "passed",
    "wrong_answer": "an assertion failed",
    "runtime_error": "ended with an error",
    "load_error": "did not load",
    "timeout": "out of time",
    "memory": "out of memory",
    "broken_tests": "its tests don't compile",
    "untested": "nothing was tested",
}
"""What came of a run, in words."""
SIGNS = {"same": " ", "added": "+", "removed": "−"}


def side(calls: Sequence[ToolEvent], checked: BestOf | None) -> str:
    """The sidebar: a card for each call, newest last, and one for the check."""
    cards = [_call(each) for each in calls]
    if checked:
        cards.append(_checked(checked))
    return block(f'<div class="cards">{"".join(cards)}</div>') if cards else ""


def change(lines: Sequence[Line]) -> str:
    """A difference as a table of old number, new number and text."""
    rows = []
    for line in lines:
        if line.kind == "gap":
            rows.append('<tr class="gap"><td></td><td></td><td>⋯</td></tr>')
            continue
        old, new = (str(number) if number else "" for number in (line.old, line.new))
        text = f"{SIGNS[line.kind]} {escape(line.text)}"
        rows.append(f'<tr class="{line.kind}"><td>{old}</td><td>{new}</td><td>{text}</td></tr>')
    added, removed = (sum(line.kind == kind for line in lines) for kind in ("added", "removed"))
    head = f'<div class="head"><strong>Proposed change</strong><span>+{added} −{removed} lines</span></div>'
    return block(f'<div class="diff">{head}<div class="lines"><table class="code">{"".join(rows)}</table></div></div>')


def _call(event: ToolEvent) -> str:
    try:
        arguments = json.loads(event.arguments)
    except ValueError:
        arguments = {}
    arguments = arguments if isinstance(arguments, dict) else {}
    kind, word = _verdict(event)
    head = f'<strong>{escape(NAMES.get(event.type, event.type))}</strong><span class="{kind}">{escape(word)}</span>'
    asked = ""
    if query := str(arguments.get("query", "")):
        source = str(arguments.get("source", "")) or "all sources"
        asked = f'<p class="asked">{escape(query)}</p><p class="small">in {escape(source)}</p>'
    elif code := str(arguments.get("code", "")):
        tests = str(arguments.get("tests", "")).strip()
        more = f"<h4>Tests</h4><pre>{escape(tests)}</pre>" if tests else ""
        asked = f"<pre>{escape(code.strip())}</pre>{more}"
    elif event.arguments not in ("", "{}"):
        asked = f'<p class="asked">{escape(event.arguments)}</p>'
    found = "".join(map(_passage, event.passages))
    if event.status == "ok" and event.type == "search_docs" and not event.passages:
        found = '<p class="small">Nothing was found.</p>'
    return f'<div class="card {kind}"><div class="head">{head}</div>{asked}{found}</div>'


def _verdict(event: ToolEvent) -> tuple[str, str]:
    """The kind of a card, and the word on it."""
    if event.status == "started":
        return "busy", "working"
    if event.status != "ok":
        return "bad", f"{event.status}: {event.reason}" if event.reason else event.status
    if event.type == "run_python":
        return "good" if event.reason == "passed" else "bad", ENDED.get(event.reason, event.reason or "ran")
    number = len(event.passages)
    return "good", f"{number} passage{'' if number == 1 else 's'}"


def _passage(found: Passage) -> str:
    words = f" · {found.words:,} words" if found.words else ""
    link = f'<p class="link">{escape(found.url)}</p>' if found.url else ""
    source = f'<p class="small">{escape(found.source)}{words}</p>'
    return f'<div class="found"><p>{escape(found.title)}</p>{source}{link}</div>'


def _checked(found: BestOf) -> str:
    kind = "busy" if found.stage else "good" if found.is_good else "bad" if found.failed else "plain"
    word = "working" if found.stage else f"{found.passed} of {found.examples}" if found.examples else "not tested"
    failed = ""
    if found.failed:
        rows = [("example", found.failed.example), ("expected", found.failed.expected)]
        rows += [("got", found.failed.got or found.failed.error)]
        cells = "".join(f"<tr><td>{name}</td><td>{escape(text)}</td></tr>" for name, text in rows if text)
        failed = f'<h4>First example that fails</h4><table class="code">{cells}</table>'
    spent = f'<p class="small">{found.tokens:,} tokens drawn</p>' if found.tokens else ""
    head = f'<strong>Checked by tests</strong><span class="{kind}">{word}</span>'
    said = f'<p class="asked">{escape(found.sentence)}</p>'
    return f'<div class="card {kind}"><div class="head">{head}</div>{said}{failed}{spent}</div>'
