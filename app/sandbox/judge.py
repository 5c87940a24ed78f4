"""The process that runs a problem's tests against a candidate in another process, and says what came of it.

Runs in a child of the judge zygote, confined like the candidate. The tests run as they are, against a stub that sends
the call's arguments over a pipe and returns what comes back, built of plain data by `values`. Passing needs positive
evidence: the tests came to their end, every assertion in their source was executed and held, there is at least one,
and the channel was clean to the last byte.

One judge serves the drafts of one problem: each gets fresh globals, new pipes and the same random seed. The supervisor
replaces a judge after any draft that did not end in a plain pass or a plain failure.
"""

import builtins
import os
import socket
from collections import deque
from typing import Any, NoReturn

from app.sandbox.checks import EVALUATE, HELD, UnsplittableError, prepare
from app.sandbox.values import TooLargeError, WireError, from_json, to_json
from app.sandbox.wire import Frames, receive, send

CONTROL = 3
MAX_DETAIL = 300
UNSPLITTABLE = "unsplittable"
STARVED, STARVED_ALONE = "starved", "starved_alone"
"""Out of memory in the judge itself: with answers of the program at hand, and before the first one."""
_NOT_FROM_A_TEXT = (UnicodeError, BaseExceptionGroup, StopIteration, StopAsyncIteration)
_EXCEPTIONS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NOT_FROM_A_TEXT)
}
_ENDED = "the program ended before its tests did"


