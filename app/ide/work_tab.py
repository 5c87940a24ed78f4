"""The tab for work: a conversation, what the server did for its last answer, and an editor whose program is run.

The conversation lives in the session's state as plain turns; the chat component only shows them.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import gradio as gr

from app.errors import UserError
from app.ide import markup, work_markup
from app.ide.backend import Assistant, Runner
from app.ide.changes import difference, proposed
from app.ide.conversation import (
    MAX_CODE,
    MAX_QUESTION,
    Turn,
    Way,
    answered,
    check_code,
    last_code,
    question_turn,
)
from app.ide.events import CHAT, LONG, NUM_CHATS, NUM_RUNS, QUIET, Update, said

EXAMPLE = "print('hello')\n"
MOST_UNDONE = 50
"""Earlier states of the editor that are kept."""
HINT = "A program runs confined: no files, no network, a few seconds of CPU time."
KEYS = "Ctrl+Enter runs the program, Alt+P shows what the last answer would change, Esc stops an answer."
EMPTY_SIDE = "Calls of tools and checks of an answer are shown here as they happen."


class WorkTab:
    """The components that events read and write, laid out on the page that is being built."""

    def __init__(self) -> None:
        with gr.Row(elem_id="work"):
            self._lay_out_conversation()
            with gr.Column(min_width=260, scale=0, visible=False, elem_id="side-column") as self.side_column:
                self.side = gr.Markdown(markup.hint(EMPTY_SIDE), elem_id="side")
            self._lay_out_editor()

    def _lay_out_conversation(self) -> None:
        with gr.Column(min_width=380, scale=4):
            self.chat = gr.Chatbot(elem_id="chat", placeholder="Ask for a function, an explanation, a fix.", **CHAT)
            self.notice = gr.Markdown(visible=False, elem_id="notice")
            self.question = gr.Textbox(
                label="Question",
                show_label=False,
                placeholder="Ask: Enter sends, Shift+Enter starts a new line",
                container=False,
                max_lines=8,
                max_length=MAX_QUESTION,
                elem_id="question",
            )
            with gr.Row(elem_id="how"):
                self.way = self.ways(has_tests=False)
                self.with_code = gr.Checkbox(label="Send the editor's code", container=False, elem_id="with-code")
            with gr.Row(elem_id="asking"):
                self.turns = gr.State([])
                self.waiting = gr.State("")  # the question that is asked and has no piece of its answer yet
                self.ask = gr.Button("Ask", variant="primary", elem_id="ask", size="md", min_width=90)
                self.stop = gr.Button("Stop", elem_id="stop", size="md", min_width=80, scale=0, interactive=False)
                self.clear = gr.Button("Clear", elem_id="clear", size="md", min_width=80, scale=0)

    @staticmethod
    def ways(*, has_tests: bool) -> gr.Radio:
        """has_tests: whether the server checks answers by tests."""
        return gr.Radio(
            [way.value for way in Way if has_tests or way != Way.TESTS],
            value=Way.PLAIN.value,
            label="Answers",
            show_label=False,
            container=False,
            elem_id="way",
        )

    def _lay_out_editor(self) -> None:
        with gr.Column(min_width=420, scale=5):
            self.earlier = gr.State([])  # what the editor held before each change that was accepted
            self.change = gr.State("")  # what it would hold with the proposed one
            self.editor = gr.Code(EXAMPLE, language="python", label="Editor", buttons=["copy"], elem_id="editor")
            self.diff = gr.Markdown(visible=False, elem_id="diff")
            with gr.Row(visible=False, elem_id="decide") as self.decide:
                self.accept = gr.Button("Accept", variant="primary", elem_id="accept", size="md", min_width=120)
                self.dismiss = gr.Button("Dismiss", elem_id="dismiss", size="md", min_width=120)
            self.given = gr.Textbox(
                label="Standard input",
                show_label=False,
                placeholder="Standard input: what the program reads, if anything",
                container=False,
                max_lines=4,
                max_length=MAX_CODE,
                elem_id="given",
            )
            with gr.Row(elem_id="running"):
                self.take = gr.Button("Review change", elem_id="take", size="md", min_width=130)
                self.undo = gr.Button("Undo", elem_id="undo", size="md", min_width=80, scale=0, interactive=False)
                self.run = gr.Button("Run in sandbox", variant="primary", elem_id="run", size="md", min_width=140)
            self.verdict = gr.Markdown(markup.hint(f"{HINT} {KEYS}"), elem_id="verdict")

    def wire(
        self,
        assistant: Assistant,
        runner: Runner,
        model: gr.Dropdown,
        max_tokens: gr.Number,
        temperature: gr.Number,
        tools: Sequence[str],
    ) -> None:
        """tools: those that the server runs for a model."""
        self._wire_chat(assistant, model, max_tokens, temperature, tools)
        self._wire_change()
        self._wire_run(runner)

    def _ask(self, assistant: Assistant, tools: Sequence[str]) -> Callable[..., AsyncIterator[Update]]:
        async def ask(
            question: str,
            with_code: bool,
            code: str,
            way: str,
            model: str,
            max_tokens: int | None,
            temperature: float | None,
            turns: list[Turn],
        ) -> AsyncIterator[Update]:
            try:
                asked = [*turns, question_turn(question, code if with_code else "")]
                shown = markup.chat_messages(asked)
                thinking = {"role": "assistant", "content": "…"}
                yield {
                    self.chat: [*shown, thinking],
                    self.question: "",
                    self.waiting: question,
                    self.notice: said(""),
                    self.side: markup.hint(EMPTY_SIDE),
                    self.side_column: gr.Column(visible=way != Way.PLAIN),
                    self.ask: gr.Button(interactive=False),
                    self.stop: gr.Button(interactive=True),
                }
                answer = answered(
                    assistant,
                    model,
                    asked,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    way=Way(way),
                    tools=tools,
                )
                async with contextlib.aclosing(answer) as progress:
                    async for now in progress:
                        last = markup.chat_messages(now.turns[-1:]) if now.is_begun else [thinking]
                        update: Update = {self.chat: shown + last}
                        if cards := work_markup.side(now.calls, now.checked):
                            update[self.side] = cards
                        if now.is_begun:
                            update |= {self.turns: now.turns, self.waiting: ""}
                        yield update
            except UserError as error:
                yield {self.notice: said(str(error))}

        return ask

    def _wire_chat(
        self,
        assistant: Assistant,
        model: gr.Dropdown,
        max_tokens: gr.Number,
        temperature: gr.Number,
        tools: Sequence[str],
    ) -> None:
        def settle(turns: list[Turn], question: str, waiting: str) -> Update:
            """After an answer, however it ended: show what holds, and give an unanswered question back."""
            return {
                self.chat: markup.chat_messages(turns),
                self.question: "\n".join(filter(None, (waiting, question))),
                self.waiting: "",
                self.ask: gr.Button(interactive=True),
                self.stop: gr.Button(interactive=False),
            }

        def clear() -> Update:
            emptied = {self.turns: [], self.waiting: "", self.chat: [], self.notice: said("")}
            return {**emptied, self.side: markup.hint(EMPTY_SIDE), self.side_column: gr.Column(visible=False)}

        states = [self.turns, self.waiting, self.chat, self.notice, self.question, self.ask, self.stop]
        written = [*states, self.side, self.side_column]
        given = [self.turns, self.question, self.waiting]
        asking = gr.on(
            [self.question.submit, self.ask.click],
            self._ask(assistant, tools),
            [self.question, self.with_code, self.editor, self.way, model, max_tokens, temperature, self.turns],
            written,
            show_progress_on=self.chat,
            concurrency_limit=NUM_CHATS,
            **LONG,
        )
        asking.then(settle, given, states, **QUIET)
        self.stop.click(settle, given, states, cancels=asking, **QUIET)
        self.clear.click(clear, None, written, cancels=asking, **QUIET).then(settle, given, states, **QUIET)

    def _wire_change(self) -> None:
        def decided(**others: Any) -> Update:
            """The editor in the place of the difference."""
            closed = {self.diff: gr.Markdown(visible=False), self.decide: gr.Row(visible=False), self.change: ""}
            return {**closed, self.editor: gr.Code(visible=True), **others}

        def review(turns: list[Turn], code: str) -> Update:
            try:
                after = proposed(code, last_code(turns))
                check_code(after)
            except UserError as error:
                return {self.notice: said(str(error))}
            lines = difference(code, after)
            if not lines:
                return {self.notice: said("The editor holds what the last answer says already.")}
            return {
                self.notice: said(""),
                self.change: after,
                self.diff: gr.Markdown(work_markup.change(lines), visible=True),
                self.decide: gr.Row(visible=True),
                self.editor: gr.Code(visible="hidden"),
            }

        def accept(code: str, change: str, earlier: list[str]) -> Update:
            if not change:
                return {self.change: ""}
            kept = [*earlier, code][-MOST_UNDONE:]
            update = decided()
            update[self.editor] = gr.Code(change, visible=True)
            return {**update, self.earlier: kept, self.undo: gr.Button(interactive=True)}

        def undo(earlier: list[str]) -> Update:
            if not earlier:
                return {self.undo: gr.Button(interactive=False)}
            *kept, last = earlier
            update = decided()
            update[self.editor] = gr.Code(last, visible=True)
            return {**update, self.earlier: kept, self.undo: gr.Button(interactive=bool(kept))}

        written = [self.change, self.diff, self.decide, self.editor, self.notice, self.earlier, self.undo]
        self.take.click(review, [self.turns, self.editor], written, **QUIET)
        self.accept.click(accept, [self.editor, self.change, self.earlier], written, **QUIET)
        self.dismiss.click(decided, None, written, **QUIET)
        self.undo.click(undo, self.earlier, written, **QUIET)

    def _wire_run(self, runner: Runner) -> None:
        async def run(code: str, given: str) -> AsyncIterator[Update]:
            yield {self.run: gr.Button("Running", interactive=False)}
            try:
                check_code(code)
                yield {self.verdict: markup.verdict(await runner.run(code, given), code)}
            except UserError as error:
                yield {self.verdict: markup.notice(str(error))}

        self.run.click(
            run,
            [self.editor, self.given],
            [self.verdict, self.run],
            show_progress_on=self.verdict,
            concurrency_limit=NUM_RUNS,
            **LONG,
        ).then(lambda: gr.Button("Run in sandbox", interactive=True), None, self.run, **QUIET)
