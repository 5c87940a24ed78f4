"""A completion's prompt in the form that vLLM takes: a gap as the model's fill-in tokens, and nothing as the token that
separates documents, which is where OpenAI's API begins when it gets no prompt.
"""

from typing import Any

from app.errors import UserError
from app.prompting.fill_in import FillIn
from app.serving.errors import invalid

SEPARATOR = "<|endoftext|>"
"""Between the documents that Qwen, SmolLM and most models for code were trained on."""


class Prompts:
    def __init__(self, tokenizer: Any) -> None:
        self._fill_in = FillIn(tokenizer)
        self._start = SEPARATOR if SEPARATOR in tokenizer.get_vocab() else tokenizer.bos_token

    def prepare(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a completion without its suffix, no prompt of it empty.

        Raises ApiError when this model takes no suffix, or has no token to begin from.
        """
        body = dict(body)
        suffix, prompt = body.pop("suffix", None), body["prompt"]
        ready = self._with_start if suffix is None else lambda text: self._around_gap(text, suffix)
        if isinstance(prompt, str):
            body["prompt"] = ready(prompt)
        elif isinstance(prompt[0], str):
            body["prompt"] = [ready(text) for text in prompt]
        return body

    def _with_start(self, text: str) -> str:
        if text:
            return text
        if not self._start:
            raise invalid("prompt is empty, and this model has no token to begin from: give it a text", "prompt")
        return self._start

    def _around_gap(self, prefix: str, suffix: str) -> list[int]:
        try:
            return self._fill_in.tokens(prefix, suffix)
        except UserError as error:
            raise invalid(str(error), "suffix") from None
