"""The examples that a question states, read as tests of what it asks for.

    >>> f([3, 1])                     assert f([3, 1]) == [1, 3]        Input: nums = [3, 1], k = 2
    [1, 3]                            f([3, 1]) => [1, 3]               Output: [1, 3]
                                      f([3, 1]) should return [1, 3]    For x = 3 the output should be 4

Each becomes one assertion of a problem that the sandbox judges as any other. What is expected has to be plain data; a
line of another form is passed over. Limits: linked lists and trees, which statements write as lists, give no example;
neither do programs that read standard input, nor several calls that belong together.
"""

import ast
import builtins
import doctest
import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from app.best_of.asked_function import MAX_CHARS, AskedFunction, asked_function
from app.best_of.written_values import MAX_TRIES, MAX_VALUE, UNWRITABLE, expression, first_value, is_plain
from app.corpus.mining.literals import NotLiteralError, value_of, written
from app.files.python_source import parsed
from app.problem_tests.assertions import Seed, all_seeds
from app.records import Problem

MAX_EXAMPLES = 20
NEAR, CUT_OFF = 1e-6, 4
"""How near a float has to be to what is expected, and decimals from which on a statement may have cut it off."""
_FENCE = re.compile(r"^[ \t]*(\"\"\"|\'\'\'|```\w*|~~~\w*)[ \t]*$", re.M)
_CONNECTOR = re.compile(
    r"""[\s`]{0,8}(?:\#\s?)?
    (?:,?\s?(?:(?:it|this|the\ (?:function|result|output|answer))\s)?
       (?:(?:should|must|will)\ (?:return|be|give|equal|output)|returns?|gives|is|evaluates\ to)\s?:?
      |==>|===?(?!>)|=>|-->|->|=|➞|→|⇒|:)
    \s{0,8}(?:=>|➞|→)?\s{0,8}""",
    re.X,
)
_PAIR = re.compile(
    r"""^[ \t>*#-]{0,16}Input\s?\d{0,2}\W{0,3}?:(?P<given>.{0,2000}?)
    \n[ \t>*#-]{0,16}Output\s?\d{0,2}\W{0,3}?:(?P<expected>.{0,2000}?)
    (?=\n[ \t>*#-]{0,16}(?:Explanation|Example|Input|Note|Constraints|Follow|Output)(?![a-z_])|\n[ \t]{0,16}\n|\Z)""",
    re.S | re.M | re.I | re.X,
)
_SENTENCE = re.compile(
    r"\b(?:For|If|When|Given)\s(?P<given>\w+\s?=\s?.{1,400}?)\s(?:output|result|answer|function|it)\s"
    r"(?:should|must|will)\s(?:be|return)\s?:?\s?(?P<expected>.{1,400})",
)
_CALL = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a question states. Made by `stated_in`."""

    asked: AskedFunction
    problem: Problem
    """With the examples as its tests, which are empty where there is none."""
    seeds: tuple[Seed, ...]
    """The examples that can be taken apart into a call and what is expected of it."""
    num_examples: int


def stated_in(question: str) -> Stated | None:
    """None where the question asks for nothing that can be called."""
    asked = asked_function(question)
    if asked is None:
        return None
    lines = list(itertools.islice(dict.fromkeys(_assertions(question, asked)), MAX_EXAMPLES))
    tests = "def check(candidate):\n" + "".join(f"    {line}\n" for line in lines) if lines else ""
    problem = Problem(
        id="stated", source="question", licence="", prompt=question, entry_point=asked.entry_point, tests=tests
    )
    seeds = tuple(filter(None, map(_finite, all_seeds(problem)))) if lines else ()
    return Stated(asked=asked, problem=problem, seeds=seeds, num_examples=len(lines))


def of_candidate(stated: Stated, problem: Problem) -> Stated:
    """The same, called as a suite calls it."""
    return replace(stated, problem=replace(stated.problem, entry_point=problem.entry_point))


def _assertions(question: str, asked: AskedFunction) -> Iterator[str]:
    """Source of one assertion for each example, with `candidate` for what is called."""
    if asked.takes_nodes:
        return
    text = _FENCE.sub("", question[:MAX_CHARS].replace("\xa0", " "))
    for test in (*_asserted(text), *_doctests(text), *_lines(text, asked), *_pairs(text, asked)):
        with suppress(*UNWRITABLE):
            if (renamed := _renamed(test, asked)) is not None:
                yield f"assert {ast.unparse(renamed)}"


def _asserted(text: str) -> Iterator[ast.expr]:
    """`assert` statements of one line or a few."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("assert ") and "`assert " not in line:
            continue
        first = line[line.index("assert ") :].rstrip("`")
        for end in range(number + 1, min(number + 12, len(lines)) + 1):
            tree = parsed("\n".join([first, *lines[number + 1 : end]]))
            if tree is not None and len(tree.body) == 1 and isinstance(tree.body[0], ast.Assert):
                yield tree.body[0].test
                break


def _doctests(text: str) -> Iterator[ast.expr]:
    for part in re.split(r"\n[ \t]*\n", text):  # one that is indented wrongly costs its own paragraph
        try:
            examples = doctest.DocTestParser().get_examples(part)
        except ValueError:
            continue
        for example in examples:
            called, expected = expression(example.source), expression(example.want)
            if not example.want and isinstance(called, ast.Compare):
                yield called  # >>> f(2) == 4
            elif called is not None and expected is not None and example.exc_msg is None and is_plain(expected):
                yield _equal(called, expected)


