"""The IDE's page as its user sees it, for tests in a real browser.

Screenshots go to the folder that POCKETCODER_SCREENSHOTS names, if any.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.browser import Browser

PATIENCE_SECONDS = 40.0


class Page:
    """A page that has loaded and lists its models."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser, self.driver = browser, browser.driver
        self.driver.get(url)
        wait_until(lambda: self.driver.execute_script("return document.querySelector('#model input')?.value"))

    def text(self, selector: str) -> str:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')"
        return str(self.driver.execute_script(script, selector))

    def field(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def choose(self, model: str) -> None:
        field = self.field("#model input")
        field.click()
        wait_until(lambda: model in self.text("#model [role=option]"))
        field.send_keys("\ue009a\ue000" + model + "\ue007")  # Control+A, Enter
        wait_until(lambda: field.get_attribute("value") == model)

    def ask(self, question: str) -> None:
        """Until the page has taken it, or said why it does not."""
        asked = self._num_asked()
        self.field("#question textarea").send_keys(question)
        self.field("#ask").click()
        wait_until(lambda: self._num_asked() > asked or self.text("#notice").strip())

    def watch_answer(self) -> None:
        """From here on `answer_texts` has all that the answer has been, however short each was there."""
        self.driver.execute_script(
            "const texts = window.texts = new Set(), chat = document.querySelector('#chat');"
            "new MutationObserver(() => chat.querySelectorAll('.bot .prose').forEach(one => texts.add(one.innerText)))"
            ".observe(chat, {subtree: true, childList: true, characterData: true})"
        )

    def answer_texts(self) -> list[str]:
        return [text for text in self.driver.execute_script("return [...window.texts]") if text.strip(" \n…")]

    def _num_asked(self) -> int:
        return int(self.driver.execute_script("return document.querySelectorAll('#chat .user-row').length"))

    def stop_answer(self) -> None:
        """End it where it has not ended by itself."""
        if self.field("#stop").is_enabled():
            self.field("#stop").click()
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        wait_until(lambda: not self.field("#stop").is_enabled() and self.field("#ask").is_enabled())

    def choose_way(self, way: str) -> None:
        """How answers are made: a part of the switch's words."""
        for label in self.driver.find_elements("css selector", "#way label"):
            if way in label.text:
                label.click()

    def open_tab(self, name: str) -> None:
        for tab in self.driver.find_elements("css selector", "#tabs [role=tab]"):
            if tab.text.strip() == name:
                tab.click()

    def take(self) -> None:
        """Accept what the last answer would change."""
        self.field("#take").click()
        wait_until(lambda: self.text("#diff .head"))
        self.field("#accept").click()
        wait_until(lambda: self.field("#editor").is_displayed())

    def program(self) -> str:
        """What the editor holds."""
        script = "const c = document.querySelector('#editor .cm-content'); return c.cmTile.view.state.doc.toString()"
        return str(self.driver.execute_script(script))

    def write_program(self, source: str) -> None:
        """Replace what the editor holds, without its automatic brackets and indents."""
        editor = self.field("#editor .cm-content")
        editor.send_keys("\ue009a\ue000\ue017")  # Control+A, Delete
        self.driver.execute_cdp_cmd("Input.insertText", {"text": source})

    def run(self) -> str:
        """The verdict of a new run."""
        self.driver.execute_script("document.querySelector('#verdict .verdict')?.remove()")
        self.field("#run").click()
        wait_until(lambda: self.text("#verdict .verdict") and self.field("#run").is_enabled())
        return self.text("#verdict .verdict")

    def screenshot(self, name: str) -> None:
        if folder := os.environ.get("POCKETCODER_SCREENSHOTS"):
            self.browser.screenshot(Path(folder) / f"{name}.png")


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the page did not get there"
        time.sleep(0.05)
