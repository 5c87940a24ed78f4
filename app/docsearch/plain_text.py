"""Text that came from outside, made harmless for a prompt and cut short: no invisible characters, no control tokens."""

import re
import unicodedata
from collections.abc import Iterator

from sentencex import get_sentence_boundaries

from app.docsearch.gate import Allowed, checked
from app.docsearch.records import LIMITS, Refused

FENCE = "```"
MARK = "…"
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_BLANK_LETTERS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u2800\u3164\uffa0\U00016fe4\U0001d159"
    "\ufff0\ufff1\ufff2\ufff3\ufff4\ufff5\ufff6\ufff7\ufff8"
)
"""Characters of other categories that show nothing: fillers, joiners, vowel marks without a form, some not assigned."""
_TOKEN_NAMES = (
    "s|unk|pad|bos|eos|mask|sep|cls|sop|eop|arg_key|arg_value|tools?|tool_calls?|tool_responses?|tool_results?|functions?|function_calls?|"
    "function_results?|invoke|parameters?|think|thinking|reasoning|start_of_turn|end_of_turn|turn_end|start_of_image|"
    "end_of_text|endoftext|im_start|im_end|fim_[a-z]+|file_sep|file_separator|repo_name|"
    "repo_sep|reponame|filename|gh_stars|issue_start|issue_comment|issue_closed|jupyter_[a-z]+|empty_output|"
    r"commit_[a-z]+|intermediate_[a-z]+|extra_id_\d+|reserved_[a-z_\d]+|fill_me|(?-i:PRE|SUF|MID|EOT)"
)
"""Names in angle brackets that chat templates and code models give a meaning of their own."""
_TOKENS = re.compile(rf"<(?=/?(?:{_TOKEN_NAMES})(?:[\s=:][^<>]{{0,99}})?>|[|｜]|<SYS>>|</SYS>>|/?\|)", re.I)
_BRACKETS = re.compile(
    r"\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|TOOL_CONTENT|ARGS|CALL_ID|THINK|gMASK|IMG|PREFIX|SUFFIX|MIDDLE|BOS|EOS|"
    r"CLS|SEP|MASK|PAD|UNK)\])",
    re.I,
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\(\s*<?([^\s()<>]*)>?[^()]*\)")
_LINK_OPENS = re.compile(r"\]\((?=\s*<?([^\s()<>]*)([\s)>])?)")
"""Where a link of any other form would begin: its words may hold brackets, its address and title parentheses."""
_LOADED = re.compile(r"[^\s()<>]*(?::|//)")
"""An address that leads away from where the text is shown; x[0](1) has none."""
_DEFINITION = re.compile(r"^[ \t]{0,3}\[[^\[\]\n]*\]:[ \t]*<?([^\s<>]+)>?[^\n]*$", re.M)
_DEFINITION_OPENS = re.compile(r"\]:(?=\s*<?((?:[A-Za-z][\w+.-]*:|//)[^\s<>]*))", re.A)
"""The same in a quotation or a list, or with its address on the next line."""
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,30}:[^\s<>]*)>")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:Dr|Mr|Mrs|Ms|Prof|St|vs|cf|e\.g|i\.e|Fig|No|approx|resp|incl)\.$", re.I)
_AFTER = 200
"""Characters beyond the cut that are looked at, to tell whether a sentence ends there."""


def cleaned(text: str) -> str:
    """The text without control (newline and tab stay), zero-width, bidi and tag characters, chat-template tokens broken
    up ("< |im_start|>"). Of use for the strings of an API's answer too; the text is not normalised otherwise."""
    text = _LINE_ENDS.sub("\n", text)
    text = text.translate({ord(character): None for character in set(text) if _is_invisible(character)})
    return _BRACKETS.sub("[ ", _TOKENS.sub("< ", text))


