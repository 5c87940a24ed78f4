"""How a problem's tests ask, and further assertions of the same form.

A given assertion is taken apart into one call of the entry point on plain values, what is done with its answer, and how
that is compared:

    assert candidate(nums=[2, 7], target=9) == [0, 1]
    assert is_same_tree(candidate(root=tree_node([4, 2])), tree_node([4, None, 2]))
    assert sorted(f("ab")) == ["a", "b"]
    assert same(candidate([1]), {1: "a"})
    assert math.isclose(f(2), 0.5, rel_tol=1e-06)
    assert not f("")

What an assertion is compared with is computed anew for another call, so that `sorted` or `is_same_tree` stays what it
was. Limits: assertions of other forms, and calls on what is not plain, lead to no further ones.
"""

import ast
import builtins
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.corpus.mining.literals import NotLiteralError, holds_float, value_of, written
from app.corpus.mining.recording import IS_CLOSE
from app.corpus.mining.records import Call
from app.files.python_source import parse
from app.records import Problem, ProblemStyle

NODES = ("list_node", "tree_node")
"""Functions of LeetCodeDataset that make lists and trees of nodes out of plain lists."""
COMPARING = {"is_same_list": "list_node", "is_same_tree": "tree_node", "same": "", "is_close": "", "isclose": ""}
"""Functions whose second argument is what the first should be, with what that is made by."""
_CALL, _EXPECTED = "__call__", "__expected__"
_PLAIN_NODES = re.compile(r"plain_nodes\((.*)\)\Z", re.DOTALL)
Place = int | str
"""Number or name of an argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What assertions have in common whose calls and answers differ. Made by `seeds_of`."""

    callee: str
    """What the assertions call."""
    subject: str
    """Source of what is compared, with __call__ for the call."""
    test: str
    """Source of the assertion's test, with __expected__ for the answer as well; empty for an answer that has to be true
    or false."""
    made_by: tuple[tuple[Place, str], ...]
    """Arguments that are made of plain lists, with what makes them: "list_node", "tree_node", or that and "s" for a
    list of them."""
    expected_made_by: str
    """The same of the answer; empty for a plain one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A given assertion, taken apart."""

    form: Form
    call: Call
    """With plain lists for nodes."""
    answers: tuple[Any, ...]
    """What is expected, if that is plain."""


def entry_of(problem: Problem) -> str:
    """The entry point itself, without what converts nodes (`app.problem_sets.linked_nodes`)."""
    found = _PLAIN_NODES.match(problem.entry_point)
    return found[1] if found else problem.entry_point


def all_seeds(problem: Problem) -> list[Seed]:
    """All assertions that can be taken apart, of whatever form."""
    callee, body = _asserting(problem)
    found = [_seed(node, callee) for node in body if isinstance(node, ast.Assert)]
    return [seed for seed in found if seed is not None]


def seeds_of(problem: Problem) -> list[Seed]:
    """The given assertions of the form that most of them have; none where no assertion can be taken apart."""
    seeds = all_seeds(problem)
    if not seeds:
        return []
    form = Counter(seed.form for seed in seeds).most_common(1)[0][0]
    return [seed for seed in seeds if seed.form == form]


def asking(problem: Problem, form: Form) -> str:
    """Source that goes behind a program: __asked__ calls it on plain values and gives, as a plain value, what an
    assertion of this form compares."""
    subject = form.subject.replace(_CALL, f"{entry_of(problem)}(*args, **kwargs)")
    makers = ", ".join(f"{place!r}: {_maker(made_by)}" for place, made_by in form.made_by)
    return f"""


def __asked__(*args, **kwargs):
    makers = {{{makers}}}
    args = [makers[place](value) if place in makers else value for place, value in enumerate(args)]
    kwargs = {{name: makers[name](value) if name in makers else value for name, value in kwargs.items()}}
    return __plain__({subject})


def __plain__(answer):
    if type(answer).__name__ == "ListNode":
        values = []
        while answer is not None and len(values) < 1000:
            values.append(answer.val)
            answer = answer.next
        assert answer is None
        return values
    if type(answer).__name__ == "TreeNode":
        nodes = [answer]
        for node in nodes:
            if node is not None:
                nodes += [node.left, node.right]
                assert len(nodes) < 1000
        values = [None if node is None else node.val for node in nodes]
        while values[-1] is None:
            values.pop()
        return values
    return answer
"""


