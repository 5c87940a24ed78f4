"""What the tabs' events have in common: how they are queued, and how a sentence is shown."""

from typing import Any

import gradio as gr

from app.ide import markup

Update = dict[Any, Any]
"""New values by component."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For events that end at once."""
LONG: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "once", "api_visibility": "private"}
"""For events that show how they go on."""
NUM_CHATS, NUM_RUNS = 8, 1
"""Answers and programs at the same time; more wait in the queue."""
CHAT: dict[str, Any] = {
    "show_label": False,
    "height": None,
    "buttons": [],
    "latex_delimiters": [],
    "allow_tags": False,
    "allow_file_downloads": False,
    "feedback_options": None,
}
"""For a conversation that only shows."""


def said(text: str) -> gr.Markdown:
    """A sentence in the place of notices; an empty one takes the place away."""
    return gr.Markdown(markup.notice(text), visible=bool(text))
