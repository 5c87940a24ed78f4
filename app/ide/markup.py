"""Everything the page shows that a model or a program wrote, made inert: it can't load, link to or run anything.

Markdown is rendered here, without HTML, images and links, which stay as the text they were written as. The chat shows
the result without further interpretation: HTML on one line is one HTML block to its Markdown parser, and a code block
goes to it as a fence that nothing inside can close. The page's content security policy is the second line.
"""

from collections.abc import Sequence
from html import escape

from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.files.python_source import source_lines
from app.ide.conversation import Turn
from app.ide.failures import Failure, failure_of
from app.prompting.fences import fenced
from app.records import Status
from app.sandbox.script import ScriptRun

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
_MARKDOWN.disable(["image", "link", "autolink", "reference", "entity"])
LANGUAGES = frozenset(
    "python py bash sh json yaml toml sql html css javascript js typescript ts c cpp java diff".split()
)
"""Fences that keep their language for highlighting; others (mermaid) would be drawn."""
AROUND = 1
"""Lines that are shown before and after the one that failed."""
WORDS = {
    Status.PASSED: "Ran to its end",
    Status.RUNTIME_ERROR: "Ended with an error",
    Status.LOAD_ERROR: "Not a valid program",
    Status.TIMEOUT: "Stopped: out of time",
    Status.MEMORY: "Stopped: out of memory",
    Status.OUTPUT_LIMIT: "Stopped: too much output",
    Status.DIED: "The process died",
    Status.VIOLATION: "Stopped: forbidden system call",
    Status.INFRA: "The sandbox failed, not the program",
}


def chat_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as the chat component shows them."""
    return [{"role": turn["role"], "content": chat_markdown(turn["content"])} for turn in turns]


def chat_markdown(text: str) -> str:
    """A message as Markdown that means nothing but what is seen."""
    parts: list[str] = []
    prose: list[Token] = []
    for token in _MARKDOWN.parse(text):
        if token.level == 0 and token.type in ("fence", "code_block"):
            parts += [_one_line(prose), _fenced(token)]
            prose = []
        else:
            prose.append(token)
    return "\n\n".join(part for part in (*parts, _one_line(prose)) if part)


def _one_line(tokens: list[Token]) -> str:
    if not tokens:
        return ""
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return block(f"<div>{html.strip()}</div>")


def block(html: str) -> str:
    """HTML as one line, which is one block of HTML to the Markdown parser."""
    return html.replace("\n", "&#10;")


def _fenced(token: Token) -> str:
    language = (token.info.lower().split() or [""])[0]
    return fenced(token.content, language if language in LANGUAGES else "")


def notice(text: str) -> str:
    """One sentence about what went wrong; empty for an empty text."""
    return block(f'<p class="notice" role="alert">{escape(text)}</p>') if text else ""


def hint(text: str) -> str:
    """What is shown in a place that is still empty."""
    return f'<p class="hint">{escape(text)}</p>'


def verdict(run: ScriptRun, source: str = "") -> str:
    """How a run ended, in one line, the line of its program where it failed, and what it printed. The page marks that
    line in the editor too (`keys.js`)."""
    kind = "good" if run.status == Status.PASSED else "bad"
    spent = f"CPU {_time(run.cpu_seconds)}, wall {_time(run.wall_seconds)}, sandbox tier {escape(run.tier)}"
    head = f'<strong class="{kind}">{WORDS.get(run.status, run.status)}</strong><span>{spent}</span>'
    failure = failure_of(run, source)
    place = _excerpt(source, failure) if failure else ""
    detail = f'<p class="detail">{escape(run.detail)}</p>' if run.detail and run.detail not in run.errors else ""
    shown = [_printed(title, text) for title, text in (("Output", run.output), ("Errors", run.errors)) if text]
    if not shown and not detail:
        shown = ['<p class="detail">It printed nothing.</p>']
    return block(f'<div class="verdict"><div class="head">{head}</div>{place}{detail}{"".join(shown)}</div>')


def _excerpt(source: str, failure: Failure) -> str:
    """The lines around the one that failed, with what is to be said of it beside it."""
    rows = []
    for number, text in enumerate(source_lines(source), 1):
        if abs(number - failure.line) <= AROUND:
            is_it = number == failure.line
            note = f'<span class="note">{escape(failure.note)}</span>' if is_it else ""
            row = f"<td>{number}</td><td>{escape(text) or ' '}{note}</td>"
            rows.append(f'<tr class="it">{row}</tr>' if is_it else f"<tr>{row}</tr>")
    return f'<table class="code">{"".join(rows)}</table>'


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _printed(title: str, text: str) -> str:
    return f"<h4>{title}</h4><pre>{escape(text)}</pre>"
