"""Programs rewritten by rule, for `benchmarks.contamination`: other names, other order, other shape, the same meaning.

Each rule changes a syntax tree in place, or gives None where it finds nothing to change. The program's own names become
`item_0`, `item_1`, ... in the end.
"""

import ast
import builtins
from collections.abc import Iterable

_Function = ast.FunctionDef | ast.AsyncFunctionDef
BETWEEN = '''

def rounded_up(number, step):
    """Return the least multiple of the step that is not below the number."""
    rest = number % step
    return number if not rest else number + step - rest


'''


def without_words(tree: ast.Module) -> ast.Module:
    """No docstrings and annotations; comments are gone with the parsing."""
    for node in ast.walk(tree):
        if isinstance(node, _Function | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, _Function):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return tree


def under_other_names(tree: ast.Module, prefix: str = "item") -> ast.Module:
    """Every name that the program binds itself, but imports, attributes and keyword arguments of others."""
    own: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, _Function | ast.ClassDef):
            own.setdefault(node.name, "")
        elif isinstance(node, ast.arg):
            own.setdefault(node.arg, "")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.setdefault(node.id, "")
    names = {name: f"{prefix}_{n}" for n, name in enumerate(n for n in own if n != "self" and not n.startswith("__"))}
    for node in ast.walk(tree):
        if isinstance(node, _Function | ast.ClassDef):
            node.name = names.get(node.name, node.name)
        elif isinstance(node, ast.arg):
            node.arg = names.get(node.arg, node.arg)
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            node.attr = names.get(node.attr, node.attr)
        elif isinstance(node, ast.keyword) and node.arg in names:
            node.arg = names[node.arg]
        elif isinstance(node, ast.Nonlocal | ast.Global):
            node.names = [names.get(name, name) for name in node.names]
    return tree


def reordered(tree: ast.Module) -> ast.Module | None:
    """Neighbouring assignments that don't touch each other change places, comparisons are turned round, the branches of
    an `if` with `else` change places, and so do top-level functions."""
    before = ast.dump(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _TURNED:
            node.left, node.comparators = node.comparators[0], [node.left]
            node.ops = [_TURNED[type(node.ops[0])]()]
        elif isinstance(node, ast.If) and node.orelse and not isinstance(node.orelse[0], ast.If):
            node.test = ast.UnaryOp(op=ast.Not(), operand=node.test)
            node.body, node.orelse = node.orelse, node.body
        for body in _bodies(node):
            for place in range(0, len(body) - 1, 2):
                one, other = body[place : place + 2]
                if isinstance(node, ast.Module):
                    swaps = isinstance(one, _Function) and isinstance(other, _Function)
                else:
                    swaps = _is_assignment(one) and _is_assignment(other) and not _touch(one, other)
                if swaps:
                    body[place], body[place + 1] = other, one
    return tree if ast.dump(tree) != before else None


_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq,
}  # fmt: skip


def _bodies(node: ast.AST) -> Iterable[list[ast.stmt]]:
    return [
        held for _, held in ast.iter_fields(node) if isinstance(held, list) and held and isinstance(held[0], ast.stmt)
    ]


def _is_assignment(node: ast.stmt) -> bool:
    calls = any(isinstance(part, ast.Call) for part in ast.walk(node))
    return isinstance(node, ast.Assign | ast.AugAssign) and not calls


def _touch(one: ast.stmt, other: ast.stmt) -> bool:
    return bool(_changed(one) & _names(other) or _changed(other) & _names(one))


def _changed(node: ast.stmt) -> set[str]:
    """Names that a statement binds, and those whose items or attributes it changes."""
    inside = [part for part in ast.walk(node) if isinstance(part, ast.Subscript | ast.Attribute)]
    owners = [part.value for part in inside if isinstance(part.ctx, ast.Store)]
    return _names(node, ast.Store) | {owner.id for owner in owners if isinstance(owner, ast.Name)}


def _names(node: ast.AST, context: type[ast.expr_context] = ast.expr_context) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, context)}


