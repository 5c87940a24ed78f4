"""Problems mined from code: what becomes one, what they look like, and that planted faults do not get through."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.corpus.mining import Candidate, Mined, check_candidates, find_candidates, standard_library
from app.corpus.mining.recording import _rows as recorder_rows
from app.corpus.mining.records import NoProblemError
from app.corpus.records import SolvedProblem
from app.corpus.sources.distributions import Distribution, SourceFile
from app.corpus.sources.licences import judge_expression
from app.records import ProblemStyle, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

SETTINGS = SandboxSettings(timeout_s=3)
GOOD = '''"""Words."""

import re
import socket
from .other import something

LETTERS = re.compile("[a-z]+")


def _words(text):
    return LETTERS.findall(text)


def longest(text, default=""):
    """Return the longest word of a text, the first one of several.

    Words are made of small letters; an empty text gives the default.

    >>> from pkg.words import longest
    >>> longest("a bee and a hornet")
    'hornet'
    >>> pkg.words.longest("an ox")
    'an'

    >>> longest(something)
    'nothing'
    """
    found = _words(text)
    if not found:
        return default
    return max(found, key=len)
'''
TESTED = '''"""Numbers."""


def clamped(value, low, high):
    """Return the value, or the nearest bound where it lies outside of them."""
    if value < low:
        return low
    return high if value > high else value
'''
TESTS = """
import unittest
import pytest
from pkg.numbers import clamped as inside


@pytest.mark.parametrize("value, wanted", [(5, 5), (-3, 0), pytest.param(12, 10)])
def test_clamped(value, wanted):
    assert inside(value, 0, 10) == wanted


class TestMore(unittest.TestCase):
    def test_table(self):
        low = 2
        for value, wanted in [(1, 2), (7, 7)]:
            with self.subTest(value):
                self.assertEqual(inside(value, low, 8), wanted)
"""


def distribution(folder: Path, files: dict[str, str]) -> Distribution:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    sources = tuple(SourceFile(path=path, location=str(folder / path)) for path in sorted(files))
    verdict = judge_expression("MIT")
    return Distribution(name="pkg", version="1", author="", homepage="", verdict=verdict, files=sources)


def read(file: SourceFile) -> bytes:
    return Path(file.location).read_bytes()


def found(folder: Path, files: dict[str, str]) -> Mined:
    return find_candidates(distribution(folder, files), read, "train")


def mined(folder: Path, files: dict[str, str]) -> Mined:
    """Both steps; candidates travel as they do between processes."""
    first = found(folder, files)
    second = check_candidates(pickle.loads(pickle.dumps(first.candidates)), SETTINGS)
    rejections = [*first.rejections, *second.rejections]
    return Mined(problems=second.problems, rejections=rejections, counts=first.counts + second.counts)


def function(body: str, example: str, name: str = "planted", head: str = "") -> str:
    """A module with one function of `x` whose docstring has this example."""
    lines = "\n    ".join(body.splitlines())
    return (
        f'"""A module of this package, with a planted function."""\n{head}\n\ndef {name}(x):\n'
        f'    """Return something that is made from the given argument.\n\n    {example}\n    """\n    {lines}\n'
    )


def rejection(folder: Path, source: str) -> str:
    """Why the one function of a module became no problem."""
    result = mined(folder, {"pkg/planted.py": source})
    assert not result.problems
    (rejected,) = result.rejections
    return rejected.reason


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SolvedProblem]:
    files = {"pkg/words.py": GOOD, "pkg/numbers.py": TESTED, "pkg/tests/test_numbers.py": TESTS}
    result = mined(tmp_path_factory.mktemp("pkg"), files)
    assert not result.rejections
    counts = {"seen": 3, "seeds": 2, "self-contained": 2}
    assert result.counts == counts | {"outputs recorded": 2, "original passes twice": 2, "a mutant fails": 2}
    return {problem.problem.entry_point: problem for problem in result.problems}


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def test_a_prompt_holds_what_the_function_uses_and_nothing_else(problems: dict[str, SolvedProblem]) -> None:
    problem = problems["longest"].problem
    assert problem.style == ProblemStyle.ASSERTIONS and problem.split == "train" and problem.licence == "MIT"
    assert problem.prelude == (
        'import re\n\nLETTERS = re.compile("[a-z]+")\n\n\ndef _words(text):\n    return LETTERS.findall(text)\n'
    )
    assert problem.prompt.startswith(problem.prelude) and "socket" not in problem.prompt
    assert problem.prompt.endswith('"""\n') and problem.prompt.count("def longest") == 1


def test_a_docstring_keeps_the_examples_that_stand_alone(problems: dict[str, SolvedProblem]) -> None:
    docstring = ast.get_docstring(ast.parse(problems["longest"].problem.prompt).body[-1])  # type: ignore[arg-type]
    assert docstring is not None and docstring.endswith(
        ">>> longest(\"a bee and a hornet\")\n'hornet'\n>>> longest(\"an ox\")\n'an'"
    )
    assert problems["longest"].description == (
        "Return the longest word of a text, the first one of several.\n\n"
        "Words are made of small letters; an empty text gives the default."
    )


