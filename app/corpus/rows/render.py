"""The tokens of examples: what is trained is to the token what is asked when the model is used.

A dialogue goes through the model's own chat template, and each assistant's turn is learnt with the token that ends it.
The border between what is given and what is learnt lies where drawing begins: prompt and completion are tokenised
apart, as generation has it. A template may write an assistant's turn otherwise in a dialogue that goes on than where it
is asked for (Qwen3's puts an empty thought before the last answer alone): such turns are given and not learnt, and
`unrolled` makes of one dialogue as many as it takes to learn each of its turns.

Special tokens come from the template only: where code or a document holds the text of one, it stays text.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.corpus.examples.words import FILL
from app.corpus.records import Example
from app.corpus.rows.encoding import patient_encoder_of
from app.corpus.rows.packing import Sample
from app.errors import UserError
from app.prompting.fill_in import MARKS, FillIn
from app.prompting.protocols import Message, begin_text, chat_prompt
from app.prompting.tool_schema import SEARCH_DOCS_TOOL
from app.prompting.turn_ends import check_chat, text_end, turn_end
from app.records import IGNORE

PLAIN = ("completion", "file")
"""Forms that are never a dialogue."""
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private characters around the number of a special token's text, or of the first of them itself."""
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


_SEARCHED = Example(
    form="tool_use",
    turns=tuple(
        {"role": role, "content": role}
        for role in ("system", "user", "assistant", "tool", "assistant", "tool", "assistant")
    ),
    tools=(SEARCH_DOCS_TOOL,),
)
"""A dialogue with all roles that those of `app.corpus.examples.tool_dialogues` have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A text of an example, or ids that are known already."""

    text: str = ""
    is_learnt: bool = False
    is_plain: bool = False
    """Whether special tokens in it are text."""
    ids: list[int] | None = None


@functools.lru_cache(maxsize=4)
def fills_in(tokenizer: Any) -> bool:
    """Whether the model has fill-in-the-middle tokens."""
    vocabulary = tokenizer.get_vocab()
    return any(all(mark in vocabulary for mark in marks) for marks in MARKS)


def check_forms(tokenizer: Any, forms: dict[str, float]) -> None:
    """Raise UserError for a model whose chat template can't show the recipe's dialogues, or with no end of an answer or
    of a text.

    forms: shares by name, as `app.corpus.recipes.Forms` has them.
    """
    plain = (*PLAIN, "fill_in") if fills_in(tokenizer) else PLAIN
    dialogues = [name for name, share in forms.items() if share and name not in plain]
    if any(forms.get(name) for name in plain):
        text_end(tokenizer)
    if dialogues:
        what = f"the corpus (its dialogues: {', '.join(dialogues)})"
        check_chat(tokenizer, what, "set those forms of the recipe to 0")
        turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
        _check_shown([Example(form=dialogues[0], turns=turns)], tokenizer)
    if forms.get("tool_use"):
        try:
            _check_shown(unrolled(_SEARCHED, tokenizer), tokenizer)
        except UserError as error:
            reason = str(error).rpartition(": ")[0]
            raise UserError(f"{reason}: set tool_use of the recipe's forms to 0, or take another model") from None


def _check_shown(examples: Iterable[Example], tokenizer: Any) -> None:
    """Raise UserError where `tokenise_all` would, which encodes."""
    marked = _Marked(tokenizer)
    for example in examples:
        _segments(example, tokenizer, marked)


def unrolled(example: Example, tokenizer: Any) -> Iterator[Example]:
    """The example itself; a dialogue whose template rewrites earlier turns, once up to each assistant's turn."""
    if not example.turns:
        yield example
        return
    num_turns = sum(turn["role"] == "assistant" for turn in example.turns)
    if num_turns == 1 or len(_borders(tokenizer, example.turns, example.tools)[1]) == num_turns:
        yield example
        return
    for number, turn in enumerate(example.turns, start=1):
        if turn["role"] == "assistant":
            yield replace(example, turns=example.turns[:number])


def tokenise(example: Example, tokenizer: Any) -> Sample:
    """The sample of one example. Raises UserError where the template refuses the dialogue, shows no turn as it asks for
    it, or has no end."""
    return tokenise_all([example], tokenizer)[0]


def tokenise_all(examples: Iterable[Example], tokenizer: Any) -> list[Sample]:
    """The samples in the order of the examples. Give them `unrolled`, so that every turn is learnt."""
    marked = _Marked(tokenizer)
    held = list(examples)
    cut = [_segments(example, tokenizer, marked) for example in held]
    pieces: list[tuple[str, bool]] = []
    for segments in cut:
        for segment in segments:
            if segment.ids is None:
                pieces += marked.pieces(segment.text, segment.is_plain)
    ids_of = patient_encoder_of(tokenizer).encode(pieces)
    samples = []
    for example, segments in zip(held, cut, strict=True):
        input_ids: list[int] = []
        labels: list[int] = []
        for segment in segments:
            ids = segment.ids
            if ids is None:
                ids = [i for piece in marked.pieces(segment.text, segment.is_plain) for i in ids_of[piece]]
            input_ids += ids
            labels += ids if segment.is_learnt else [IGNORE] * len(ids)
        is_whole = bool(example.turns or example.prompt)
        samples.append(Sample(input_ids=input_ids, labels=labels, is_whole=is_whole))
    return samples