class ChannelError(BaseException):
    """The candidate can't be asked any more. Not an Exception, so that no test catches it by accident."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Candidate:
    """The judge's side of one candidate."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._frames = Frames(read_fd, write_fd)
        self._next_id = 0
        self._answered = False
        self.raised: BaseException | None = None
        """What the last call raised in the test, if it raised."""
        self.said = ""
        """The same in the candidate's words."""
        self.broken: ChannelError | None = None
        """Kept, in case a bare `except` in the tests swallows it."""

    def load(self, program: str, entry_point: str, setup: str) -> None:
        answer = self._ask({"program": program, "entry_point": entry_point, "setup": setup})
        if "error" in answer:
            base, name, text, _ = answer["error"]
            raise self._break("memory" if base == "MemoryError" else "load_error", f"{name}: {text}")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        try:
            request = {"args": to_json(list(args)), "kwargs": to_json(kwargs)}
        except WireError as error:
            raise self._unsendable(error) from None
        return self._value(request, args, kwargs)

    def evaluate(self, source: str) -> Any:
        return self._value({"evaluate": source}, (), {})

    def _value(self, request: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = self._ask(request)
        self._answered = True
        self._raise_error(answer)
        try:
            if "args" in answer:
                _copy_back_all(args, kwargs, from_json(answer["args"]), from_json(answer["kwargs"]))
            return from_json(answer["ok"])
        except (WireError, KeyError, TypeError, ValueError) as error:
            raise self._break("protocol", str(error)) from None

    @property
    def has_answered(self) -> bool:
        return self._answered

    def check_clean(self) -> None:
        if self._frames.has_unread:
            raise self._break("protocol", "a frame that nobody asked for")

    def _raise_error(self, answer: dict[str, Any]) -> None:
        self.raised = None
        if "error" in answer:
            base, name, text, args = answer["error"]
            self.raised, self.said = _exception(base, text, args), f"{name}: {text}"
            raise self.raised

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its response, whose form is checked."""
        if self.broken:
            raise self.broken
        self.check_clean()
        request_id = self._next_id
        self._next_id += 1
        try:
            self._frames.send({"id": request_id, **request})
        except WireError as error:
            raise self._unsendable(error) from None
        except OSError:
            raise self._break("died", _ENDED) from None
        try:
            answer = self._frames.receive()
        except WireError as error:
            raise self._break("protocol", str(error)) from None
        except (EOFError, OSError):
            raise self._break("died", _ENDED) from None
        if not _is_response(answer, request_id):
            raise self._break("protocol", "a frame that is no response to the request")
        return answer

    def _unsendable(self, error: WireError) -> ChannelError:
        """What a test can't send. Grown too large by the candidate's own answers, it is the candidate's failure: it
        must not choose the way that it can forge."""
        if self._answered and isinstance(error, TooLargeError):
            return self._break("runtime_error", f"what it gave can't be given back: {error}")
        return self._break(UNSPLITTABLE, f"an argument can't be sent: {error}")

    def _break(self, status: str, detail: str) -> ChannelError:
        self.broken = ChannelError(status, detail[:MAX_DETAIL])
        return self.broken


def _is_response(answer: Any, request_id: int) -> bool:
    if type(answer) is not dict or type(answer.get("id")) is not int or answer["id"] != request_id:
        return False
    if "error" in answer:
        error = answer["error"]
        return type(error) is list and len(error) == 4 and all(type(part) is str for part in error[:3])
    return "ok" in answer and ("args" in answer) == ("kwargs" in answer)


def _exception(base: str, text: str, args: Any) -> Exception:
    """The built-in exception that the candidate's was, or RuntimeError. args: tagged; None if they can't be sent."""
    kind = _EXCEPTIONS.get(base, RuntimeError)
    try:
        values = from_json(args)
        return kind(*values) if type(values) is list else kind(text)
    except Exception:  # arguments that are no arguments of this type
        return kind(text)


def _copy_back_all(args: tuple[Any, ...], kwargs: dict[str, Any], new_args: Any, new_kwargs: Any) -> None:
    if type(new_args) is not list or len(new_args) != len(args):
        raise WireError("not the arguments of the call")
    if type(new_kwargs) is not dict or new_kwargs.keys() != kwargs.keys():
        raise WireError("not the keyword arguments of the call")
    for old, new in zip((*args, *kwargs.values()), (*new_args, *(new_kwargs[key] for key in kwargs)), strict=True):
        _copy_back(old, new)


def _copy_back(target: Any, changed: Any) -> None:
    """Make the test's objects what the call left of them, keeping their identity as far as the shapes agree."""
    if type(target) in (list, deque) and type(changed) is type(target):
        if len(target) == len(changed):
            changed = [_kept(old, new) for old, new in zip(target, changed, strict=True)]
        target.clear()
        target.extend(changed)
    elif isinstance(target, dict) and isinstance(changed, dict):
        changed = {key: _kept(target.get(key), value) for key, value in changed.items()}
        target.clear()
        target.update(changed)
    elif type(target) in (set, bytearray) and type(changed) is type(target):
        target.clear()
        target.extend(changed) if type(target) is bytearray else target.update(changed)
    elif isinstance(target, tuple) and isinstance(changed, tuple) and len(target) == len(changed):
        for old, new in zip(target, changed, strict=True):
            _copy_back(old, new)


def _kept(old: Any, new: Any) -> Any:
    if type(old) is type(new) and not isinstance(old, tuple):
        _copy_back(old, new)
        return old if isinstance(old, list | deque | dict | set | bytearray) else new
    return new


class Tests:
    """A problem's tests, compiled once."""

    def __init__(self, problem: dict[str, Any]) -> None:
        """problem: what `compiled` returned.

        Raises UnsplittableError, or anything that the prelude raises.
        """
        self._problem = problem
        self._prelude = problem["prelude_code"]
        self._unused: dict[str, Any] | None = self._globals()
        self.checks = prepare(
            problem["tests_code"], problem["tests"], problem["setup"], problem["entry_point"], self._unused or ()
        )
        setup = "" if self.checks.setup_in_candidate else problem["setup"]
        self._setup = compile(setup, "<setup>", "exec") if setup else None

    def run(self, program: str, read_fd: int, write_fd: int) -> tuple[str, str]:
        """Status and detail of one candidate."""
        import random  # the zygote has loaded it, its own way

        random.seed(0)
        candidate = Candidate(read_fd, write_fd)
        held: set[int] = set()
        try:
            setup = self._problem["setup"] if self.checks.setup_in_candidate else ""
            candidate.load(program, self._problem["entry_point"], setup)
            self._execute(candidate, held)
            candidate.check_clean()
        except BaseException as error:
            return _classify(error, candidate)
        if candidate.broken:
            return candidate.broken.status, candidate.broken.detail
        if not held or len(held) != self._problem["num_assertions"]:
            return "wrong_answer", f"{len(held)} of {self._problem['num_assertions']} assertions were executed"
        return "passed", ""

    def _globals(self) -> dict[str, Any]:
        space: dict[str, Any] = {"__name__": "tests"}
        exec(self._prelude, space)
        return space

    def _execute(self, candidate: Candidate, held: set[int]) -> None:
        space, self._unused = self._unused or self._globals(), None  # each draft has its own
        space[HELD], space[EVALUATE] = held.add, candidate.evaluate
        space[self._problem["entry_point"]] = candidate.call
        if self._setup:
            exec(self._setup, space)
        exec(self.checks.code, space)
        if self._problem["style"] == "check":
            space["check"](candidate.call)


def _classify(error: BaseException, candidate: Candidate) -> tuple[str, str]:
    if candidate.broken:
        return candidate.broken.status, candidate.broken.detail
    detail = _describe(error)
    if isinstance(error, MemoryError) and error is not candidate.raised:
        return STARVED if candidate.has_answered else STARVED_ALONE, detail
    if isinstance(error, MemoryError):
        return "memory", detail
    if error is candidate.raised:
        return "runtime_error", candidate.said[:MAX_DETAIL]
    return "wrong_answer", detail


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:MAX_DETAIL]
    except Exception:  # an int too long to print, for one
        return type(error).__name__


def read_problem(control_fd: int) -> dict[str, Any]:
    """The problem that the supervisor sends, compiled. Called in the zygote before it forks: afterwards the same takes
    five times as long."""
    with socket.socket(fileno=os.dup(control_fd)) as control:
        return compiled(receive(control)[0])


def compiled(problem: dict[str, Any]) -> dict[str, Any]:
    """Fields of `records.Problem`, with marked tests and their number of assertions, plus code; or plus an error."""
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
        status, detail = tests.run(draft["program"], *fds)
        for fd in fds:
            os.close(fd)
        send(control, {"nonce": draft["nonce"], "status": status, "detail": detail})
