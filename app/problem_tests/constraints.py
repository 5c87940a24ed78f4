"""The lines of a statement's list of constraints, read as comparisons of what they name.

Forms that are read are told in `app.problem_tests.limits`, which holds them against calls. Here nothing is known of a
call.
"""

import itertools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

_SIGN = re.compile(r"(<=|>=|==|!=|<|>|=)")
_NODES = re.compile(r"number of nodes in .*\[([^\],]+),([^\],]+)\]", re.I)
_ONE_OF = re.compile(r"(\w+(?:\[\w\])*) is (?:either )?('?-?\w+'?(?:, '?-?\w+'?)*),? or ('?-?\w+'?)\Z", re.I)
_LETTERS = re.compile(
    r"([\w\[\]]+(?:(?:,|,? and) [\w\[\]]+)*) (?:consists?|contains?)(?: only)?(?: of)?(?: only)? (.+?)(?: only)?\Z",
    re.I,
)
_UNIQUE = re.compile(
    r"(?:all|each)\b.* (?:of|in) (?:the )?(?:array |list |tree )?([\w.]+)(?: array)? (?:are|is|has|have|contains?) "
    r"(?:a )?(?:unique|distinct)(?: values?)?\Z",
    re.I,
)
_TAKEN_FOR_GRANTED = re.compile(
    r"\b(sorted|ascending|descending|(non-)?(in|de)creasing order|search tree|guaranteed?|permutation|acyclic"
    r"|connected)\b",
    re.I,
)
_UNCHECKED = re.compile(
    r"\b(guaranteed?|valid(?! ascii)|legal|generated|represents?|possible|special binary)\b"
    r"(?!.*\b(answer|output|fit|exceed|sorted|rotated|permutation|prime|complete)\b)",
    re.I,
)
"""A line that says of the arguments what no fact of `app.corpus.mining.facts` shows."""
_ASSUMED = re.compile(
    r"\b((may|can) assume|guaranteed|generated such)\b(?!.*\b(bit|fits?|infinite|surrounded|walls|precision|just turned"
    r"|given constraints|perfect)\b)",
    re.I,
)
"""The same of a sentence."""
_SAME = re.compile(r"(\S+) (?:is|are)(?: all)? the same(?: for .*)?\Z", re.I)
_DIFFERENT = re.compile(
    r"(\w+(?:(?:,|,? and) \w+)*,? and \w+) (?:have|are|will be)(?: all)? (?:different|distinct|unique)(?: values)?\Z",
    re.I,
)
_MIRRORED = re.compile(r"(\w+)\[(\w)\]\[(\w)\] == \1\[\3\]\[\2\]\Z")
_TREE = re.compile(r"(?:It is guaranteed that )?(\w+) represents? a valid tree\Z", re.I)
_ALPHABETS = {"lowercase": string.ascii_lowercase, "uppercase": string.ascii_uppercase, "digits": string.digits}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Two sides of a comparison."""

    left: str
    sign: str
    right: str


def unchecked(constraints: str, statement: str) -> str:
    """The first line or sentence that takes for granted what can't be kept to; empty where there is none."""
    lines = (text for text in constraints.splitlines() if _UNCHECKED.search(text) and not list(read_line(text)))
    sentences = (text.strip() for text in re.split(r"[.\n]", statement) if _ASSUMED.search(text))
    return next(itertools.chain(lines, sentences), "")


def may_say_more(statement: str) -> bool:
    """Whether a statement may say of the arguments what its list of constraints does not."""
    return _TAKEN_FOR_GRANTED.search(statement) is not None


def read_line(text: str) -> Iterator[Line]:
    text = text.replace("\u2264", "<=").replace("\u2265", ">=").replace("\xa0", " ").strip().rstrip(".")
    if found := _NODES.search(text):
        yield Line(left=found[1].strip(), sign="<=", right="Node.count")
        yield Line(left="Node.count", sign="<=", right=found[2].strip())
        return
    if found := _ONE_OF.match(text):
        yield Line(left=found[1], sign="in", right=f"({found[2]}, {found[3]})")
        return
    if found := _SAME.match(text):
        yield Line(left=found[1], sign="same", right="")
        return
    if found := _MIRRORED.match(text):
        yield Line(left=found[1], sign="mirrored", right="")
        return
    if found := _DIFFERENT.match(text):
        names = re.split(r",? and |, ", found[1])
        yield from (Line(left=one, sign="!=", right=other) for one, other in itertools.combinations(names, 2))
        return
    if found := _TREE.match(text):
        yield Line(left=found[1], sign="tree", right="")
        return
    if found := _UNIQUE.match(text):
        yield Line(left=found[1], sign="unique", right="")
        return
    if (found := _LETTERS.match(text)) and (letters := _alphabet(found[2])):
        yield from (Line(left=name, sign="of", right=letters) for name in re.split(r",? and |, ", found[1]))
        return
    parts = [part.strip() for part in _SIGN.split(text)]
    for left, sign, right in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
        for one, other in itertools.product(_listed(left), _listed(right)):
            yield Line(left=one.strip(), sign="==" if sign == "=" else sign, right=other.strip())


def _listed(side: str) -> list[str]:
    """What one side of a comparison names, such as m and n: commas between brackets are of calls."""
    return re.split(r",(?![^(]*\))", side)


def _alphabet(words: str) -> str:
    """The letters that the words name; empty where one of them is unknown."""
    named = re.findall(r"\w+", words.lower().replace("-case", "case"))
    if not set(named) <= {*_ALPHABETS, "english", "letters", "and", "or", "the"}:
        return ""
    has_case = "lowercase" in named or "uppercase" in named
    letters = string.ascii_letters if "letters" in named and not has_case else ""
    return letters + "".join(_ALPHABETS[word] for word in _ALPHABETS if word in named)
