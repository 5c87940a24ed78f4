"""The program in a reply is the one that a reader of the reply would run."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.files.python_source import tree_of
from app.prompting.fences import fence_for, fenced, fences
from app.prompting.replies import called_by, code_block, defines
from app.reward.drafts.drafting import shape_of

T = "`" * 3
ADD = "def add(a, b):\n    return a + b\n"
DOCTEST = f'def add(a, b):\n    """Add.\n\n    {T}\n    >>> add(1, 2)\n    {T}\n    """\n    return a + b\n'
LEFT_DOCTEST = f'def add(a, b):\n    """Add.\n\n{T}\nadd(1, 2)\n{T}\n"""\n    return a + b\n'
ADD_ALL = "def add_all(xs):\n    return sum(xs)\n"


def block(code: str, info: str = "python", mark: str = T) -> str:
    return f"{mark}{info}\n{code}{mark}\n"


def value(program: str, call: str = "add(1, 2)") -> object:
    space: dict[str, object] = {}
    exec(program, space)
    return eval(call, space)


@pytest.mark.parametrize(
    "reply",
    [
        block(DOCTEST),
        block(f'def add(a, b):\n    s = "{T}"\n    return a + b\n'),
        block(f'def add(a, b):\n    s = """\n    {T}python"""\n    return a + b\n'),
        f"{block(DOCTEST)}\nAnd so on: {T} is a fence.",
        block(f"def add(a, b):\n    # {T}\n    return a + b\n"),
    ],
)
def test_a_closing_fence_is_alone_on_its_line_and_indented_at_most_three(reply: str) -> None:
    assert value(code_block(reply, "add")) == 3
    assert code_block(reply, "add") == fences(reply)[0].text


def test_a_closing_fence_is_at_least_as_long_and_of_the_same_sign() -> None:
    for mark in (T + "`", T + "```", "~~~", "~~~~~"):
        reply = f"So:\n\n{block(LEFT_DOCTEST, mark=mark)}\nThat is it."
        assert code_block(reply, "add") == LEFT_DOCTEST
    longer = f"{T}python\n{ADD}{T}``\nDone."
    assert code_block(longer, "add") == ADD
    assert code_block(f"~~~python\n{ADD}{T}\n~~~\n", "add") == f"{ADD}{T}\n"


@pytest.mark.parametrize(
    "info",
    [
        'python title="x.py"',
        "Python 3",
        "{.python}",
        "py",
        "",
        " python ",
        "python {linenos=true}",
        "c++ or python",
        "python:x.py",
    ],
)
def test_an_info_string_is_the_rest_of_its_line(info: str) -> None:
    assert code_block(f"Here:\n{block(ADD, info)}\nThis adds.", "add") == ADD


@pytest.mark.parametrize(
    "reply",
    [
        "1. Do this:\n\n" + "".join(f"   {line}\n" for line in block(ADD).splitlines()),
        "- a\n  - b:\n" + "".join(f"    {line}\n" for line in block(ADD).splitlines()),
        "".join(f"> {line}\n" for line in block(ADD).splitlines()),
        "So:\n\n" + "".join(f"      {line}\n" for line in block(ADD).splitlines()) + "\nDone.",
        "So:\n" + "".join(f"\t{line}\n" for line in block(ADD).splitlines()) + "\nDone.",
        f"1. Do this:\n\n   {T}python\n{ADD}   {T}\n\n2. Test it.",
        f"  {T}python\ndef add(a, b):\n  return a + b\n  {T}\n",
    ],
    ids=["list", "nested list", "quotation", "too deep", "tabs", "code that left its list", "indented by two"],
)
def test_an_indented_block_gives_the_program_without_the_indentation(reply: str) -> None:
    assert value(code_block(reply, "add")) == 3


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_carriage_returns_are_ends_of_lines(end: str) -> None:
    assert code_block(f"Here:\n{block(ADD)}Done".replace("\n", end), "add") == ADD
    assert code_block(ADD.replace("\n", end), "add") == ADD


@pytest.mark.parametrize(
    "reply",
    [
        block(LEFT_DOCTEST) + "Done",
        f"Sure. {T}python\n{ADD}{T}",
        f"{T}python\n{ADD.rstrip()}{T} This adds.",
        f"{T}python\n{ADD}{T} This adds.",
        f"{T}{T}markdown\nLook:\n\n{block(ADD)}{T}{T}\n",
        f"<details>\n{block(ADD)}</details>",
        f"{ADD}{T}",
        f"{ADD}{T}\nThis adds.",
        f"{T}python\n{block(ADD)}",
    ],
    ids="fence in a string at the left, opened in a line, closed in a line, text behind, markdown, html, never opened, "
    "never opened and prose, opened twice".split(", "),
)
def test_where_commonmark_gives_no_program_the_reading_that_gives_one_is_taken(reply: str) -> None:
    program = code_block(reply, "add")
    assert value(program) == 3 and ast.parse(program).body[0].end_lineno == len(program.rstrip().split("\n"))


def test_a_block_that_commonmark_reads_as_a_program_is_not_read_in_another_way() -> None:
    reply = f"{block(ADD)}\nIn a string: {T}python\ndef add(a, b):\n    return 0\n{T}"
    assert code_block(reply, "add") == ADD


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (f"{T}python\n{ADD}", ADD),
        (f"{T}python\ndef add(a, b):\n    return a +", "def add(a, b):\n    return a +"),
        (ADD, ADD),
        (DOCTEST, DOCTEST),
        (LEFT_DOCTEST, LEFT_DOCTEST),
        ("    return a + b", "    return a + b"),
        ("I can't.", "I can't."),
        ("", ""),
        (f"Here:\n\n    {ADD.replace(chr(10), chr(10) + '    ').rstrip()}\n\nDone.", ADD),
    ],
    ids="unclosed, cut off, bare, with a fence, with one at the left, body, prose, nothing, indented".split(", "),
)  # fmt: skip
def test_replies_without_a_closed_block(reply: str, program: str) -> None:
    assert code_block(reply, "add").rstrip("\n") == program.rstrip("\n")


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (block(ADD_ALL) + block(ADD), ADD),
        (block("def add_one(x):\n    return x + 1\n") + block(f"async {ADD}"), f"async {ADD}"),
        (block("readd = 1\n") + block("class add:\n    x = 1\n"), "class add:\n    x = 1\n"),
        (block("x = add(1, 2)\n") + block("add = lambda a, b: a + b\n"), "add = lambda a, b: a + b\n"),
        (block("assert add == 3\n") + block(ADD), ADD),
        (block("print(add(1, 2))\n") + block(ADD), ADD),
        (block("from sums import add\n") + block(ADD), ADD),
        (block("def total(xs):\n    add = 0\n    return add\n") + block(ADD), ADD),
        (block("def add(a, b):\n    return (\n") + block(ADD), ADD),
        (block('def add(a, b):\n    """Add."""\n') + block(ADD), ADD),
        (block("pip install sums\n", "bash") + block("    return a + b\n", ""), "    return a + b\n"),
    ],
    ids="helper async class lambda comparison call import variable broken question bash".split(),
)  # fmt: skip
def test_the_block_is_chosen_by_a_whole_name(reply: str, program: str) -> None:
    assert code_block(reply, "add") == program


def test_two_versions_the_first_is_taken() -> None:
    second = "def add(a, b):\n    return sum((a, b))\n"
    assert code_block(block(ADD) + "Shorter:\n" + block(second), "add") == ADD


def test_a_method_is_found_by_its_name_and_a_class_by_the_expression_that_calls_it() -> None:
    solution = "class Solution:\n    def add(self, a, b):\n        return a + b\n"
    reply = block("class SolutionBase:\n    pass\n") + block(solution)
    assert code_block(reply, "Solution().add") == code_block(reply, "class Solution") == solution
    assert code_block(reply, "add") == solution


MAIN = "def add(a, b):\n    return add_all([a, b])\n"


@pytest.mark.parametrize(
    "reply",
    [
        block(ADD_ALL) + "and\n" + block(MAIN),
        block(MAIN) + "with\n" + block(ADD_ALL),
        block("import math\n") + block("def add_all(xs):\n    return int(math.fsum(xs))\n") + block(MAIN),
        block(f"{ADD_ALL}\nprint(add_all([1]))\nassert add_all([1]) == 2\n") + block(MAIN),
        block(ADD_ALL) + block(f"from __future__ import annotations\n{MAIN}"),
        block("from math import *\ndef add_all(xs):\n    return int(fsum(xs))\n") + block(MAIN),
        block("ZERO = 0\n\n@staticmethod\ndef add_all(xs):\n    return sum(xs, ZERO)\n") + block(MAIN),
        block("try:\n    from sums import add_all\nexcept ImportError:\n    add_all = sum\n") + block(MAIN),
    ],
    ids=["before", "after", "three", "with examples", "future", "star", "decorated, with a constant", "try"],
)
def test_helper_and_main_function_in_two_blocks_are_joined(reply: str) -> None:
    program = code_block(reply, "add")
    assert value(program) == 3
    assert "print" not in program and "assert" not in program and program.count("def add(") == 1


@pytest.mark.parametrize(
    "other",
    [
        "print(add(1, 2))\n",
        "assert add(1, 2) == 4\n",
        "result = add(1, 2)\nprint(result)\n",
        "def test_add():\n    assert add(1, 2) == 4\n",
        "import unknown\n",
        "def main():\n    print(add(1, 2))\n\nif __name__ == '__main__':\n    main()\n",
        "def add_all(xs):\n    return sum(xs)\n",
    ],
)
def test_a_block_that_is_not_needed_is_not_joined(other: str) -> None:
    assert code_block(block(ADD) + "Use it:\n" + block(other), "add") == ADD
    assert code_block(block(other) + "with\n" + block(ADD), "add") == ADD


def test_what_stands_before_the_program_is_not_taken_from_another_block() -> None:
    reply = block("def add_all(xs):\n    return 0\n") + block(MAIN)
    assert code_block(reply, "add", given=ADD_ALL) == MAIN


def test_a_script_is_the_block_that_does_something() -> None:
    solve, call = "def solve():\n    print(sum(map(int, input().split())))\n", "solve()\n"
    whole = f"{solve}\n{call}"
    for reply in (
        block("1 2\n", "") + block(whole),
        block("3\n", "") + block(whole) + block("assert 1 + 2 == 3\n"),
        block("1\n2\n", "text") + block(solve) + block(call),
        block(solve) + "and then\n" + block(f"if __name__ == '__main__':\n    {call}"),
    ):
        program = code_block(reply, "", is_script=True)
        assert "solve()" in program.replace("def solve()", "") and program.count("def solve") == 1, reply
        ast.parse(program)


def test_without_a_name_the_first_block_of_python_is_taken() -> None:
    assert code_block(block("pip install x\n", "bash") + block(ADD) + block("x = 1\n"), "") == ADD
    assert code_block(block("ls\n", "bash"), "") == "ls\n"


LINES = st.lists(
    st.sampled_from([T, "~~~", f"  {T}", f"{T}`", f"    {T}python", "x", "", f"1. {T}", "> a"]), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(lines=LINES)
def test_nothing_in_a_code_can_close_the_fence_put_around_it(lines: list[str]) -> None:
    code = "\n".join([*lines, "end"])
    (found,) = fences(f"Prose.\n{fenced(code)}\nMore.")
    assert found.text == f"{code}\n" and found.is_closed and found.mark == fence_for(code)


@settings(max_examples=200, deadline=None)
@given(lines=LINES, indent=st.sampled_from(["", "  ", "      "]))
def test_any_reply_is_read(lines: list[str], indent: str) -> None:
    reply = "\n".join(indent + line for line in [*lines, *ADD.splitlines(), *lines])
    for name in ("add", ""):
        assert isinstance(code_block(reply, name), str)


@pytest.mark.parametrize("code", ["-" * 9000 + "1", "(" * 9000, "x = a" + ".a" * 6000, "\ud800", "\0", f"{T}\n" * 3000])
def test_endless_repetition_is_read_too(code: str) -> None:
    assert code_block(f"{T}python\n{code}\n{T}", "add") is not None
    long = "if a:\n    pass\n" + "elif a:\n    pass\n" * 900
    assert not defines(long, "add") and code_block(block(long), "", is_script=True) == long


SHOWN = ["-1\n", "1, 2\n", "[1, 2, 3]\n", "a - b\n", "x.y\n", "'a' in b\n", "{}\n", "not found\n"]


@pytest.mark.parametrize("shown", SHOWN)
def test_what_a_script_reads_or_prints_is_not_the_script_though_it_parses(shown: str) -> None:
    script = "n = int(input())\nprint(n * 2)\n"
    assert code_block(f"For the input\n{block(shown, '')}run\n{block(script)}", "", is_script=True) == script


@pytest.mark.parametrize("rest", ["raise NotImplementedError", "raise NotImplementedError('later')", "...", "pass"])
def test_a_signature_that_is_shown_before_it_is_filled_in_is_not_the_program(rest: str) -> None:
    assert code_block(block(f"def add(a, b):\n    {rest}\n") + block(ADD), "add") == ADD
    assert code_block(block(f"def add(a, b):\n    {rest}\n"), "add"), "failing another one it is"


def test_an_empty_class_of_another_block_is_a_helper_where_no_fuller_one_is() -> None:
    error = "class TooLarge(Exception):\n    pass\n"
    main = "def add(a, b):\n    try:\n        raise TooLarge\n    except TooLarge:\n        return a + b\n"
    assert value(code_block(block(error) + block(main), "add")) == 3
    base, fuller = "class Base:\n    pass\n", "class Base:\n    zero = 0\n"
    main = "class Sum(Base):\n    def add(self, a, b):\n        return a + b + self.zero\n"
    assert value(code_block(block(base) + block(fuller) + block(main), "Sum().add"), "Sum().add(1, 2)") == 3


def test_a_helper_is_found_though_a_local_name_is_the_same() -> None:
    helper = "def half(x):\n    return x\n"
    for main in (
        "def add(a, b):\n    def inner(half):\n        return half\n    return half(a) + inner(b)\n",
        "def other():\n    half = 1\n    return half\ndef add(a, b):\n    return half(a) + half(b)\n",
        "def add(a, b):\n    ones = [half for half in (a, b)]\n    return half(sum(ones))\n",
        "class A:\n    half = 0\ndef add(a, b):\n    return half(a) + half(b)\n",
    ):
        assert value(code_block(block(helper) + block(main), "add")) == 3, main
    local = "def add(a, b):\n    half = a\n    return half + b\n"
    assert code_block(block(helper) + block(local), "add") == local, "its own name wants no helper"


def test_a_name_is_compared_as_python_reads_it() -> None:
    assert code_block(block("print(1)\n") + block("def \ufb01nd():\n    return 3\n"), "find").startswith("def")
    assert code_block(block("print(1)\n") + block("def find():\n    return 3\n"), "\ufb01nd").startswith("def")


def test_what_a_call_runs_leaves_out_a_models_own_examples_and_keeps_what_the_function_needs() -> None:
    source = (
        "import math\nimport os\n\nLIMIT = 3\nunused = area(2)\n\n"
        "def square(x):\n    return x * x\n\n@staticmethod\ndef area(r):\n    return math.pi * square(r) * LIMIT\n\n"
        "assert area(1) == 3\nprint(area(2))\n"
    )
    kept = called_by(source, "area")
    assert kept == (
        "import math\nLIMIT = 3\ndef square(x):\n    return x * x\n"
        "@staticmethod\ndef area(r):\n    return math.pi * square(r) * LIMIT"
    )
    assert called_by(f"{source}assert area(2) == (12", "area") == kept, "a reply that was cut off"
    again = "def cube(x):\n    return x**3\ndef square(x):\n    return cube(x) / x"
    assert called_by(f"{source}{again}", "square") == again, "a later definition holds"
    for whole in ("return 3", "def other():\n    pass", "def area(:"):
        assert called_by(whole, "area") == whole


@pytest.mark.parametrize("begin", ["", "\n \n", "# It adds.\n", "\f", "\\\n"])
def test_a_body_is_taken_whatever_stands_before_its_first_line(begin: str) -> None:
    """Of indented code a text at the margin may begin with these alone."""
    body = f"{begin}    c = a + b\n    return c\n"
    assert ast.parse(f"def add(a, b):\n{body}") and code_block(body, "add") == body


def test_a_tree_that_was_looked_at_says_the_same_to_the_next_who_asks() -> None:
    reply = block("def add(a, b):\n    '''Doc.'''\n    return a + b\n")
    program = code_block(reply, "add")
    before = ast.dump(tree_of(program) or ast.Module())
    assert shape_of(program) == shape_of(program) and code_block(reply, "add") == program
    assert called_by(program, "add") and ast.dump(tree_of(program) or ast.Module()) == before
