"""A benchmark problem is found where words hide it, and ordinary code in the same forms is not.

The forms are those of `benchmarks.contamination`; CO-1 to CO-4 of the catalogue of faults are among the tests.
"""

import ast
import base64
import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable

import pytest

from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.corpus.clean.disguises import MAX_REVEALED, revealed
from app.corpus.clean.documents import functions
from app.corpus.clean.guard import SHIPPED, read_signs, shipped_suites
from app.corpus.clean.signs import merged, signs_of
from app.corpus.clean.tokens import word_tokens
from app.corpus.clean.touched import touched
from app.evaluation.suites import humaneval
from app.files.python_source import parse
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from app.records import BenchmarkText
from benchmarks import rewritten_code, rewritten_words
from tests.suite_files import real

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the suites' own
SOLUTION = """def merge_tide_tables(first, second):
    merged = dict(first)
    for hour, height in second.items():
        if hour not in merged or merged[hour] < height:
            merged[hour] = height
    return sorted(merged.items(), key=lambda pair: pair[0])
"""
INPUTS = [f"([{n * 37 % 91}.5, {n * 53 % 97}, {n * 71 % 89}.25], {n * 7919})" for n in range(3, 40)]
CALLS = [("14, 37", "5182"), ("99, 3", "2971"), ("8, 61", "4884"), ("11, 2", "313")]
WORDS = [f"('harbour{n * 7919 % 9973}x',)" for n in range(3, 40)]
MADE_UP = [
    BenchmarkText(
        problem_id=f"Made/{number}",
        entry_point=name,
        text=f"Merge two tables by their hour.\n{solution}",
        solution=solution,
        tests="".join(f"assert candidate({given}) == {answer}\n" for given, answer in CALLS),
        inputs=tuple(inputs),
    )
    for number, (name, solution, inputs) in enumerate(
        [("merge_tide_tables", SOLUTION, INPUTS), ("spell_out_piers", "def spell_out_piers(a):\n    return a\n", WORDS)]
    )
]
ORDINARY = '''def area(base, height):
    """Return the area of a triangle with this base and height."""
    return base * height / 2


class Shape:
    def __init__(self, sides):
        self.sides = list(sides)
        self.names = ["one", "two", "three", 'fo' 'ur', "a" + "b", 'c' "d", "e" "f"]
'''


@pytest.fixture(scope="module", params=["by text", "by hashes of the suite"])
def guard(request: pytest.FixtureRequest) -> Decontaminator:
    if request.param == "by text":
        return Decontaminator(MADE_UP)
    return Decontaminator(signs=[merged("made", signs_of(MADE_UP))])


@pytest.fixture(scope="module")
def shipped() -> Decontaminator:
    return Decontaminator(
        signs=[one for name in shipped_suites() for one in read_signs(SHIPPED / f"{name}.parquet")[0]]
    )


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return humaneval.load()


def found(guard: Decontaminator, text: str) -> str:
    """The sign that finds it beside ordinary code; empty for none."""
    return guard.hit(f"{ORDINARY}\n\n{text}", ["area"]).partition(":")[0]


@pytest.mark.parametrize("form", rewritten_words.IN_A_STRING)
def test_a_program_hidden_in_a_string_is_found(guard: Decontaminator, form: str) -> None:
    """Under the problem's names, and where the form keeps the program's layout under any names as well."""
    hide = rewritten_words.IN_A_STRING[form]
    assert found(guard, hide(SOLUTION)), form
    assert not found(guard, hide(ORDINARY)), form


@pytest.mark.parametrize(
    "form", ["base64, one block", "gzip and base64", "hexadecimal", "rot13", "docstring", "comment"]
)
def test_a_hidden_program_is_found_under_other_names(guard: Decontaminator, form: str) -> None:
    other = ast.unparse(rewritten_code.under_other_names(ast.parse(SOLUTION)))
    assert "tide" not in other and found(guard, rewritten_words.IN_A_STRING[form](other)) in ("renamed", "parts")


def test_what_is_encoded_twice_is_not_found(guard: Decontaminator) -> None:
    """docs/corpus.md says so; what was compressed before it was encoded is."""
    twice = base64.b64encode(base64.b64encode(SOLUTION.encode())).decode()
    assert not found(guard, f"DATA = '{twice}'\n")
    assert found(guard, f"DATA = '{base64.b64encode(gzip.compress(SOLUTION.encode())).decode()}'\n")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("A" * 4001, id="base64 of zeros"),
        pytest.param("ab" * 2000, id="hexadecimal digits"),
        pytest.param("1f8b" + "0" * 400, id="gzip, broken"),
        pytest.param("H4sI" + "A" * 400, id="gzip in base64, broken"),
        pytest.param("eJz" + "a" * 97, id="zlib in base64, broken"),
    ],
)
def test_a_long_literal_that_is_no_text_is_passed_over(guard: Decontaminator, broken: str) -> None:
    assert not found(guard, f"DATA = '1{broken}'\nMORE = '{broken}'\n")


