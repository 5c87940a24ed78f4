"""Examples ask what the suites ask, teach only what can be known, and depend on document, shares and seed alone."""

import ast
import dataclasses
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.corpus.clean.documents import FILE_MARK, functions
from app.corpus.examples.forms import document_examples, split_context
from app.corpus.examples.quality import poor_docstring, self_contained, unfit_reason
from app.corpus.examples.words import FILL
from app.corpus.records import FILE, FUNCTION, Document, Example
from app.evaluation.suites.humaneval import HumanEval
from app.prompting.replies import code_block
from app.records import Problem

MODULE = (
    """import math
import os.path as paths
from typing import List, Optional

LIMIT = 10
TABLE = [
"""
    + "    1,\n" * 20
    + ''']


def helper(value):
    """Return twice the value."""
    return 2 * value


@decorated
def spread(values: List[float], centre: Optional[float] = None) -> float:
    """Return the mean distance of the values from a centre, by default their mean.

    >>> spread([1.0, 3.0])
    1.0
    """
    if centre is None:
        centre = sum(values) / len(values)
    distances = [math.fabs(helper(value) / 2 - centre) for value in values]
    return min(LIMIT, sum(distances) / len(distances), len(TABLE))
'''
)
SIMPLE = MODULE.replace("helper(value) / 2", "value").replace("LIMIT, sum", "10, sum").replace(", len(TABLE))", ")")
"""The same function with nothing of its module."""
ALL = dict.fromkeys(
    ("doc_to_code", "code_to_doc", "fill_in", "fix_bug", "multi_file", "problem", "completion", "file"), 1.0
)


def documents(text: str, **more: Any) -> dict[str, Document]:
    return {document.name: document for document in functions(text, ast.parse(text), 10, **more)}


def spread() -> Document:
    return documents(MODULE)["spread"]


def by_form(document: Document, **more: Any) -> dict[str, Example]:
    return {example.form: example for example in document_examples(document, ALL, 0, fills_in=False, **more)}


def asked(example: Example) -> str:
    return str(example.turns[0]["content"])


def answered(example: Example) -> str:
    return str(example.turns[-1]["content"])


# ---------------------------------------------------------------- context


def test_a_function_brings_what_it_uses_and_no_more() -> None:
    context = spread().context
    assert context.startswith("import math\nfrom typing import List, Optional\n") and "os.path" not in context
    assert "def helper(value):" in context and "LIMIT = 10" in context
    assert "TABLE = ..." in context, "a long table is only named"
    assert "decorated" not in context + spread().text
    ast.parse(context + spread().text)


def test_a_form_feed_in_a_file_does_not_shift_the_functions() -> None:
    assert documents(MODULE.replace("\nLIMIT", "\n\x0c\nLIMIT"))["spread"].text == spread().text


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("from .tools import twice", "pkg/main.py"),
        ("from pkg.tools import twice", "pkg/main.py"),
        ("from ..tools import twice", "pkg/inner/main.py"),
        ("from pkg.tools import twice", "src/pkg/inner/main.py"),
    ],
)
def test_code_imported_from_a_file_of_the_package_is_shown_with_its_path(line: str, path: str) -> None:
    main = f'{line}\n\n\ndef four(x):\n    """Return four times the number x."""\n    return twice(twice(x))\n'
    tools = "import operator\n\n\ndef twice(x):\n    return operator.mul(2, x)\n\n\ndef other():\n    return 1\n"
    where = "src/pkg/tools.py" if path.startswith("src") else "pkg/tools.py"
    document = documents(main, path=path, siblings={where: tools, "pkg/broken.py": "def ("})["four"]
    own, files = split_context(document.context)
    assert list(files) == [where, path] and own == f"{line}\n"
    assert files[where].startswith("import operator\n") and "other" not in files[where]
    example = by_form(document)["multi_file"]
    assert f"`{where}`" in asked(example) and "def twice(x):" in asked(example) and line in asked(example)
    assert FILE_MARK not in asked(example)
    assert code_block(answered(example), "def four") == document.text


