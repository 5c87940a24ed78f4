"""Which files are worth training on, and the text that is learnt: decoded, written by people, under the package's
licence, without notices, secrets and personal data.

Each rule gives a reason text for rejected.parquet; its part before the colon is the rule. Rules after The Stack and
StarCoder (arXiv 2305.06161, section 3.1). The cheap ones come first; a file is parsed once, after all others.

Limits: generated code is told by its name, its head and the share of literals, not by its style. Copied code is told by
its head (see `headers`); folders of vendored code are left out by the sources.
"""

import ast
import gc
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.corpus.clean.masks import Span, apart, mask
from app.corpus.clean.personal import find_personal
from app.corpus.clean.secrets import find_secrets
from app.corpus.clean.tables_in_code import table_share
from app.corpus.recipes import Cleaning
from app.corpus.records import RejectedFileError
from app.corpus.sources.headers import copied_from, copyright_in, judge_header, without_notices

GENERATED_NAME = re.compile(r"(_pb2(_grpc)?|_version|versioneer|_generated|parsetab|lextab|_pb2_nanopb)\.py$")
GENERATED_TEXT = re.compile(
    r"auto[- ]?generated|machine generated|automatically generated|generated (by|from|code|automatically)"
    r"|do not (edit|modify)",
    re.I,
)
TEST_PATH = re.compile(
    r"(^|/)(tests?|unit_?tests?|testsuite|test_suite)/|(^|/)(test_[^/]*|[^/]*_tests?|conftest|tests?)\.py$"
)
BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that show code in another order than it runs ("Trojan Source", arXiv 2111.00169); written as escapes they
do no harm."""
HEAD_CHARS = 1500
MAX_LITERAL_SHARE = 0.6
MIN_LITERAL_LINES = 100
"""A table of this many lines that makes up more than that share of the text is data."""
_NO_ALPHANUMERIC = bytes(code for code in range(128) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """A file that is used. Made by `clean`; cut into documents and mined by the build."""

    text: str
    """Unix line ends, no trailing white space, notices cut off, secrets and personal data masked."""
    tree: ast.Module
    """Parsed from `text`."""
    licence: str
    """SPDX expression: the package's, and the file's own beside it where its head names another permissive one."""
    num_secrets: int
    num_personal: int
    """Places that were masked."""
    copyright: tuple[str, ...] = ()
    """Copyright lines of its head, which are cut off with the notices and named with what is learnt."""


def clean(
    raw: bytes,
    path: str,
    rules: Cleaning,
    also_allow: frozenset[str] = frozenset(),
    package_licence: str = "",
) -> Cleaned:
    """The file as it is learnt. path: inside its distribution. also_allow: SPDX ids accepted beside the OSI's.
    package_licence: expression relied on; "" skips the comparison with the file's own.

    Raises RejectedFileError with the reason.
    """
    if len(raw) > rules.max_bytes:
        raise RejectedFileError(f"too large: {len(raw)} bytes")
    path = path.replace("\\", "/")
    if TEST_PATH.search(path):
        raise RejectedFileError("test: read for the problems' inputs, never learnt")
    if GENERATED_NAME.search(path):
        raise RejectedFileError("generated: by its name")
    text = _decode(raw)
    _check_shape(text, rules)
    if GENERATED_TEXT.search(text[:HEAD_CHARS]):
        raise RejectedFileError("generated: by its head")
    if phrase := copied_from(text):
        raise RejectedFileError(f"vendored: {phrase!r}")
    if not (verdict := judge_header(text, package_licence, also_allow)).approved:
        raise RejectedFileError(f"licence header: {verdict.reason}")
    copyright = copyright_in(text)
    text = without_notices(text)
    if len(text) < rules.min_chars:
        raise RejectedFileError(f"too short: {len(text)} characters without its notices")
    secrets = find_secrets(text)
    text, tree, spans = masked(text, apart([*secrets, *find_personal(text)]))
    share = max(_literal_share(tree, text), table_share(tree, text.count("\n")))
    if share > MAX_LITERAL_SHARE:
        raise RejectedFileError(f"generated: a table is {share:.0%} of it")
    return Cleaned(
        text=text,
        tree=tree,
        licence=verdict.licence,
        num_secrets=(num_secrets := len(set(spans) & set(secrets))),
        num_personal=len(spans) - num_secrets,
        copyright=copyright,
    )


def _check_shape(text: str, rules: Cleaning) -> None:
    if len(text) < rules.min_chars:
        raise RejectedFileError(f"too short: {len(text)} characters")
    lines = text.split("\n")
    longest = max(map(len, lines))
    if longest > rules.max_line_chars:
        raise RejectedFileError(f"too long a line: {longest} characters")
    mean = len(text) / (len(lines) - 1)
    if mean > rules.max_mean_line_chars:
        raise RejectedFileError(f"minified: {mean:.0f} characters a line")
    encoded = text.encode()
    share = len(encoded.translate(None, _NO_ALPHANUMERIC)) / len(encoded)
    if share < rules.min_alphanumeric:
        raise RejectedFileError(f"data, not code: {share:.0%} alphanumeric")


def _decode(raw: bytes) -> str:
    """Decode as Python does: by the byte-order mark or the PEP 263 cookie, else as UTF-8."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
        text.encode()  # some encodings give half surrogate pairs
    except (SyntaxError, UnicodeError, LookupError):
        raise RejectedFileError("encoding: not the one it declares, or not UTF-8") from None
    if "\0" in text:
        raise RejectedFileError("encoding: holds NUL characters")
    if control := BIDIRECTIONAL.search(text):
        raise RejectedFileError(f"hidden order: a bidirectional control character, U+{ord(control[0]):04X}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(map(str.rstrip, text.split("\n"))).strip("\n") + "\n"


def masked(text: str, spans: list[Span]) -> tuple[str, ast.Module, list[Span]]:
    """The text with its spans masked, its tree, and the spans that were masked. What looks like an address may be a
    matrix product, and what follows a name an expression: where the masked code no longer parses, only strings and
    comments are masked. spans: in order, none inside another.

    Raises RejectedFileError where the text is no Python 3.
    """
    if not spans:
        return text, _parse(text), []
    changed = mask(text, spans)
    try:
        return changed, _parse(changed), spans
    except RejectedFileError:
        tree = _parse(text)
    quoted = _quoted(text)
    spans = [span for span in spans if any(start <= span[0] and span[1] <= end for start, end in quoted)]
    changed = mask(text, spans)
    return changed, _parse(changed) if spans else tree, spans


def lines_of(text: str) -> list[str]:
    """The lines as Python's grammar has them, with their ends; str.splitlines also splits at form feeds."""
    return list(io.StringIO(text, newline="\n"))


def _quoted(text: str) -> list[tuple[int, int]]:
    """The places of strings and comments."""
    starts = [0]
    for line in lines_of(text):
        starts.append(starts[-1] + len(line))
    return [
        (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1])
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type in (tokenize.STRING, tokenize.COMMENT)
    ]


def _literal_share(tree: ast.Module, text: str) -> float:
    """Share of the lines that are tables: long module-level literals."""
    rows = 0
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) else None
        if isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set | ast.Call | ast.Constant):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            is_docstring = isinstance(node, ast.Expr) and isinstance(value, ast.Constant)
            rows += length if length >= MIN_LITERAL_LINES and not is_docstring else 0
    return rows / max(1, text.count("\n"))


def _parse(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings(), uncollected():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RejectedFileError(f"does not parse as Python 3: {type(error).__name__}") from None


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch the search for cycles off meanwhile: a tree holds none, and walking trees takes a fifth of a file's
    time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
