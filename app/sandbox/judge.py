"""The process that runs a problem's tests against a candidate in another process, and says what came of it.

Runs in a child of the judge zygote, confined like the candidate. The tests run as they were marked, against a `stub`
that sends the call's arguments over a pipe and returns what comes back, built of plain data by `decoder`. Passing needs
positive evidence: the tests came to their end, at least one assertion held and none failed (`evidence`), and the
channel was clean to the last byte. Tests that fail before they ask the program for anything, or never do, are broken.

One judge serves the drafts of one problem: each gets fresh globals, new pipes and the same random seed. The supervisor
replaces a judge after any draft that did not end in a plain pass or a plain failure.
"""

import contextlib
import importlib.util
import os
import re
import socket
import sys
from typing import Any, NoReturn

from app.sandbox.evidence import Evidence
from app.sandbox.stub import MAX_DETAIL, Candidate
from app.sandbox.test_source import EVALUATE, UnsplittableError, prepare
from app.sandbox.wire import receive, send

CONTROL = 3
BROKEN = "broken"
"""What comes instead of a status for tests that no program can pass."""
STARVED, STARVED_ALONE = "starved", "starved_alone"
"""Out of memory in the judge itself: with answers of the program at hand, and before the first one."""


class Tests:
    """A problem's tests, compiled once."""

    def __init__(self, problem: dict[str, Any]) -> None:
        """problem: what `compiled` returned.

        Raises UnsplittableError, or anything that the prelude raises.
        """
        self._problem = problem
        self.is_spent = False
        """Whether the last program changed what the next one's tests would find changed."""
        if "import" in problem["tests"]:
            _import_what_is_named(problem["tests"])
        self._prelude = problem["prelude_code"]
        self._unused: dict[str, Any] | None = self._globals()
        self.checks = prepare(
            problem["tests_code"], problem["tests"], problem["setup"], problem["entry_point"], self._unused or ()
        )
        setup = "" if self.checks.setup_in_candidate else problem["setup"]
        self._setup = compile(setup, "<setup>", "exec") if setup else None

    def run(self, program: str, read_fd: int, write_fd: int) -> tuple[str, str]:
        """Status (or UNSPLITTABLE or BROKEN) and detail of one candidate."""
        import random  # the zygote has loaded it, its own way

        random.seed(0)
        self.is_spent = False
        candidate = Candidate(read_fd, write_fd)
        evidence = Evidence(candidate)
        try:
            setup = self._problem["setup"] if self.checks.setup_in_candidate else ""
            candidate.load(program, self._problem["entry_point"], setup)
            self._execute(candidate, evidence)
            candidate.check_clean()
        except BaseException as error:
            self.is_spent = _is_shared(candidate.changed)
            if self._lacks_a_module(error, candidate):
                return BROKEN, f"the tests need what is not there: {_describe(error)}"[:MAX_DETAIL]
            return _classify(error, candidate)
        self.is_spent = _is_shared(candidate.changed)
        return _weigh(evidence, candidate)

    def _lacks_a_module(self, error: BaseException, candidate: Candidate) -> bool:
        """Whether the tests' own source imports a module that is not there. (A program can raise the same.)"""
        if not isinstance(error, ModuleNotFoundError) or candidate.broken or candidate.is_its_own(error):
            return False
        name = error.name or ""
        if not name or not re.search(rf"\b(import|from)\s+{re.escape(name)}\b", self._problem["tests"]):
            return False
        try:
            return importlib.util.find_spec(name) is None
        except (ImportError, ValueError):  # below what is not a package
            return True

    def _globals(self) -> dict[str, Any]:
        space: dict[str, Any] = {"__name__": "tests"}
        exec(self._prelude, space)
        return space

    def _execute(self, candidate: Candidate, evidence: Evidence) -> None:
        space, self._unused = self._unused or self._globals(), None  # each draft has its own
        space.update(evidence.names())
        space[EVALUATE] = candidate.evaluate
        space[self._problem["entry_point"]] = candidate.call
        if self._setup:
            exec(self._setup, space)
        exec(self.checks.code, space)
        if self._problem["style"] == "check":
            space["check"](candidate.call)


