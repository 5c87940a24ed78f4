"""What an answer proposes to the editor's program, and how the difference is told."""

import pytest

from app.ide.changes import difference, proposed
from app.ide.work_markup import change
from tests.costs import takes_less_than

PROGRAM = (
    '"""D."""\nimport os\n\n\ndef f(x):\n    return x\n\n\n@cache\ndef g():\n    return f(1)\n\n\nassert f(1) == 2\n'
)


def test_a_definition_takes_the_place_of_its_old_one_and_the_rest_of_the_program_stays() -> None:
    code = "import math\nimport os\n\ndef f(x):\n    return h(x)\n\ndef h(x):\n    return x + 1\n\n"
    code += "assert f(1) == 2\nprint(f(3))\n"
    assert proposed(PROGRAM, code) == (
        '"""D."""\nimport os\nimport math\n\n\ndef h(x):\n    return x + 1\n\n\ndef f(x):\n    return h(x)\n\n\n'
        "@cache\ndef g():\n    return f(1)\n\n\nassert f(1) == 2\n\nprint(f(3))\n"
    )


def test_decorators_go_with_their_definition() -> None:
    assert "@cache" not in proposed(PROGRAM, "def g():\n    return 0")
    assert proposed(PROGRAM, "@once\ndef g():\n    return 0").count("@once\ndef g():\n    return 0\n\n\nassert") == 1


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("print('hello')", "def f(): ..."),
        ("def f(): ...\ndef g(): ...", "def f(): return 1\ndef g(): return 2\n"),
        ("def f(:", "def f(): return 1"),
        ("def f(): ...\nx = 1", "def f(:"),
        ("", "x = 1"),
        ("def f(): ...\nx = 1", "-" * 100_000 + "1"),
        ("def f(): ...\nx = 1", f"def f(): ...\nx = {'-' * 2000}1"),
    ],
    ids=["nothing in common", "all of it", "broken program", "broken answer", "empty", "too deep", "too deep to write"],
)
def test_else_the_answers_code_is_the_program(program: str, code: str) -> None:
    assert proposed(program, code) == f"{code.rstrip()}\n"


def test_a_difference_has_numbers_of_both_sides_and_leaves_out_what_is_far() -> None:
    before = "\n".join(f"line {number}" for number in range(1, 31))
    after = before.replace("line 10", "line ten").replace("line 30", "line 30\nline 31")
    found = difference(before, after)
    assert [line.kind for line in found if line.kind != "same"] == ["gap", "removed", "added", "gap", "added"]
    assert [(line.old, line.new) for line in found if line.kind in ("removed", "added")] == [
        (10, None),
        (None, 10),
        (None, 31),
    ]
    assert difference(before, f"{before}\n") == []


def test_a_difference_is_shown_as_text() -> None:
    shown = change(difference("a", "<img src=x>\n</table>"))
    assert "<img" not in shown and "&lt;img src=x&gt;" in shown and "\n" not in shown and "+2 −1" in shown


def test_lines_are_those_of_python_which_end_at_line_breaks_alone() -> None:
    program, code = 'def f():\n    return "\x0c\u2028"\n\n\nx = 1\n', 'import os\n\ndef f():\n    return "\u2028\x85"\n'
    assert proposed(program, code) == 'import os\ndef f():\n    return "\u2028\x85"\n\n\nx = 1\n'
    assert [line.new for line in difference("", 'x = "\u2028"\r\ny = 2\r')] == [1, 2]


def test_a_difference_of_thousands_of_equal_lines_takes_no_time() -> None:
    before, after = "a\nx\ny\n" * 5000, "b\n" + "x\ny\nx\n" * 3000 + "y\n"
    with takes_less_than(2.0):
        found = difference(before, after)
    lines = [line.text for line in found if line.kind in ("same", "removed")]
    assert "\n".join([*lines, ""]) == before and found[-1].kind == "same"
