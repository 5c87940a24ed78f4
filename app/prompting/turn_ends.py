"""Where a model's turn ends: the token after an assistant's turn in the model's own chat template.

It is found by rendering a dialogue, and not read from the tokenizer's or the generation config's end token: a base
model may name another one there, and its drafts would then never stop. A draft stops at any of these tokens in every
engine and in serving; training teaches the template's. Limits: an end that is plain text, or more than one token, is
none, because no draft could be told to stop there; a token counts whether or not it is flagged as special.
"""

import functools
import json
import re
from typing import Any

from app.errors import UserError

_ANSWER, _QUESTION = "Pocketcoder answers.", "Pocketcoder asks again."
_TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


def turn_end(tokenizer: Any) -> str:
    """The token that ends a dialogue's last answer, as text; empty for a template that has none."""
    return _ends(tokenizer, json.dumps(tokenizer.chat_template))[0]


def is_taught_to_answer(tokenizer: Any) -> bool:
    """Whether this is an instruct model: its text ends where a turn ends. A base model may bring the same template, but
    names another end of text (Qwen2.5: <|endoftext|>). Limits: so do a few instruct models (Gemma)."""
    end = turn_end(tokenizer)
    return bool(end) and end == tokenizer.eos_token


def stop_ids(tokenizer: Any, *configured: int | list[int] | None) -> frozenset[int]:
    """The tokens at which a draft stops: the ends of turns in the template, the tokenizer's end of text, and the
    `configured` ones, as a config's eos_token_id has them."""
    named = [*_ends(tokenizer, json.dumps(tokenizer.chat_template)), tokenizer.eos_token]
    found = {tokenizer.convert_tokens_to_ids(token) for token in named if token}
    for ids in configured:
        found |= set(ids if isinstance(ids, list) else [ids])
    return frozenset(token for token in found if token is not None)


def text_end(tokenizer: Any) -> int:
    """The token after a text that is not a dialogue. Raises UserError for a tokenizer that has none."""
    token = tokenizer.eos_token or turn_end(tokenizer)
    if not token:
        raise UserError(
            "the model's tokenizer has no end-of-text token (eos_token), so it can't be taught where a text ends: "
            "name one in its tokenizer_config.json, or take another model"
        )
    return int(tokenizer.convert_tokens_to_ids(token))


def check_chat(tokenizer: Any, what: str, instead: str) -> None:
    """Raise UserError for a model that can't be asked in dialogues, or that would not end its answers.

    what: who needs it; instead: what to do, both for the sentence.
    """
    if not tokenizer.chat_template:
        raise UserError(f"the model has no chat template, which {what} needs: {instead}, or take an instruct model")
    if not any(_ends(tokenizer, json.dumps(tokenizer.chat_template))):
        raise UserError(
            f"the model's chat template ends an answer with no token of the tokenizer, which {what} needs, because no "
            f"draft would ever stop there: {instead}, or take a model whose template has one"
        )


@functools.lru_cache(maxsize=16)
def _ends(tokenizer: Any, template: str) -> tuple[str, str, str]:
    """The token after a dialogue's last answer; after an answer that a question follows; and after the last answer
    where the dialogue has tools. Empty where there is none. template: the tokenizer's, for the cache."""
    if not tokenizer.chat_template:
        return "", "", ""
    turns = [{"role": "user", "content": "Pocketcoder asks."}, {"role": "assistant", "content": _ANSWER}]
    last, with_tools = (_behind_answer(tokenizer, turns, tools=tools) for tools in (None, [_TOOL]))
    following = _behind_answer(tokenizer, [*turns, {"role": "user", "content": _QUESTION}])
    token = _first_token(tokenizer, following)
    if following[: following.find(token)].strip():  # it belongs to the question
        token = ""
    return _first_token(tokenizer, last), token, _first_token(tokenizer, with_tools)


def _behind_answer(tokenizer: Any, turns: list[dict[str, str]], tools: list[Any] | None = None) -> str:
    """What the template writes behind the answer; nothing where it refuses the dialogue, or where none of several
    templates is the default."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, enable_thinking=False)
    except (TemplateError, ValueError):
        return ""
    return text.rpartition(_ANSWER)[2] if _ANSWER in text else ""


def _first_token(tokenizer: Any, text: str) -> str:
    """The first token in a text that is one by itself, whatever is around it."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()} | {tokenizer.eos_token or ""}
    named = sorted((token for token in added if token.strip()), key=lambda token: (-len(token), token))
    found = re.search("|".join(map(re.escape, named)), text) if named else None
    return found[0] if found else ""