def is_made(form: Form, value: Any) -> bool:
    """Whether the value can be an answer where the tests make what they expect: a list, or None for no node."""
    return not form.expected_made_by or value is None or isinstance(value, list)


def assertion(form: Form, call: Call, answer: Any) -> str:
    """The assertion that the call has this answer."""
    args: list[tuple[Place, str, Any]] = [(place, "", value) for place, value in enumerate(call.args)]
    args += [(name, f"{name}=", value) for name, value in call.kwargs]
    makers = dict(form.made_by)
    shown = ", ".join(name + _made(value, makers.get(place, "")) for place, name, value in args)
    called = f"{form.callee}({shown})"
    if not form.test:
        return f"assert {called}" if answer else f"assert not {called}"
    expected = _made([] if form.expected_made_by and answer is None else answer, form.expected_made_by)
    test = form.test
    if holds_float(answer) and test in (f"{form.subject} == {_EXPECTED}", f"{form.subject} is {_EXPECTED}"):
        test = f"is_close({form.subject}, {_EXPECTED})"
    return f"assert {test}".replace(_CALL, called).replace(_EXPECTED, expected)


def with_assertions(problem: Problem, lines: Sequence[str]) -> str:
    """The problem's tests with these assertions after the given ones."""
    tests = problem.tests.rstrip("\n")
    helper = "" if "def is_close(" in tests or not any("is_close(" in line for line in lines) else f"\n\n{IS_CLOSE}"
    if problem.style == ProblemStyle.ASSERTIONS:
        return "\n".join([*([helper.strip() + "\n"] if helper else []), tests, *lines]) + "\n"
    source = tests.split("\n")
    last = _check_of(parse(tests)).body[-1]
    indent = re.match(r"\s*", source[last.lineno - 1])
    assert indent is not None and last.end_lineno is not None
    source[last.end_lineno : last.end_lineno] = [indent[0] + line for line in lines]
    return "\n".join(source) + f"\n{helper}"


def can_take_more(problem: Problem) -> bool:
    """Whether further assertions can be put behind the given ones."""
    if problem.style == ProblemStyle.ASSERTIONS:
        return True
    if problem.style != ProblemStyle.CHECK:
        return False
    check = _check_of(parse(problem.tests))
    ends = any(isinstance(node, ast.Return) for node in check.body)
    return check.body[-1].lineno > check.lineno and not ends and ";" not in problem.tests.split("\n")[check.lineno - 1]


def _asserting(problem: Problem) -> tuple[str, list[ast.stmt]]:
    """What the tests call, and the statements that hold their assertions."""
    tree = parse(problem.tests)
    if problem.style == ProblemStyle.ASSERTIONS:
        return problem.entry_point, tree.body
    check = _check_of(tree)
    return check.args.args[0].arg, check.body


def _check_of(tree: ast.Module) -> ast.FunctionDef:
    """The first one: behind it tests of linked nodes define another, which calls it."""
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check")


def _seed(node: ast.Assert, callee: str) -> Seed | None:
    calls = [n for n in ast.walk(node.test) if isinstance(n, ast.Call) and ast.unparse(n.func) == callee]
    if len(calls) != 1:
        return None
    (called,) = calls
    compared = _compared(node.test, called)
    if compared is None:
        return None
    subject, expected, test = compared
    named: list[tuple[Place, ast.expr]] = [*enumerate(called.args)]
    named += [(keyword.arg or "", keyword.value) for keyword in called.keywords]
    try:
        plain = {place: _unmade(value) for place, value in named}
        answers, made_by = _answer(expected)
    except NotLiteralError:
        return None
    if "" in plain or made_by.endswith("s"):
        return None
    args = tuple(plain[place][0] for place in range(len(called.args)))
    kwargs = tuple((place, value) for place, (value, _) in plain.items() if isinstance(place, str))
    form = Form(
        callee=callee,
        subject=subject,
        test=test,
        made_by=tuple((place, maker) for place, (_, maker) in plain.items() if maker),
        expected_made_by=made_by,
    )
    return Seed(form=form, call=Call(args=args, kwargs=kwargs), answers=answers)


