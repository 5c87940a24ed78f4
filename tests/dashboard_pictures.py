"""The pictures of Ray's dashboard in docs/operations.md, made while a submitted pipeline evolves a population.

    python -m tests.dashboard_pictures        # writes docs/images/dashboard_*.png, in about four minutes

Cluster, job and browser are real: the model is the one of tests/sums.py, which learns in seconds. Needs Chromium, its
driver and Selenium. Limit: what runs at the moment of a picture differs from one call to the next.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from app.files.json_files import read_json
from app.running.heartbeat import read_now
from app.runs import Run
from tests.conftest import ROOT
from tests.e2e.browser import Browser, open_browser
from tests.e2e.conftest import BIN, Cluster, started_cluster
from tests.pictures import IMAGES, dress, save
from tests.ray.test_evolve import evolving_settings

COOKIE = "ray-authentication-token"
TAKES_LONG_ENOUGH = (
    "sft.when=always", "sft.max_steps=6", "grm.when=always", "evolve.generations=2", "evolve.generation_tokens=20000",
    "evolve.slots=1", "validation.num_problems=2", "evaluation.num_problems=2",
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with started_cluster(folder / "runs") as cluster:
            submit(cluster, [*evolving_settings(folder), *TAKES_LONG_ENOUGH])
            run = Run(folder / "runs" / "docs")
            wait_until(lambda: any(run.evolve_individuals.glob("*_*/1/lived.json")))
            with open_browser(1500, 1120) as browser:
                dress(browser)
                browser.driver.get(cluster.dashboard)
                browser.driver.add_cookie({"name": COOKIE, "value": cluster.env["RAY_AUTH_TOKEN"]})
                show_the_job(browser, cluster.dashboard)
                save(browser, IMAGES / "dashboard_job.png")
                show_the_actors(browser, cluster.dashboard)
                save(browser, IMAGES / "dashboard_actors.png")
            print(read_now(run.now), list(read_json(run.info)["stages"]))


def submit(cluster: Cluster, settings: list[str]) -> None:
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.dashboard, "--working-dir", ".", "--no-wait"]
    changes = [part for one in settings for part in ("--set", one)]
    stage = ["python", "-m", "app", "pipeline", "--profile", "smoke", "--run"]
    run = str(Path(cluster.env["POCKETCODER_RUNS"]) / "docs")
    subprocess.run([*command, "--submission-id", "pocketcoder", "--", *stage, run, *changes],
                   cwd=ROOT, env=cluster.env, check=True)  # fmt: skip


def show_the_job(browser: Browser, dashboard: str) -> None:
    """Its page: the tasks by name, and its log, the latest line first."""
    go_to(browser, f"{dashboard}/#/jobs/pocketcoder")
    time.sleep(6)
    switch = browser.driver.find_element(By.CSS_SELECTOR, "input.MuiSwitch-input")
    browser.driver.execute_script("arguments[0].click()", switch)
    time.sleep(2)


def show_the_actors(browser: Browser, dashboard: str) -> None:
    """Those that live."""
    go_to(browser, f"{dashboard}/#/actors")
    time.sleep(4)
    state = browser.driver.find_element(By.XPATH, "//label[.='State']/following-sibling::div//input")
    state.send_keys("ALIVE", Keys.ARROW_DOWN, Keys.ENTER)
    time.sleep(4)


def go_to(browser: Browser, url: str) -> None:
    browser.driver.get(url)
    browser.driver.refresh()


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the pipeline came to no individual"
        time.sleep(1)


if __name__ == "__main__":
    main()
