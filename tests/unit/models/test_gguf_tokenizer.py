"""The tokenizer of a GGUF cuts text as the model's own does."""

from pathlib import Path
from typing import Any

import pytest
from gguf.constants import TokenType
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

from app.errors import UserError
from app.models.base import load_tokenizer
from app.models.gguf_header import read_header
from app.models.gguf_source import packaged_header
from app.models.gguf_tokenizer import QWEN2, tokenizer_of
from tests.unit.models import gguf_files

TEXTS = (
    *gguf_files.CODE,
    "x = [\n    1, 22,   333]  # 4,444\r\n\r\n\tif x:\n\n\n        return 0x1F",
    "e\u0301\u00e9 \u1e9b\u0323 \ufb01 \u2126 \u212b",  # what NFC composes, and what it leaves
    "漢字かな交じり 한국어 \u1112\u1161\u11ab العربية हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 a\u200bb\u200d\ufeffc \u2028 \u00a0\u3000 ",
    "٠١٢ ２０２６ Ⅻ ½ x² it's IT'S we'LL",
    "<|im_start|>user\nhi<|im_end|><tool_call>{}</tool_call>[PAD389]<|im_end",
    "   leading, trailing   ",
    "\x00\x01\x7f\t\v\f",
    "",
)


def written(folder: Path, family: str = "qwen2", **changes: Any) -> PreTrainedTokenizerFast:
    """The tokenizer after it was saved and loaded, as everything here gets it."""
    header = read_header(gguf_files.write(folder / "m.gguf", gguf_files.model(family), **changes))
    tokenizer_of(header).save_pretrained(folder)
    return load_tokenizer(folder)


def with_added(tokenizer: Any) -> Any:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in gguf_files.SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in gguf_files.ADDED])
    return tokenizer


def byte_level(*steps: Any, **changes: Any) -> Any:
    backend = Tokenizer(models.BPE(vocab=gguf_files.VOCABULARY, merges=gguf_files.MERGES, **changes))
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    backend.decoder = decoders.ByteLevel()
    return backend


def test_qwens_is_transformers_own(tmp_path: Path) -> None:
    names = {"unk_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    known = {token: number for number, token in enumerate(gguf_files.TOKENS[:-3])}
    theirs = with_added(Qwen2Tokenizer(vocab=known, merges=list(gguf_files.MERGES), **names))
    ours = written(tmp_path)
    assert QWEN2.pattern == PRETOKENIZE_REGEX
    assert ours.get_vocab() == known
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text), text
        assert ours.decode(ids) == normalizers.NFC().normalize_str(text)
    hidden = ours.decode(ours.encode(TEXTS[-4]), skip_special_tokens=True)
    assert hidden == "user\nhi<tool_call>{}</tool_call>[PAD389]<|im_end"
    assert len(ours) == len(gguf_files.TOKENS) - 3  # rows that only fill the embedding


def test_llama_3_looks_up_whole_words_and_begins_texts(tmp_path: Path) -> None:
    words = Regex(PRETOKENIZE_REGEX.replace(r"\p{N}|", r"\p{N}{1,3}|"))
    steps = pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs = with_added(byte_level(*steps, ignore_merges=True))
    first = ("<|endoftext|>", gguf_files.ENDOFTEXT)
    theirs.post_processor = processors.TemplateProcessing("<|endoftext|> $A", None, [first])
    ours = written(tmp_path, "llama", pre="llama-bpe", without=("tokenizer.ggml.add_bos_token",))
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode("a")[0] == gguf_files.ENDOFTEXT
    silent = written(tmp_path, "llama", pre="llama-bpe")
    assert silent.encode("a") == ours.encode("a")[1:]


@pytest.mark.parametrize(("pre", "steps"), [("smollm", [pre_tokenizers.Digits(individual_digits=True)]), ("gpt-2", [])])
def test_smollms_cuts_digits_apart(pre: str, steps: list[Any], tmp_path: Path) -> None:
    theirs = with_added(byte_level(*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)))
    ours = written(tmp_path, "llama", pre=pre)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text


def test_the_packaged_models_takes_an_indent_before_a_number_as_one_token() -> None:
    tokenizer = tokenizer_of(packaged_header())
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("[\n    12]")) == ["[", "ĊĠĠĠĠ", "1", "2", "]"]
    assert tokenizer.eos_token == "<|im_end|>" and len(tokenizer.encode("a")) == 1


@pytest.mark.parametrize("has_prefix", [True, False])
def test_a_sentencepiece_vocabulary_is_read(has_prefix: bool, tmp_path: Path) -> None:
    plain = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, max_token_length=6)
    plain.train_from_iterator((line for text in gguf_files.CODE for line in text.splitlines()), trainer)
    tokens = sorted(plain.get_vocab(), key=plain.get_vocab().__getitem__)
    kinds = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256]
    kinds += [TokenType.NORMAL] * (len(tokens) - len(kinds))
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(number) for number in range(len(tokens))],
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": has_prefix,
    }
    ours = written(tmp_path, "llama", metadata=metadata, without=("tokenizer.ggml.merges",))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [
        (token[:cut], token[cut:])
        for token in tokens[259:]
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    theirs = LlamaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=has_prefix)
    for text in (*gguf_files.CODE, "漢字 🙂 e\u0301", " a  b", "<s>a</s>b"):
        ids = ours.encode(text)
        assert ids[0] == 1 and ids[1:] == theirs.encode(text, add_special_tokens=False), text
    assert ours.decode(ours.encode("a  b 🙂"), skip_special_tokens=True) == "a  b 🙂"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"without": ("tokenizer.ggml.model",)}, "holds no tokenizer: convert the model again with its tokenizer"),
        ({"without": ("tokenizer.ggml.tokens",)}, "holds no tokenizer"),
        ({"metadata": {"tokenizer.ggml.model": "t5"}}, "has a tokenizer of the kind 't5', and gpt2 and llama are read"),
        ({"pre": "v" * 10_000}, "(tokenizer.ggml.pre is [...]) that is not known here"),
        ({"pre": "viking"}, "cuts text in a way (tokenizer.ggml.pre is 'viking') that is not known here"),
        ({"without": ("tokenizer.ggml.pre",)}, "cuts text in a way (tokenizer.ggml.pre is missing)"),
        ({"metadata": {"tokenizer.ggml.merges": ["no such", "a"]}}, "is broken (its tokenizer: "),
        ({"metadata": {"tokenizer.ggml.merges": "a b"}}, "is broken (its tokenizer: "),
        ({"metadata": {"tokenizer.ggml.eos_token_id": 99_999}}, "is broken (its eos_token is 99999 of 392 tokens)"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    header = read_header(gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"), **changes))
    with pytest.raises(UserError) as raised:
        tokenizer_of(header)
    assert str(raised.value).startswith(f"{header.path} ") and said in str(raised.value)