def _compared(test: ast.expr, called: ast.Call) -> tuple[str, ast.expr, str] | None:
    """Source of what is compared, what it is compared with, and source of the test; None for another form."""

    def shown(node: ast.expr, expected: ast.expr | None) -> str:
        swapped = _Swapped({id(called): _CALL} | ({id(expected): _EXPECTED} if expected is not None else {}))
        return ast.unparse(swapped.visit(node))

    def holds(node: ast.expr) -> bool:
        return any(inner is called for inner in ast.walk(node))

    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]) if holds(left) != holds(right):
            subject, expected = (left, right) if holds(left) else (right, left)
            operator = "==" if isinstance(test.ops[0], ast.Eq) else "is"
            source = shown(subject, None)
            return (source, expected, f"{source} {operator} {_EXPECTED}") if _is_known(subject, called) else None
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=left, op=ast.Sub(), right=right)]),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[ast.Constant()],
        ) if holds(left) != holds(right):
            subject, expected = (left, right) if holds(left) else (right, left)
            source = shown(subject, None)
            return (source, expected, shown(test, expected)) if _is_known(subject, called) else None
        case ast.Call(func=function, args=[subject, expected, *_]) if holds(subject) and not holds(expected):
            name = ast.unparse(function).removeprefix("math.")
            if name in COMPARING and _is_known(subject, called):
                return shown(subject, None), expected, shown(test, expected)
        case ast.Call() if test is called:
            return f"bool({_CALL})", ast.Constant(True), ""
        case ast.UnaryOp(op=ast.Not(), operand=operand) if operand is called:
            return f"bool({_CALL})", ast.Constant(False), ""
    return None


class _Swapped(ast.NodeTransformer):
    """Names in the place of nodes; the tree that is given stays."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names

    def visit(self, node: ast.AST) -> Any:
        if id(node) in self._names:
            return ast.Name(id=self._names[id(node)], ctx=ast.Load())
        copied = type(node)(**dict(ast.iter_fields(node)))
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(copied, name, [self.visit(v) if isinstance(v, ast.AST) else v for v in value])
            elif isinstance(value, ast.AST):
                setattr(copied, name, self.visit(value))
        return copied


def _is_known(subject: ast.expr, called: ast.Call) -> bool:
    """Whether what is done with the answer can be done beside any program."""
    inside = {id(inner) for inner in ast.walk(called)}
    names = [n.id for n in ast.walk(subject) if isinstance(n, ast.Name) and id(n) not in inside]
    return all(hasattr(builtins, name) for name in names)


def _answer(node: ast.expr) -> tuple[tuple[Any, ...], str]:
    """The expected value, if it is plain, and what it is made by."""
    try:
        value, made_by = _unmade(node)
    except NotLiteralError:
        if any(isinstance(inner, ast.Name) and inner.id in NODES for inner in ast.walk(node)):
            raise
        return (), ""
    return (value,), made_by


def _unmade(node: ast.expr) -> tuple[Any, str]:
    """The plain value of an argument and what it is made by. Raises NotLiteralError."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in NODES:
            return value_of(inner, {}), name
        case ast.List(elts=[first, *_]) if isinstance(first, ast.Call):
            pairs = [_unmade(item) for item in node.elts]
            makers = {maker for _, maker in pairs}
            if len(makers) == 1 and makers <= set(NODES):
                return [value for value, _ in pairs], f"{makers.pop()}s"
    return value_of(node, {}), ""


def _maker(made_by: str) -> str:
    return f"lambda values: [{made_by[:-1]}(value) for value in values]" if made_by.endswith("s") else made_by


def _made(value: Any, made_by: str) -> str:
    if made_by.endswith("s"):
        return "[" + ", ".join(_made(item, made_by[:-1]) for item in value) + "]"
    return f"{made_by}({written(value)})" if made_by else written(value)
