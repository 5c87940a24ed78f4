"""The tab that asks two models the same question, the base and an adapter, and runs what both of them wrote."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from app.errors import UserError
from app.ide import markup
from app.ide.backend import Assistant, Runner
from app.ide.conversation import MAX_QUESTION, last_code, question_turn
from app.ide.events import CHAT, LONG, NUM_CHATS, NUM_RUNS, QUIET, Update, said
from app.ide.side_by_side import side_by_side


class CompareTab:
    """The components that events read and write, laid out on the page that is being built."""

    def __init__(self) -> None:
        with gr.Row(elem_id="compare-asking"):
            self.question = gr.Textbox(
                label="One question for both",
                show_label=False,
                container=False,
                placeholder="One question for both models: Enter sends, Shift+Enter starts a new line",
                max_lines=6,
                max_length=MAX_QUESTION,
                scale=6,
                elem_id="compare-question",
            )
            self.ask = gr.Button(
                "Ask both", variant="primary", elem_id="compare-ask", size="md", min_width=100, scale=0
            )
            self.stop = gr.Button("Stop", elem_id="compare-stop", size="md", min_width=80, scale=0, interactive=False)
            self.run = gr.Button("Run both", elem_id="compare-run", size="md", min_width=100, scale=0)
        self.notice = gr.Markdown(visible=False, elem_id="compare-notice")
        self.texts = gr.State(["", ""])
        with gr.Row(elem_id="compare"):
            self.left, self.left_chat, self.left_verdict = self._lay_out_side("left")
            self.right, self.right_chat, self.right_verdict = self._lay_out_side("right")

    @staticmethod
    def _lay_out_side(name: str) -> tuple[gr.Dropdown, gr.Chatbot, gr.Markdown]:
        with gr.Column(min_width=380):
            model = gr.Dropdown([], label=f"Model, {name}", interactive=True, elem_id=f"compare-model-{name}")
            chat = gr.Chatbot(elem_id=f"compare-{name}", elem_classes="compared", placeholder=" ", **CHAT)
            return model, chat, gr.Markdown(elem_id=f"compare-verdict-{name}")

    def wire(self, assistant: Assistant, runner: Runner, max_tokens: gr.Number, temperature: gr.Number) -> None:
        async def ask(
            question: str, left: str, right: str, max_tokens: int | None, temperature: float | None
        ) -> AsyncIterator[Update]:
            try:
                turn = question_turn(question)
            except UserError as error:
                yield {self.notice: said(str(error))}
                return
            yield {
                self.notice: said(""),
                self.left_verdict: "",
                self.right_verdict: "",
                self.texts: ["", ""],
                self.left_chat: [],
                self.right_chat: [],
                self.ask: gr.Button(interactive=False),
                self.stop: gr.Button(interactive=True),
            }
            both = side_by_side(assistant, (left, right), turn, max_tokens=max_tokens, temperature=temperature)
            async with contextlib.aclosing(both) as progress:
                async for texts, why in progress:
                    yield {
                        self.left_chat: _shown(texts[0], why[0]),
                        self.right_chat: _shown(texts[1], why[1]),
                        self.texts: list(texts),
                        self.notice: said(" ".join(dict.fromkeys(filter(None, why)))),
                    }

        def settle() -> Update:
            return {self.ask: gr.Button(interactive=True), self.stop: gr.Button(interactive=False)}

        buttons = [self.ask, self.stop]
        shown: list[Any] = [self.left_chat, self.right_chat, self.left_verdict, self.right_verdict]
        asking = gr.on(
            [self.question.submit, self.ask.click],
            ask,
            [self.question, self.left, self.right, max_tokens, temperature],
            [self.notice, self.texts, *shown, *buttons],
            show_progress_on=[self.left_chat, self.right_chat],
            concurrency_limit=NUM_CHATS,
            **LONG,
        )
        asking.then(settle, None, buttons, **QUIET)
        self.stop.click(settle, None, buttons, cancels=asking, **QUIET)
        self._wire_run(runner)

    def _wire_run(self, runner: Runner) -> None:
        async def run(texts: list[str]) -> AsyncIterator[Update]:
            for place, text in zip((self.left_verdict, self.right_verdict), texts, strict=True):
                try:
                    code = last_code([{"role": "assistant", "content": text}] if text else [])
                    yield {place: markup.verdict(await runner.run(code, ""), code)}
                except UserError as error:
                    yield {place: markup.notice(str(error))}

        verdicts = [self.left_verdict, self.right_verdict]
        self.run.click(run, self.texts, verdicts, concurrency_limit=NUM_RUNS, **LONG)


def _shown(text: str, why: str) -> list[dict[str, str]]:
    """An answer so far; nothing in place of one that failed before its first word."""
    return [{"role": "assistant", "content": markup.chat_markdown(text) if text else "…"}] if text or not why else []
