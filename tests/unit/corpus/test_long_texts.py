"""What is read of others is read in a time that grows with its length: no long run of one thing holds a build up."""

import ast
from collections.abc import Callable

import pytest

from app.corpus.clean.secrets import find_secrets
from app.corpus.examples.quality import poor_docstring
from app.corpus.examples.shown import unguessable
from app.corpus.sources.headers import judge_header, without_notices
from app.corpus.sources.licence_texts import recognised_text
from app.corpus.sources.licences import judge_expression
from tests.costs import takes_less_than
from tests.unit.corpus.sources.test_licences import MIT

COMMENTS = "#\n" * 30_000
LINES = "\n" * 30_000
BEGINS = "Permission is hereby granted, free of charge. " * 10_000


def _missing_lines(text: str) -> list[str]:
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    return unguessable(function, 2, 2, "")


@pytest.mark.parametrize(
    ("read", "text"),
    [
        pytest.param(without_notices, f"{COMMENTS}x = 1\n", id="empty comments, notices cut off"),
        pytest.param(
            lambda text: judge_header(text, "MIT"), f"# License: MIT\n{COMMENTS}", id="empty comments, judged"
        ),
        pytest.param(
            lambda text: judge_header(text, "MIT"), f"x = 1\n# License: MIT\n{COMMENTS}", id="empty comments, later"
        ),
        pytest.param(recognised_text, f"{MIT}{LINES}", id="empty lines of a licence"),
        pytest.param(recognised_text, f"{BEGINS}dealings in the software", id="begins of a licence"),
        pytest.param(poor_docstring, f"What is said before{LINES}and after it.", id="empty lines of a docstring"),
        *(
            pytest.param(find_secrets, f"{word}{LINES}", id=f"empty lines after {word.strip()!r}")
            for word in ("password", "authorization", "token", "secret = ['q8Xv2LmP9rTz4KwB7nJd'")
        ),
        pytest.param(judge_expression, " OR ".join(f"(A-{n} AND B-{n})" for n in range(1000)), id="an expression"),
        pytest.param(_missing_lines, "def f(a):\n    a" + ".b()" * 500, id="a chain of calls"),
    ],
)
def test_a_long_run_takes_no_time(read: Callable[[str], object], text: str) -> None:
    read("password = 'x'\n# License: MIT\n" if read is not _missing_lines else "def f():\n    pass")  # reads its tables
    with takes_less_than(0.7):
        read(text)
