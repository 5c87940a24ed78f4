"""The IDE's page in a real browser, mounted at /ide as Ray Serve does it: a scripted assistant, the real sandbox."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.errors import UserError
from app.ide.backend import SandboxRunner
from app.settings import SandboxSettings
from tests.e2e.browser import Browser, open_browser
from tests.e2e.page import Page, wait_until

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


class ScriptedAssistant:
    """Stands in for the model: answers with fixed text, a piece each 20 ms."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.num_closed_early = 0

    async def models(self) -> list[str]:
        return ["base", "base:sft"]

    async def chat(
        self, model: str, messages: list[dict[str, str]], *, max_tokens: int, temperature: float
    ) -> AsyncGenerator[str, None]:
        self.asked.append(messages)
        question = messages[-1]["content"]
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
def assistant() -> ScriptedAssistant:
    return ScriptedAssistant()


@pytest.fixture(scope="module")
def host(assistant: ScriptedAssistant) -> Iterator[str]:
    """The host:port where the page is served."""
    from app.ide.application import build_application  # with Gradio: six seconds

    runner = SandboxRunner(SandboxSettings(timeout_s=1.0))
    application = build_application(assistant, runner)

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
    page.ask("double a number")
    seen: set[int] = set()
    while not page.field("#ask").is_enabled() or len(seen) < 2:
        seen.add(len(page.text("#chat .bot")))
        assert len(seen) < 1000
    page.wait_for_answer()
    assert len(seen) > 2, "the answer did not come in pieces: nothing, a part and the whole"
    assert (
        "prints twice as much" in page.text("#chat") and page.field("#question textarea").get_attribute("value") == ""
    )
    page.field("#take").click()
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
    assert page.driver.execute_script("return window.hit") is None


def test_hostile_markdown_is_inert(page: Page) -> None:
    page.ask("be hostile")
    page.wait_for_answer()
    shown = page.text("#chat")
    for written in ("![x](http://evil.example/x.png)", "<img src=", "<script>window.hit = 1</script>", "[link](http"):
        assert written in shown, written
    found = page.driver.execute_script("return document.querySelectorAll('#chat :is(img, a, iframe, script)').length")
    assert found == 0 and page.driver.execute_script("return window.hit") is None


def test_the_policy_keeps_the_page_to_its_host_even_if_a_message_got_through(host: str) -> None:
    script = """
        const done = arguments[arguments.length - 1];
        const image = new Image();
        image.onload = () => done("loaded");
        image.onerror = () => done("refused");
        image.src = arguments[0];
    """
    with open_browser() as browser:
        page = Page(browser, f"http://{host}{PREFIX}/")
        data = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
        assert page.driver.execute_async_script(script, data) == "loaded"
        elsewhere = [f"http://localhost:{host.partition(':')[2]}/x.png", "http://evil.example/x.png"]
        for source in elsewhere:
            assert page.driver.execute_async_script(script, source) == "refused"
        assert sum("Content Security Policy" in line for line in browser.console()) == 2
        assert browser.requested_elsewhere(host) == elsewhere, "attempts are recorded too"


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


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (800, 900)])
def test_the_page_fits(page: Page, colours: str, width: int, height: int) -> None:
    page.browser.prefer(colours)
    page.browser.resize(width, height)
    try:
        page.ask("double a number")
        page.wait_for_answer()
        page.run()
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.driver.execute_script(overflow) == 0
        page.screenshot(f"{colours}-{width}")
    finally:
        page.browser.prefer("light")
        page.browser.resize(1280, 800)