def _segments(example: Example, tokenizer: Any, marked: "_Marked") -> list[_Segment]:
    if example.turns:
        return _dialogue_segments(example, tokenizer, marked)
    end = _Segment(ids=[text_end(tokenizer)], is_learnt=True)
    completion = _Segment(text=example.completion, is_learnt=True, is_plain=True)
    if example.form == "fill_in":
        prefix, suffix = example.prompt.split(FILL)
        return [_Segment(ids=FillIn(tokenizer).tokens(prefix, suffix)), completion, end]
    begin = [_Segment(text=text, is_learnt=not example.prompt)] if (text := begin_text(tokenizer)) else []
    given = [_Segment(text=example.prompt, is_plain=True)] if example.prompt else []
    return [*begin, *given, completion, end]


def _dialogue_segments(example: Example, tokenizer: Any, marked: "_Marked") -> list[_Segment]:
    turns = marked.turns(example)
    whole, borders = _borders(tokenizer, turns, example.tools)
    if not borders or borders[-1][1] != len(whole):
        raise UserError(
            "the model's chat template renders an answered question unlike an open one, so its answers can't be "
            "learnt: take another model, or set the recipe's shares of dialogues to 0"
        )
    if not turn_end(tokenizer):
        raise UserError(
            "the model's chat template ends an answer with no token of the tokenizer, so its end can't be learnt: take "
            "a model whose template has one, or set the recipe's shares of dialogues to 0"
        )
    segments = []
    last = 0
    for start, end in borders:
        segments += [_Segment(text=whole[last:start]), _Segment(text=whole[start:end], is_learnt=True)]
        last = end
    return segments


def _borders(tokenizer: Any, turns: Sequence[Message], tools: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """The whole dialogue, and start and end of each assistant's turn that it holds just as the turn is asked for."""
    whole = _answered(tokenizer, turns, tools)
    found = []
    for number, turn in enumerate(turns):
        if turn["role"] == "assistant":
            prompt = chat_prompt(tokenizer, turns[:number], tools=tools)
            is_last = number == len(turns) - 1
            answered = whole if is_last else _answered(tokenizer, turns[: number + 1], tools)
            if answered.startswith(prompt) and whole.startswith(answered):
                found.append((len(prompt), len(answered)))
    return whole, found


def _answered(tokenizer: Any, turns: Sequence[Message], tools: Sequence[Message]) -> str:
    """The dialogue up to the token that ends its last turn, an assistant's."""
    text = chat_prompt(tokenizer, turns, tools=tools).removesuffix(_opening(tokenizer, str(tokenizer.chat_template)))
    end = turn_end(tokenizer)
    return text[: text.rfind(end) + len(end)] if end else text.rstrip("\n")


@functools.lru_cache(maxsize=4)
def _opening(tokenizer: Any, template: str) -> str:
    """What the template adds to open the assistant's turn. template: the tokenizer's, for the cache."""
    turns = [{"role": "user", "content": "a"}]
    closed = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    return chat_prompt(tokenizer, turns).removeprefix(closed)


class _Marked:
    """The marks that keep the texts of special tokens apart from the tokens."""

    def __init__(self, tokenizer: Any) -> None:
        tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self._unflagged = {turn_end(tokenizer)} - tokens - {""}
        tokens |= self._unflagged
        self._texts = [*sorted(tokens, key=lambda text: (-len(text), text)), _OPEN]
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        self._find = re.compile("|".join(map(re.escape, self._texts)))

    def turns(self, example: Example) -> list[Message]:
        """The turns with a mark for each special token's text in them."""
        return [turn | {"content": self._find.sub(self._mark, turn["content"])} for turn in example.turns]

    def pieces(self, text: str, is_plain: bool) -> list[tuple[str, bool]]:
        """A segment as texts, each with whether special tokens in it are text."""
        if is_plain or _OPEN not in text:
            return [(text, is_plain)]
        parts = _MARK.split(text)  # text, number, text, number, ...
        found: list[tuple[str, bool]] = []
        for place, part in enumerate(parts):
            special = self._texts[int(part)] if place % 2 else ""
            if special in self._unflagged:  # a tokenizer takes it for the token whatever is asked of it, but not in two
                found += [(special[:1], True), (special[1:], True)]
            else:
                found.append((special, True) if special else (part, False))
        return [piece for piece in found if piece[0]]

    def _mark(self, match: re.Match[str]) -> str:
        return f"{_OPEN}{self._numbers[match[0]]}{_CLOSE}"
