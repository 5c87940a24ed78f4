"""The IDE's page in a real browser, mounted at /ide as Ray Serve does it: a scripted model, the real sandbox.

Answers with tools go through the real edge and the real tools, which search a stand-in of Python's documentation on
loopback. Screenshots go to the folder that POCKETCODER_SCREENSHOTS names.
"""

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.errors import UserError
from app.files.json_files import append_json_line, write_json
from app.ide.backend import Piece, SandboxRunner
from app.ide.client import EdgeAssistant
from app.ide.run_list import RunList
from app.profiles import smoke
from app.runs import Run, open_run
from app.serving.edge import Edge
from app.serving.tools.run_python import PythonRuns
from app.serving.tools.server_tools import Tools
from app.settings import SandboxSettings, ServingSettings
from app.stage_settings.docsearch import DocsearchSettings
from tests import commands
from tests.e2e.browser import Browser, open_browser
from tests.e2e.page import Page, wait_until
from tests.unit.evolution.made_run import write_evolution
from tests.unit.serving.test_best_of import Engines as Drafts
from tests.unit.serving.tools.in_threads import searching
from tests.unit.serving.tools.scripts import Engines, Says, search
from tests.unit.test_report import META, figures

PREFIX = "/ide"
ANSWER = """Here is a function with a **doctest**:

```python
def double(x: int) -> int:
    return 2 * x


print(double(int(input())))
```

It reads a number and prints twice as much.
"""
HOSTILE = """![x](http://evil.example/x.png) <img src="http://evil.example/y.png" onerror="window.hit = 1">

<script>window.hit = 1</script>

[link](http://evil.example/) <iframe src="http://evil.example/f"></iframe>

```html
</code></pre><img src="http://evil.example/z.png" onerror="window.hit = 1">
```
"""


SHOWN_COLOURS = "return document.body.classList.contains('dark') ? 'dark' : 'light'"
DOUBLES = "Doubled:\n\n```python\ndef double(x):\n    return 2 * x\n```\n"
SAME = "The same:\n\n```python\ndef double(x):\n    return x\n```\n"


