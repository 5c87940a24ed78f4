"""The IDE without a browser: programs run as scripts, what the page shows of hostile text, and the conversation."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncGenerator, Iterator, Sequence

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.errors import UserError
from app.ide import markup
from app.ide.backend import Piece, SandboxRunner
from app.ide.best_of import BestOf
from app.ide.conversation import Answer, Turn, Way, answered, last_code, question_turn
from app.ide.failures import failure_of
from app.records import Status
from app.sandbox.script import OUTPUT_BYTES, ScriptRun
from app.sandbox.supervisor import Supervisor
from app.serving.tools.tool_events import ToolEvent
from app.settings import SandboxSettings

SETTINGS = SandboxSettings(timeout_s=0.6)
HOSTILE = [
    "![x](http://evil.example/x.png)",
    "![x][a]\n\n[a]: http://evil.example/x.png",
    '<img src="http://evil.example/y.png" onerror="alert(1)">',
    "<script>alert(1)</script>",
    "text <svg onload=alert(1)> text",
    "- item\n\n  <iframe src=//evil.example></iframe>",
    "| a |\n|---|\n| <img src=//evil.example> |",
    "[link](javascript:alert(1)) <http://evil.example>",
    "`code` ``<b>`` ```<i>```",
    "# <b>head</b>\n> <b>quote</b>",
    "\\<b> &lt;b> &#60;b>",
    "- item\n  ```html\n  <img src=//evil.example>\n\n  ```",
]


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


@pytest.mark.parametrize(
    ("source", "status", "output", "detail"),
    [
        ("print(input()[::-1])", Status.PASSED, "cba\n", ""),
        ("import sys\nsys.stdout.write('no newline')", Status.PASSED, "no newline", ""),
        ("print('before')\nwhile True: pass", Status.TIMEOUT, "before\n", "more than 0.6 s of CPU time"),
        ("print('before')\n{}['k']", Status.RUNTIME_ERROR, "before\n", "KeyError: 'k'"),
        ("import sys\nsys.exit('because')", Status.RUNTIME_ERROR, "", "exit code 1"),
        ("print(1", Status.LOAD_ERROR, "", "SyntaxError: '(' was never closed (<candidate>, line 1)"),
        ("x = bytearray(8 << 30)", Status.MEMORY, "", "MemoryError: "),
        (
            "open('nowhere')",
            Status.RUNTIME_ERROR,
            "",
            "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'",
        ),
        ("import ctypes\nctypes.CDLL(None).syscall(101)", Status.VIOLATION, "", "a forbidden system call"),
    ],
)
def test_a_script_says_what_it_printed_and_how_it_ended(
    supervisor: Supervisor, source: str, status: Status, output: str, detail: str
) -> None:
    run = supervisor.run_script(source, "abc\n")
    assert (run.status, run.output, run.detail, run.tier) == (status, output, detail, supervisor.tier), run


def test_an_exception_leaves_its_traceback_with_the_programs_own_lines(supervisor: Supervisor) -> None:
    run = supervisor.run_script("import sys\nprint('note', file=sys.stderr)\ndef f(x):\n    return 1 / x\nf(0)")
    assert run.errors.startswith("note\nTraceback") and run.errors.endswith("ZeroDivisionError: division by zero\n")
    assert "line 4, in f\n    return 1 / x" in run.errors and "candidate.py" not in run.errors


@pytest.mark.parametrize(
    ("source", "line", "note"),
    [
        ("def f(x):\n    return x\nassert f(3) == 4, 'no'", 3, "no; f(3) was 3"),
        ("def f(x):\n    assert x\nf([])", 2, "x was []"),
        ("class A:\n    assert len('ab') == 3", 2, "len('ab') was 2"),
        ("def f():\n    assert 1 == 2\nf()", 2, "does not hold"),
        ("import json\njson.loads('{')", 2, "JSONDecodeError: Expecting property name"),
        ("x = 1\nprint((x)", 2, "SyntaxError: '(' was never closed"),
        ("x = 0\nassert x" + " + 0" * 900 + " == 1", 2, "does not hold"),
    ],
    ids=["message", "within", "class", "plain", "library", "syntax", "deep"],
)
def test_a_failure_is_placed_at_its_line_with_its_values(
    supervisor: Supervisor, source: str, line: int, note: str
) -> None:
    run = supervisor.run_script(source)
    failure = failure_of(run, source)
    assert failure and failure.line == line and failure.note.startswith(note), (failure, run)
    assert f"<td>{line}</td>" in markup.verdict(run, source) and 'class="it"' in markup.verdict(run, source)


def test_assertions_that_hold_change_nothing_of_a_program(supervisor: Supervisor) -> None:
    source = (
        "seen = []\ndef f(x):\n    seen.append(x)\n    return x\n"
        "def g():\n    assert f(1) < f(2) < f(3), f(9)\n    return sorted(locals()) and __name__\n"
        "assert all(f(x) for x in [4])\nprint(g(), seen)"
    )
    run = supervisor.run_script(source)
    assert (run.status, run.output) == (Status.PASSED, "__main__ [4, 1, 2, 3]\n"), run
    assert failure_of(run, source) is None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output_ends_at_the_cap_and_is_kept_up_to_it(supervisor: Supervisor, stream: str) -> None:
    run = supervisor.run_script(f"import sys\nwhile True: sys.{stream}.write('x' * 1000 + '\\n')")
    assert run.status == Status.OUTPUT_LIMIT
    assert 0.9 * OUTPUT_BYTES < len(run.output) + len(run.errors) <= OUTPUT_BYTES


def test_text_that_is_no_text_breaks_nothing(supervisor: Supervisor) -> None:
    assert supervisor.run_script("print(input())", "\ud800x").output == "?x\n"
    assert supervisor.run_script("\ud800").status == Status.LOAD_ERROR
    assert supervisor.run_script("import os\nos.write(1, b'\\xff')").output == "\ufffd"
    assert supervisor.run_script("raise ValueError('x' * 1_000_000)").status == Status.RUNTIME_ERROR
    assert supervisor.run_script("x" * (64 << 20)).status == Status.LOAD_ERROR
    assert supervisor.num_infra == 0


def test_a_runner_runs_as_many_programs_at_a_time_as_it_has_supervisors() -> None:
    runner = SandboxRunner(SETTINGS, num_runs=2)

    async def run_all() -> list[ScriptRun]:
        return await asyncio.gather(*(runner.run(f"print({n})", "") for n in range(5)))

    try:
        assert [run.output for run in asyncio.run(run_all())] == [f"{n}\n" for n in range(5)]
    finally:
        runner.close()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_writes_is_shown_as_text(text: str) -> None:
    shown = markup.chat_markdown(text)
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", shown, flags=re.DOTALL | re.MULTILINE)
    tags = set(re.findall(r"<\s*/?\s*(\w+)", outside))
    assert tags <= {
        "div",
        "p",
        "br",
        "code",
        "pre",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "h1",
        "blockquote",
    }
    assert not re.search(r"<[^>]*\s(src|href|on\w+|style)\s*=", outside)
    for part in filter(None, outside.split("\n\n")):
        assert part.startswith("<div>") and "\n" not in part, "not one block of HTML to the chat's parser"


@pytest.mark.parametrize("content", ["```", "`````\n<img src=x>", "</code></pre><script>", "~~~"])
def test_nothing_in_a_code_block_can_close_it(content: str) -> None:
    shown = markup.chat_markdown(f"~~~~~~ mermaid\n{content}\n~~~~~~\nafter")
    fence = shown.partition("\n")[0]
    assert set(fence) == {"`"} and shown == f"{fence}\n{content}\n{fence}\n\n<div><p>after</p></div>"
    assert fence not in content


def test_prose_and_code_keep_their_form() -> None:
    shown = markup.chat_markdown("Use `a < b`:\n```python\nx = a[0] < b\n```\n\n- **one**\n- two\n")
    assert shown.startswith("<div><p>Use <code>a &lt; b</code>:</p></div>\n\n```python\nx = a[0] < b\n```\n\n<div><ul>")
    assert "<strong>one</strong>" in shown


def test_a_verdict_shows_what_a_program_printed_as_text() -> None:
    run = ScriptRun(
        status=Status.RUNTIME_ERROR,
        output="<img src=x>\n\n# no head\n",
        errors="Traceback\nKeyError: 1\n",
        detail="KeyError: 1",
        cpu_seconds=0.0123,
        wall_seconds=1.5,
        tier="A",
    )
    shown = markup.verdict(run)
    assert "\n" not in shown and "<img" not in shown and "&lt;img src=x&gt;&#10;&#10;# no head" in shown
    assert "Ended with an error" in shown and "CPU 12 ms, wall 1.50 s, sandbox tier A" in shown
    assert shown.count("KeyError") == 1
    assert markup.notice("") == "" and "<b>" not in markup.notice("<b>")


class ScriptedAssistant:
    """An assistant that answers what it was told to, and notes what it was asked."""

    def __init__(self, *pieces: Piece, error: str = "") -> None:
        self.pieces, self.error, self.asked, self.closed = pieces, error, [], False

    async def models(self) -> list[str]:
        return ["base", "base:sft"]

    async def chat(
        self, model: str, messages: list[Turn], *, max_tokens: int, temperature: float | None, tools: Sequence[str] = ()
    ) -> AsyncGenerator[Piece, None]:
        self.asked.append((model, messages, max_tokens, temperature, tools))
        try:
            for piece in self.pieces:
                yield piece
            if self.error:
                raise UserError(self.error)
        finally:
            self.closed = True


async def _collect(
    assistant: ScriptedAssistant, turns: list[Turn], model: str = "base", way: Way = Way.PLAIN
) -> list[Answer]:
    options = {"max_tokens": 5, "temperature": 0.2, "way": way, "tools": ("search_docs",)}
    return [now async for now in answered(assistant, model, turns, **options)]


def test_an_answer_grows_by_pieces_on_the_whole_conversation() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assistant = ScriptedAssistant("d", "e")
    seen = asyncio.run(_collect(assistant, turns))
    assert [now.turns[-1]["content"] for now in seen] == ["d", "de"] and all(now.turns[:3] == turns for now in seen)
    assert assistant.asked == [("base", turns, 5, 0.2, ())]


def test_a_call_is_shown_as_it_is_now_before_a_word_of_the_answer_is_there() -> None:
    began = ToolEvent(id="1", type="search_docs", status="started", arguments="{}")
    found = dataclasses.replace(began, status="ok")
    assistant = ScriptedAssistant(began, found, "d")
    first, second, last = asyncio.run(_collect(assistant, [question_turn("a")], way=Way.TOOLS))
    assert (first.calls, second.calls, last.calls) == ((began,), (found,), (found,))
    assert not first.is_begun and not second.is_begun and last.is_begun
    assert assistant.asked[0][4] == ("search_docs",)


def test_an_answer_checked_by_tests_is_asked_of_the_models_other_name_without_tools() -> None:
    assistant = ScriptedAssistant(BestOf(stage="drafting"), "d", BestOf(drafts=8))
    *_, last = asyncio.run(_collect(assistant, [question_turn("a")], way=Way.TESTS))
    ((model, _, _, temperature, tools),) = assistant.asked
    assert (model, temperature, tools, last.checked) == ("base+tests", None, (), BestOf(drafts=8))


def test_an_answer_that_is_given_up_is_given_up_at_the_model_too() -> None:
    async def stop_after_one() -> None:
        answer = answered(assistant, "base", [question_turn("a")], max_tokens=5, temperature=0.0)
        await anext(answer)
        await answer.aclose()

    assistant = ScriptedAssistant("d", "e")
    asyncio.run(stop_after_one())
    assert assistant.closed


def test_what_can_not_be_asked_is_said_in_one_sentence() -> None:
    for call, word in (
        (lambda: question_turn("  \n"), "no question"),
        (lambda: question_turn("x" * 30_000), "30000 characters"),
        (lambda: question_turn("x", "y" * 200_000), "200000 characters"),
        (lambda: last_code([]), "no answer"),
        (lambda: last_code([{"role": "assistant", "content": "just words"}]), "no code block"),
        (lambda: asyncio.run(_collect(ScriptedAssistant("a"), [], model="")), "No model"),
        (lambda: asyncio.run(_collect(ScriptedAssistant(), [])), "answered nothing"),
        (lambda: asyncio.run(_collect(ScriptedAssistant("a", error="It is busy."), [])), "It is busy."),
    ):
        with pytest.raises(UserError, match=word):
            call()


def test_the_editors_code_goes_along_after_the_question() -> None:
    assert question_turn(" Why? ", "x = 1\n")["content"] == "Why?\n\n```python\nx = 1\n```"
    assert question_turn("Why?", " \n")["content"] == "Why?"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("So:\n```python\nx = 1\n\n```\nor\n```\ny\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("cut off:\n```py\nx = 1", "x = 1\n"),
    ],
)
def test_the_first_code_block_of_the_last_answer_is_taken(answer: str, code: str) -> None:
    older = {"role": "assistant", "content": "```\nolder\n```"}
    assert last_code([older, question_turn("a"), {"role": "assistant", "content": answer}, question_turn("b")]) == code


@pytest.mark.parametrize("prefix", ["", "/ide"])
def test_the_application_serves_the_page_and_nothing_that_it_does_not_need(prefix: str) -> None:
    from app.ide.application import build_application  # with Gradio: six seconds

    app = build_application(ScriptedAssistant(), SandboxRunnerNeverUsed())

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": prefix} if scope["type"] == "http" else scope, receive, send)

    with TestClient(mounted, base_url="http://localhost:8000") as client:
        page = client.get(f"{prefix}/")
        assert page.status_code == 200 and f'"root":"http://localhost:8000{prefix}"' in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        theme = client.get(f"{prefix}/theme.css")
        assert theme.status_code == 200 and "@import" not in theme.text
        assert all(source.startswith("data:") for source in re.findall(r"url\([\"']?([^\"')]+)", theme.text))
        for path in ("upload", "file=/etc/passwd", "proxy=http://evil.example", "openapi.json", "call/ask", "run/ask"):
            assert client.get(f"{prefix}/gradio_api/{path}").status_code == 404, path
            assert client.post(f"{prefix}/gradio_api/{path}", json={}).status_code == 404, path
        for path in ("/docs", "/openapi.json", "/monitoring", "/login", "/svelte/x"):
            assert client.get(prefix + path).status_code == 404, path


class SandboxRunnerNeverUsed:
    async def run(self, source: str, given: str) -> ScriptRun:
        raise AssertionError("no program is run here")
