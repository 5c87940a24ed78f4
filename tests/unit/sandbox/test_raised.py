"""What a program raises arrives in its tests as what it was; and what an exception made to do harm can not do."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.records import Status
from app.sandbox.raised import MAX_EXCEPTIONS, described, rebuilt
from app.sandbox.supervisor import Supervisor
from app.sandbox.values import WireError
from app.sandbox.wire import pack, unpack
from tests.unit.sandbox.test_supervisor import SETTINGS, SORT, check
from tests.unit.sandbox.test_wire import fuzzed, trees


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


def caught(program: str, kind: str, condition: str = "True", given: str = "1") -> tuple[str, str]:
    """Tests that expect an exception, and a program."""
    tests = f"try:\n    candidate({given})\n    assert False\nexcept {kind} as e:\n    assert {condition}, e.args"
    return tests, program


RAISED = {
    "UnicodeDecodeError": caught("f = lambda x: x.decode('utf-8')", "UnicodeDecodeError", "e.start == 1", "b'a\\xff'"),
    "UnicodeEncodeError": caught("f = lambda x: 'é'.encode('ascii')", "UnicodeEncodeError", "e.object == 'é'"),
    "one of a long text": caught(
        "f = lambda x: (b'\\xff' * 3_000_000).decode()", "UnicodeDecodeError", "'utf' in e.reason"
    ),
    "StopIteration": caught("f = lambda x: next(iter([]))", "StopIteration"),
    "StopIteration with a value": caught("def f(x): raise StopIteration(7)", "StopIteration", "e.value == 7"),
    "in a generator": caught("def f(x): return next(next(iter([])) for _ in [1])", "RuntimeError"),
    "SystemExit": caught("import sys\ndef f(x): sys.exit(3)", "SystemExit", "e.code == 3"),
    "SystemExit of a text": caught("exit_ = SystemExit\ndef f(x): raise exit_('bye')", "SystemExit", "e.code == 'bye'"),
    "KeyboardInterrupt": caught("def f(x): raise KeyboardInterrupt", "KeyboardInterrupt"),
    "RecursionError": caught("def f(x): return f(x)", "RecursionError"),
    "KeyError": caught("f = lambda x: {}['k']", "KeyError", "str(e) == \"'k'\" and e.args == ('k',)"),
    "a missing file": caught(
        "f = lambda x: open('/nothing/here')", "FileNotFoundError", "(e.errno, e.filename) == (2, '/nothing/here')"
    ),
    "OSError by its number": caught("import errno\ndef f(x): raise OSError(errno.EEXIST, 'there')", "FileExistsError"),
    "a missing module": caught("f = lambda x: __import__('nothing')", "ImportError", "e.name == 'nothing'"),
    "SyntaxError": caught("f = lambda x: compile('x =', 'f', 'exec')", "SyntaxError", "e.lineno == 1"),
    "json": caught("import json\nf = lambda x: json.loads('{')", "json.JSONDecodeError", "(e.pos, e.doc) == (1, '{')"),
    "decimal": caught("import decimal\nf = lambda x: decimal.Decimal('x')", "decimal.InvalidOperation"),
    "zlib": caught("import zlib\nf = lambda x: zlib.decompress(b'x')", "zlib.error"),
    "struct": caught("import struct\nf = lambda x: struct.unpack('<I', b'')", "struct.error"),
    "re": caught("import re\nf = lambda x: re.compile('(')", "re.error", "e.pos == 0"),
    "queue": caught("import queue\nf = lambda x: queue.Queue().get_nowait()", "queue.Empty"),
    "statistics": caught("import statistics\nf = lambda x: statistics.mean([])", "statistics.StatisticsError"),
    "configparser": caught(
        "import configparser\nf = lambda x: configparser.ConfigParser().get('a', 'b')",
        "configparser.NoSectionError",
        "e.section == 'a'",
    ),
    "csv": caught("import csv\nf = lambda x: csv.reader([], delimiter='no')", "(csv.Error, TypeError)"),
    "asyncio": caught("import asyncio\ndef f(x): raise asyncio.CancelledError('why')", "asyncio.CancelledError"),
    "io": caught("import io\nf = lambda x: io.StringIO().fileno()", "io.UnsupportedOperation"),
    "its second base": caught("import io\nf = lambda x: io.StringIO().fileno()", "ValueError"),
    "subprocess": caught(
        "import subprocess\ndef f(x): raise subprocess.CalledProcessError(3, ['cmd'])",
        "subprocess.CalledProcessError",
        "(e.returncode, e.cmd) == (3, ['cmd'])",
    ),
    "numpy": caught("import numpy\nf = lambda x: numpy.linalg.inv([[0]])", "numpy.linalg.LinAlgError"),
    "a group": caught(
        "def f(x): raise ExceptionGroup('two', [ValueError(1), KeyError('k')])",
        "ExceptionGroup",
        "[type(i) for i in e.exceptions] == [ValueError, KeyError]",
    ),
    "a class of its own": caught(
        "class Poor(ValueError):\n    def __init__(s, have):\n        s.have = have\n        super().__init__('poor')\n"
        "    def __str__(s): return f'only {s.have}'\ndef f(x): raise Poor(5)",
        "ValueError",
        "(type(e).__name__, str(e), e.have) == ('Poor', 'only 5', 5)",
    ),
    "one with two built-in bases": caught(
        "class Both(KeyError, AttributeError): pass\ndef f(x): raise Both('b')",
        "AttributeError",
        "isinstance(e, KeyError)",
    ),
    "its cause": caught(
        "def f(x):\n    try: {}['k']\n    except KeyError as e: raise ValueError('v') from e",
        "ValueError",
        "isinstance(e.__cause__, KeyError)",
    ),
    "notes": caught(
        "def f(x):\n    e = ValueError('v')\n    e.add_note('n')\n    raise e", "ValueError", "e.__notes__ == ['n']"
    ),
    "arguments that are no plain data": caught("def f(x): raise ValueError(f)", "ValueError", "'function' in str(e)"),
    "a library that the tests did not import": caught(
        "import zlib\nf = lambda x: zlib.decompress(b'x')",
        "Exception",
        "type(e).__name__ == 'error' and 'inco' in str(e)",
    ),
}


@pytest.mark.parametrize("name", RAISED)
def test_an_exception_arrives_as_what_it_was(supervisor: Supervisor, name: str) -> None:
    tests, program = RAISED[name]
    module = tests.partition("except ")[2].lstrip("(").partition(".")[0]
    imports = (
        [f"import {module}"] if module.isidentifier() and "." in tests.partition("except ")[2].split(" as")[0] else []
    )
    verdict = supervisor.judge(check(*imports, *tests.splitlines()), program)
    assert verdict.status == Status.PASSED and verdict.reward == 1, verdict
    assert supervisor.judge(check(*imports, *tests.splitlines()), "def f(x): pass").status == Status.WRONG_ANSWER
    assert supervisor.judge(check(*imports, *tests.splitlines()), "def f(x): raise MemoryError").reward == 0


def test_a_group_is_split_by_its_members(supervisor: Supervisor) -> None:
    tests = check(
        "seen = []",
        "try: candidate(1)",
        "except* ValueError as g: seen += g.exceptions",
        "except* KeyError as g: seen += g.exceptions",
        "assert [type(e) for e in seen] == [ValueError, KeyError]",
    )
    group = "ExceptionGroup('g', [ValueError(1), KeyError('k')])"
    assert supervisor.judge(tests, f"def f(x): raise {group}").status == Status.PASSED
    assert supervisor.judge(tests, "def f(x): raise ValueError(1)").status == Status.WRONG_ANSWER


def test_an_argument_that_was_changed_before_the_call_raised_stays_changed(supervisor: Supervisor) -> None:
    tests = check(
        "x, y = [1, 2], {'a': [1]}",
        "alias = y['a']",
        "try: candidate(x, k=y)",
        "except ValueError: pass",
        "assert x == [1, 2, 3] and y == {'a': [1, 2]} and alias is y['a']",
    )
    for error in ("ValueError", "ValueError(x, k, f)", "__import__('json').JSONDecodeError('m', 'd', 0)"):
        program = f"def f(x, k):\n    x.append(3)\n    k['a'].append(2)\n    raise {error}\n"
        assert supervisor.judge(tests, program).status == Status.PASSED
    assert supervisor.judge(tests, "def f(x, k): raise ValueError").status == Status.WRONG_ANSWER
    unsendable = "def f(x, k):\n    x.append(f)\n    raise ValueError('told')\n"
    assert supervisor.judge(check("candidate([1], k=1)", "assert True"), unsendable).detail == "ValueError: told"


HOSTILE = {
    "a place far outside of what could not be decoded": "UnicodeDecodeError('utf-8', b'', -10**12, -10**12 + 1, 'x')",
    "another": "UnicodeDecodeError('utf-8', b'a', 10**12, 10**12 + 1, 'x')",
    "a place in a text": "UnicodeTranslateError('', -10**12, -10**12 + 1, 'x')",
    "a deep nest of groups": "nested(ExceptionGroup)",
    "a wide group": "ExceptionGroup('g', [ValueError('x' * 1000)] * 100_000)",
    "a group of itself as a cause": "itself()",
    "a chain of causes": "chain()",
    "a name that is none": "type('a\\0b\\ud800', (Exception,), {})()",
    "a class that says it is of a library": "type('Error', (ValueError,), {'__module__': 'binascii'})('m')",
    "one with a module that is no text": "type('E', (Exception,), {'__module__': 5})('m')",
    "an attribute that hides a method": "hides()",
    "ten million bytes": "ValueError('x' * 10_000_000)",
    "a million attributes": "many()",
    "an int too long to print": "ValueError(10 ** 100_000)",
}
_HELPERS = """
def nested(kind):
    e = ValueError('in')
    for n in range(400): e = kind('g', [e])
    return e
