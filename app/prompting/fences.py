"""Fenced code in Markdown: read out of a text, and put around one.

`fences` reads as CommonMark has it (0.31, section 4.5), by markdown-it-py: an opening fence is of backticks or tildes
and its info string is the rest of its line; a closing one is alone on its line, of the same sign, at least as long,
indented at most three. `lax_fences` reads what small models write instead: code that falls out of its list item, a
fence at the end of a line, a line within a string that would close the block. Limits: raw HTML is text, as it is on the
page, so a fence between two tags is one.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MOST_BLOCKS = 64
MOST_ENDS = 16
"""Lines that may end one block: each of them costs a look at the code before it."""
_OPENING = re.compile(r"(?P<before>[^`~]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`]*)")
_WORD = re.compile(r"[\w+#.-]+\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Code between fences. Example: Block(text="x = 1\\n", info="python", mark="```", is_closed=True)"""

    text: str
    info: str
    """The text behind the opening fence, without blanks around it."""
    mark: str
    """The opening fence."""
    is_closed: bool
    """Whether a fence ends it; else the text, or the list item that it lies in, does."""


def fences(text: str) -> list[Block]:
    """The fenced blocks of a text whose lines end in \\n, also those in lists and quotations."""
    return [_block(token) for token in _parser().parse(text) if token.type == "fence"]


def indented_blocks(text: str) -> list[str]:
    """CommonMark's other kind of code (section 4.4): indented by four or more, behind a blank line."""
    return [token.content for token in _parser().parse(text) if token.type == "code_block"]


def lax_fences(text: str, is_whole: Callable[[str], bool]) -> list[Block]:
    """The blocks where fences may be indented, may end a line of prose or of code, and lists do not count.

    A block ends at the first fence before which its code `is_whole`, else at the first that is alone on its line. The
    text before the first fence is one too, the last of them, if it `is_whole`: its opening fence was left out.
    """
    lines = text.split("\n")
    found: list[Block] = []
    first = next((number for number, line in enumerate(lines) if line.lstrip().startswith(("```", "~~~"))), 0)
    before = "".join(f"{line}\n" for line in lines[:first])
    at = 0
    while at < len(lines) and len(found) < MOST_BLOCKS:
        opening = _opening(lines[at])
        at += 1
        if opening:
            block, num_lines = _lax_block(opening, lines[at:], is_whole)
            found.append(block)
            at += num_lines
    if is_whole(before):
        found.append(Block(text=before, info="", mark="", is_closed=True))
    return found


def fence_for(text: str) -> str:
    """Backticks that no line of the text can close."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def fenced(code: str, info: str = "python") -> str:
    """The code as a fenced block, without an empty line before the closing fence."""
    mark = fence_for(code)
    return f"{mark}{info}\n{code.rstrip()}\n{mark}"


@functools.cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False})
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _block(token: Any) -> Block:
    num_lines = token.content.count("\n") + (not token.content.endswith("\n") and bool(token.content))
    is_closed = token.map[1] - token.map[0] == num_lines + 2
    return Block(text=token.content, info=token.info.strip(), mark=token.markup, is_closed=is_closed)


def _opening(line: str) -> re.Match[str] | None:
    found = _OPENING.fullmatch(line)
    if found and found["before"].strip():  # behind prose a fence has to name its language
        return found if _WORD.fullmatch(found["info"]) else None
    return found


def _lax_block(opening: re.Match[str], lines: Sequence[str], is_whole: Callable[[str], bool]) -> tuple[Block, int]:
    """The block that these lines begin, and how many of them are its own, its closing fence included."""
    mark = opening["mark"]
    indent = 0 if opening["before"].strip() else len(opening["before"])
    alone: tuple[str, int] | None = None
    for text, num_lines, is_alone in _ends(lines, mark, indent):
        if is_whole(text):
            alone = text, num_lines
            break
        if is_alone and alone is None:
            alone = text, num_lines
    text, num_lines = alone or (_outdented(lines, indent), len(lines))
    return Block(text=text, info=opening["info"].strip(), mark=mark, is_closed=alone is not None), num_lines


def _ends(lines: Sequence[str], mark: str, indent: int) -> Iterator[tuple[str, int, bool]]:
    """Each way to end a block: its text, its number of lines, and whether the fence is alone on its line."""
    places = (number for number, line in enumerate(lines) if mark in line)
    for _, number in zip(range(MOST_ENDS), places, strict=False):
        line = lines[number]
        before = line[: line.find(mark)]
        inside = [*lines[:number], before] if before.strip() else lines[:number]
        yield f"{_outdented(inside, indent)}\n", number + 1, not line.strip(f" \t{mark[0]}")


def _outdented(lines: Sequence[str], indent: int) -> str:
    """The lines without as much of the indentation as all of them have, `indent` at most."""
    common = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[min(indent, common) :] if line.strip() else "" for line in lines)
