"""The recorder inside the sandbox, before any test exists: it calls a function on many inputs and prints what came out.

Its text is put before a program and executed there (`recording`); only the standard library is at hand. Every input is
taken three times: as it is, and twice with sets that give their elements in one order and in the opposite one, which
shows a result that depends on a set's order whatever the hash seed is. A call may take so many lines of Python, not so
many seconds, so that a slow machine records the same.
"""

import ast
import io
import json
import sys
import types
from typing import Any

MAX_STEPS = 60_000
MAX_RESULT = 500


class Exhausted(BaseException):
    pass


def make_sets(backwards: Any) -> Any:
    """A set and a frozenset with an order of their own."""

    def ordered(self: Any) -> Any:
        return iter(sorted(self._plain(), key=lambda item: (type(item).__name__, repr(item)), reverse=backwards))

    def wrapped(name: str, base: Any, made: Any) -> Any:
        plain = getattr(base, name)

        def method(self: Any, *args: Any) -> Any:
            result = plain(self, *args)
            return made(result) if type(result) in (set, frozenset) else result

        return method

    def pop(self: Any) -> Any:
        for item in self:
            self.remove(item)
            return item
        raise KeyError("pop from an empty set")

    kinds: dict[Any, Any] = {}
    for base in (set, frozenset):
        space: dict[str, Any] = {"__iter__": ordered, "__hash__": base.__hash__}
        space["_plain"] = lambda self, base=base: list(base.__iter__(self))
        kinds[base] = type(base.__name__, (base,), space)
    for base, kind in kinds.items():
        names = "__or__ __and__ __sub__ __xor__ __ror__ __rand__ __rsub__ __rxor__ union intersection difference "
        for name in (names + "symmetric_difference copy").split():
            setattr(kind, name, wrapped(name, base, kind))
    kinds[set].pop = pop
    return kinds


class Ordering(ast.NodeTransformer):
    """Sets that a program writes or makes become ordered ones."""

    def visit_Set(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        return self._made("set", ast.List(node.elts, ast.Load()))

    def visit_SetComp(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        return self._made("set", ast.ListComp(node.elt, node.generators))

    def visit_Call(self, node: Any) -> Any:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset"):
            node.func.id = f"__ordered_{node.func.id}__"
        return node

    def _made(self, kind: str, items: ast.expr) -> ast.expr:
        return ast.Call(ast.Name(f"__ordered_{kind}__", ast.Load()), [items], [])


def load(source: Any, kinds: Any) -> Any:
    tree = ast.parse(source)
    if kinds:
        tree = ast.fix_missing_locations(Ordering().visit(tree))
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    if kinds:
        module.__dict__.update({f"__ordered_{base.__name__}__": kind for base, kind in kinds.items()})
    exec(compile(tree, "<candidate>", "exec"), module.__dict__)
    return module.__dict__


def plain(value: Any, kinds: Any) -> Any:
    """The value with ordered sets made ordinary. Raises TypeError for what is no plain data."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return value
    if kind in (list, tuple):
        return kind([plain(item, kinds) for item in value])
    if kind is dict:
        return {plain(key, kinds): plain(item, kinds) for key, item in value.items()}
    if kind in (set, frozenset) or kind in kinds.values():
        base = frozenset if issubclass(kind, frozenset) else set
        return base([plain(item, kinds) for item in base.__iter__(value)])
    wide: list[Any] = [int, float, str, bytes, list, tuple, dict]
    for wider in wide:
        if isinstance(value, wider) and value == wider(value):  # a named tuple is equal to a tuple
            return plain(wider(value), kinds)
    raise TypeError(f"a {kind.__name__}")


def shown(value: Any, kinds: Any) -> Any:
    """The value's literal; sets are sorted, so that equal sets show equal."""
    kind = type(value)
    if kind in (list, tuple, dict):
        parts = (
            [f"{shown(k, kinds)}: {shown(v, kinds)}" for k, v in value.items()]
            if kind is dict
            else [shown(item, kinds) for item in value]
        )
        opened, closed = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}")}[kind.__name__]
        return opened + ", ".join(parts) + ("," if kind is tuple and len(parts) == 1 else "") + closed
    if kind in (set, frozenset):
        inner = "{" + ", ".join(sorted(shown(item, kinds) for item in value)) + "}" if value else ""
        return inner or "set()" if kind is set else f"frozenset({inner})"
    return repr(value)


def given(value: Any, kinds: Any) -> Any:
    """The argument anew, its sets ordered."""
    kind = type(value)
    if kind in (list, tuple):
        return kind([given(item, kinds) for item in value])
    if kind is dict:
        return {given(key, kinds): given(item, kinds) for key, item in value.items()}
    if kind in kinds:
        return kinds[kind]([given(item, kinds) for item in value])
    return value


def bounded(work: Any, args: Any, kwargs: Any) -> Any:
    """Kind and text of a call: "ok" and what it gave, "raised" or "slow" and why."""
    left = MAX_STEPS

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise Exhausted
        return trace

    sys.settrace(trace)
    try:
        value = work(*args, **kwargs)
    except Exhausted:
        return "slow", ""
    except MemoryError:
        return "slow", "memory"
    except RecursionError:
        return "raised", "RecursionError"
    except Exception as error:
        return "raised", type(error).__name__
    finally:
        sys.settrace(None)
    return "ok", value


def record(job: Any) -> Any:
    out, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
    versions: list[Any] = []
    no_kinds: dict[Any, Any] = {}
    for kinds in (no_kinds, make_sets(False), make_sets(True)):
        space = load(job["source"], kinds)
        versions.append((space[job["entry_point"]], kinds, space))
    for number, (args, kwargs, claim) in enumerate(job["calls"]):
        row = []
        for function, kinds, _ in versions:
            args_now = [given(ast.literal_eval(text), kinds) for text in args]
            kwargs_now = {key: given(ast.literal_eval(text), kinds) for key, text in kwargs}
            what, value = bounded(function, args_now, kwargs_now)
            if what == "ok":
                try:
                    value = shown(plain(value, kinds), kinds)
                    if len(value) > MAX_RESULT:
                        what, value = "other", "too long"
                except (TypeError, RecursionError, ValueError) as error:
                    what, value = "other", str(error)
            row.append([what, value])
        holds = None
        if claim:
            what, value = bounded(eval, [claim, versions[0][2]], {})
            holds = bool(value) if what == "ok" else None
        printed = bool(sys.stdout.getvalue())
        out.write(json.dumps({"number": number, "results": row, "holds": holds, "printed": printed}) + "\n")
        out.flush()
