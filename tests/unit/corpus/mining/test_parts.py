"""The parts of mining: what a function needs to stand alone, what its tests call, and inputs that keep to its rules."""

import ast

import pytest

from app.corpus.mining.calls_in_tests import from_tests, is_test
from app.corpus.mining.closure import Package
from app.corpus.mining.dangers import NotSelfContainedError
from app.corpus.mining.docstring_examples import from_docstring
from app.corpus.mining.inputs import more_calls
from app.corpus.mining.module import Module
from app.corpus.mining.records import Call


def module(path: str, text: str) -> Module:
    return Module(path, text, ast.parse(text), "MIT")


def prelude(*modules: Module, name: str = "f") -> str:
    """The prelude of the function in the last module."""
    (node,) = [node for node in modules[-1].functions if node.name == name]
    return Package(modules).prelude(modules[-1], name, modules[-1].source(node))


def generated(*calls: Call, source: str = "def f(*args, **kwargs): pass") -> list[Call]:
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    found = more_calls("f", calls, function)
    assert found.given == list(calls)
    assert len(found.generated) >= 5
    return found.generated


def test_helpers_of_a_sibling_come_before_their_users() -> None:
    words = module(
        "pkg/words.py", "import re\nSPACE = re.compile(' ')\n\ndef cut(text):\n    return SPACE.split(text)\n"
    )
    main = module("pkg/main.py", "from .words import cut as _cut\n\ndef f(text):\n    return _cut(text)[0]\n")
    assert prelude(words, main) == (
        "import re\n\nSPACE = re.compile(' ')\n\n\ndef cut(text):\n    return SPACE.split(text)\n\n\n_cut = cut\n"
    )


@pytest.mark.parametrize("imported", ["pkg.words", "src.pkg.words"])
def test_absolute_imports_of_siblings_are_followed(imported: str) -> None:
    words = module("src/pkg/words.py", "LIMIT = 3\n")
    main = module("src/pkg/main.py", f"from {imported} import LIMIT\n\ndef f(x):\n    return x[:LIMIT]\n")
    assert prelude(words, main) == "LIMIT = 3\n"


def test_two_meanings_of_one_name_are_refused() -> None:
    words = module("pkg/words.py", "LIMIT = 3\n\ndef cut(text):\n    return text[:LIMIT]\n")
    main = module("pkg/main.py", "from .words import cut\nLIMIT = 9\n\ndef f(text):\n    return cut(text) * LIMIT\n")
    with pytest.raises(NotSelfContainedError, match="two modules define: LIMIT"):
        prelude(words, main)


def test_everything_that_changes_a_name_belongs_to_it() -> None:
    loop, change = "for c in 'ab':\n    TABLE[c] = ord(c)\n", "TABLE.update(z=1)\n"
    text = f"TABLE = {{}}\n{loop}{change}OTHER = 2\n\ndef f(x):\n    return TABLE[x]\n"
    assert prelude(module("pkg/m.py", text)) == f"TABLE = {{}}\n\n\n{loop}\n\n{change}"


def test_signatures_for_type_checkers_are_no_second_definition() -> None:
    text = "import typing as t\n\n@t.overload\ndef f(x: int) -> int: ...\n\ndef f(x):\n    return x + 1\n"
    assert prelude(module("pkg/m.py", text)) == ""


def test_helpers_keep_the_first_line_of_their_docstring() -> None:
    text = 'def g(x):\n    """Twice.\n\n    Much more.\n    """\n    return 2 * x\n\ndef f(x):\n    return g(x) + 1\n'
    assert prelude(module("pkg/m.py", text)) == 'def g(x):\n    """Twice."""\n    return 2 * x\n'


def test_calls_are_found_in_assertions_assignments_and_under_other_names() -> None:
    source = (
        "from pkg.words import *\nimport pkg.numbers as n\n\nROWS = [(1, 2)]\n\n"
        "def test_a():\n    text = 'a b'\n    found = cut(text)\n    assert found\n"
        "    for x, y in ROWS:\n        assert n.inc(x) == y\n    assert cut(text, other.x) == []\n"
    )
    found = [(module, name, call.args, call.claim) for module, name, call in from_tests(ast.parse(source))]
    assert found == [("pkg.words", "cut", ("a b",), ""), ("pkg.numbers", "inc", (1,), "inc(1) == 2")]


