"""Statements, tests and programs rewritten as text, for `benchmarks.contamination`: paraphrased by rule, translated,
encoded, cut into pieces, written with other characters. The tables are in rewritten_words.yaml.

A paraphrase by rule is no paraphrase by a person: it changes every word that the table of synonyms has, turns "Write a
function to ..." into the passive, and puts what follows a comma first. The translation word by word is crude; the
translations by hand are of twenty statements.
"""

import base64
import codecs
import functools
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

WORDS = Path(__file__).with_suffix(".yaml")
LOOK_ALIKES = str.maketrans("aceiopsxyACEHKMOPTX", "асеіорѕхуАСЕНКМОРТХ")
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(ord("a"), ord("z") + 1)})
_OPENING = re.compile(r"(?:write|create|implement) an? (?:python )?function (?:to|that|which) ", re.I)


@functools.cache
def tables() -> dict[str, Any]:
    held: dict[str, Any] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return held


def paraphrased(statement: str) -> str:
    """By rule: passive opening, clauses turned round, synonyms."""
    sentences = re.split(r"(?<=[.!?])\s+", _OPENING.sub("What is wanted is code by which one is able to ", statement))
    turned = []
    for sentence in sentences:
        first, comma, rest = sentence.rstrip(".").partition(", ")
        turned.append(f"{rest[:1].upper()}{rest[1:]}, {first[:1].lower()}{first[1:]}." if comma else sentence)
    synonyms = tables()["synonyms"]

    def other(match: re.Match[str]) -> str:
        options = synonyms.get(match[0].lower())
        return options[len(match.string[: match.start()]) % len(options)] if options else match[0]

    return re.sub(r"[A-Za-z]+", other, " ".join(turned))


def word_by_word(statement: str) -> str:
    """Each word that the table has, in German."""
    german = tables()["german"]
    return re.sub(r"[A-Za-z]+", lambda match: german.get(match[0].lower(), match[0]), statement)


def in_docstring(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"""', "'''")
    body = "\n".join(f"    {line}".rstrip() for line in quoted.strip().splitlines())
    return f'def helper(value):\n    """Prepare what the caller hands over.\n\n{body}\n    """\n    return [value]\n'


def in_comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines()) + "LIMIT = 3\n"


def fenced(text: str) -> str:
    return in_docstring(f"See::\n\n```python\n{text}\n```\n")


def _lines(text: str, width: int = 76) -> str:
    return "".join(f'    "{text[at : at + width]}"\n' for at in range(0, len(text), width))


def in_base64(text: str) -> str:
    return f"PAYLOAD = (\n{_lines(base64.b64encode(text.encode()).decode())})\n"


def in_base64_block(text: str) -> str:
    return f'PAYLOAD = """\n{base64.encodebytes(text.encode()).decode()}"""\n'


def in_hex(text: str) -> str:
    return f"PAYLOAD = bytes.fromhex(\n{_lines(text.encode().hex())})\n"


def in_gzip(text: str) -> str:
    return f"PAYLOAD = (\n{_lines(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())})\n"


def in_rot13(text: str) -> str:
    return f"PAYLOAD = {codecs.encode(text, 'rot13')!r}\n"


def in_one_string(text: str) -> str:
    return f"PAYLOAD = {text!r}\n"


def in_escapes(text: str) -> str:
    return f"PAYLOAD = (\n{_escaped(text)})\n"


def _escaped(text: str) -> str:
    codes = [f"\\x{ord(letter):02x}" for letter in text.encode("ascii", "replace").decode()]
    return "".join(f'    "{"".join(codes[at : at + 20])}"\n' for at in range(0, len(codes), 20))


def added(text: str) -> str:
    """A string in pieces of seven characters, added with a plus."""
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    return "SOURCE = (\n    " + "\n    + ".join(json.dumps(piece) for piece in pieces) + "\n)\n"


def side_by_side(text: str) -> str:
    """The same, one beside the other."""
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    return "SOURCE = (\n" + "".join(f"    {json.dumps(piece)}\n" for piece in pieces) + ")\n"


def joined(text: str) -> str:
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    return 'SOURCE = "".join([\n' + "".join(f"    {json.dumps(piece)},\n" for piece in pieces) + "])\n"


def look_alikes(text: str) -> str:
    return text.translate(LOOK_ALIKES)


def full_width(text: str) -> str:
    return text.translate(WIDE)


def zero_width(text: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[a-z])", "\u200b", text)


IN_A_STRING: dict[str, Callable[[str], str]] = {
    "docstring": in_docstring,
    "comment": in_comment,
    "Markdown in a docstring": fenced,
    "base64, string beside string": in_base64,
    "base64, one block": in_base64_block,
    "hexadecimal": in_hex,
    "gzip and base64": in_gzip,
    "rot13": in_rot13,
    "one string": in_one_string,
    "escapes (\\x64)": in_escapes,
    "pieces added": added,
    "pieces side by side": side_by_side,
    "pieces joined": joined,
    "look-alike letters": lambda text: in_docstring(look_alikes(text)),
    "full-width letters": lambda text: in_docstring(full_width(text)),
    "zero-width spaces": lambda text: in_docstring(zero_width(text)),
}
"""A program as a string, by the way in which it is hidden."""


def assertions(calls: list[tuple[str, str]]) -> str:
    """Tests of other names. calls: the arguments as source, and the answer."""
    return "def test_prepared():\n" + "".join(f"    assert prepared({given}) == {answer}\n" for given, answer in calls)


def parametrised(calls: list[tuple[str, str]]) -> str:
    rows = "".join(f"        (({given},), {answer}),\n" for given, answer in calls)
    return (
        f'import pytest\n\n\n@pytest.mark.parametrize(\n    "given, wanted",\n    [\n{rows}    ],\n)\n'
        "def test_prepared(given, wanted):\n    assert prepared(*given) == wanted\n"
    )


def in_json(inputs: list[Any]) -> str:
    """Inputs as JSON in a string, as a data file of Python holds it."""
    return f"DATA = '''{json.dumps(inputs, indent=1)}'''\n"


def as_table(inputs: list[Any]) -> str:
    return "INPUTS = [\n" + "".join(f"    {given!r},\n" for given in inputs) + "]\n"