def chain():
    first = e = ValueError('0')
    for n in range(5000): e.__cause__ = ValueError(n); e = e.__cause__
    return first
def itself():
    e = ExceptionGroup('g', [ValueError(1)]); e.__cause__ = e
    return e
def hides():
    e = ExceptionGroup('g', [ValueError(1)]); e.subgroup = e.derive = e.with_traceback = 5; e.__dict__['__class__'] = 5
    return e
def many():
    e = ValueError('m'); e.__dict__.update((f'a{n}', n) for n in range(1_000_000))
    return e
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_an_exception_made_to_do_harm_is_the_programs_failure(supervisor: Supervisor, name: str) -> None:
    tests = check(
        "try: candidate(1)",
        "except BaseException as e: said = str(e), repr(e), e.args, dir(e)",
        "assert candidate([2, 1]) == [1, 2]",
    )
    retried = supervisor.num_infra
    program = f"{_HELPERS}\ndef f(x):\n    if x == 1: raise {HOSTILE[name]}\n    return x\n"
    verdict = supervisor.judge(tests, program)
    assert verdict.status not in (Status.PASSED, Status.INFRA) and supervisor.num_infra == retried, verdict
    assert supervisor.judge(tests, SORT.replace("return", "if x == 1: raise KeyError\n    return")).status == "passed"


