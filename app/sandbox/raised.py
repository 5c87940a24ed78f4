"""Exceptions as data: what a program raised arrives in its tests as an exception of the same class.

That holds where the tests can name the class.

The candidate sends [nearest built-in class, name, text, arguments] and a fifth part: its classes that are built in, of
the standard library or of numpy, its attributes that are plain data, its cause, and the exceptions in a group. The
judge takes a class by its qualified name out of such a module that the tests have imported: no module is imported, and
no code but that of built-in exceptions runs, for a program's word. A class of the program's own becomes a new class of
that name below the classes that are known.
"""

import builtins
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from app.sandbox.decoder import from_json
from app.sandbox.values import Encoder, WireError, to_json

_LIBRARIES = sys.stdlib_module_names | {"builtins", "numpy"}
MAX_TEXT = 2000
MAX_EXCEPTIONS = 200
"""In one message: causes, and members of groups."""
MAX_NESTING = 20
MAX_FIELDS = 50
_FIELDS: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("name", "path"),
    AttributeError: ("name",),
    NameError: ("name",),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
}
"""Attributes of built-in exceptions that their arguments do not set."""
Described = list[Any]


def described(error: BaseException, *, with_arguments: bool = True) -> Described:
    """In the candidate. Leaves out what is not plain data, or too large."""
    return _Describer().describe(error) if with_arguments else _head(error)


class _Describer:
    def __init__(self) -> None:
        self._left = MAX_EXCEPTIONS
        self._encoder = Encoder()

    def describe(self, error: BaseException, depth: int = 0) -> Described:
        self._left -= 1
        more: dict[str, Any] = {"kinds": [[kind.__module__, kind.__qualname__] for kind in _known(type(error))]}
        args = error.args
        if isinstance(error, BaseExceptionGroup):
            args = args[:1]
            members = error.exceptions if depth < MAX_NESTING else ()
            more["inner"] = [self.describe(inner, depth + 1) for inner in members if self._left > 0]
        if isinstance(error.__cause__, BaseException) and self._left > 0 and depth < MAX_NESTING:
            more["cause"] = self.describe(error.__cause__, depth + 1)
        fields = {name: tree for name, value in _fields(error) if (tree := self._plain(value, depth)) is not None}
        if fields:
            more["fields"] = fields
        base, name, text, _ = _head(error)
        return [base, name, text, self._plain(list(args), depth), more]

    def _plain(self, value: Any, depth: int) -> Any:
        try:
            return to_json(value, self._encoder, depth + 3)
        except (WireError, MemoryError, RecursionError):
            return None


def _head(error: BaseException) -> Described:
    base = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    return [base, type(error).__name__[:MAX_TEXT], text, None]


def _known(kind: type) -> list[type]:
    return [base for base in kind.__mro__[:-1] if _is_of_the_library(base.__module__)]