def test_a_function_without_examples_gets_some_from_its_tests(problems: dict[str, SolvedProblem]) -> None:
    prompt = problems["clamped"].problem.prompt
    assert ">>> clamped(5, 0, 10)\n    5\n    >>> clamped(-3, 0, 10)\n    0\n" in prompt
    assert "assert clamped(1, 2, 8) == 2\n" in problems["clamped"].problem.tests


def test_hidden_tests_hold_the_examples_and_generated_inputs(problems: dict[str, SolvedProblem]) -> None:
    tests = problems["longest"].problem.tests
    assert "assert longest('a bee and a hornet') == 'hornet'\n" in tests
    assert 4 <= tests.count("assert ") <= 12 and tests.count("assert ") > 3


def test_solutions_pass_and_bugs_fail(problems: dict[str, SolvedProblem], supervisor: Supervisor) -> None:
    for solved in problems.values():
        assert solved.solution.startswith(solved.problem.prompt)
        assert supervisor.judge(solved.problem, solved.solution).status == Status.PASSED
        assert 1 <= len(solved.bugs) <= 3
        for bug in solved.bugs:
            assert bug.program.startswith(solved.problem.prompt) and bug.program != solved.solution
            assert supervisor.judge(solved.problem, bug.program).status != Status.PASSED
            assertion, _, came = bug.failure.partition("  # ")
            assert assertion in solved.problem.tests and came.startswith(("gives ", "raises ", "does not end"))


def test_mining_twice_gives_the_same(problems: dict[str, SolvedProblem], tmp_path: Path) -> None:
    files = {"pkg/words.py": GOOD, "pkg/numbers.py": TESTED, "pkg/tests/test_numbers.py": TESTS}
    assert mined(tmp_path, files).problems == list(problems.values())


@pytest.mark.parametrize(
    ("head", "body", "word"),
    [
        ("import time", "time.sleep(60)\nreturn x + 1", "imports something that may do harm: time"),
        ("import socket", "socket.socket()\nreturn x + 1", "imports something that may do harm: socket"),
        ("import random", "return x + random.choice([1])", "imports something that may do harm: random"),
        ("from os import path, getpid", "return x + getpid()", "imports something that may do harm: os.getpid"),
        ("import os", "os.remove(str(x))\nreturn x + 1", "uses something that may do harm: os.remove"),
        ("import os", "call = os\nreturn call.getpid()", "uses a module whole: os"),
        ("", "return len(open(x).read())", "uses a name from elsewhere: open"),
        ("import datetime", "return x + datetime.date.today().day", "reads the clock: today"),
        ("import numpy", "return numpy.add(x, 1) + 1", "imports: numpy"),
        ("from . import other", "return other.add(x, 1) + 1", "imports a sibling: ."),
        ("COUNT = 0", "global COUNT\nCOUNT += 1\nreturn COUNT + x", "keeps state in its module: COUNT"),
    ],
)
def test_what_reaches_out_of_its_module_is_refused_unrun(tmp_path: Path, head: str, body: str, word: str) -> None:
    result = found(tmp_path, {"pkg/planted.py": function(body, ">>> planted(1)\n    2", head=head)})
    assert not result.candidates
    assert [rejected.reason for rejected in result.rejections] == [word]


def unchecked(folder: Path, body: str, example: str) -> str:
    """Why a candidate is refused by running it, had `find_candidates` let it through."""
    (candidate,) = found(folder, {"pkg/planted.py": function("return x + 1 or 2", example)}).candidates
    fields = {name: getattr(candidate, name) for name in Candidate.__slots__}
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    result = check_candidates([Candidate(**fields | {"body": indented})], SandboxSettings(timeout_s=0.5))
    assert not result.problems
    return result.rejections[0].reason


def test_a_doctest_that_sleeps_is_dropped_when_it_is_run(tmp_path: Path) -> None:
    reason = unchecked(tmp_path, "import time\ntime.sleep(60)\nreturn x + 1", ">>> planted(1)\n    2")
    assert reason.startswith("does not run alone: timeout")


def test_a_doctest_that_opens_a_socket_is_dropped_when_it_is_run(tmp_path: Path) -> None:
    body = "import socket\nsocket.create_connection(('127.0.0.1', 9))\nreturn x + 1"
    assert unchecked(tmp_path, body, ">>> planted(1)\n    2")


def test_a_doctest_that_depends_on_chance_is_dropped_when_it_is_run(tmp_path: Path) -> None:
    body = "import random\nreturn x + 1 + random.randrange(10**9) * (x != 1)"
    assert unchecked(tmp_path, body, ">>> planted(1)\n    2").startswith("depends on chance")


@pytest.mark.parametrize(
    "body", ["return list(set(x))", "return list({c.upper() for c in x})", "return ''.join({*x} | {*x})"]
)
def test_an_output_in_a_set_s_order_is_dropped(tmp_path: Path, body: str) -> None:
    shown = "['A', 'H', 'T']" if "upper" in body else "['a', 'h', 't']"
    reason = rejection(tmp_path, function(body, f">>> sorted(planted('hat'))\n    {shown}"))
    assert reason.startswith("depends on chance or on the order of a set")


