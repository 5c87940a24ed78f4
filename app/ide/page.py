"""The page: a conversation with the model beside an editor whose program runs in the sandbox.

Whatever fails is told in one sentence on the page, and what the user typed stays or comes back. The conversation lives
in the session's state as plain turns; the chat component only shows them (`app.ide.markup`).
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from app.errors import UserError
from app.ide import markup
from app.ide.backend import Assistant, Runner
from app.ide.conversation import MAX_CODE, MAX_QUESTION, Turn, answered, check_code, last_code, question_turn

Update = dict[Any, Any]
"""New values by component."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For events that end at once."""
LONG: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "once", "api_visibility": "private"}
"""For events that show how they go on."""
NUM_CHATS, NUM_RUNS = 8, 1
"""Answers and programs at the same time; more wait in the queue."""
EXAMPLE = "print('hello')\n"
HINT = "A program runs confined: no files, no network, a few seconds of CPU time."


class Widgets:
    """The components that events read and write, laid out on the page that is being built."""

    def __init__(self) -> None:
        self._lay_out_top()
        with gr.Row(elem_id="work"):
            self._lay_out_conversation()
            self._lay_out_editor()

    def _lay_out_top(self) -> None:
        with gr.Row(elem_id="top"):
            gr.Markdown("# pocketcoder", elem_id="title")
            self.model = gr.Dropdown([], label="Model", scale=3, min_width=160, interactive=True, elem_id="model")
            self.max_tokens = gr.Number(512, label="Max tokens", minimum=1, maximum=8192, precision=0, min_width=90)
            self.temperature = gr.Number(0.2, label="Temperature", minimum=0, maximum=2, step=0.1, min_width=90)
            self.reload = gr.Button("Reload models", elem_id="reload", size="md", min_width=130, scale=0)

    def _lay_out_conversation(self) -> None:
        with gr.Column(min_width=440):
            self.chat = gr.Chatbot(
                show_label=False,
                elem_id="chat",
                height=None,
                buttons=[],
                latex_delimiters=[],
                allow_tags=False,
                allow_file_downloads=False,
                feedback_options=None,
                placeholder="Ask for a function, an explanation, a fix.",
            )
            self.notice = gr.Markdown(visible=False, elem_id="notice")
            self.question = gr.Textbox(
                label="Question",
                placeholder="Enter sends, Shift+Enter starts a new line",
                max_lines=8,
                max_length=MAX_QUESTION,
                elem_id="question",
            )
            with gr.Row():
                self.turns = gr.State([])
                self.waiting = gr.State("")  # the question that is asked and has no piece of its answer yet
                self.with_code = gr.Checkbox(label="Send the editor's code along", container=False, elem_id="with-code")
                self.ask = gr.Button("Ask", variant="primary", elem_id="ask", size="md", min_width=90, scale=0)
                self.stop = gr.Button("Stop", elem_id="stop", size="md", min_width=80, scale=0, interactive=False)
                self.clear = gr.Button("Clear", elem_id="clear", size="md", min_width=80, scale=0)

    def _lay_out_editor(self) -> None:
        with gr.Column(min_width=440):
            self.editor = gr.Code(EXAMPLE, language="python", label="Editor", buttons=["copy"], elem_id="editor")
            self.given = gr.Textbox(
                label="Standard input",
                placeholder="What the program reads, if anything",
                max_lines=4,
                max_length=MAX_CODE,
                elem_id="given",
            )
            with gr.Row():
                self.take = gr.Button("Take the last answer's code", elem_id="take", size="md", min_width=200)
                self.run = gr.Button("Run in sandbox", variant="primary", elem_id="run", size="md", min_width=140)
            self.verdict = gr.Markdown(markup.hint(HINT), elem_id="verdict")


def build_page(assistant: Assistant, runner: Runner) -> gr.Blocks:
    with gr.Blocks(title="pocketcoder", analytics_enabled=False, fill_width=True) as page:
        widgets = Widgets()
        _wire_models(page, widgets, assistant)
        _wire_chat(widgets, assistant)
        _wire_editor(widgets, runner)
    return page.queue(api_open=False, max_size=64)