def test_without_its_helpers_the_same_function_is_not_asked_for() -> None:
    function = 'def f(x):\n    """Return what becomes of the number x."""\n    return a(b(c(x)))\n'
    main = f"from .tools import a, b, c\n\n\n{function}"
    rejected: list[tuple[str, str]] = []
    forms = by_form(documents(main)["f"], reject=lambda form, why: rejected.append((form, why)))
    assert "doc_to_code" not in forms and "multi_file" not in forms
    assert ("doc_to_code", "not self-contained: it uses a, b, c") in rejected


# ---------------------------------------------------------------- quality


@pytest.mark.parametrize(
    ("docstring", "word"),
    [
        ("Frobnicate.", "words"),
        ("See the base class for what this function does.", "elsewhere"),
        ("Thin wrapper around the function of the same name.", "elsewhere"),
        (":param x: the first of the two numbers\n:param y: the second one", "words"),
        ("Args:\n    x: the first of the two numbers to be added\n    y: the second", "words"),
        ("Return the sum of all numbers.\n\n.. deprecated:: 2.1 use total", "deprecated"),
        ("TODO: describe what this function really does here", "unfinished"),
        ("返回列表中所有元素的总和 и возвращает число в конце концов", "English"),
        ("frob(x, y=1) -> int\n\nFrobnicate it.", "words"),
        ("Gibt die Summe aller Zahlen zurueck, welche die Liste enthaelt", "English"),
        ("Return the sum of the numbers in the list.", ""),
        ("Compute the area of a triangle.\n\nArgs:\n    base: of it\n", ""),
    ],
)
def test_docstrings_that_say_too_little_are_told_apart(docstring: str, word: str) -> None:
    reason = poor_docstring(docstring)
    assert word in reason if word else reason == ""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("    return other(x)", "trivial function"),
        ("    x += 1\n" * 70 + "    return x", "long function"),
        ("    y = Frame(x).settle()\n    return Registry.lookup(y, MODE)", "not self-contained"),
        ("    return x.strip().upper() or str(len(x))", ""),
        ("    import re\n    return re.sub('a', 'b', x)", ""),
        ("    words = [w.lower() for w in x.split()]\n    return {w: words.count(w) for w in words}", ""),
    ],
)
def test_what_cannot_be_known_or_is_not_worth_asking_is_left_out(body: str, kind: str) -> None:
    text = f'def f(x):\n    """Return what becomes of the text x."""\n{body}\n'
    reason = unfit_reason(Document(kind=FUNCTION, name="f", text=text, header=""))
    assert reason.partition(":")[0] == kind


def test_names_count_as_known_if_bound_built_in_standard_or_shown() -> None:
    (node,) = ast.parse(
        "def f(a, *b, **c):\n    with open(a) as d:\n        e = d.read()\n    def g(): return e\n"
        "    try: return math.pi + shown(g())\n    except OSError as h: return h.args, stub(e), Unknown, a.weird\n"
    ).body
    assert isinstance(node, ast.FunctionDef)
    share, unknown = self_contained(node, "import math\n\ndef shown(x):\n    return x\n\ndef stub(x):\n    ...\n")
    assert unknown == [".weird", "Unknown", "stub"] and 0.75 < share < 1


# ---------------------------------------------------------------- documents


def test_a_documented_function_is_asked_for_as_humaneval_asks() -> None:
    document = spread()
    example = by_form(document)["doc_to_code"]
    problem = Problem(
        id="p",
        source="",
        licence="MIT",
        prompt=f"{document.context}\n\n{document.header}",
        entry_point="spread",
        tests="",
    )
    assert example.turns[0] == HumanEval().chat(problem, ())[0]  # type: ignore[index]
    program = HumanEval().program(problem, "chat", answered(example))
    assert "def helper" in program and program.endswith(document.text)


def test_completion_shows_imports_and_header_and_learns_the_body_alone() -> None:
    document = documents(SIMPLE)["spread"]
    example = by_form(document)["completion"]
    assert example.prompt.startswith("import math\nfrom typing") and not example.prompt.endswith("\n")
    assert example.prompt.endswith(document.header.rstrip("\n"))
    assert (example.prompt + example.completion).endswith(document.text) and example.completion.startswith("\n    if")


