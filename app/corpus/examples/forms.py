"""The way from documents and solved problems to training examples, in the forms that the recipe draws.

Documents: doc_to_code, code_to_doc, fill_in, multi_file (dialogues), completion and file (plain text). Solved problems:
problem (as HumanEval and MBPP ask, in chat and as text), fix_bug, code_to_doc, fill_in. Questions are in the very words
of the suites where a suite has such, so that what is trained is what is asked. Everything is drawn by hash, so an
example depends on its document, the shares and the seed alone.
"""

import ast
import dataclasses
from collections.abc import Callable, Iterator, Mapping

from app.corpus.clean.documents import FILE_MARK
from app.corpus.draws import Draws
from app.corpus.examples.quality import MAX_LINES, parsed, poor_docstring, prose_of, unfit_reason
from app.corpus.examples.shown import MAX_GUESSED, Function, is_cut, unguessable, unshown_reason
from app.corpus.examples.words import (
    DOCSTRING,
    FILL,
    FILL_IN,
    FIX,
    MULTI_FILE,
    SUMMARY,
    WITH_DOCSTRING,
    as_task,
    fenced,
    first_sentences,
    worded,
)
from app.corpus.records import FILE, Bug, Document, Example, SolvedProblem
from app.files import python_source
from app.prompting.protocols import answer, ask
from app.prompting.questions import MBPP_END, apps_question, mbpp_frame, mbpp_question
from app.records import Problem, ProblemStyle

MAX_TEST_CHARS = 160
"""A longer assertion is not shown."""
MAX_BUGS = 2
"""Shown of one problem, at most."""
MIN_FILL_LINES, MAX_FILL_LINES = 1, 8
Reject = Callable[[str, str], None]
"""What is called with a form and the reason why a document that was drawn for it is left out."""
_ASKED_WITHOUT_TESTS: dict[str, Callable[[Problem], str]] = {"leetcode": lambda p: p.prompt, "apps": apps_question}
"""Questions by the source of the problem; other sources are asked as HumanEval and MBPP ask."""
FENCE = "```"


def document_examples(
    document: Document,
    forms: Mapping[str, float],
    seed: int,
    *,
    fills_in: bool,
    reject: Reject = lambda form, why: None,
) -> Iterator[Example]:
    """The document in each form that it is drawn for and fit for.

    forms: part of the documents that is shown in each form, by `Example.form`; what is missing counts as 0. fills_in:
    whether the model has fill-in-the-middle tokens (`app.corpus.rows.render.fills_in`); others are asked for missing
    lines in a chat.
    """
    if document.kind == FILE:
        if drawn(forms, "file", document.text, seed):
            yield Example(form="file", completion=document.text)
        return
    if FENCE in document.text + document.context:
        return reject("dialogue", f"code fence: {document.name} holds {FENCE}, which would end its code block")
    own, others = split_context(document.context)
    whole = f"{own}\n\n{document.header}" if own else document.header
    bodies = [form for form in ("doc_to_code", "completion") if drawn(forms, form, document.text, seed)]
    unfit = unfit_reason(dataclasses.replace(document, context=own)) if bodies else ""
    if "doc_to_code" in bodies:
        if unfit:
            reject("doc_to_code", unfit)
        else:
            yield _dialogue("doc_to_code", ask(whole), answer(document.text))
    if others and drawn(forms, "multi_file", document.text, seed):
        if reason := unfit_reason(document):
            reject("multi_file", reason)
        else:
            yield _multi_file(document, whole, others, seed)
    function = parsed(document.text)
    if function and drawn(forms, "code_to_doc", document.text, seed):
        yield from _code_to_doc(document.text, function, seed, reject)
    if function and drawn(forms, "fill_in", document.text, seed):
        yield from _fill_in(document.text, function, fills_in, seed, reject)
    if "completion" in bodies:
        imports = _imports(own)
        if reason := unfit or unfit_reason(dataclasses.replace(document, context=imports)):
            return reject("completion", reason)
        given = f"{imports}\n\n{document.header}" if imports else document.header
        yield _body("completion", given, document.text.removeprefix(document.header))


def problem_examples(
    solved: SolvedProblem,
    forms: Mapping[str, float],
    seed: int,
    *,
    fills_in: bool,
    reject: Reject = lambda form, why: None,
) -> Iterator[Example]:
    """The problem in each form that it is drawn for; no form for a problem that is not on the training side, or whose
    solution would end its own code block. Three of the tests at most are shown, and never all."""
    problem = solved.problem
    if problem.split != "train" or FENCE in solved.solution:
        return
    if drawn(forms, "problem", problem.id, seed):
        for question in _questions(solved, seed):
            yield _dialogue("problem", question, answer(solved.solution))
        yield from _plain_problem(solved, seed)
    if drawn(forms, "fix_bug", problem.id, seed):
        bugs = Draws(f"{seed}:bugs:{problem.id}").shuffled(solved.bugs)[:MAX_BUGS]
        for bug in bugs:
            yield _fix_bug(solved, bug, seed)
    found = _entry(solved)
    if not found:
        return
    source, function = found
    if _is_apart(function) and drawn(forms, "code_to_doc", problem.id, seed):
        yield from _code_to_doc(source, function, seed, reject)
    if drawn(forms, "fill_in", problem.id, seed):
        yield from _fill_in(source, function, fills_in, seed, reject)