class ScriptedAssistant:
    """Stands in for the model: answers with fixed text, a piece each 20 ms, or by the edge with tools or tests."""

    def __init__(self, with_tools: EdgeAssistant, checked: EdgeAssistant) -> None:
        self.with_tools, self.checked = with_tools, checked
        self.asked: list[list[dict[str, str]]] = []
        self.num_closed_early = 0

    async def models(self) -> list[str]:
        return ["base", "base:sft", "base+tests", "base:sft+tests"]

    async def chat(
        self,
        model: str,
        messages: list[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float | None,
        tools: Sequence[str] = (),
    ) -> AsyncGenerator[Piece, None]:
        self.asked.append(messages)
        question = messages[-1]["content"]
        if tools:
            options = {"max_tokens": max_tokens, "temperature": temperature, "tools": tools}
            async with contextlib.aclosing(self.with_tools.chat(model, messages, **options)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        if model == "base:sft":
            yield ANSWER.replace("2 * x", "x + x")
            return
        if model.endswith("+tests"):
            checked = self.checked.chat(model, messages, max_tokens=max_tokens, temperature=temperature)
            async with contextlib.aclosing(checked) as pieces:
                async for piece in pieces:
                    yield piece
            return
        if "refuse" in question:
            raise UserError("The server is busy: try again in a few seconds.")
        text = HOSTILE if "hostile" in question else ANSWER * (50 if "endless" in question else 1)
        try:
            for start in range(0, len(text), 8):
                await asyncio.sleep(0.02)
                yield text[start : start + 8]
        except (GeneratorExit, asyncio.CancelledError):
            self.num_closed_early += 1
            raise


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedAssistant]:
    code = {"code": "def double(x):\n    return x", "tests": "assert double(2) == 4"}
    script = [
        Says(calls=[search("json.loads")]),
        Says(calls=[search("<img src=x onerror=window.hit=1>"), ("run_python", json.dumps(code))]),
        Says(content=ANSWER),
    ]
    runs = PythonRuns(SandboxSettings(timeout_s=1.0, num_workers=1))
    with searching(tmp_path_factory.mktemp("search"), DocsearchSettings(readthedocs=())) as (local, _):
        edge = Edge(Engines(*script), ServingSettings(), tools=Tools(local, runs))
        drafts = Drafts(SAME, DOUBLES, "I can't.", *[SAME] * 4)
        checked = Edge(drafts, ServingSettings(best_of=3), tester=runs)
        yield ScriptedAssistant(EdgeAssistant(edge), EdgeAssistant(checked))
    runs.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose self-reward and evolution are complete; written by the project's own writers."""
    with open_run(tmp_path_factory.mktemp("runs") / "evolved", smoke(), resume=False) as run:
        write_json(run.grm_meta, META)
        for number, reward in enumerate((0.2, 0.3, 0.45), 1):
            append_json_line(run.arm("grpo").metrics, asdict(figures(number, reward)))
        write_evolution(run)
    return run


@pytest.fixture(scope="module")
def host(assistant: ScriptedAssistant, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host:port where the page is served. The process that plans the run is forked."""
    from app.ide import planned
    from app.ide.application import build_application  # with Gradio: six seconds

    python = commands.programs(tmp_path_factory.mktemp("page") / "programs") / "python"
    planned.sys = SimpleNamespace(executable=str(python))  # type: ignore[assignment]

    runner = SandboxRunner(SandboxSettings(timeout_s=1.0))
    application = build_application(assistant, runner, RunList(run.root, [run.root.parent]))

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "root_path": PREFIX} if scope["type"] == "http" else scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(mounted, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        runner.close()
        planned.sys = sys


@pytest.fixture(scope="module")
def shared_browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(host: str, shared_browser: Browser) -> Iterator[Page]:
    """A new session of the page; afterwards: nothing was asked of another host, no script complained."""
    shared_browser.leave()
    opened = Page(shared_browser, f"http://{host}{PREFIX}/")
    yield opened
    assert shared_browser.requested_elsewhere(host) == []
    assert shared_browser.console() == []


def test_a_question_becomes_a_program_that_runs(page: Page, assistant: ScriptedAssistant) -> None:
    page.watch_answer()
    page.ask("double a number")
    page.wait_for_answer()
    assert any("function" in text and "twice as much" not in text for text in page.answer_texts()), "not in pieces"
    assert (
        "prints twice as much" in page.text("#chat") and page.field("#question textarea").get_attribute("value") == ""
    )
    page.take()
    wait_until(lambda: "def double(x: int)" in page.text("#editor .cm-content"))
    page.field("#given textarea").send_keys("21")
    verdict = page.run()
    assert verdict.startswith("Ran to its end") and "Output\n42" in verdict and "tier" in verdict
    page.screenshot("run")
    page.field("#with-code input").click()
    page.ask("why?")
    page.wait_for_answer()
    conversation = assistant.asked[-1]
    assert [turn["role"] for turn in conversation] == ["user", "assistant", "user"]
    assert conversation[1]["content"] == ANSWER
    assert (
        conversation[2]["content"].startswith("why?\n\n```python\ndef double")
        and "21" not in conversation[2]["content"]
    )


def test_a_program_that_fails_is_explained(page: Page) -> None:
    page.write_program("print('<img src=x onerror=\"window.hit = 1\">')\n{}['<b>']")
    verdict = page.run()
    assert verdict.startswith("Ended with an error") and "KeyError: '<b>'" in verdict and "<img src=x" in verdict
    page.write_program("while True: pass")
    assert page.run().startswith("Stopped: out of time")
    assert page.driver.execute_script("return window.hit") is None and page.text(".failed-line") == ""


def test_an_assertion_that_fails_shows_its_values_at_its_line_until_the_program_changes(page: Page) -> None:
    page.write_program("def double(x):\n    return x\n\nassert double(0) == 0\nassert double(3) == 6\n")
    verdict = page.run()
    assert verdict.startswith("Ended with an error") and "assert double(3) == 6" in page.text("#verdict tr.it")
    wait_until(lambda: page.text("#editor .failed-line") == "◂ double(3) was 3")
    line, fifth = (
        page.driver.execute_script("return arguments[0].getBoundingClientRect().top", page.field(selector))
        for selector in (".failed-line", "#editor .cm-line:nth-child(5)")
    )
    assert abs(line - fifth) < 3
    page.screenshot("failed")
    page.field("#editor .cm-content").send_keys("#")
    wait_until(lambda: page.text("#editor .failed-line") == "")
    assert page.program().endswith("#")


def test_a_change_is_shown_before_it_is_taken_and_can_be_undone(page: Page) -> None:
    mine = "import os\n\n\ndef double(x):\n    return x\n\n\nassert double(2) == 4\n"
    page.write_program(mine)
    page.ask("mend double")
    wait_until(lambda: "prints twice as much" in page.text("#chat .bot"))
    page.wait_for_answer()
    page.field("#question textarea").send_keys("\ue00ap\ue000")  # Alt+P, wherever the cursor is
    wait_until(lambda: page.text("#diff .head"))
    assert "return x" in page.text("#diff .removed") and "return 2 * x" in page.text("#diff .added")
    assert "assert double(2) == 4" in page.text("#diff .same") and not page.field("#editor").is_displayed()
    page.screenshot("change")
    page.field("#dismiss").click()
    wait_until(lambda: page.field("#editor").is_displayed())
    assert page.program() == mine
    page.take()
    wait_until(lambda: "return 2 * x" in page.program())
    assert page.program().startswith("import os\n") and "assert double(2) == 4" in page.program()
    page.field("#undo").click()
    wait_until(lambda: page.program() == mine.rstrip())
    wait_until(lambda: not page.field("#undo").is_enabled())


def test_calls_of_tools_are_shown_as_they_happen_with_links_as_text(page: Page) -> None:
    page.choose_way("With tools")
    page.driver.execute_script(
        "window.seen = new Set();"
        "new MutationObserver(() => document.querySelectorAll('#side .card').forEach(c => seen.add(c.className)))"
        ".observe(document.body, {subtree: true, childList: true})"
    )
    page.ask("How is JSON read?")
    wait_until(lambda: "prints twice as much" in page.text("#chat .bot"))
    page.wait_for_answer()
    assert "card busy" in page.driver.execute_script("return [...window.seen]"), "a call is shown while it is at work"
    found, hostile, ran = (card.text for card in page.driver.find_elements("css selector", "#side .card"))
    for words in ("Documentation", "json.loads", "in all sources", "words", "https://docs.python.org/3/library/json"):
        assert words in found, words
    assert "<img src=x onerror=window.hit=1>" in hostile
    assert ran.startswith("Sandbox\nan assertion failed") and "assert double(2) == 4" in ran
    live = page.driver.execute_script("return document.querySelectorAll('#side :is(img, a, iframe, script)').length")
    assert live == 0 and page.driver.execute_script("return window.hit") is None
    page.screenshot("tools")


def test_an_answer_that_tests_checked_says_what_it_passed_and_what_it_fails(page: Page) -> None:
    question = "Write double(x), twice as much. double(2) == 4, double(0) == 0"
    page.choose_way("Checked by tests")
    page.ask(question)
    wait_until(lambda: "2 of 2" in page.text("#side .card"))
    page.wait_for_answer()
    assert "Best of 3: passes all 2 examples of the question (1 of 3 drafts did)." in page.text("#side .card")
    assert "15 tokens drawn" in page.text("#side .card") and "return 2 * x" in page.text("#chat .bot")
    page.screenshot("checked")
    page.ask(question)
    wait_until(lambda: "1 of 2" in page.text("#side .card"))
    page.wait_for_answer()
    card = page.text("#side .card")
    assert "passes 1 of 2 examples" in card and "double(2) == 4" in card and "return x" in page.text("#chat .bot")
    assert [line.split() for line in card.splitlines() if line.startswith(("expected", "got"))] == [
        ["expected", "4"],
        ["got", "2"],
    ]
    page.screenshot("checked-fails")


def test_base_and_adapter_answer_one_question_side_by_side_and_both_programs_run(page: Page) -> None:
    page.open_tab("Compare")
    page.field("#compare-question textarea").send_keys("double a number\ue007")
    wait_until(lambda: all("prints twice" in page.text(f"#compare-{side}") for side in ("left", "right")))
    wait_until(lambda: page.field("#compare-ask").is_enabled())
    assert "2 * x" in page.text("#compare-left") and "x + x" in page.text("#compare-right")
    page.field("#compare-run").click()
    for side in ("left", "right"):
        wait_until(lambda: "EOFError" in page.text(f"#compare-verdict-{side}"))  # noqa: B023
    page.screenshot("compare")


def test_keys_open_tabs_run_the_program_and_stop_an_answer(page: Page, assistant: ScriptedAssistant) -> None:
    body = page.field("body")
    body.send_keys("\ue00a2\ue000")  # Alt+2
    wait_until(lambda: page.field("#compare-question").is_displayed())
    body.send_keys("\ue00a1\ue000")
    wait_until(lambda: page.field("#editor").is_displayed())
    page.write_program("print(6 * 7)")
    page.field("#editor .cm-content").send_keys("\ue009\ue007\ue000")  # Control+Enter
    wait_until(lambda: "42" in page.text("#verdict"))
    assert page.program() == "print(6 * 7)", "the editor started no line"
    closed = assistant.num_closed_early
    page.ask("endless")
    wait_until(lambda: "doctest" in page.text("#chat .bot"))
    body.send_keys("\ue00c")  # Escape
    page.wait_for_answer()
    wait_until(lambda: assistant.num_closed_early == closed + 1)


def test_the_tabs_of_a_run_show_its_evolution_its_learning_and_what_is_lacking(page: Page) -> None:
    page.open_tab("Evolution")
    wait_until(lambda: "Lineage" in page.text("#view-evolution"))
    assert "better than the untouched model" in page.text("#view-evolution")
    for words in ("imitation of the pool", "winner", "its ancestor", "0.318", "failed"):
        assert words in page.text("#view-evolution table"), words
    sizes = "return [...document.querySelectorAll('#view-evolution img')].map(image => image.naturalWidth)"
    wait_until(lambda: page.driver.execute_script(sizes) and min(page.driver.execute_script(sizes)) > 500)
    assert len(page.driver.execute_script(sizes)) == 2, "the population and its genes"
    page.screenshot("evolution")
    page.open_tab("Learning")
    wait_until(lambda: "Solve rates" in page.text("#view-learning"))
    assert "mbpp" in page.text("#view-learning table") and page.field("#view-learning img").is_displayed()
    page.screenshot("learning")
    page.open_tab("Evaluation")
    wait_until(lambda: "Nothing of this run was evaluated yet" in page.text("#view-evaluation"))
    page.open_tab("Run")
    wait_until(lambda: "Nothing works on this run now" in page.text("#view-run"))
    page.screenshot("progress")


def test_hostile_markdown_is_inert(page: Page) -> None:
    page.ask("be hostile")
    page.wait_for_answer()
    shown = page.text("#chat")
    for written in ("![x](http://evil.example/x.png)", "<img src=", "<script>window.hit = 1</script>", "[link](http"):
        assert written in shown, written
    found = page.driver.execute_script("return document.querySelectorAll('#chat :is(img, a, iframe, script)').length")
    assert found == 0 and page.driver.execute_script("return window.hit") is None


def test_the_policy_keeps_the_page_to_its_host_even_if_a_message_got_through(
    host: str, shared_browser: Browser
) -> None:
    script = """
        const done = arguments[arguments.length - 1];
        const image = new Image();
        image.onload = () => done("loaded");
        image.onerror = () => done("refused");
        image.src = arguments[0];
    """
    shared_browser.leave()
    page = Page(shared_browser, f"http://{host}{PREFIX}/")
    data = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    assert page.driver.execute_async_script(script, data) == "loaded"
    elsewhere = [f"http://localhost:{host.partition(':')[2]}/x.png", "http://evil.example/x.png"]
    try:
        for source in elsewhere:
            assert page.driver.execute_async_script(script, source) == "refused"
        assert sum("Content Security Policy" in line for line in shared_browser.console()) == 2
        assert shared_browser.requested_elsewhere(host) == elsewhere, "attempts are recorded too"
    finally:
        shared_browser.forget_requests()


def test_a_refused_question_comes_back_with_the_reason(page: Page) -> None:
    page.ask("refuse me")
    wait_until(lambda: "The server is busy" in page.text("#notice"))
    page.wait_for_answer()
    wait_until(lambda: page.field("#question textarea").get_attribute("value") == "refuse me")
    assert page.text("#chat .user") == ""
    page.field("#take").click()
    wait_until(lambda: "There is no answer yet" in page.text("#notice"))


def test_stop_ends_the_answer_at_the_model_and_clear_forgets_it(page: Page, assistant: ScriptedAssistant) -> None:
    closed = assistant.num_closed_early
    page.ask("endless")
    wait_until(lambda: "doctest" in page.text("#chat .bot"))
    page.field("#stop").click()
    page.wait_for_answer()
    wait_until(lambda: assistant.num_closed_early == closed + 1)
    partial = page.text("#chat .bot")
    assert "doctest" in partial
    page.ask("double a number")
    page.wait_for_answer()
    assert partial.split()[:5] == assistant.asked[-1][1]["content"].replace("**", "").split()[:5]
    page.field("#clear").click()
    wait_until(lambda: "doctest" not in page.text("#chat"))


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (800, 900)])
def test_the_page_fits_in_light_and_dark(page: Page, width: int, height: int) -> None:
    page.browser.resize(width, height)
    try:
        page.ask("double a number")
        page.wait_for_answer()
        page.run()
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for colours in ("light", "dark"):
            page.browser.prefer(colours)
            wait_until(lambda: page.driver.execute_script(SHOWN_COLOURS) == colours)  # noqa: B023
            assert page.driver.execute_script(overflow) == 0
            if width > 1000:
                below = overflow.replace("Width", "Height")
                assert page.driver.execute_script(below) == 0, "the whole page is seen at once"
            page.screenshot(f"{colours}-{width}")
    finally:
        page.browser.prefer("light")
        page.browser.resize(1280, 800)