def test_what_unpacks_to_much_more_costs_no_more_than_the_limit() -> None:
    bomb = base64.b64encode(bz2.compress(b"a b " * (MAX_REVEALED // 4))).decode()
    text = f"'{bomb}'\n" * 20
    assert sum(len(hidden) for _, hidden in revealed(text, word_tokens(text))) == MAX_REVEALED


def test_an_xz_file_that_asks_for_gigabytes_is_passed_over() -> None:
    """Its window, in the header of its block, is set to 4 GiB."""
    packed = bytearray(lzma.compress(SOLUTION.encode(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]))

    def hidden() -> list[tuple[str, str]]:
        text = f"DATA = '{base64.b64encode(packed).decode()}'\n"
        return [found for found in revealed(text, word_tokens(text)) if found[0] == "encoded"]

    assert SOLUTION in hidden()[0][1]
    end = 12 + 4 * packed[12]
    packed[packed.index(b"\x21\x01", 12) + 2] = 40
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    assert not hidden()


def test_a_solution_split_over_functions_is_found(guard: Decontaminator) -> None:
    for parts in (2, 3):
        tree = rewritten_code.split(ast.parse(SOLUTION), "merge_tide_tables", parts)
        assert tree is not None
        tree = rewritten_code.under_other_names(ast.parse(ast.unparse(ast.fix_missing_locations(tree))))
        text = ast.unparse(tree).replace("\ndef ", rewritten_code.BETWEEN + "def ")
        assert text.count("def ") == 2 * parts - 1 and found(guard, text) in ("renamed", "parts"), text


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("write", [rewritten_words.as_table, rewritten_words.in_json])
def test_inputs_alone_are_found(guard: Decontaminator, write: Callable[..., str], number: int) -> None:
    inputs = [ast.literal_eval(text) for text in MADE_UP[number].inputs]
    assert found(guard, write(inputs[4:24])) == "tests"
    assert not found(guard, write(inputs[4:6])), "two inputs say nothing"
    assert not found(guard, write([(n * 1009, f"pier{n}") for n in range(30)]))


def test_tests_in_other_forms_are_found(guard: Decontaminator) -> None:
    assert found(guard, rewritten_words.assertions(CALLS)) == "tests"
    assert found(guard, rewritten_words.parametrised(CALLS)) == "tests"
    assert not found(guard, rewritten_words.assertions(CALLS[::-1])), "another order: these are few and small"


@pytest.mark.parametrize(
    "text", [rewritten_code.BETWEEN, "LOW = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]\n", ORDINARY]
)
def test_ordinary_code_is_not_taken_for_a_hidden_problem(guard: Decontaminator, text: str) -> None:
    assert not found(guard, text)


def left_out(guard: Decontaminator, text: str) -> list[str]:
    """Names of the documented functions that a file loses."""
    tree = parse(text)
    documents = list(functions(text, tree, 10))
    reason = guard.hit(text, defined_names(tree))
    reasons = touched(guard, text, tree, documents, reason) if reason else [""] * len(documents)
    return [document.name for document, own in zip(documents, reasons, strict=True) if own]


def test_no_part_of_a_solution_stays_of_a_file_that_was_hit(shipped: Decontaminator, tasks: list[Task]) -> None:
    """CO-1: HumanEval/10, its helper apart, names and docstrings changed, an ordinary function beside it."""
    tree = rewritten_code.without_words(ast.parse(tasks[10].problem.prompt + tasks[10].canonical_solution))
    code = ast.unparse(rewritten_code.under_other_names(tree, "co1q"))
    said = '    """Say what is asked for in other words than before."""\n'
    text = code.replace(":\n    ", f":\n{said}    ", 1)
    head, _, main = text.rpartition("\ndef ")
    main = main.replace(":\n", f":\n{said}", 1)
    text = f"{head}\n{rewritten_code.BETWEEN}def {main}\n"
    assert left_out(shipped, text) == ["co1q_0", "co1q_1"], text


def test_a_helper_of_what_is_left_out_goes_and_one_of_others_stays(guard: Decontaminator) -> None:
    begin = "    merged = dict(first)"
    documented = f'    """Put the two into one."""\n{begin}\n    step_of(shared(first))'
    text = f'''def step_of(table):
    """Return the step between the hours of a table."""
    return table[1] - table[0]


def shared(table):
    """Return the last hour of a table, or none."""
    return table[-1] if table else None


{SOLUTION.replace(begin, documented)}

def ordinary(table):
    """Return the last hour of a table, and one more."""
    return shared(table) + 1
'''
    assert left_out(guard, text) == ["step_of", "merge_tide_tables"]


def test_a_name_that_is_defined_again_hides_nothing(guard: Decontaminator) -> None:
    again = "\n\ndef merge_tide_tables(table):\n    return step_of(table)\n"
    helper = 'def step_of(table):\n    """Return the step between the hours of a table."""\n    return table[1]\n'
    assert left_out(guard, f"{helper}\n\n{SOLUTION}{again}") == ["step_of"]


def test_functions_that_touch_a_problem_together_go(guard: Decontaminator) -> None:
    parts = [
        f'def tide_{n}():\n    """Return what is known of a tide."""\n    return {INPUTS[n]}\n' for n in range(2, 5)
    ]
    assert left_out(guard, "\n".join([*parts, ORDINARY])) == ["tide_2", "tide_3", "tide_4"]
    assert left_out(guard, "\n".join([*parts[:2], ORDINARY])) == []
    beside = [f"X{n} = {text}" for n, text in enumerate(INPUTS[2:6])]
    assert left_out(guard, "\n".join([*beside, ORDINARY])) == [], "no function of it"


def test_inputs_of_a_real_plus_set_are_found_by_hashes(shipped: Decontaminator) -> None:
    """CO-3: thirty inputs of HumanEval+ as a table."""
    row = next(iter(rows(real("HumanEvalPlus.jsonl.gz"))))
    inputs = [given for given in row["plus_input"] if len(repr(given)) < 900][:30]
    assert found(shipped, rewritten_words.as_table(inputs)) == "tests"


def test_an_ordinary_signature_is_no_benchmark(shipped: Decontaminator) -> None:
    """CO-4."""
    text = "from typing import List\n\n\ndef merge_all(values: List[int]) -> List[int]:\n"
    text += '    """Sort and drop those that come twice."""\n    result = []\n    for v in sorted(set(values)):\n'
    assert not shipped.hit(text + "        result.append(v * 2)\n    return result\n", ["merge_all"])
