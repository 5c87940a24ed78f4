"""A question shows what its answer needs: each rule refuses what only the author knows, and takes what can be known."""

import ast
import textwrap
from collections.abc import Iterator

import pytest

from app.corpus.examples.forms import document_examples
from app.corpus.examples.quality import poor_docstring, unfit_reason
from app.corpus.examples.shown import (
    hidden_imports,
    hidden_words,
    is_cut,
    unguessable,
    unshown_names,
    unshown_reason,
)
from app.corpus.examples.tool_dialogues import NOT_FOUND, tool_example
from app.corpus.examples.words import first_sentences
from app.corpus.records import FUNCTION, Document, Example


def function_of(source: str) -> ast.FunctionDef:
    (node,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(node, ast.FunctionDef)
    return node


def document_of(body: str, docstring: str = "Return what becomes of the text x.", name: str = "f") -> Document:
    header = f'def {name}(x):\n    """{docstring}"""\n'
    return Document(kind=FUNCTION, name=name, text=header + body, header=header)


# ---------------------------------------------------------------- constants of a body


@pytest.mark.parametrize(
    ("body", "shown", "hidden"),
    [
        ("return alphabet[int(x[2:18]) % 529 % 23]", "check digits", ["18", "23", "529"]),
        ("return env.get('OSTYPE') == 'msys' or env['MSYSTEM']", "mingw", ["msys", "msystem", "ostype"]),
        ("return headers.get('openai-poll-after-ms')", "poll the headers", ["after", "openai"]),
        ("return x['card']['price'] * 1.19", "price of the card", ["1.19"]),
        ("return x['card']['price']", "price of the card", []),
        ("return x.encode('utf-8', 'replace')[:1024] * 60", "", []),
        ("return 0.5 * x ** 2 + 1e-6 + 100 + 255 + 3600 + 0.001", "", []),
        ("raise ValueError('qwerty')", "", []),
        ("log.warning('qwerty', asdfgh='zxcv')", "", []),
        ("return 'There is no such thing: ' + x", "", []),
        ("return sorted(x, key='; ,'.split)", "", []),
        ("return x == True or x == False or x is None", "", []),
    ],
)
def test_keys_and_numbers_that_nothing_shows_are_found(body: str, shown: str, hidden: list[str]) -> None:
    assert hidden_words(ast.parse(body).body, shown) == hidden


def test_odd_constants_are_told_too() -> None:
    assert hidden_words(ast.parse(f"x = {10**4000}").body, "") == [hex(10**4000)[:20]]
    assert hidden_words(ast.parse("x = '\\ud800 qwerty', 1e400, 3j, b'asdf'").body, "") == ["inf", "qwerty"]


def test_a_body_may_have_one_hidden_constant_and_no_more() -> None:
    one = document_of("    return x.removeprefix('qwerty') if x else ''\n")
    assert unfit_reason(one) == ""
    two = document_of("    return x.removeprefix('qwerty').removesuffix('asdf') if x else ''\n")
    assert unfit_reason(two) == "hidden constants: asdf, qwerty"
    told = document_of(two.text.removeprefix(two.header), "Return x without the qwerty before and the asdf after it.")
    assert unfit_reason(told) == ""


# ---------------------------------------------------------------- imports and length of a body


@pytest.mark.parametrize(
    ("line", "shown", "hidden"),
    [
        ("from zarr.util import normalize_path", "", ["normalize_path"]),
        ("from . import EMOJI", "", ["EMOJI"]),
        ("import zarr.util", "import zarr", ["zarr.util"]),
        ("from zarr.util import normalize_path", "from zarr.util import normalize_path", []),
        ("import os.path, re", "", []),
        ("from collections.abc import Mapping", "", []),
    ],
)
def test_what_a_body_imports_is_shown_or_of_the_standard_library(line: str, shown: str, hidden: list[str]) -> None:
    assert hidden_imports(function_of(f"def f(x):\n    {line}\n"), shown) == hidden
    document = document_of(f"    {line}\n    return str(x) + 'a'\n")
    document = Document(kind=FUNCTION, name="f", text=document.text, header=document.header, context=shown)
    assert unfit_reason(document).partition(":")[0] == ("hidden imports" if hidden else "")


def test_many_lines_are_not_asked_for_with_few_words() -> None:
    body = "    y = []\n" + "    y.append(x)\n" * 14 + "    return y\n"
    assert unfit_reason(document_of(body)) == "too little told: 16 lines in 6 words"
    longer = "Return a list that has the text x fourteen times over, each of them the very same object."
    assert unfit_reason(document_of(body, longer)) == ""


def test_a_docstring_that_begins_with_a_condition_does_not_say_what_is_done() -> None:
    assert poor_docstring("If there is nothing to register, returns None.") == "it begins with a condition"
    assert poor_docstring("Register all transports, if there are any of them.") == ""


# ---------------------------------------------------------------- docstrings


def test_a_list_of_numbers_is_not_cut_as_a_sentence() -> None:
    assert first_sentences("Look in this order: 1. Here 2. There 3. Nowhere. Then stop.", 1).endswith("Nowhere.")
    assert first_sentences("Look here. Then stop.", 1) == "Look here."


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        ("Convert a reason into the bytes of an XQA frame.", "def f(reason): return reason.encode()", ["XQA"]),
        ("Return it as `OAuthMetadata.issuer` does.", "def f(url): return url", ["OAuthMetadata.issuer"]),
        ("Check a number of El Salvador.", "def f(number): return bool(number)", ["Salvador"]),
        ("Follow RFC 2818.", "def f(x): return x", ["RFC", "2818", "RFC 2818"]),
        ("Return x.\n\nSee Also\n--------\nother", "def f(x): return x", ["Also", "See Also"]),
        ("Return x.\n\n.. versionadded:: new", "def f(x): return x", [".. versionadded"]),
        ("Return x. Explained at https://example.org", "def f(x): return x", ["https://"]),
        ("Return the JSON text of `user_names`, or None.", "def f(user_names): return dumps(user_names)", []),
        ("Return a Frame for each URL. Frames are counted.", "def f(urls): return map(Frame, urls)", []),
        ("Split the text into words.", "def f(x): return x.split()", []),
    ],
)
def test_names_that_the_code_does_not_have_are_found(said: str, code: str, named: list[str]) -> None:
    assert unshown_names(said, code) == named