def test_no_label_repeats_the_prompt_where_the_body_alone_is_asked_for() -> None:
    for fills_in in (False, True):
        for example in document_examples(spread(), ALL, 0, fills_in=fills_in):
            if example.form in ("completion", "fill_in"):
                learnt = answered(example) if example.turns else example.completion
                assert "def spread" not in learnt and "mean distance" not in learnt, example.form


def test_the_docstring_is_not_in_the_question_that_asks_for_it() -> None:
    seen = Counter()
    for number in range(60):
        text = spread().text.replace("fabs", f"fabs{number}")
        example = by_form(dataclasses.replace(spread(), text=text))["code_to_doc"]
        assert "mean distance" not in asked(example) and "mean distance" in answered(example)
        ast.parse(code_block(answered(example), "def ")) if "```" in answered(example) else None
        seen[asked(example).split(" ")[0]] += 1
    assert len(seen) >= 4, "the wording varies"


@pytest.mark.parametrize("fills_in", [False, True])
def test_filled_in_the_function_is_whole_again(fills_in: bool) -> None:
    num_made = 0
    for number in range(80):
        text = documents(SIMPLE)["spread"].text.replace("distances", f"distances{number}")
        document = dataclasses.replace(spread(), text=text)
        for example in document_examples(document, {"fill_in": 1.0}, 0, fills_in=fills_in):
            num_made += 1
            if fills_in:
                prefix, suffix = example.prompt.split(FILL)
                assert prefix + example.completion + suffix == text.rstrip("\n")
            else:
                assert FILL in asked(example).split("\n"), "alone on its line"
                given, lines = code_block(asked(example), FILL), code_block(answered(example), "").rstrip("\n")
                assert given.replace(FILL, lines) == text, "the answer in the mark's place, as it is"
            assert '"""' not in example.completion, "the docstring is never what is missing"
    assert num_made > 20


def test_files_are_plain_text_and_nothing_else() -> None:
    document = Document(kind=FILE, name="", text=MODULE, header="")
    assert list(document_examples(document, ALL, 0, fills_in=True)) == [Example(form="file", completion=MODULE)]


def test_a_code_fence_in_a_function_leaves_it_out_with_the_reason() -> None:
    document = dataclasses.replace(spread(), text=spread().text.replace(">>> spread", "```\n    >>> spread"))
    rejected: list[tuple[str, str]] = []
    assert not list(document_examples(document, ALL, 0, fills_in=True, reject=lambda *why: rejected.append(why)))
    assert rejected[0][1].startswith("code fence: ")


def test_shares_are_kept_and_nested_and_the_same_every_time() -> None:
    docs = [Document(kind=FILE, name="", text=f"{MODULE}# {n}\n", header="") for n in range(600)]

    def chosen(share: float, seed: int = 0) -> list[int]:
        return [n for n, d in enumerate(docs) if list(document_examples(d, {"file": share}, seed, fills_in=True))]

    assert 110 < len(chosen(0.25)) < 190 and set(chosen(0.25)) < set(chosen(0.5))
    assert chosen(0.25) == chosen(0.25) != chosen(0.25, seed=1) and not chosen(0.0)


def test_the_repositorys_own_functions_pass_through_every_form() -> None:
    """Real code of many shapes: no crash, no broken code block."""
    seen = Counter()
    for path in sorted(Path(ast.__file__).parent.glob("*.py"))[:60]:
        text = path.read_text(encoding="utf-8")
        for document in functions(text, ast.parse(text), 20):
            for example in document_examples(document, ALL, 0, fills_in=False):
                seen[example.form] += 1
                if example.form == "doc_to_code":
                    ast.parse(textwrap.dedent(code_block(answered(example), f"def {document.name}")))
    assert seen["doc_to_code"] > 20 and seen["fill_in"] > 20 and seen["code_to_doc"] > 20
