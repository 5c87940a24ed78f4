"""Fill-in-the-middle: the tokens that ask a model for the text between a prefix and a suffix.

The order prefix, suffix, middle is "PSM" of Bavarian et al., arXiv 2207.14255, section 3. Only models that were trained
with such tokens can do it (Qwen2.5-Coder and Qwen3 hold them, SmolLM2 does not). The middle is what comes between the
two, character for character: prefix + middle + suffix is the text. Training asks the same
(`app.corpus.examples.forms`).
"""

from typing import Any

from app.errors import UserError

MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
)


class FillIn:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self._marks = next(
            ([vocabulary[mark] for mark in marks] for marks in MARKS if all(mark in vocabulary for mark in marks)), None
        )

    def tokens(self, prefix: str, suffix: str) -> list[int]:
        """Ids of the prompt. A mark in the caller's own text stays text.

        Raises UserError when the model has no such tokens.
        """
        if self._marks is None:
            raise UserError(
                "this model has no fill-in-the-middle tokens, so it can't use a suffix: leave it out, or serve a model "
                "that has them, such as Qwen/Qwen2.5-Coder-1.5B"
            )
        before, between, after = self._marks
        return [before, *self._plain(prefix), between, *self._plain(suffix), after]

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