def split(tree: ast.Module, entry: str, parts: int) -> ast.Module | None:
    """The entry point's body cut between its statements, at the middle or at the thirds: each part hands what is bound
    to the next. A body of too few statements has its largest inner expressions taken out instead."""
    function = entry_of(tree, entry)
    if function is None or any(isinstance(part, ast.Nonlocal | ast.Global | ast.Yield) for part in ast.walk(function)):
        return None
    rest, names = function.body, [arg.arg for arg in function.args.args]
    if len(rest) < parts or ("self" in names and any("self" in _names(statement) for statement in rest)):
        return _taken_out(tree, function, parts - 1)
    cuts = [len(rest) * number // parts for number in range(parts)] + [len(rest)]
    pieces = [rest[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    bound, holder = {*names} - {"self"}, function
    holder.body = pieces[0]
    for number in range(1, parts):
        bound = bound.union(*map(_stored, pieces[number - 1]))
        read = set().union(*(_names(statement) for piece in pieces[number:] for statement in piece))
        handed = sorted(bound & read)
        holder.body = [*holder.body, ast.Return(_call(f"part_{number}", handed))]
        holder = _function(f"part_{number}", handed, pieces[number])
        tree.body.insert(0, holder)
    return tree


def _stored(statement: ast.stmt) -> set[str]:
    if isinstance(statement, _Function | ast.ClassDef):
        return {statement.name}
    targets = [node.target for node in ast.walk(statement) if isinstance(node, ast.comprehension)]
    return _names(statement, ast.Store) - set().union(*map(_names, targets))


_Scopes = ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp | ast.Lambda
_Whole = ast.BinOp | ast.Compare | ast.Call | ast.ListComp | ast.BoolOp | ast.GeneratorExp | ast.IfExp


def _taken_out(tree: ast.Module, function: ast.FunctionDef, count: int) -> ast.Module | None:
    """The largest expressions of a function, each made a function of the names that it reads."""
    for number in range(1, count + 1):
        scopes = [node for node in ast.walk(function) if isinstance(node, _Scopes)]
        inner = {id(part) for scope in scopes for part in ast.walk(scope) if part is not scope}
        found = [place for place in _expressions(function) if id(place[2]) not in inner]
        if not found:
            return None if number == 1 else tree
        parent, field, value, place = max(found, key=lambda one: len(ast.dump(one[2])))
        targets = [node.target for node in ast.walk(value) if isinstance(node, ast.comprehension)]
        own = set().union(*map(_names, targets)) | set(dir(builtins)) | _module_names(tree)
        used = sorted(_names(value) - own)
        tree.body.insert(0, _function(f"part_{number}", used, [ast.Return(value)]))
        if place < 0:
            setattr(parent, field, _call(f"part_{number}", used))
        else:
            getattr(parent, field)[place] = _call(f"part_{number}", used)
    return tree


def _expressions(function: ast.FunctionDef) -> Iterable[tuple[ast.AST, str, ast.expr, int]]:
    """Whole expressions with where they are: parent, field, and place in its list or -1. Not what is returned."""
    for parent in ast.walk(function):
        for field, held in [] if isinstance(parent, ast.arguments | ast.Return) else ast.iter_fields(parent):
            for place, value in enumerate(held) if isinstance(held, list) else [(-1, held)]:
                if isinstance(value, _Whole):
                    yield parent, field, value, place


def _module_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            names |= _stored(node)
    return names


def _function(name: str, names: list[str], body: list[ast.stmt]) -> ast.FunctionDef:
    arguments = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    return ast.FunctionDef(name, arguments, body, [], None, None)


def _call(name: str, names: list[str]) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), [ast.Name(n, ast.Load()) for n in names], [])


def entry_of(tree: ast.Module, entry: str) -> ast.FunctionDef | None:
    """The function of that name, also as a method."""
    return next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == entry), None)