def test_no_module_is_imported_for_a_programs_word(supervisor: Supervisor) -> None:
    tests = check(
        "import sys",
        "try: candidate(1)",
        "except Exception as e: kind = type(e)",
        "assert not {'antigravity', 'this', 'tomllib'} & set(sys.modules)",
        "assert kind.__name__ == 'TOMLDecodeError' and issubclass(kind, ValueError)",
    )
    assert supervisor.judge(tests, "import tomllib\ndef f(x): tomllib.loads('=')").status == Status.PASSED
    for module, name in (("__main__", "ZygoteError"), ("app.sandbox.judge", "ChannelError"), ("this", "s")):
        forged = ["ValueError", name, "text", None, {"kinds": [[module, name], ["builtins", "ValueError"]]}]
        assert type(rebuilt(forged)).__mro__[1] is ValueError


def test_which_classes_are_known_does_not_depend_on_the_drafts_before(supervisor: Supervisor) -> None:
    tests = check(
        "try: candidate('=')",
        "except Exception as e:",
        "    import tomllib, zlib",
        "    assert isinstance(e, tomllib.TOMLDecodeError)",
    )
    program = "import tomllib\ndef f(x): tomllib.loads(x)"
    assert [supervisor.judge(tests, program).status for _ in range(2)] == [Status.PASSED] * 2


ERRORS = st.lists(
    st.sampled_from(["ValueError", "OSError", "ExceptionGroup", "UnicodeDecodeError", "json.decoder", "builtins", ""])
    | trees,
    max_size=4,
)


@fuzzed
@given(
    ERRORS, st.dictionaries(st.sampled_from(["kinds", "fields", "inner", "cause"]), trees | ERRORS | st.lists(ERRORS))
)
def test_a_description_of_any_form_is_an_exception_or_refused(head: list[Any], more: dict[str, Any]) -> None:
    for told in (head, [*head, more], ["ValueError", "E", "text", None, more]):
        told = json.loads(json.dumps(told))
        try:
            error = rebuilt(told)
        except (WireError, KeyError, TypeError, ValueError):
            continue
        assert isinstance(error, BaseException) and isinstance(str(error) + repr(error), str)


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


def test_what_is_described_is_bounded() -> None:
    def size(told: Any) -> int:
        more = told[4] if len(told) > 4 else {}
        return 1 + sum(map(size, more.get("inner", []))) + sum(size(more[key]) for key in more.keys() & {"cause"})

    nest: BaseException = ValueError("in", [[[[1]]]])
    for number in range(100):
        nest = ValueError(number, nested(40)) if number % 2 else nest
        nest.__cause__ = nest if number % 20 == 1 else None
        nest = ExceptionGroup("g", [nest])  # type: ignore[type-var]
    assert isinstance(rebuilt(unpack(pack({"error": described(nest)})[4:])["error"]), ExceptionGroup)
    wide = ExceptionGroup("g", [ValueError(n) for n in range(10_000)])
    assert size(described(wide)) == MAX_EXCEPTIONS
    assert len(rebuilt(described(wide)).exceptions) == MAX_EXCEPTIONS - 1  # type: ignore[attr-defined]
    with pytest.raises(WireError):
        rebuilt(["ExceptionGroup", "G", "g", None, {"kinds": [], "inner": [["ValueError", "E", "", None]] * 1000}])