def test_a_docstring_that_repeats_a_text_of_the_code_describes_nothing() -> None:
    code = "def create_size(meter):\n    return meter.histogram(SIZE, description='Size of the response bodies.')"
    assert unshown_reason("Size of the response bodies", code) == "docstring that repeats a text of the code"
    assert unshown_reason("Create a histogram of the response bodies.", code) == ""


def described(docstring: str) -> tuple[list[Example], list[tuple[str, str]]]:
    rejected: list[tuple[str, str]] = []
    document = document_of("    y = x.strip()\n    return y.upper()\n", docstring)
    forms = {"code_to_doc": 1.0}
    return list(
        document_examples(document, forms, 0, fills_in=True, reject=lambda *why: rejected.append(why))
    ), rejected


def test_a_docstring_of_what_the_code_does_not_show_is_not_learnt_and_says_so() -> None:
    assert described("Return the text as the Zephyr protocol of 1987 has it.") == (
        [],
        [("code_to_doc", "docstring of what is not shown: Zephyr, 1987")],
    )
    examples, rejected = described("Return the text without blanks around it, in capitals.")
    assert len(examples) == 1 and not rejected


# ---------------------------------------------------------------- missing lines

MISSING = """
def f(words, limit):
    found = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    frame = Frame(
        found,
        title="counts",
    )
    return registry.settle(frame, key="zxcv")
"""