def _is_shared(changed: dict[int, Any]) -> bool:
    """Whether one of these belongs to a module, such as keyword.kwlist: the next draft would find what was left."""
    modules = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")] if changed else []
    return any(id(value) in changed for names in modules for value in names.values())


def _import_what_is_named(tests: str) -> None:
    """Modules of the standard library that the tests import somewhere, at once: what is loaded decides which classes of
    exceptions are known, and must not depend on the drafts before."""
    for found in re.finditer(r"(?:^|[;:])[ \t]*(?:from[ \t]+([\w.]+)|import[ \t]+(\w[\w., \t]*))", tests, re.MULTILINE):
        for name in (found[1] or found[2]).split(","):
            name = name.split()[0] if name.split() else ""
            if name.partition(".")[0] in sys.stdlib_module_names:
                with contextlib.suppress(Exception):  # if it is needed, the tests will fail at it
                    importlib.import_module(name)


def _weigh(evidence: Evidence, candidate: Candidate) -> tuple[str, str]:
    """The verdict of tests that came to their end."""
    if candidate.broken:
        return candidate.broken.status, candidate.broken.detail
    if (error := evidence.evaded or candidate.uncaught()) is not None:
        status, detail = _classify(error, candidate)
        return status, f"{detail} (and the tests went round an assertion)"[:MAX_DETAIL]
    if evidence.num_failed:
        return "wrong_answer", "an assertion failed, and the tests caught it"
    if not candidate.asked:
        return BROKEN, "the tests never call the program"
    if not evidence.num_held:
        return "wrong_answer", "no assertion was executed"
    return "passed", ""


def _classify(error: BaseException, candidate: Candidate) -> tuple[str, str]:
    """The verdict of tests that an exception ended."""
    if candidate.broken:
        return candidate.broken.status, candidate.broken.detail
    detail = _describe(error)
    if isinstance(error, MemoryError) and candidate.said_of(error) is None:
        return STARVED if candidate.asked else STARVED_ALONE, detail
    if not candidate.asked:
        return BROKEN, f"the tests fail before they call the program: {detail}"[:MAX_DETAIL]
    if isinstance(error, MemoryError):
        return "memory", detail
    for raised in (error, error.__cause__ if isinstance(error, RuntimeError) else None):  # a generator's StopIteration
        if (said := candidate.said_of(raised)) is not None:
            return "runtime_error", said
    if candidate.untouched:
        return "runtime_error", f"a {candidate.untouched} is no plain data, and the tests don't iterate over it"
    return "wrong_answer", detail


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_DETAIL]
    except Exception:  # an int too long to print, for one
        return type(error).__name__


def read_problem(control_fd: int) -> dict[str, Any]:
    """The problem that the supervisor sends, compiled.

    Called in the zygote before it forks: afterwards the same takes five times as long.
    """
    with socket.socket(fileno=os.dup(control_fd)) as control:
        return compiled(receive(control)[0])


def compiled(problem: dict[str, Any]) -> dict[str, Any]:
    """Fields of `records.Problem`, with marked tests, plus code; or plus an error."""
    try:
        return problem | {f"{name}_code": compile(problem[name], f"<{name}>", "exec") for name in ("prelude", "tests")}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return problem | {"error": f"the tests don't compile: {_describe(error)}"}


def serve(problem: dict[str, Any]) -> NoReturn:
    """Answer the supervisor: first whether the tests load, then drafts, until it closes the socket."""
    control = socket.socket(fileno=CONTROL)
    if "error" in problem:
        send(control, {"error": problem["error"]})
        os._exit(0)
    try:
        tests = Tests(problem)
        send(control, {"loaded": True})
    except UnsplittableError as error:
        send(control, {"unsplittable": str(error)})
        os._exit(0)
    except BaseException as error:
        send(control, {"error": f"the tests don't load: {_describe(error)}"})
        os._exit(0)
    while True:
        draft, fds = receive(control)
        try:
            status, detail = tests.run(draft["program"], *fds)
        except MemoryError:  # once more, while the tests still held what they had been given
            status, detail = STARVED, "MemoryError"
        for fd in fds:
            os.close(fd)
        send(control, {"nonce": draft["nonce"], "status": status, "detail": detail, "spent": tests.is_spent})
