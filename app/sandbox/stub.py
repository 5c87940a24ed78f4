"""What tests call instead of the program: it asks the candidate's process.

Every answer is taken for what a hostile program may have written.
"""

import threading
from collections import deque
from collections.abc import Generator
from typing import Any

from app.sandbox.decoder import from_json
from app.sandbox.iterators import MAX_TAKEN, TAG, borrowed
from app.sandbox.raised import is_described, rebuilt
from app.sandbox.values import WireError, to_json
from app.sandbox.wire import Frames

MAX_DETAIL = 300
UNSPLITTABLE = "unsplittable"
"""What comes instead of a status where the tests need the program's own process."""
MAX_REMEMBERED = 1000
_ENDED = "the program ended before its tests did"


class ChannelError(BaseException):
    """The candidate can't be asked any more. Not an Exception, so that no test catches it by accident."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Candidate:
    """The judge's side of one candidate. Implements `evidence.Answers`."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._frames = Frames(read_fd, write_fd)
        self._next_id = 0
        self._turn = threading.Lock()
        """Tests may call from several threads; there is one channel."""
        self._num_taken = 0
        self._raised: dict[int, tuple[BaseException, str]] = {}
        """By id: the last exceptions that calls raised, and the candidate's words for them."""
        self._uncaught: dict[int, BaseException] = {}
        """By the order in which they were raised: those that no clause of the tests has caught yet."""
        self.num_raised = 0
        self.changed: dict[int, Any] = {}
        """By id: arguments of the tests that calls have changed."""
        self.asked = False
        """Whether a call has been answered: from then on whatever happens may be the program's doing."""
        self.untouched = ""
        """What kind of iterator the last answer was, until the tests take an item."""
        self.broken: ChannelError | None = None
        """Kept, in case a bare `except` in the tests swallows it."""

    def load(self, program: str, entry_point: str, setup: str) -> None:
        answer = self._ask({"program": program, "entry_point": entry_point, "setup": setup})
        if "error" in answer:
            base, name, text = answer["error"][:3]
            raise self._break("memory" if base == "MemoryError" else "load_error", f"{name}: {text}")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        try:
            request = {"args": to_json(list(args)), "kwargs": to_json(kwargs)}
        except WireError as error:
            raise self._unsendable(error) from None
        return self._value(request, args, kwargs)

    def evaluate(self, source: str) -> Any:
        return self._value({"evaluate": source}, (), {})

    def check_clean(self) -> None:
        if self._frames.has_unread:
            raise self._break("protocol", "a frame that nobody asked for")

    def is_its_own(self, error: BaseException) -> bool:
        return self.said_of(error) is not None

    def said_of(self, error: BaseException | None) -> str | None:
        """The candidate's words for an exception that it raised; None for any other."""
        remembered, said = self._raised.get(id(error), (None, ""))
        return said if error is not None and remembered is error else None

    def was_caught(self, error: BaseException) -> None:
        self._uncaught = {number: other for number, other in self._uncaught.items() if other is not error}

    def were_caught(self, since: int) -> None:
        self._uncaught = {number: error for number, error in self._uncaught.items() if number < since}

    def uncaught(self) -> BaseException | None:
        """An exception of the program that nothing in the tests caught, though they came to their end.

        It has ended a loop early (StopIteration), or a library that the tests use has swallowed it.
        """
        return next(iter(self._uncaught.values()), None)

    def _value(self, request: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = self._ask(request)
        self.asked = True
        self.untouched = ""
        self._refuse_unsendable(answer)
        try:
            if "args" in answer:
                self.changed |= {id(value): value for value in (*args, *kwargs.values())}
                _copy_back_all(args, kwargs, from_json(answer["args"]), from_json(answer["kwargs"]))
            if "error" not in answer:
                return self._built(answer["ok"])
        except (WireError, KeyError, TypeError, ValueError) as error:
            raise self._break("protocol", str(error)) from None
        raise self._error(answer["error"])

    def _refuse_unsendable(self, answer: dict[str, Any]) -> None:
        if "unsendable" in answer:
            raise self._break("runtime_error", answer["unsendable"])

    def _built(self, tree: Any) -> Any:
        """As `from_json`, but for iterators, which are the answer, or in a list or tuple that is."""
        try:
            return from_json(tree)
        except WireError:
            if _is_iterator(tree):
                return self._borrow(tree)
            items = tree["t"] if type(tree) is dict and list(tree) == ["t"] else tree
            if type(items) is not list or not any(map(_is_iterator, items)):
                raise
            built = [self._borrow(item) if _is_iterator(item) else from_json(item) for item in items]
            return built if items is tree else tuple(built)

    def _borrow(self, tree: Any) -> Generator[Any, Any, Any]:
        number, kind = tree[TAG]
        last_id = self._next_id
        self.untouched = kind[:MAX_DETAIL]

        def fetch(count: int, sent: Any) -> tuple[list[Any], bool, Any]:
            nonlocal last_id
            taken = self._take(number, count, sent)
            last_id = self._next_id
            return taken

        return borrowed(fetch, lambda: last_id == self._next_id)

    def _take(self, number: int, count: int, sent: Any) -> tuple[list[Any], bool, Any]:
        """Items of an iterator, whether these are all, and what a generator returned then."""
        request = {"next": number, "count": count}
        try:
            answer = self._ask(request if sent is None else request | {"send": to_json(sent)})
        except WireError as error:
            raise self._unsendable(error) from None
        self.untouched = ""
        self._refuse_unsendable(answer)
        if "error" in answer:
            raise self._error(answer["error"])
        items, has_ended = answer["ok"], answer.get("end")
        if type(items) is not list or type(has_ended) is not bool or not (has_ended or 0 < len(items) <= count):
            raise self._break("protocol", "no items of an iterator")
        self._num_taken += len(items)
        if self._num_taken > MAX_TAKEN:
            raise self._break("runtime_error", f"its iterators gave more than {MAX_TAKEN} items")
        try:
            return [self._built(item) for item in items], has_ended, self._built(answer.get("value"))
        except (WireError, KeyError, TypeError, ValueError) as error:
            raise self._break("protocol", str(error)) from None

    def _error(self, told: Any) -> BaseException:
        """The exception to raise in the tests."""
        try:
            error = rebuilt(told)
        except (WireError, KeyError, TypeError, ValueError) as why:
            return self._break("protocol", str(why))
        while len(self._raised) >= MAX_REMEMBERED:
            self._raised.pop(next(iter(self._raised)))
        self._raised[id(error)] = error, f"{told[1]}: {told[2]}"[:MAX_DETAIL]
        self._uncaught[self.num_raised] = error
        self.num_raised += 1
        return error

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its response, whose form is checked."""
        with self._turn:
            return self._exchange(request)

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
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
        except MemoryError:  # what came is the program's doing, be it the first answer
            self.asked = True
            raise
        if not _is_response(answer, request_id):
            raise self._break("protocol", "a frame that is no response to the request")
        return answer

    def _unsendable(self, error: WireError) -> ChannelError:
        """What a test can't send. Once the candidate has answered anything, it is the candidate's failure: it must not
        choose the way that it can forge. (`splitting` has looked at what the tests themselves give.)"""
        if self.asked:
            return self._break("runtime_error", f"what it gave can't be given back: {error}")
        return self._break(UNSPLITTABLE, f"an argument can't be sent: {error}")

    def _break(self, status: str, detail: str) -> ChannelError:
        self.broken = ChannelError(status, detail[:MAX_DETAIL])
        return self.broken


def _is_response(answer: Any, request_id: int) -> bool:
    if type(answer) is not dict or type(answer.get("id")) is not int or answer["id"] != request_id:
        return False
    if ("args" in answer) != ("kwargs" in answer):
        return False
    if "unsendable" in answer:
        return type(answer["unsendable"]) is str
    return is_described(answer["error"]) if "error" in answer else "ok" in answer


def _is_iterator(tree: Any) -> bool:
    if type(tree) is not dict or list(tree) != [TAG]:
        return False
    payload = tree[TAG]
    return type(payload) is list and [type(part) for part in payload] == [int, str]


def _copy_back_all(args: tuple[Any, ...], kwargs: dict[str, Any], new_args: Any, new_kwargs: Any) -> None:
    if type(new_args) is not list or len(new_args) != len(args):
        raise WireError("not the arguments of the call")
    if type(new_kwargs) is not dict or new_kwargs.keys() != kwargs.keys():
        raise WireError("not the keyword arguments of the call")
    for old, new in zip((*args, *kwargs.values()), (*new_args, *(new_kwargs[key] for key in kwargs)), strict=True):
        _copy_back(old, new)


def _copy_back(target: Any, changed: Any) -> None:
    """Make the test's objects what the call left of them, keeping their identity where the shapes agree."""
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
