"""A real browser for tests: Debian's Chromium, headless, through Selenium, and the record of what it asked for."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-features=SpareRendererForSitePerProcess,MediaRouter,Translate,OptimizationHints",
    "--disable-site-isolation-trials",  # with the limit: pages follow each other in one process
    "--renderer-process-limit=1",
    "--disable-sync",
)
INTERNAL = ("data", "blob", "about", "chrome", "devtools")
"""Schemes that ask no host."""


class Browser:
    """A Chromium window. `driver` is Selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._requested: list[str] = []

    def requested(self) -> list[str]:
        """Every URL that the page asked for since the browser started, whether it got it or not."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requested.append(message["params"]["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                self._requested.append(message["params"]["url"])
        return list(self._requested)

    def requested_elsewhere(self, host: str) -> list[str]:
        """Those that went to another host:port than this one."""
        parts = ((url, urlsplit(url)) for url in self.requested())
        return [url for url, part in parts if part.scheme not in INTERNAL and part.netloc != host]

    def forget_requests(self) -> None:
        self.requested()
        self._requested.clear()

    def console(self) -> list[str]:
        """Warnings and errors of the page's scripts since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def leave(self) -> None:
        """Close the page that is shown, and forget what its scripts say of their connections then."""
        self.driver.get("about:blank")
        self.console()

    def prefer(self, colours: str) -> None:
        """colours: "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": colours}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int, height: int) -> None:
        """The page's own size, without the window's frame."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(self.driver.get_screenshot_as_png())


@contextlib.contextmanager
def open_browser(width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """Skips the test where Chromium, its driver or Selenium is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs Selenium (make setup-dev)")
    if not (shutil.which(CHROMIUM) and shutil.which(DRIVER)):
        pytest.skip(f"needs {CHROMIUM} and {DRIVER} (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))  # a given driver: no download
    try:
        browser = Browser(driver)
        browser.resize(width, height)
        yield browser
    finally:
        driver.quit()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened
