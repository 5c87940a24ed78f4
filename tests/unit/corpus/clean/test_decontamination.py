"""No benchmark problem gets into the training data: not renamed, not inside a docstring, not in a longer file."""

import ast
import os
from pathlib import Path

import pytest

from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.evaluation.suites import humaneval
from app.problem_sets import mbpp
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from app.records import BenchmarkText

GOOD = '''"""Tools for triangles."""


def area(base, height):
    """Return the area of a triangle with this base and height."""
    return base * height / 2
'''
MADE_UP = BenchmarkText(
    problem_id="Made/1",
    entry_point="merge_tide_tables",
    text="""Write a function to merge two tide tables by their hour.
def merge_tide_tables(first, second):
    merged = dict(first)
    for hour, height in second.items():
        if hour not in merged or merged[hour] < height:
            merged[hour] = height
    return sorted(merged.items(), key=lambda pair: pair[0])
assert merge_tide_tables({1: 2}, {1: 3}) == [(1, 3)]
""",
)
GENERIC = BenchmarkText(
    problem_id="Made/2",
    entry_point="encode",
    text="def encode(message):\n    return message.swapcase()[::-1].title()\n",
)


pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # the suites' own


@pytest.fixture(scope="module")
def guard() -> Decontaminator:
    return Decontaminator(task.benchmark_text for task in humaneval.load())


@pytest.fixture(scope="module")
def made_up() -> Decontaminator:
    return Decontaminator([MADE_UP, GENERIC])


def kind(reason: str) -> str:
    return reason.partition(":")[0]


def renamed(source: str) -> str:
    """The program with every function, parameter and variable renamed, without annotations and docstrings."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names[node.name] = ""
            node.returns = None
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        elif isinstance(node, ast.arg):
            names[node.arg], node.annotation = "", None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = ""
    names = {name: f"item_{number}" for number, name in enumerate(names)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.name = names[node.name]
        elif isinstance(node, ast.arg):
            node.arg = names[node.arg]
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


@pytest.mark.parametrize("number", [0, 4, 32, 100, 163])
def test_a_planted_humaneval_solution_is_found_under_any_function_name(guard: Decontaminator, number: int) -> None:
    task = humaneval.load()[number]
    source = task.problem.prompt + task.canonical_solution
    assert kind(guard.hit(source, [task.problem.entry_point])) == "entry point"
    other = source.replace(task.problem.entry_point, "innocent_looking_name")
    assert task.problem.id in guard.hit(other, ["innocent_looking_name"])
    assert guard.hit(GOOD + other, ["area", "innocent_looking_name"]), "inside a longer file"


def test_a_humaneval_solution_with_renamed_variables_is_found(guard: Decontaminator) -> None:
    """Nothing of the text stays but the structure; what is shorter than a gram is anybody's code."""
    tasks = humaneval.load()
    sources = [renamed(task.problem.prompt + task.canonical_solution) for task in tasks]
    reasons = [guard.hit(source, defined_names(ast.parse(source))) for source in sources]
    assert kind(reasons[0]) == "renamed" and "HumanEval/0" in reasons[0]
    assert sum(map(bool, reasons)) >= 0.75 * len(tasks)
    commented = sources[0].replace("\n", "  # a comment\n")
    assert kind(guard.hit(GOOD + commented, [])) == "renamed", "comments and what stands before don't hide it"


def test_every_humaneval_problem_contaminates(guard: Decontaminator) -> None:
    missed = [t.problem.id for t in humaneval.load() if not guard.hit(t.problem.prompt + t.canonical_solution, [])]
    assert not missed


def test_ordinary_code_is_not_contaminated(guard: Decontaminator) -> None:
    assert guard.hit(GOOD, ["area"]) == ""
    numbers = "values = [" + ", ".join(map(str, range(1, 40))) + "]\n"
    assert guard.hit(GOOD + numbers, ["area"]) == "", "runs of numbers meet by chance"
    assert guard.hit("", []) == guard.hit("x", []) == ""
    assert Decontaminator([]).hit(GOOD, ["area"]) == ""


def test_the_standard_library_is_hardly_ever_taken_for_a_benchmark(guard: Decontaminator) -> None:
    """At most 1 of 300 documented functions, or the rule costs more than it saves."""
    asked = hits = 0
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        text = path.read_text(errors="replace")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                asked += 1
                hits += bool(guard.hit("".join(lines[node.lineno - 1 : node.end_lineno]), [node.name]))
    assert asked > 900 and hits <= asked / 300


def test_a_prompt_inside_a_docstring_is_found(made_up: Decontaminator) -> None:
    document = '''def combine(one, other):
    """Write a function to merge two tide tables
    by their hour. Used by the harbour office."""
    return one | other
'''
    assert kind(made_up.hit(document, ["combine"])) == "10-gram"
    short = Decontaminator(
        [BenchmarkText(problem_id="Made/3", entry_point="f", text="Write a function to swap two numbers.")]
    )
    assert kind(short.hit('def g(a, b):\n    """Write a function to swap\n    two numbers."""\n', ["g"])) == "exact"


def test_a_renamed_solution_of_any_suite_is_found(made_up: Decontaminator) -> None:
    document = renamed(MADE_UP.text.split("\n", 1)[1])
    assert "tide" not in document and kind(made_up.hit(document, ["item_0"])) == "renamed"
    another = """def item_0(x, y):
    z = dict(y)
    for a, b in y.items():
        if b not in z and z[b] > a:
            z[a] = a
    return sorted(x, key=z.get)
"""
    assert made_up.hit(another, ["item_0"]) == "", "its names stand elsewhere: another program"


def test_a_distinctive_entry_point_is_enough_and_a_common_word_is_not(made_up: Decontaminator) -> None:
    assert kind(made_up.hit("def merge_tide_tables(a):\n    return a\n", ["merge_tide_tables"])) == "entry point"
    assert made_up.hit("def encode(text):\n    return text.encode()\n", ["encode"]) == ""
    near = "def encode(message):\n    return message.swapcase()\n"
    assert kind(made_up.hit(near, ["encode"])) == "entry point", "with five words in a row of its problem"


def test_a_clean_file_holds_no_contaminated_function(guard: Decontaminator) -> None:
    """The build asks for the functions only where the file is hit."""
    for task in humaneval.load()[:60]:
        function = task.problem.prompt + task.canonical_solution
        for names in ([], [task.problem.entry_point]):
            if guard.hit(function, names):
                assert guard.hit(GOOD + "\n\n" + function + "\n\n" + GOOD, ["area", *names])


@pytest.fixture(scope="module")
def mbpp_guard() -> tuple[Decontaminator, list[Task]]:
    path = os.environ.get("POCKETCODER_MBPP")
    if not path:
        pytest.skip("set POCKETCODER_MBPP to the path of google-research's mbpp.jsonl")
    tasks = mbpp.tasks_of(rows(Path(path)), path)
    return Decontaminator(task.benchmark_text for task in tasks), tasks


def test_an_mbpp_prompt_inside_a_docstring_is_found(mbpp_guard: tuple[Decontaminator, list[Task]]) -> None:
    guard, tasks = mbpp_guard
    prompts = [task.problem.prompt.split("\n")[0] for task in tasks]
    missed = [
        p for p in prompts if not guard.hit(f'def f(a):\n    """Helper.\n\n    {p}\n    """\n    return a\n', ["f"])
    ]
    assert not missed


def test_every_mbpp_solution_contaminates(mbpp_guard: tuple[Decontaminator, list[Task]]) -> None:
    guard, tasks = mbpp_guard
    missed = [t.problem.id for t in tasks if not guard.hit(t.canonical_solution, [t.problem.entry_point])]
    assert len(missed) < 0.05 * len(tasks)
