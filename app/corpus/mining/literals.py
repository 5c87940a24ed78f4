"""Plain values: read from source without running it, written back so that equal values have one text."""

import ast
import math
from typing import Any

MAX_CHARS = 600
"""Most characters of an argument's text."""
REPEATED = 4
"""How many times as long a repeated part may be, in quotes and brackets that the whole does not have."""
_CONSTRUCTORS = {"set": set, "frozenset": frozenset, "list": list, "tuple": tuple, "dict": dict, "float": float}


class NotLiteralError(ValueError):
    """The expression is not made of plain values."""


def value_of(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression made of constants, containers, arithmetic and known names.

    names: values of local names. Raises NotLiteralError for anything else, and for values too large to be an example.
    """
    try:
        value = _value(node, names)
        if len(repr(value)) > MAX_CHARS:
            raise NotLiteralError("too long")
    except NotLiteralError:
        raise
    except RecursionError:  # sums of a thousand terms
        raise NotLiteralError("too deeply nested") from None
    except ValueError:  # an integer of more digits than Python writes out
        raise NotLiteralError("too long") from None
    return value


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.Constant() if node.value is not Ellipsis:
            return node.value
        case ast.Name() if node.id in names:
            return names[node.id]
        case ast.List() | ast.Tuple() | ast.Set():
            items = [_value(item, names) for item in node.elts]
            return _made({ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)], items)
        case ast.Dict() if all(key is not None for key in node.keys):
            pairs = zip(node.keys, node.values, strict=True)
            return _made(dict, [(_value(key, names), _value(value, names)) for key, value in pairs if key])
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            inner = _value(node.operand, names)
            if type(inner) in (int, float, complex):
                return -inner if isinstance(node.op, ast.USub) else inner
        case ast.BinOp():
            return _arithmetic(node.op, _value(node.left, names), _value(node.right, names))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _CONSTRUCTORS and len(node.args) <= 1:
            return _made(_CONSTRUCTORS[name], *(_value(argument, names) for argument in node.args))
    raise NotLiteralError(ast.unparse(node)[:80])


def _made(kind: Any, *args: Any) -> Any:
    try:
        return kind(*args)
    except (TypeError, ValueError):
        raise NotLiteralError(f"no {kind.__name__}") from None


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    """A few operations that can't grow beyond bounds."""
    numbers = type(left) in (int, float) and type(right) in (int, float)
    try:
        match op:
            case ast.Add() if numbers or type(left) is type(right) and type(left) in (str, bytes, list, tuple):
                return left + right
            case ast.Sub() if numbers:
                return left - right
            case ast.Mult() if numbers and abs(left) < 10**30 and abs(right) < 10**30:
                return left * right
            case ast.Mult() if type(left) in (str, bytes, list, tuple) and type(right) is int:
                if len(repr(left)) * right <= REPEATED * MAX_CHARS:  # what a list of lists repeats is long as text
                    return left * right
            case ast.Div() if numbers:
                return left / right
            case ast.Pow() if numbers and abs(left) <= 100 and 0 <= right <= 30:
                return left**right
    except (ArithmeticError, TypeError):
        pass
    raise NotLiteralError("arithmetic")


def written(value: Any) -> str:
    """Source of a plain value; sets in a fixed order. Raises NotLiteralError for other types, nan and infinities."""
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return repr(value)
    if kind is float or kind is complex:
        if not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise NotLiteralError("not finite")
        return repr(value)
    if kind is list:
        return f"[{', '.join(map(written, value))}]"
    if kind is tuple:
        return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
    if kind is dict:
        return "{" + ", ".join(f"{written(key)}: {written(item)}" for key, item in value.items()) + "}"
    if kind is set:
        return "{" + ", ".join(sorted(map(written, value))) + "}" if value else "set()"
    if kind is frozenset:
        return "frozenset(" + (written(set(value)) if value else "") + ")"
    raise NotLiteralError(f"a {kind.__name__}")


def holds_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(holds_float, value.values())) or any(map(holds_float, value))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(holds_float, value))
    return isinstance(value, float | complex)
