"""The tabs that show a run directory: evolution, learning, evaluation, and the pipeline against its plan.

A tab is read when it is opened and when another run is chosen; the last one goes on reading while it is open.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.errors import UserError
from app.ide.events import QUIET
from app.ide.markup import hint, notice
from app.ide.planned import Plans
from app.ide.run_list import RunList
from app.runs import Run

VIEWS = ("Evolution", "Learning", "Evaluation")
PROGRESS = "Run"
READ_AGAIN_S = 2.0
READING = "Reading the run …"
SHOWN: dict[str, Any] = {**QUIET, "show_progress": "minimal"}
"""For events that draw pictures."""


class RunTabs:
    """The components that events read and write, laid out on the page that is being built."""

    def __init__(self, runs: RunList, run: gr.Dropdown) -> None:
        """run: which one is shown."""
        self._runs, self._run, self._plans = runs, run, Plans()
        self.tabs: dict[str, Any] = {}
        self.views: dict[str, gr.Markdown] = {}
        for name in (*VIEWS, PROGRESS):
            with gr.Tab(name, id=name.lower()) as tab:
                self.views[name] = gr.Markdown(hint(READING), elem_id=f"view-{name.lower()}", elem_classes="view")
            self.tabs[name] = tab
        self.opened = gr.State("")
        self.timer = gr.Timer(READ_AGAIN_S, active=False)

    def wire(self, others: Sequence[Any]) -> None:
        """others: tabs that show nothing of a run."""
        written = [self.opened, self.timer, *self.views.values()]
        for name, tab in self.tabs.items():
            tab.select(self._opener(name), self._run, written, show_progress_on=self.views[name], **SHOWN)
        for tab in others:
            tab.select(lambda: ("", gr.Timer(active=False)), None, [self.opened, self.timer], **QUIET)
        self._run.change(lambda opened, run: self._read(opened, run), [self.opened, self._run], written, **QUIET)
        self.timer.tick(lambda run: self.read(PROGRESS, run), self._run, self.views[PROGRESS], **QUIET)

    def _opener(self, name: str) -> Callable[[str | None], dict[Any, Any]]:
        def opened(run: str | None) -> dict[Any, Any]:
            return {self.opened: name, self.timer: gr.Timer(active=name == PROGRESS), **self._read(name, run)}

        return opened

    def _read(self, name: str, run: str | None) -> dict[Any, Any]:
        return {self.views[name]: self.read(name, run)} if name else {self.opened: name}

    def read(self, name: str, run: str | None) -> str:
        """What a tab shows of a run: HTML, also where the run is not there or can't be read."""
        from app.ide import run_views  # here, since what they read with takes seconds

        try:
            found = self._runs.open(run)
        except (UserError, OSError) as error:
            return notice(str(error))
        return run_views.shown(self._progress if name == PROGRESS else run_views.VIEWS[name], found)

    def _progress(self, run: Run) -> str:
        from app.ide import run_progress
        from app.running.status import progress

        return run_progress.shown(run, progress(run, self._plans.of(run)))
