"""A model's tokenizer as the metadata of a GGUF, once it is certain that it reads back as the same.

A GGUF names the rules by which text is cut in one word. `pre_tokenizer` tries the words that
`app.models.gguf_tokenizer` knows: the right one makes a tokenizer that gives the model's own tokens for texts in which
the rules differ, and for each added token. Limit: llama.cpp does not compose characters first (NFC),
as Qwen's tokenizer does: a text with an accent as a character of its own has other tokens there.
"""

import json
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.models.gguf_header import GgufHeader
from app.models.gguf_tokenizer import BYTE_LEVEL, CONTROL, NORMAL, UNUSED, USER_DEFINED, tokenizer_of
from app.prompting.turn_ends import turn_end

WORDS = ("qwen2", "llama-bpe", "smollm", "gpt-2")
"""One word for each rule that is known, the commonest first."""
TEXTS = (
    "def f(n: int = 12345) -> str:\n    return f'{n:>10}' if n >= 2_000 else \"it's\"\n\n\n\t# x = [1, 22, 333]\r\n",
    "x = 1234567890.5e-10 + 0x1F00\n        y  =   z\n\n\n",
    "IT'S we'LL don't I'm you're 'quoted' café cafe\u0301 \ufb01 Ⅻ x²",
    "漢字かな交じり 한국어 العربية ٠١٢ हिन्दी 👩‍👩‍👧 \u00a0\u3000\u200b trailing   ",
    " http://a.b/c?d=e&f=g#h  {}[]()<>|\\/*&^%$#@!~`;:,.?-_=+ ...!!! a.b->c::d",
)
"""In which the rules differ: runs of digits, of spaces and of signs, contractions, characters outside ASCII."""
PARTS = {"bos": "bos_token_id", "eos": "eos_token_id", "unknown": "unk_token_id", "padding": "pad_token_id"}
"""Tokens with a part to play, by GGUF's and by transformers' name."""


def vocabulary_of(tokenizer: Any, rows: int) -> dict[str, Any]:
    """The metadata, by key. rows: of the embedding.

    Raises UserError for a tokenizer that is not byte-level BPE, has more tokens than the embedding rows, or cuts text
    by a rule that has no word.
    """
    held = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if held["type"] != "BPE" or held.get("byte_fallback"):
        kind = "SentencePiece's BPE" if held["type"] == "BPE" else held["type"]
        raise UserError(
            f"the base model's tokenizer is {kind}, and byte-level BPE is what is written into a GGUF: --merged writes "
            "it as safetensors"
        )
    if len(tokenizer) > rows:
        raise UserError(f"the tokenizer has {len(tokenizer):,} tokens, and the embedding {rows:,} rows: mend the model")
    tokens, kinds = _tokens(tokenizer, rows)
    found: dict[str, Any] = {
        "tokenizer.ggml.model": BYTE_LEVEL,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in held["merges"]],
        "tokenizer.ggml.add_bos_token": _begins(tokenizer),
    }
    parts = {part: getattr(tokenizer, name) for part, name in PARTS.items()}
    if (end := turn_end(tokenizer)) and end != tokenizer.eos_token:
        parts["eot"] = tokenizer.convert_tokens_to_ids(end)
    found |= {f"tokenizer.ggml.{part}_token_id": token for part, token in parts.items() if token is not None}
    if template := _template(tokenizer):
        found["tokenizer.chat_template"] = template
    return found | {"tokenizer.ggml.pre": pre_tokenizer(tokenizer, found)}


def pre_tokenizer(tokenizer: Any, metadata: dict[str, Any]) -> str:
    """The word for the rules by which the tokenizer cuts text."""
    added = " x ".join(token.content for token in tokenizer.added_tokens_decoder.values())
    texts = [*TEXTS, added, "".join(reversed(added.split(" x ")))]
    wanted = [tokenizer(text).input_ids for text in texts]
    for word in WORDS:
        header = GgufHeader(path=Path(word), metadata=metadata | {"tokenizer.ggml.pre": word}, tensors={})
        other = tokenizer_of(header)
        if all(other(text).input_ids == ids for text, ids in zip(texts, wanted, strict=True)):
            return word
    raise UserError(
        f"the base model's tokenizer cuts text as none of {', '.join(WORDS)} does, which are the rules that a GGUF is "
        "written with here: --merged writes it as safetensors"
    )


def _tokens(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:
    """Each token and its kind; rows without one are padding."""
    by_id = {number: text for text, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(rows)]
    kinds = [NORMAL if number in by_id else UNUSED for number in range(rows)]
    for number, token in added.items():
        kinds[number] = CONTROL if token.special else USER_DEFINED
    return tokens, kinds


def _begins(tokenizer: Any) -> bool:
    return bool(tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])


def _template(tokenizer: Any) -> str:
    """The default of several."""
    held = tokenizer.chat_template
    return (held.get("default", "") if isinstance(held, dict) else held) or ""