def _wire_models(page: gr.Blocks, widgets: Widgets, assistant: Assistant) -> None:
    async def list_models(chosen: str | None) -> Update:
        try:
            names = await assistant.models()
        except UserError as error:
            return {widgets.notice: _said(str(error))}
        chosen = chosen if chosen in names else next(iter(names), None)
        why = "" if names else "No model is served yet."
        return {widgets.model: gr.Dropdown(choices=names, value=chosen), widgets.notice: _said(why)}

    gr.on(
        [page.load, widgets.reload.click],
        list_models,
        widgets.model,
        [widgets.model, widgets.notice],
        **QUIET,
    )


def _ask(widgets: Widgets, assistant: Assistant) -> Callable[..., AsyncIterator[Update]]:
    async def ask(
        question: str,
        with_code: bool,
        code: str,
        model: str,
        max_tokens: int | None,
        temperature: float | None,
        turns: list[Turn],
    ) -> AsyncIterator[Update]:
        try:
            asked = [*turns, question_turn(question, code if with_code else "")]
            shown = markup.chat_messages(asked)
            yield {
                widgets.chat: [*shown, {"role": "assistant", "content": "…"}],
                widgets.question: "",
                widgets.waiting: question,
                widgets.notice: _said(""),
                widgets.ask: gr.Button(interactive=False),
                widgets.stop: gr.Button(interactive=True),
            }
            answer = answered(assistant, model, asked, max_tokens=max_tokens, temperature=temperature)
            async with contextlib.aclosing(answer) as progress:
                async for now in progress:
                    last = markup.chat_messages(now[-1:])
                    yield {widgets.turns: now, widgets.chat: shown + last, widgets.waiting: ""}
        except UserError as error:
            yield {widgets.notice: _said(str(error))}

    return ask


def _wire_chat(widgets: Widgets, assistant: Assistant) -> None:
    def settle(turns: list[Turn], question: str, waiting: str) -> Update:
        """After an answer, however it ended: show what holds, and give an unanswered question back."""
        return {
            widgets.chat: markup.chat_messages(turns),
            widgets.question: "\n".join(filter(None, (waiting, question))),
            widgets.waiting: "",
            widgets.ask: gr.Button(interactive=True),
            widgets.stop: gr.Button(interactive=False),
        }

    def clear() -> Update:
        return {widgets.turns: [], widgets.waiting: "", widgets.chat: [], widgets.notice: _said("")}

    written = [
        widgets.turns,
        widgets.waiting,
        widgets.chat,
        widgets.notice,
        widgets.question,
        widgets.ask,
        widgets.stop,
    ]
    given = [widgets.turns, widgets.question, widgets.waiting]
    fields = ["question", "with_code", "editor", "model", "max_tokens", "temperature", "turns"]
    asking = gr.on(
        [widgets.question.submit, widgets.ask.click],
        _ask(widgets, assistant),
        [getattr(widgets, name) for name in fields],
        written,
        show_progress_on=widgets.chat,
        concurrency_limit=NUM_CHATS,
        **LONG,
    )
    asking.then(settle, given, written, **QUIET)
    widgets.stop.click(settle, given, written, cancels=asking, **QUIET)
    widgets.clear.click(clear, None, written, cancels=asking, **QUIET).then(settle, given, written, **QUIET)


def _wire_editor(widgets: Widgets, runner: Runner) -> None:
    def take(turns: list[Turn]) -> Update:
        try:
            return {widgets.editor: last_code(turns), widgets.notice: _said("")}
        except UserError as error:
            return {widgets.notice: _said(str(error))}

    async def run(code: str, given: str) -> AsyncIterator[Update]:
        yield {widgets.run: gr.Button("Running", interactive=False)}
        try:
            check_code(code)
            yield {widgets.verdict: markup.verdict(await runner.run(code, given))}
        except UserError as error:
            yield {widgets.verdict: markup.notice(str(error))}

    widgets.take.click(take, widgets.turns, [widgets.editor, widgets.notice], **QUIET)
    widgets.run.click(
        run,
        [widgets.editor, widgets.given],
        [widgets.verdict, widgets.run],
        show_progress_on=widgets.verdict,
        concurrency_limit=NUM_RUNS,
        **LONG,
    ).then(lambda: gr.Button("Run in sandbox", interactive=True), None, widgets.run, **QUIET)


def _said(text: str) -> gr.Markdown:
    return gr.Markdown(markup.notice(text), visible=bool(text))