def as_methods(tree: ast.Module) -> ast.Module | None:
    """Top-level functions as methods of a class; a class Solution as functions."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Solution"]
    names = {
        node.name for node in (functions or (classes[0].body if classes else [])) if isinstance(node, ast.FunctionDef)
    }
    if functions:
        for function in functions:
            function.args.args.insert(0, ast.arg("self"))
        tree = _Called(names, to_methods=True).visit(tree)
        others = [node for node in tree.body if node not in functions]
        tree.body = [*others, ast.ClassDef("Worker", [], [], list(functions), [])]
        return tree
    if not classes:
        return None
    for node in classes[0].body:
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "self":
            node.args.args.pop(0)
    tree = _Called(names, to_methods=False).visit(tree)
    place = tree.body.index(classes[0])
    tree.body[place : place + 1] = classes[0].body
    return tree


class _Called(ast.NodeTransformer):
    """Calls of functions as calls of methods, or back."""

    def __init__(self, names: set[str], *, to_methods: bool) -> None:
        self._names, self._to_methods = names, to_methods

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if self._to_methods and node.id in self._names and isinstance(node.ctx, ast.Load):
            return ast.Attribute(ast.Name("self", ast.Load()), node.id, ast.Load())
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if (
            not self._to_methods
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and node.attr in self._names
        ):
            return ast.Name(node.attr, node.ctx)
        return node


def loops_changed(tree: ast.Module) -> ast.Module | None:
    """List comprehensions that are returned or assigned become loops, loops that only append become comprehensions, and
    loops over a range count by `while`."""
    before = ast.dump(tree)
    for node in ast.walk(tree):
        for body in _bodies(node):
            body[:] = [new for place, old in enumerate(body) for new in _relooped(old)]
    return tree if ast.dump(tree) != before else None


def _relooped(old: ast.stmt) -> list[ast.stmt]:
    if isinstance(old, ast.Return | ast.Assign) and isinstance(old.value, ast.ListComp):
        return _as_loop(old, old.value)
    if not isinstance(old, ast.For) or old.orelse:
        return [old]
    return _as_comprehension(old) or _as_while(old) or [old]


def _as_loop(old: ast.Return | ast.Assign, made: ast.ListComp) -> list[ast.stmt]:
    loop: list[ast.stmt] = [
        ast.Expr(ast.Call(ast.Attribute(ast.Name("gathered", ast.Load()), "append", ast.Load()), [made.elt], []))
    ]
    for part in reversed(made.generators):
        for test in reversed(part.ifs):
            loop = [ast.If(test, loop, [])]
        loop = [ast.For(part.target, part.iter, loop, [], None)]
    old.value = ast.Name("gathered", ast.Load())
    return [ast.Assign([ast.Name("gathered", ast.Store())], ast.List([], ast.Load()), lineno=0), *loop, old]


def _as_comprehension(old: ast.For) -> list[ast.stmt]:
    """Empty where the loop does more than append."""
    inner, tests = old.body[0], list[ast.expr]()
    if isinstance(inner, ast.If) and not inner.orelse:
        tests, body = [inner.test], inner.body
    else:
        body = old.body
    call = body[0].value if len(old.body) == len(body) == 1 and isinstance(body[0], ast.Expr) else None
    method = call.func if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else None
    if method is None or method.attr != "append" or not isinstance(method.value, ast.Name):
        return []
    made = ast.ListComp(call.args[0], [ast.comprehension(old.target, old.iter, tests, 0)])
    return [ast.AugAssign(ast.Name(method.value.id, ast.Store()), ast.Add(), made)]


def _as_while(old: ast.For) -> list[ast.stmt]:
    """Empty where the loop is over no range, or goes on early."""
    call, target = old.iter, old.target
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not isinstance(target, ast.Name):
        return []
    skips = any(isinstance(part, ast.Continue) for part in ast.walk(old))
    if call.func.id != "range" or len(call.args) > 2 or skips:
        return []
    first = call.args[0] if len(call.args) == 2 else ast.Constant(0)
    step = ast.AugAssign(ast.Name(target.id, ast.Store()), ast.Add(), ast.Constant(1))
    start = ast.Assign([ast.Name(target.id, ast.Store())], first, lineno=0)
    return [
        start,
        ast.While(ast.Compare(ast.Name(target.id, ast.Load()), [ast.Lt()], [call.args[-1]]), [*old.body, step], []),
    ]