def drawn(forms: Mapping[str, float], form: str, key: str, seed: int) -> bool:
    """Whether the hash draw of the key falls into the form's share."""
    return Draws(f"{seed}:{form}:{key}").below(2**32) < forms.get(form, 0) * 2**32


def split_context(context: str) -> tuple[str, dict[str, str]]:
    """A document's context as the code of its own file, and of all files by path, its own last; no file where it is
    alone."""
    if not context.startswith(FILE_MARK):
        return context, {}
    files = {}
    for block in context.removeprefix(FILE_MARK).split("\n" + FILE_MARK):
        path, _, code = block.partition("\n")
        files[path] = code.strip("\n") + "\n" if code.strip() else ""
    return next(reversed(files.values())), files


def shown_tests(solved: SolvedProblem, seed: int) -> list[str]:
    """Two or three short assertions of the problem's, in its order; always fewer than it has."""
    if solved.problem.style != ProblemStyle.ASSERTIONS:
        return []
    lines = solved.problem.tests.split("\n")
    asserts = [node for node in ast.parse(solved.problem.tests).body if isinstance(node, ast.Assert)]
    short = [
        lines[node.lineno - 1]
        for node in asserts
        if node.lineno == node.end_lineno
        and len(lines[node.lineno - 1]) <= MAX_TEST_CHARS
        and not lines[node.lineno - 1].startswith("assert is_close(")  # a helper of the tests' own
    ]
    draws = Draws(f"{seed}:tests:{solved.problem.id}")
    wanted = min(2 + draws.below(2), len(asserts) - 1)
    return [short[i] for i in sorted(draws.shuffled(range(len(short)))[: max(0, wanted)])]


def _questions(solved: SolvedProblem, seed: int) -> Iterator[str]:
    """What the suites ask in chat."""
    problem = solved.problem
    if question := _ASKED_WITHOUT_TESTS.get(problem.source):
        yield question(problem)
        return
    if f"def {problem.entry_point}(" in problem.prompt:
        yield ask(problem.prompt)
    if tests := shown_tests(solved, seed):
        yield mbpp_question(_task(solved, seed), "\n".join(tests))


def _plain_problem(solved: SolvedProblem, seed: int) -> Iterator[Example]:
    """One of the completion protocols: HumanEval's, where the body is written, or MBPP's."""
    if solved.problem.source in _ASKED_WITHOUT_TESTS:
        return
    given = solved.problem.prompt.rstrip("\n") + "\n"
    is_code = f"def {solved.problem.entry_point}(" in given and solved.solution.startswith(given)
    tests = shown_tests(solved, seed)
    if is_code and (not tests or Draws(f"{seed}:protocol:{solved.problem.id}").below(2)):
        yield _body("problem", given, solved.solution.removeprefix(given))
    elif tests:
        asked = mbpp_frame(_task(solved, seed), "\n".join(tests))
        yield Example(form="problem", prompt=asked, completion=f"\n{solved.solution.strip()}\n{MBPP_END}")


def _body(form: str, given: str, body: str) -> Example:
    """A body after what it goes on from, as the completion protocol has them: the prompt without its last newline,
    which the body begins with (`app.prompting.protocols`)."""
    return Example(form=form, prompt=given.rstrip("\n"), completion=f"\n{body}")


def _task(solved: SolvedProblem, seed: int) -> str:
    return as_task(solved.description, Draws(f"{seed}:task:{solved.problem.id}"))


def _fix_bug(solved: SolvedProblem, bug: Bug, seed: int) -> Example:
    draws = Draws(f"{seed}:fix:{solved.problem.id}:{bug.program}")
    tests = shown_tests(solved, seed)
    place = f" in `{solved.problem.entry_point}`" if solved.problem.entry_point.isidentifier() else ""
    more = "" if solved.description[:40] in bug.program else f"\nIts task: {solved.description.strip()}"
    if bug.failure and len(bug.failure) <= 2 * MAX_TEST_CHARS:
        more += f"\nIt fails this test:\n{fenced(bug.failure)}"
    elif tests:
        more += f"\nIt has to pass tests such as these:\n{fenced(chr(10).join(tests))}"
    return _dialogue(
        "fix_bug", worded(FIX, draws, place=place, code=fenced(bug.program), more=more), answer(solved.solution)
    )


def _multi_file(document: Document, whole: str, files: Mapping[str, str], seed: int) -> Example:
    *others, path = files
    blocks = " And here is ".join(f"`{other}`:\n{fenced(files[other])}" for other in others)
    draws = Draws(f"{seed}:words:{document.text}")
    question = worded(MULTI_FILE, draws, others=blocks, name=document.name, path=path, code=fenced(whole))
    return _dialogue("multi_file", question, answer(document.text))


