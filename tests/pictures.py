"""The pictures in the README, made of a complete run: its report, and the page that serves its model.

    make pictures RUN=runs/NAME        # python -m tests.pictures runs/NAME: writes docs/images/*.png

The page is the real one: `python -m app serve` starts it, the model answers QUESTION, and its program runs in the
sandbox. Needs Chromium, its driver and Selenium. Limits: what the model says is drawn, so two pictures differ.
"""

import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from app.files.json_files import read_json
from app.runs import Run
from tests.conftest import ROOT
from tests.e2e.browser import Browser, open_browser
from tests.e2e.conftest import free_port
from tests.e2e.page import Page, wait_until

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 200_000
QUESTION = "Write a Python function that adds up the even numbers of a list, and print what it gives for [1, 2, 3, 4]."


def main(run: Run) -> None:
    IMAGES.mkdir(exist_ok=True)
    with open_browser(960, 1720) as browser:
        dress(browser)
        browser.driver.get(run.report_html.as_uri())
        save(browser, IMAGES / "report.png")
    with served(run) as address, open_browser(1280, 860) as browser:
        dress(browser)
        show_an_answer(Page(browser, address))
        save(browser, IMAGES / "page.png")


def show_an_answer(page: Page) -> None:
    page.ask(QUESTION)
    wait_until(lambda: page.text("#chat .bot"), 120)
    wait_until(lambda: page.field("#ask").is_enabled() and not page.field("#stop").is_enabled(), 240)
    page.take()
    wait_until(lambda: "def " in page.text("#editor .cm-content"))
    page.run()


def dress(browser: Browser) -> None:
    browser.prefer("light")
    browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})


@contextlib.contextmanager
def served(run: Run) -> Iterator[str]:
    """The address of the page, with its key, while the run's model is served."""
    profile = read_json(run.info)["settings"]["name"]
    options = ["--profile", profile, "--run", str(run.root), "--port", str(free_port())]
    command = [sys.executable, "-u", "-m", "app", "serve", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            yield next(line.split()[1] for line in lines if line.startswith("page "))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)


def save(browser: Browser, path: Path) -> None:
    """The window as a PNG of 256 colours."""
    picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path} has {size} bytes, more than {MOST_BYTES}"
    print(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height}, {size} bytes")


if __name__ == "__main__":
    main(Run(Path(sys.argv[1]).absolute()))
