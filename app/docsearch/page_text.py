"""What of a page reaches the model: the text that a reader sees, without chat-template tokens, cut short."""

from app.docsearch.gate import Allowed
from app.docsearch.records import Page


def text_of(page: Page) -> str:
    """The page's visible text, `cleaned`. <pre> blocks become fenced blocks (three backticks); other white space is
    folded, paragraphs are lines. text/plain and JSON are only decoded and cleaned."""
    raise NotImplementedError


def cleaned(text: str) -> str:
    """The text without control (newline and tab stay), zero-width, bidi and tag characters, chat-template tokens broken
    up ("< |im_start|>"). Of use for the strings of an API's answer too; the text is not normalised otherwise."""
    raise NotImplementedError


def without_links(text: str, allowed: Allowed) -> str:
    """Where the gate refuses their URLs, Markdown links and images become their words and bare URLs are dropped."""
    raise NotImplementedError


def cut(text: str, words: int = 500, characters: int = 4000) -> str:
    """At most so many white-space words and characters, ending at the last sentence end (in fenced code: line end) in
    reach; with none in reach cut hard and marked with …, which counts."""
    raise NotImplementedError