@pytest.mark.parametrize(
    ("first", "last", "guessed"),
    [
        (4, 4, []),
        (3, 4, []),
        (5, 8, ["Frame", "title", "counts"]),
        (9, 9, ["settle", "registry", "key", "zxcv"]),
    ],
)
def test_names_in_missing_lines_are_to_be_found_around_them(first: int, last: int, guessed: list[str]) -> None:
    lines = MISSING.strip().split("\n")
    around = "\n".join([*lines[: first - 1], *lines[last:]])
    assert sorted(unguessable(function_of(MISSING.strip()), first, last, around)) == sorted(guessed)


@pytest.mark.parametrize(
    ("first", "last", "cut"), [(2, 2, False), (3, 4, False), (3, 3, False), (5, 8, False), (5, 6, True), (8, 9, True)]
)
def test_missing_lines_that_cut_a_statement_are_told(first: int, last: int, cut: bool) -> None:
    assert is_cut(function_of(MISSING.strip()), first, last) == cut


def test_a_case_of_a_match_is_no_cut_statement() -> None:
    source = "def f(x):\n    match x:\n        case 1:\n            return 2\n        case 2:\n            return 3\n"
    assert not is_cut(function_of(source), 5, 6) and not is_cut(function_of(source), 4, 5)
    assert is_cut(function_of(source), 3, 4), "the first case belongs to the head"


def test_a_comment_alone_is_not_asked_for() -> None:
    rejected: list[tuple[str, str]] = []
    text = "def f(x):\n    y = x\n" + "    # first the one, then the other\n" * 40 + "    return y\n"
    document = Document(kind=FUNCTION, name="f", text=text, header="")
    for seed in range(8):
        for example in document_examples(
            document, {"fill_in": 1.0}, seed, fills_in=True, reject=lambda *why: rejected.append(why)
        ):
            assert "y" in example.completion, "no line of code"
    assert set(rejected) == {("fill_in", "comment alone: no code is missing")}


def test_lines_that_can_be_guessed_are_asked_for_and_others_not() -> None:
    seen = set()
    for number in range(60):
        text = MISSING.strip().replace("found", f"found{number}") + "\n"
        rejected: list[tuple[str, str]] = []
        document = Document(kind=FUNCTION, name="f", text=text, header="")
        forms = {"fill_in": 1.0}
        made = list(document_examples(document, forms, 0, fills_in=False, reject=lambda *why: rejected.append(why)))  # noqa: B023
        seen.add(rejected[0][1].partition(":")[0] if rejected else "made")
        for example in made:
            assert "zxcv" not in str(example.turns[-1]["content"]), "nobody can know that key"
    assert seen == {"made", "not to be guessed", "cut statement"}


# ---------------------------------------------------------------- the documentation search


def dialogues() -> Iterator[tuple[str, Example]]:
    pairs = []
    for owner in ("alpha-real", "beta-real"):
        for number in range(40):
            docstring = f"Return the text x with {owner} {number} added to its end."
            pairs.append((owner, document_of("    return x + x.strip()\n", docstring, f"{owner[:4]}_{number}")))
    for place, (owner, _) in enumerate(pairs):
        for example in tool_example(pairs, place, {"tool_use": 1.0}, 0):
            yield owner, example


def test_nothing_is_said_to_be_missing_in_a_real_library() -> None:
    assert set(NOT_FOUND) == {"unknown", "missing"}
    answers = [(owner, str(example.turns[-1]["content"])) for owner, example in dialogues()]
    missing = [(owner, said) for owner, said in answers if "could not find" in said]
    assert missing and not [said for owner, said in missing if owner in said]


def test_a_real_library_is_credited_with_its_own_functions_alone() -> None:
    lines = [
        line
        for _, example in dialogues()
        for turn in example.turns
        if turn["role"] == "tool"
        for line in str(turn["content"]).split("\n")
    ]
    real = [line.split() for line in lines if "-real" in line.split()[1]]
    assert real and all(name.startswith(library[:4]) for _, library, name, *_ in real)
