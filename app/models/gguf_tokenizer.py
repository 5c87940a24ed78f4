"""The tokenizer of a GGUF file, as transformers would have loaded it from the model's own tokenizer.json.

A GGUF has the vocabulary, the merges and the kinds of tokens, but not the rules by which text is cut before merging:
it names them in one word (`tokenizer.ggml.pre`). Those of the supported families are written down here; a word that is
not known is refused, since a tokenizer that is wrong now and then is worse than none. transformers' own conversion
forgets that Qwen normalises text (NFC), that SmolLM cuts digits apart, that Llama 3 looks up whole words before
merging, and which models begin a text with a token.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.errors import UserError, first_line
from app.models.gguf_header import GgufHeader, shown
from app.models.gguf_layout import CONTROL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NORMAL, USER_DEFINED, UNUSED = 1, 4, 5
"""GGUF's kinds of tokens, with CONTROL: part of a text, added and not special, and padding of the vocabulary."""
TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Tokens with a part to play, by transformers' and by GGUF's name."""
BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
"""Kinds of vocabularies (`tokenizer.ggml.model`)."""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 and Llama 3 cut text; they differ in how many digits stay together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The rules by which text becomes pieces, before pieces are merged."""

    pattern: str = ""
    """What pieces are; empty: GPT-2's own."""
    digits_apart: bool = False
    composes: bool = False
    """Whether characters that Unicode can write in two ways are written in one first (NFC)."""
    whole_words_first: bool = False
    """Whether a piece that is a token is taken as it is, whatever the merges say."""
    begins: bool = False
    """Whether a text begins with the token for that, where the file does not say."""


QWEN2 = Cut(pattern=WORDS.replace("DIGITS", ""), composes=True)
LLAMA3 = Cut(pattern=WORDS.replace("DIGITS", "{1,3}"), whole_words_first=True, begins=True)
CUTS: Mapping[str, Cut] = {
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "llama-bpe": LLAMA3,
    "llama-v3": LLAMA3,
    "llama3": LLAMA3,
    "smollm": Cut(digits_apart=True),
    "gpt-2": Cut(),
}
"""By their word in a file: those of Qwen2, Qwen2.5, Qwen3; Llama 3; SmolLM; GPT-2."""


def tokenizer_of(header: GgufHeader) -> "PreTrainedTokenizerBase":
    """transformers' tokenizer, with the chat template. Raises UserError for a file without one, or with one that is
    not known."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind is None or not isinstance(tokens, list) or not tokens:
        raise UserError(
            f"{header.path} holds no tokenizer: convert the model again with its tokenizer, or take the original with "
            "--set model.source=hub"
        )
    if kind not in (BYTE_LEVEL, SENTENCE_PIECE):
        raise UserError(
            f"{header.path} has a tokenizer of the kind {shown(kind)}, and {BYTE_LEVEL} and {SENTENCE_PIECE} are read: "
            "take the original with --set model.source=hub"
        )
    try:
        found = _made(header, tokens, _byte_level if kind == BYTE_LEVEL else _sentence_piece)
    except UserError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise header.broken(f"its tokenizer: {first_line(error)}") from None
    if template := header.metadata.get("tokenizer.chat_template"):
        found.chat_template = str(template)
    return found


def _made(header: GgufHeader, tokens: list[str], backend_of: Callable[..., tuple[Any, bool]]) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    kinds = header.metadata.get("tokenizer.ggml.token_type", [])
    known = list(zip(tokens, kinds + [NORMAL] * (len(tokens) - len(kinds)), strict=False))
    while known and known[-1][1] == UNUSED:  # rows that the embedding has and the tokenizer does not
        known.pop()
    named = {name: tokens[number] for name, number in _named(header, len(tokens)).items()}
    backend, begins = backend_of(header, {text: number for number, (text, _) in enumerate(known)}, named)
    added = [(text, kind == CONTROL) for text, kind in known if kind in (CONTROL, USER_DEFINED)]
    backend.add_tokens([AddedToken(text, normalized=False, special=special) for text, special in added])
    if header.metadata.get("tokenizer.ggml.add_bos_token", begins):
        _begin(backend, named)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def _byte_level(header: GgufHeader, vocabulary: dict[str, int], named: Mapping[str, str]) -> tuple[Any, bool]:
    """What cuts and merges, and whether texts begin with a token where the file does not say."""
    from tokenizers import Tokenizer, decoders, models

    cut = _cut(header)
    merges = [tuple(merge.split(" ")) for merge in header.metadata.get("tokenizer.ggml.merges", [])]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut.whole_words_first))
    _apply(cut, backend)
    backend.decoder = decoders.ByteLevel()
    return backend, cut.begins


def _sentence_piece(header: GgufHeader, vocabulary: dict[str, int], named: Mapping[str, str]) -> tuple[Any, bool]:
    """The same for Llama 2's, whose merges follow from the scores of its tokens."""
    from transformers import LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    scores = zip(header.metadata["tokenizer.ggml.tokens"], header.metadata["tokenizer.ggml.scores"], strict=False)
    merges = generate_merges(vocabulary, {token: score for token, score in scores if token in vocabulary})
    prefix = bool(header.metadata.get("tokenizer.ggml.add_space_prefix", True))
    parts = dict.fromkeys(TOKENS) | dict(named)
    made = LlamaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=prefix, **parts)
    return made.backend_tokenizer, True


def _cut(header: GgufHeader) -> Cut:
    word = header.metadata.get("tokenizer.ggml.pre")
    if cut := CUTS.get(str(word)):
        return cut
    raise UserError(
        f"{header.path} cuts text in a way (tokenizer.ggml.pre is {shown(word)}) that is not known here, where there "
        f"are {', '.join(CUTS)}: take the original with --set model.source=hub"
    )


def _apply(cut: Cut, backend: Any) -> None:
    from tokenizers import Regex, normalizers, pre_tokenizers

    if cut.composes:
        backend.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if cut.digits_apart else []
    if cut.pattern:
        steps.append(pre_tokenizers.Split(Regex(cut.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cut.pattern))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _named(header: GgufHeader, num_tokens: int) -> dict[str, int]:
    """Tokens with a part to play, by transformers' name for the part."""
    found = {name: header.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in TOKENS.items()}
    for name, number in found.items():
        if number is not None and (type(number) is not int or not 0 <= number < num_tokens):
            raise header.broken(f"its {name} is {shown(number)} of {num_tokens:,} tokens")
    return {name: number for name, number in found.items() if number is not None}


def _begin(backend: Any, named: Mapping[str, str]) -> None:
    """Let every text begin with its token, where there is one."""
    from tokenizers import processors

    if first := named.get("bos_token"):
        marks = [(first, backend.token_to_id(first))]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B:1", special_tokens=marks
        )