def test_a_set_whose_order_does_not_show_is_no_fault(tmp_path: Path) -> None:
    body = "seen = set(x) | {'q'}\nreturn sorted(seen - frozenset('a'))"
    result = mined(tmp_path, {"pkg/planted.py": function(body, ">>> planted('abca')\n    ['b', 'c', 'q']")})
    assert len(result.problems) == 1


def test_a_function_that_does_not_do_what_its_docstring_says_is_dropped(tmp_path: Path) -> None:
    assert rejection(tmp_path, function("return x * 2 + 1", ">>> planted(2)\n    4")).startswith(
        "its docstring is wrong"
    )


@pytest.mark.parametrize(
    ("body", "example", "word"),
    [
        ("return x", ">>> planted(2)\n    2", "trivial"),
        ("return 7", ">>> planted(2)\n    7", "trivial"),
        ("return sorted(x)", ">>> planted([2, 1])\n    [1, 2]", "trivial"),
        ("y = x\nreturn y", ">>> planted(2)\n    2", "trivial"),
        ("y = 3\nreturn y if x else y", ">>> planted(2)\n    3", "trivial"),
        ("print(x)\nreturn x + 1", ">>> planted(2)\n    2\n    3", "no call"),
        ("yield x\nyield x", ">>> list(planted(2))\n    [2, 2]", "a generator"),
    ],
)
def test_what_would_test_nothing_is_dropped(tmp_path: Path, body: str, example: str, word: str) -> None:
    result = mined(tmp_path, {"pkg/planted.py": function(body, example)})
    assert not result.problems
    assert all(rejected.reason.startswith(word) for rejected in result.rejections)


def test_a_sum_of_thousands_of_terms_stops_nothing(tmp_path: Path) -> None:
    long_sum = "+".join(["1"] * 1500)
    files = {
        "pkg/planted.py": function("return x * 2 + 1", ">>> planted(2)\n    5"),
        "pkg/deep.py": function(f"return x + {long_sum}", ">>> deep(2)\n    1502", name="deep"),
        "tests/test_deep.py": f"from pkg.planted import planted\n\ndef test():\n    planted({long_sum})\n",
    }
    assert [solved.problem.entry_point for solved in mined(tmp_path, files).problems] == ["planted"]


def test_a_form_feed_is_no_end_of_a_line(tmp_path: Path) -> None:
    """As it stands between the sections of old files. It moved every later function by a line and ended a build."""
    planted = function("return x * 2 + 1", ">>> planted(2)\n    5")
    files = {"pkg/planted.py": planted.replace("\n\ndef", '\nTEXT = "a\x0cb"\n\x0c\ndef')}
    (candidate,) = found(tmp_path, files).candidates
    assert (candidate.signature, candidate.body) == ("def planted(x):\n", "    return x * 2 + 1\n")


ROW = '{"number": 0, "results": [["ok", "1"], ["ok", "1"], ["ok", "1"]], "holds": true, "printed": false}'


def test_an_output_cut_inside_a_line_ends_there_and_stops_nothing() -> None:
    """What is left of the line may end like a whole one; it ended a build."""
    cut = '{"number": 1, "results": [["ok", "{1: {2: 3}'
    assert [row.number for row in recorder_rows(f"{ROW}\n{cut}", 5)] == [0]
    assert list(recorder_rows(cut, 5)) == []


@pytest.mark.parametrize(
    "said", ['{"number": 0}', ROW, '{"number": 7, "results": [], "holds": null, "printed": false}']
)
def test_a_function_cannot_speak_for_the_recorder(said: str) -> None:
    with pytest.raises(NoProblemError, match="behind Python's back"):
        list(recorder_rows(f"{ROW}\n{said}\n", 5))


def test_a_copy_of_a_function_is_mined_once(tmp_path: Path) -> None:
    files = {"pkg/a.py": function("return x * 2 + 1", ">>> planted(2)\n    5")}
    files["pkg/b.py"] = function("return x * 2 + 1", ">>> other(2)\n    5", name="other")
    result = found(tmp_path, files)
    assert [candidate.entry_point for candidate in result.candidates] == ["planted"]
    assert [rejected.reason for rejected in result.rejections] == ["a copy of another function"]


def test_the_standard_library_is_a_distribution_with_its_tests() -> None:
    library = standard_library(frozenset({"PSF-2.0"}))
    paths = {file.path for file in library.files}
    assert library.verdict.approved and {"textwrap.py", "test/test_textwrap.py"} <= paths


def test_named_tuples_and_ordered_dicts_are_the_plain_data_that_they_equal(tmp_path: Path) -> None:
    head = "from collections import OrderedDict, namedtuple\n\nPair = namedtuple('Pair', 'a b')"
    body = "pair = Pair(x, OrderedDict([(x, x + 1)]))\nreturn pair"
    result = mined(tmp_path, {"pkg/planted.py": function(body, ">>> planted(1)[0]\n    1", head=head)})
    assert "assert planted(1) == (1, {1: 2})\n" in result.problems[0].problem.tests
