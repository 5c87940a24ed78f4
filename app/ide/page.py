"""The page: tabs for work, for two models side by side, and for what a run came to, under one row of settings.

Whatever fails is told in one sentence on the page, and what the user typed stays or comes back. Everything that a
model, a program or a run wrote is shown as inert text (`app.ide.markup`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import UserError
from app.ide.backend import Assistant, Runner
from app.ide.compare_tab import CompareTab
from app.ide.events import QUIET, Update, said
from app.ide.run_list import RunList
from app.ide.run_tabs import RunTabs
from app.ide.work_tab import WorkTab
from app.serving.best_of import SUFFIX

SERVER_TOOLS = ("search_docs", "run_python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The row at the top, which all tabs read."""

    model: gr.Dropdown
    max_tokens: gr.Number
    temperature: gr.Number
    reload: gr.Button
    run: gr.Dropdown


def build_page(assistant: Assistant, runner: Runner, runs: RunList, tools: Sequence[str] = SERVER_TOOLS) -> gr.Blocks:
    """tools: those that the server runs for a model."""
    with gr.Blocks(title="pocketcoder", analytics_enabled=False, fill_width=True) as page:
        settings = _lay_out_settings()
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Code", id="code") as code:
                work = WorkTab()
            with gr.Tab("Compare", id="compare") as compare:
                both = CompareTab()
            about_run = RunTabs(runs, settings.run)
        work.wire(assistant, runner, settings.model, settings.max_tokens, settings.temperature, tools)
        both.wire(assistant, runner, settings.max_tokens, settings.temperature)
        about_run.wire([code, compare])
        _wire_models(page, settings, work, both, assistant)
        page.load(runs_update(runs), settings.run, settings.run, **QUIET)
        settings.reload.click(runs_update(runs), settings.run, settings.run, **QUIET)
    return page.queue(api_open=False, max_size=64)


def _lay_out_settings() -> Settings:
    with gr.Row(elem_id="top"):
        gr.Markdown("# pocketcoder", elem_id="title")
        return Settings(
            model=gr.Dropdown([], label="Model", scale=3, min_width=160, interactive=True, elem_id="model"),
            max_tokens=gr.Number(512, label="Max tokens", minimum=1, maximum=8192, precision=0, min_width=90),
            temperature=gr.Number(0.2, label="Temperature", minimum=0, maximum=2, step=0.1, min_width=90),
            run=gr.Dropdown([], label="Run", scale=3, min_width=160, interactive=True, elem_id="run-name"),
            reload=gr.Button("Reload", elem_id="reload", size="md", min_width=90, scale=0),
        )


def runs_update(runs: RunList) -> Any:
    def listed(chosen: str | None) -> gr.Dropdown:
        names = runs.names()
        return gr.Dropdown(choices=names, value=chosen if chosen in names else next(iter(names), None))

    return listed


def _wire_models(page: gr.Blocks, settings: Settings, work: WorkTab, both: CompareTab, assistant: Assistant) -> None:
    async def list_models(chosen: str | None, left: str | None, right: str | None) -> Update:
        try:
            served = await assistant.models()
        except UserError as error:
            return {work.notice: said(str(error))}
        names = [name for name in served if not name.endswith(SUFFIX)]
        first, last = next(iter(names), None), next(reversed(names), None)
        why = "" if names else "No model is served yet."
        return {
            settings.model: gr.Dropdown(choices=names, value=chosen if chosen in names else first),
            both.left: gr.Dropdown(choices=names, value=left if left in names else first),
            both.right: gr.Dropdown(choices=names, value=right if right in names else last),
            work.way: work.ways(has_tests=any(name.endswith(SUFFIX) for name in served)),
            work.notice: said(why),
        }

    given = [settings.model, both.left, both.right]
    gr.on([page.load, settings.reload.click], list_models, given, [*given, work.way, work.notice], **QUIET)