def _is_invisible(character: str) -> bool:
    if character in "\n\t":
        return False
    code = ord(character)
    selects_a_variant = 0xFE00 <= code <= 0xFE0F or 0xE0000 <= code <= 0xE0FFF
    return selects_a_variant or unicodedata.category(character) in ("Cc", "Cf", "Cs") or character in _BLANK_LETTERS


def without_links(text: str, allowed: Allowed) -> str:
    """Markdown links and images become their words, link definitions and <URLs> are dropped, where the gate refuses
    what they lead to; those of unusual forms get a space, by which they are no links. Code such as x[0](1) means the
    same afterwards. A URL in plain words or in code stays: nothing is loaded by it."""

    def words(link: re.Match[str]) -> str:
        return link[0] if _is_allowed(link[2], allowed) or not _LOADED.match(link[2]) else link[1]

    for _ in range(5):  # an image may be a link's words
        shorter = _LINK.sub(words, text)
        if shorter == text:
            break
        text = shorter
    text = _LINK_OPENS.sub(lambda found: found[0] if found[2] and _is_allowed(found[1], allowed) else "] (", text)
    text = _DEFINITION.sub(lambda found: found[0] if _is_allowed(found[1], allowed) else "", text)
    text = _DEFINITION_OPENS.sub(lambda found: found[0] if _is_allowed(found[1], allowed) else "] :", text)
    return _AUTOLINK.sub(lambda found: found[0] if _is_allowed(found[1], allowed) else "", text)


def _is_allowed(url: str, allowed: Allowed) -> bool:
    try:
        checked(url, allowed)
    except Refused:
        return False
    return True


def cut(text: str, words: int = LIMITS.words, characters: int = LIMITS.characters) -> str:
    """At most so many white-space words and characters, ending at the last sentence end or blank line in reach (in
    fenced code: line end); with none in reach cut hard and marked with …, which counts. A fence that was opened is
    closed."""
    most = _end_of_word(text[: characters + 1], words)
    if most == len(text) and most <= characters:
        return text.rstrip()
    most = min(most, characters)
    ends = [end for end in _ends(text[: most + _AFTER]) if end <= most]
    for end in reversed(ends):
        piece = _closed(text[:end].rstrip())
        if _fits(piece, words, characters):
            return piece
    while most > 0:
        piece = _closed(text[:most].rstrip() + MARK)
        if _fits(piece, words, characters):
            return piece
        most -= 1 if len(piece.split()) <= words else len(text[:most]) - _end_of_word(text[:most], words - 1)
    return ""


def _end_of_word(text: str, number: int) -> int:
    """Where the word of this number ends; the text's end, if it has no more words than that."""
    end = 0
    for count, word in enumerate(re.finditer(r"\S+", text)):
        if count == number:
            return end
        end = word.end()
    return len(text)


def _fits(piece: str, words: int, characters: int) -> bool:
    return bool(piece) and len(piece) <= characters and len(piece.split()) <= words


def _ends(text: str) -> Iterator[int]:
    """Where the text may end, in ascending order: ends of sentences and blank lines; in fenced code ends of lines."""
    start, is_code = 0, False
    for part in re.split(rf"^({FENCE}[^\n]*)$", text, flags=re.M):
        if part.startswith(FENCE):
            is_code = not is_code
            if not is_code:
                yield start + len(part)
        elif is_code:
            yield from (start + found.start() for found in re.finditer(r"(?<=[^\n])\n", part))
        else:
            yield from (start + end for end in _sentence_ends(part))
        start += len(part)


def _sentence_ends(text: str) -> Iterator[int]:
    found = get_sentence_boundaries("en", text)
    for number, sentence in enumerate(found, 1):
        piece = sentence["text"].rstrip()
        is_whole = number < len(found) or sentence["boundary_symbol"] is not None
        if piece and is_whole and not _ABBREVIATION.search(piece):
            yield sentence["start_index"] + len(piece)


def _closed(piece: str) -> str:
    is_open = len(re.findall(rf"^{FENCE}", piece, flags=re.M)) % 2
    return f"{piece}\n{FENCE}" if is_open else piece