@pytest.mark.parametrize("path", ["tests/a.py", "pkg/test/a.py", "pkg/test_a.py", "a_test.py", "tests.py"])
def test_test_files_are_told_by_their_path(path: str) -> None:
    assert is_test(path) and not is_test("pkg/attest.py")


def test_examples_on_objects_of_elsewhere_are_left_out() -> None:
    docstring = (
        "Sum.\n\n>>> x = [1, 2]\n>>> f(x)\n3\n>>> f(Graph())\n4\n>>> print(f([5]))\n5\n>>> sorted(f(x), key=id)\n1"
    )
    found = from_docstring("f", docstring)
    assert [(call.args, call.claim) for call in found.calls if call.from_docstring] == [
        (([1, 2],), "f([1, 2]) == 3"),
        (([5],), "str(f([5])) == '5'"),
    ]
    assert found.lines_to_drop == {5, 6, 9, 10}


def test_what_the_docstring_claims_is_not_lost_to_a_test_of_the_same_call() -> None:
    documented = Call(args=(2,), claim="f(2) == [1, 2]", from_docstring=True)
    tested = Call(args=(2,), claim="sorted(f(2)) == [1, 2]")
    function = ast.parse("def f(*args): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert more_calls("f", [documented, tested], function).given == [documented]
    assert more_calls("f", [Call(args=(2,)), tested], function).given == [tested]


def test_generated_inputs_are_new_and_the_same_every_time() -> None:
    calls = (Call(args=([3, 1, 2], "ab c")), Call(args=([5, 4], "x")))
    first = generated(*calls)
    assert first == generated(*calls)
    texts = [repr(call.args) for call in (*calls, *first)]
    assert len(set(texts)) == len(texts)


def test_sorted_lists_stay_sorted_and_places_stay_inside() -> None:
    for call in generated(Call(args=([1, 3, 5, 9], 2)), Call(args=([2, 4, 6, 8, 11], 3))):
        values, place = call.args
        assert values == sorted(values) and 0 <= place < len(values)


def test_distinct_items_stay_distinct_and_rotated_lists_rotated() -> None:
    for call in generated(Call(args=([4, 5, 6, 7, 0, 1, 2],)), Call(args=([3, 1, 2],)), Call(args=([6, 7, 1, 2, 3],))):
        (values,) = call.args
        assert len(set(values)) == len(values)
        assert sum(left > right for left, right in zip(values, values[1:], strict=False)) <= 1


def test_square_matrices_stay_square_and_digits_digits() -> None:
    for call in generated(Call(args=([[1, 2], [3, 4]], "0123")), Call(args=([[5, 6], [7, 9]], "98765"))):
        matrix, digits = call.args
        assert all(len(row) == len(matrix) for row in matrix) and set(digits) <= set("0123456789")


def test_flags_are_turned_now_and_then() -> None:
    calls = generated(Call(args=("ab cd",)), Call(args=("ef gh",)), source="def f(text, strict=False): pass")
    assert {call.kwargs for call in calls} == {(), (("strict", True),)}


def test_words_keep_their_length_and_alphabet_and_each_shape_its_own_rules() -> None:
    for call in generated(Call(args=("ATCG", 3)), Call(args=("GGTCAA", 4)), Call(args=(None, 1))):
        word, number = call.args
        assert number >= 0 and (word is None or (set(word) <= set("ACGTUN") and len(word) <= 6))


def test_an_undirected_graph_stays_one() -> None:
    for call in generated(Call(args=([[1, 2], [0], [0]], 2)), Call(args=([[1], [0, 2], [1, 3], [2]], 1))):
        neighbours = call.args[0]
        assert all(one in neighbours[other] for one, others in enumerate(neighbours) for other in others)