def _code_to_doc(source: str, function: Function, seed: int, reject: Reject) -> Iterator[Example]:
    if (num_lines := source.count("\n")) > MAX_LINES:
        return reject("code_to_doc", f"long function: {num_lines} lines")
    docstring = ast.get_docstring(function) or ""
    if reason := poor_docstring(docstring):
        return reject("code_to_doc", f"poor docstring: {reason}")
    draws = Draws(f"{seed}:describe:{source}")
    code = without_docstring(source, function)
    values = {"code": fenced(code), "name": function.name}
    form = draws.below(4)
    summary = first_sentences(prose_of(docstring))
    if reason := unshown_reason(docstring if form < 2 else summary, code):
        return reject("code_to_doc", reason)
    if form == 0:
        said = docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        end = "\n" if "\n" in said or said.endswith('"') else ""
        yield _dialogue("code_to_doc", worded(DOCSTRING, draws, **values), fenced(f'"""{said}{end}"""'))
    elif form == 1:
        yield _dialogue("code_to_doc", worded(WITH_DOCSTRING, draws, **values), answer(source))
    else:
        yield _dialogue("code_to_doc", worded(SUMMARY, draws, **values), summary[:1].upper() + summary[1:])


def _is_apart(function: Function) -> bool:
    """Whether the docstring has lines to itself, with code on others: else the code can't be shown without it."""
    first, *others = function.body
    return bool(others) and function.lineno < first.lineno and (first.end_lineno or 0) < others[0].lineno


def without_docstring(source: str, function: Function) -> str:
    """The source without the lines of its first statement, which is the docstring."""
    lines = source.split("\n")
    node = function.body[0]
    return "\n".join(lines[: node.lineno - 1] + lines[node.end_lineno or node.lineno :])


def _fill_in(source: str, function: Function, fills_in: bool, seed: int, reject: Reject) -> Iterator[Example]:
    """A dialogue or text that asks for some lines of the body, from what comes before and after them; in the model's
    own tokens also for parts of a line."""
    lines = source.rstrip("\n").split("\n")
    first = (
        (function.body[0].end_lineno or 1) if ast.get_docstring(function) is not None else function.body[0].lineno - 1
    )
    if len(lines) - first < 3 or len(lines) > MAX_LINES:
        return reject("fill_in", f"unfit length: {len(lines)} lines, {len(lines) - first} of them code")
    if FILL in source:
        return reject("fill_in", f"mark in the code: {FILL}")
    draws = Draws(f"{seed}:span:{source}")
    codes = [number for number in range(first, len(lines)) if lines[number].strip()]
    start = draws.one_of(codes)
    end = min(len(lines), start + MIN_FILL_LINES + draws.below(MAX_FILL_LINES))
    while not lines[end - 1].strip():
        end -= 1
    if all(line.lstrip().startswith("#") for line in lines[start:end] if line.strip()):
        return reject("fill_in", "comment alone: no code is missing")
    if not fills_in and is_cut(function, start + 1, end):
        return reject("fill_in", f"cut statement: lines {start + 1} to {end}")
    around = "\n".join([*lines[:start], *lines[end:]])
    if len(guessed := unguessable(function, start + 1, end, around)) > MAX_GUESSED:
        return reject("fill_in", f"not to be guessed: {', '.join(guessed[:5])}")
    line = lines[start]
    column = len(line) - len(line.lstrip())  # where an editor's cursor may be
    if not fills_in:
        # The mark is alone on its line and the answer brings its indentation: put in its place, it fits as it is.
        asked = "\n".join([*lines[:start], FILL, *lines[end:]])
        yield _dialogue("fill_in", worded(FILL_IN, draws, code=fenced(asked)), fenced("\n".join(lines[start:end])))
        return
    if draws.below(2):
        column += draws.below(max(1, len(line.strip())))
    prefix = "\n".join([*lines[:start], line[:column]])
    middle = "\n".join([line[column:], *lines[start + 1 : end]])
    yield Example(form="fill_in", prompt=prefix + FILL + "\n".join(["", *lines[end:]]), completion=middle)


def _entry(solved: SolvedProblem) -> tuple[str, Function] | None:
    """The function that the problem asks for, alone, if it is one of the solution's module level."""
    tree, lines = python_source.parsed(solved.solution), solved.solution.split("\n")
    for node in tree.body if tree else ():
        if isinstance(node, Function) and node.name == solved.problem.entry_point:
            source = "\n".join(lines[node.lineno - 1 : node.end_lineno]) + "\n"
            function = parsed(source)
            return (source, function) if function else None
    return None


def _imports(context: str) -> str:
    lines = [line for line in context.split("\n") if line.startswith(("import ", "from "))]
    return "\n".join(lines) + "\n" if lines else ""


def _dialogue(form: str, question: str, reply: str) -> Example:
    return Example(form=form, turns=({"role": "user", "content": question}, {"role": "assistant", "content": reply}))