def _lines(text: str, asked: AskedFunction) -> Iterator[ast.expr]:
    """`f(...) => value` in its many forms."""
    opening = re.compile(rf"(?<![\w.\]]){re.escape(asked.name)}\(")
    for found in itertools.islice(opening.finditer(text), 4 * MAX_EXAMPLES):
        begin = text.rfind("\n", 0, found.start()) + 1
        before = text[begin : found.start()].strip()
        line = text[begin:].partition("\n")[0].strip()
        if before.startswith((">>>", "def", "async", "return", "class", "import")) or before.endswith("not"):
            continue
        if before.startswith("assert") and parsed(line) is not None:
            continue
        called, end = _balanced(text, found.start())
        connector = _CONNECTOR.match(text, end)
        if called is None or connector is None or not connector[0].strip():
            continue
        expected = first_value(text[connector.end() :])
        if expected is not None:
            yield _equal(called, expected)
    for line in text.splitlines():
        if found_sentence := _SENTENCE.search(line):
            given = _longest_given(found_sentence["given"], asked)
            expected = first_value(found_sentence["expected"])
            if given is not None and expected is not None:
                yield _equal(given, expected)


def _pairs(text: str, asked: AskedFunction) -> Iterator[ast.expr]:
    """Input and output below each other, as contest sites write them."""
    for found in itertools.islice(_PAIR.finditer(text), 2 * MAX_EXAMPLES):
        given, expected = _given(found["given"], asked), first_value(found["expected"].strip(" \t*`:\n"))
        if given is not None and expected is not None:
            yield _equal(given, expected)


def _given(text: str, asked: AskedFunction) -> ast.Call | None:
    """A call on what stands behind "Input:", by place in the order of the parameters."""
    text = " ".join(text.strip(" \t*`:\n").split("\n")).rstrip(".,")
    called = expression(f"{_CALL}({text})")
    if called is None:
        called = expression(f"{_CALL}({text.partition('#')[0]})")
    if not isinstance(called, ast.Call):
        return None
    named = {keyword.arg: keyword.value for keyword in called.keywords}
    if None in named or (named and called.args):
        return None
    known = set(asked.parameters) and set(asked.parameters) <= set(named)  # more may be told than is passed on
    order = asked.parameters if known else tuple(named)
    args = [named[name] for name in order if name is not None] if named else called.args
    if asked.parameters and len(args) > len(asked.parameters):
        return None
    by_name = [ast.keyword(name, named[name]) for name in asked.keywords if known and name in named]
    return ast.Call(ast.Name(asked.name, ast.Load()), args, by_name)


def _longest_given(text: str, asked: AskedFunction) -> ast.Call | None:
    """The same of a sentence that goes on behind it."""
    ends = [found.start() for found in re.finditer(r"[\s,]", text)][:MAX_TRIES]
    found = (_given(text[:end], asked) for end in (len(text), *reversed(ends)))
    return next((call for call in found if call is not None and call.args), None)


def _balanced(text: str, start: int) -> tuple[ast.expr | None, int]:
    """The call that begins there, and where it ends."""
    ends = itertools.islice(re.finditer(r"\)", text[start : start + MAX_VALUE]), MAX_TRIES)
    for found in ends:
        source = text[start : start + found.end()]
        called = expression(" ".join(source.split("\n")))
        if called is not None:
            return called, start + found.end()
    return None, start


def _finite(seed: Seed) -> Seed | None:
    """Infinities and nan have no literal: a seed that expects one is an input alone, one that is given one is none."""
    if not all(map(_is_written, (*seed.call.args, *dict(seed.call.kwargs).values()))):
        return None
    return seed if all(map(_is_written, seed.answers)) else replace(seed, answers=())


def _is_written(value: Any) -> bool:
    try:
        written(value)
    except NotLiteralError:
        return False
    return True


def _equal(called: ast.expr, expected: ast.expr) -> ast.expr:
    """The comparison; of a float that was cut off, such as 0.3333, to within half of its last digit."""
    value = value_of(expected, {})
    if not isinstance(value, float):
        return ast.Compare(called, [ast.Eq()], [expected])
    within = 0.5 * 10.0 ** -_decimals(value) if _decimals(value) >= CUT_OFF else NEAR
    off = ast.Call(ast.Name("abs", ast.Load()), [ast.BinOp(called, ast.Sub(), expected)], [])
    return ast.Compare(off, [ast.LtE()], [ast.Constant(max(NEAR, within))])


def _decimals(value: float) -> int:
    return len(repr(value).partition(".")[2].partition("e")[0])


class _Renamed(ast.NodeTransformer):
    """Calls of what is asked for become calls of `candidate`."""

    def __init__(self, asked: AskedFunction) -> None:
        self._name = asked.name
        self.count = 0

    def visit_Call(self, node: ast.Call) -> Any:  # noqa: N802
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called != self._name:
            return node
        self.count += 1
        return ast.Call(ast.Name(_CALL, ast.Load()), node.args, node.keywords)


def _renamed(test: ast.expr, asked: AskedFunction) -> ast.expr | None:
    """None for a test that does not call it, or that needs what the tests don't have."""
    renaming = _Renamed(asked)
    changed = ast.fix_missing_locations(renaming.visit(test))
    return changed if renaming.count and _is_self_contained(changed) else None


def _is_self_contained(test: ast.expr) -> bool:
    if any(isinstance(node, ast.Await | ast.Yield | ast.YieldFrom) for node in ast.walk(test)):
        return False  # the function that holds the tests is a plain one
    bound = {node.id for node in ast.walk(test) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names: Iterable[str] = (node.id for node in ast.walk(test) if isinstance(node, ast.Name))
    return all(name == _CALL or name in bound or hasattr(builtins, name) for name in names)
