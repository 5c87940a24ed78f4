"""The texts of a problem, made of a candidate: prompt in HumanEval's form, whole program, description; and how hard it
looks."""

import ast
import copy
import re

from app.corpus.mining.records import Candidate

MIN_WORDS = 3
MAX_DOCSTRING_CHARS = 3000
_FIELD = re.compile(r"^\s*(:\w+[^:]*:|@\w+|\.\. \w+)", re.M)
_HEADING = re.compile(r"\n[^\n]*\b(examples?|doctests?|usage|tests?)\b[^\n]*:*\s*(\n\s*[-=~^*]{3,}\s*)?\Z", re.I)
_POINTS_ELSEWHERE = re.compile(
    r"\b(version|variant|wrapper|implementation|equivalent|port|copy) of\b|\b(same|like|similar to|see) :?\w*:?`"
    r"|\bused (inside|internally)\b|\b(helper|auxiliary|utility)( function| method| routine)? (for|to|of)\b"
    r"|\binternal use\b|not (meant|intended) to be used|\bsubtle case\b",
    re.I,
)
"""The words of a docstring for those who know another function."""
ENOUGH_WORDS = 25
"""A docstring of this many words says something of its own, whatever it points to."""
EASY, MEDIUM, HARD = "easy", "medium", "hard"
_BRANCHES = (
    ast.If, ast.For, ast.While, ast.Try, ast.IfExp, ast.BoolOp, ast.comprehension, ast.With, ast.Lambda,
)  # fmt: skip


def prompt_of(candidate: Candidate, examples: tuple[tuple[str, str], ...] = ()) -> str:
    """The problem's prompt: imports, helpers, signature, docstring. examples: (call, result) to be written at the
    docstring's end."""
    docstring = candidate.docstring
    if examples:
        shown = "\n".join(f">>> {call}\n{result}" for call, result in examples)
        docstring = f"{docstring.rstrip()}\n\n{shown}"
    header = candidate.signature + _quoted(docstring, _indent(candidate))
    return f"{candidate.prelude}\n\n{header}" if candidate.prelude else header


def program_of(candidate: Candidate, prompt: str) -> str:
    return prompt + candidate.body


def function_of(candidate: Candidate) -> ast.FunctionDef:
    """The syntax tree of the function itself."""
    function = ast.parse(candidate.signature + _quoted("doc", _indent(candidate)) + candidate.body).body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


def _indent(candidate: Candidate) -> str:
    code = next(line for line in candidate.body.split("\n") if line.strip() and not line.lstrip().startswith("#"))
    return code[: len(code) - len(code.lstrip())]


def _quoted(docstring: str, indent: str) -> str:
    """The docstring as source, its lines indented."""
    raw = "\\" in docstring and not docstring.endswith("\\")
    text = docstring if raw else docstring.replace("\\", "\\\\")
    quotes = "'''" if '"""' in text else '"""'
    if quotes in text or (raw and text.endswith(quotes[0])):
        text, raw = docstring.replace("\\", "\\\\").replace(quotes, "\\" + quotes), False
    if not raw and text.endswith(quotes[0]):
        text = text[:-1] + "\\" + text[-1]
    lines = text.split("\n")
    rest = "".join("\n" + (indent + line if line.strip() else "") for line in lines[1:])
    end = f"\n{indent}{quotes}" if len(lines) > 1 else quotes
    return f"{indent}{'r' if raw else ''}{quotes}{lines[0]}{rest}{end}\n"


def description_of(docstring: str) -> str:
    """The prose before the examples and before the fields for tools, without the heading over the examples."""
    prose = docstring.partition(">>>")[0].rstrip()
    return _HEADING.sub("", "\n" + prose).strip()


def is_too_poor(docstring: str) -> bool:
    """Whether the prose says too little to solve it by."""
    prose = _FIELD.split(description_of(docstring))[0]
    num_words = len(re.findall(r"[A-Za-z]{2,}", prose))
    few = num_words <= MIN_WORDS and docstring.count(">>>") == 1
    return num_words < MIN_WORDS or few or (num_words < ENOUGH_WORDS and bool(_POINTS_ELSEWHERE.search(prose)))


def without_lines(docstring: str, drop: set[int]) -> str:
    """The docstring without these lines, and without a heading that is left over nothing."""
    kept = "\n".join(line for number, line in enumerate(docstring.split("\n")) if number not in drop)
    kept = re.sub(r"\n{3,}", "\n\n", kept).strip()
    return kept if ">>>" in kept or not drop else _HEADING.sub("", "\n" + kept).strip()


def without_paths(docstring: str, name: str) -> str:
    """The docstring whose examples call the function by its name alone."""
    path = re.compile(rf"(?<![\w.])(?:[A-Za-z_]\w*\.)+{re.escape(name)}\(")
    lines = docstring.split("\n")
    return "\n".join(path.sub(f"{name}(", line) if line.lstrip().startswith((">>>", "...")) else line for line in lines)


def bare_arguments(arguments: ast.arguments) -> ast.arguments:
    """A copy without annotations."""
    bare = copy.deepcopy(arguments)
    for argument in ast.walk(bare):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return bare


def difficulty_of(function: ast.FunctionDef) -> str:
    """A guess from the function's length and branches."""
    body = function.body[1:]
    num_lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
    num_branches = sum(isinstance(node, _BRANCHES) for part in body for node in ast.walk(part))
    if num_lines <= 6 and num_branches <= 2:
        return EASY
    return HARD if num_lines > 20 or num_branches > 7 else MEDIUM


def is_trivial(function: ast.FunctionDef) -> bool:
    """Whether the body is a constant, an argument given back, or a call of another function with the same arguments."""
    body = function.body[1:]
    if len(body) != 1:
        return False
    (only,) = body
    if isinstance(only, ast.Pass | ast.Raise | ast.Global):
        return True
    value = only.value if isinstance(only, ast.Return | ast.Expr) else None
    if value is None:
        return isinstance(only, ast.Return)
    if isinstance(value, ast.Constant | ast.Name | ast.Attribute):
        return True
    if not isinstance(value, ast.Call):
        return False
    names = {arg.arg for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    names |= {arg.arg for arg in (function.args.vararg, function.args.kwarg) if arg}
    given = [*value.args, *(word.value for word in value.keywords)]
    if isinstance(value.func, ast.Attribute) and any(isinstance(arg, ast.Constant) and arg.value for arg in given):
        return False  # re.sub("[aeiou]", "", text): the constant is what has to be known
    plain = all(_is_passed_on(arg, names) for arg in given)
    return plain and isinstance(value.func, ast.Name | ast.Attribute) and not _is_method_of_argument(value.func, names)


def _is_passed_on(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Starred):
        node = node.value
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id in names)


def _is_method_of_argument(node: ast.expr, names: set[str]) -> bool:
    """Whether a call is like `text.split(sep)`, which is something to know; `module.function(text)` and `helper(text)`
    are not."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