def _is_of_the_library(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def _fields(error: BaseException) -> Iterator[tuple[str, Any]]:
    for kind, names in _FIELDS.items():
        if isinstance(error, kind):
            for name in names:
                yield name, getattr(error, name, None)
    yield from list(vars(error).items())[:MAX_FIELDS]


def is_described(error: Any) -> bool:
    """Whether what arrived has the form of `described`."""
    if type(error) is not list or len(error) not in (4, 5) or any(type(part) is not str for part in error[:3]):
        return False
    return len(error) == 4 or type(error[4]) is dict


def rebuilt(error: Described) -> BaseException:
    """In the judge. Raises WireError for what is malformed or too much."""
    return _Builder().build(error)


class _Builder:
    def __init__(self) -> None:
        self._left = MAX_EXCEPTIONS

    def build(self, error: Described) -> BaseException:
        self._left -= 1
        if self._left < 0 or not is_described(error):
            raise WireError("no exception, or too many in one")
        base, name, text, args = error[:4]
        more = error[4] if len(error) == 5 else {"kinds": [["builtins", base]]}
        inner = [self.build(part) for part in _parts(more, "inner", list)]
        made = _made(_class_of(more, name, text), _arguments(args), inner, text)
        fields = _parts(more, "fields", dict)
        for key in fields:
            _set_field(made, key, from_json(fields[key]))
        if "cause" in more:
            made.__cause__ = self.build(more["cause"])
        return made


def _parts(more: dict[str, Any], key: str, kind: type) -> Any:
    value = more.get(key, kind())
    if type(value) is not kind:
        raise WireError(f"an exception's {key} are no {kind.__name__}")
    return value


def _class_of(more: dict[str, Any], name: str, text: str) -> type[BaseException]:
    """The class itself where the tests can know it, else one of its name below those that they know."""
    found = [_class_named(place) for place in _parts(more, "kinds", list)]
    if found and found[0] is not None and found[0].__name__ == name:
        return found[0]
    bases: list[type[BaseException]] = []
    for kind in found:
        if kind is not None and not any(issubclass(base, kind) for base in bases):
            bases.append(kind)
    own = {"__module__": "candidate"} | ({"__str__": lambda self: text} if len(text) < MAX_TEXT else {})
    for some in (bases, bases[:1], [RuntimeError]):
        with contextlib.suppress(TypeError, ValueError):  # bases that don't go together, a name that can't be one
            return type(name, tuple(some or [RuntimeError]), own)
    return RuntimeError


def _class_named(place: Any) -> type[BaseException] | None:
    """A class of exceptions that is built in, or in a module of the standard library that is loaded."""
    if type(place) is not list or len(place) != 2 or not all(type(part) is str for part in place):
        raise WireError("no class of an exception")
    module, qualname = place
    found: Any = builtins if module == "builtins" else sys.modules.get(module) if _is_of_the_library(module) else None
    for part in qualname.split("."):
        if found is None:
            return None
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    is_one = isinstance(found, type) and issubclass(found, BaseException) and found.__module__ == module
    return found if is_one else None


def _arguments(tree: Any) -> list[Any] | None:
    values = None if tree is None else from_json(tree)
    return values if type(values) is list else None


def _made(kind: type[BaseException], args: list[Any] | None, inner: list[Any], text: str) -> BaseException:
    """The exception by its built-in base's own constructor; that of a class written in Python may do anything."""
    base = kind
    while base.__module__ != "builtins":
        base = base.__base__  # type: ignore[assignment]
    if issubclass(base, BaseExceptionGroup):
        tries = [[text if not args else args[0], inner]]
    elif issubclass(base, UnicodeDecodeError | UnicodeEncodeError | UnicodeTranslateError):
        tries = [args] if args and _is_unicode_error(base, args) else []
        of = b"" if issubclass(base, UnicodeDecodeError) else ""
        tries.append([of, 0, 0, text] if issubclass(base, UnicodeTranslateError) else ["", of, 0, 0, text])
    else:
        tries = [*([] if args is None else [args]), [text]]
    for values in tries:
        with contextlib.suppress(Exception):  # arguments that are none of this class
            error = base.__new__(kind, *values)
            base.__init__(error, *values)
            return error
    return RuntimeError(text)


def _is_unicode_error(base: type, args: list[Any]) -> bool:
    """Whether its place lies in its object: CPython's own str() of such an error reads there unchecked."""
    wanted = (bytes if base is UnicodeDecodeError else str, int, int, str)
    encoding, rest = ([""], args) if base is UnicodeTranslateError else (args[:1], args[1:])
    if [type(value) for value in (*encoding, *rest)] != [str, *wanted]:
        return False
    return 0 <= rest[1] <= rest[2] <= len(rest[0])


def _set_field(error: BaseException, name: str, value: Any) -> None:
    with contextlib.suppress(TypeError, AttributeError, ValueError):
        if any(isinstance(error, kind) and name in names for kind, names in _FIELDS.items()):
            setattr(error, name, value)
        elif name.isidentifier() and (name == "__notes__" or not name.startswith("__")):
            vars(error)[name] = value
