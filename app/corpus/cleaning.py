"""Which files are worth training on: decoded, written by people, readable, and not under another licence than their
package.

Each rule gives a reason text for rejected.parquet. Rules after The Stack and StarCoder (arXiv 2305.06161, section 3.1).
"""

import ast
import io
import re
import tokenize
import warnings

from app.corpus.licences import judge_expression
from app.corpus.recipes import Cleaning

GENERATED_NAME = re.compile(r"(_pb2(_grpc)?|_version|versioneer|_generated|parsetab|lextab)\.py$")
GENERATED_TEXT = re.compile(
    r"auto[- ]?generated|machine generated|automatically generated|generated (by|from|code|automatically)"
    r"|do not (edit|modify)",
    re.I,
)
SPDX_HEADER = re.compile(r"SPDX-License-Identifier:\s*([^\r\n#*]+)")
HEAD_CHARS = 1500


class RejectedFileError(ValueError):
    """The file is not used; the text is the reason."""


def clean(raw: bytes, path: str, rules: Cleaning, also_allow: frozenset[str] = frozenset()) -> tuple[str, ast.Module]:
    """Text with Unix line ends, and its syntax tree. Raises RejectedFileError with the reason."""
    if len(raw) > rules.max_bytes:
        raise RejectedFileError(f"too large: {len(raw)} bytes")
    text = _decode(raw)
    if len(text) < rules.min_chars:
        raise RejectedFileError(f"too short: {len(text)} characters")
    if GENERATED_NAME.search(path) or GENERATED_TEXT.search(text[:HEAD_CHARS]):
        raise RejectedFileError("generated")
    lines = text.splitlines()
    longest = max(map(len, lines))
    if longest > rules.max_line_chars:
        raise RejectedFileError(f"too long a line: {longest} characters")
    mean = len(text) / len(lines)
    if mean > rules.max_mean_line_chars:
        raise RejectedFileError(f"minified: {mean:.0f} characters a line")
    share = sum(map(str.isalnum, text)) / len(text)
    if share < rules.min_alphanumeric:
        raise RejectedFileError(f"data, not code: {share:.0%} alphanumeric")
    for header in SPDX_HEADER.finditer(text):
        if not (verdict := judge_expression(header[1].strip(), also_allow=also_allow)).approved:
            raise RejectedFileError(f"licence header: {verdict.reason}")
    return text, _parse(text)


def _decode(raw: bytes) -> str:
    """Decode as Python does: byte order mark, PEP 263 cookie, else UTF-8."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError):
        raise RejectedFileError("encoding: not the one it declares, or not UTF-8") from None
    if "\0" in text:
        raise RejectedFileError("encoding: holds NUL characters")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"


def _parse(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedFileError(f"does not parse as Python 3: {type(error).__name__}") from None
