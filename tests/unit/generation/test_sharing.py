"""Several threads draw with one engine: whose turn it is, and whose adapter lies in it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from app.generation.sharing import Places, Turns


def test_a_thread_that_asks_again_at_once_comes_after_those_that_wait() -> None:
    turns, order, end = Turns(), list[str](), time.monotonic() + 30

    def work(name: str) -> None:
        for _ in range(20):
            with turns:
                order.append(name)
                # until the other two wait; near the end they may be done
                while len(turns._waiting) < 2 and len(order) < 50 and time.monotonic() < end:
                    time.sleep(0.0005)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, "abc"))
    late = order[:50]
    assert all(set(late[at : at + 3]) == set("abc") for at in range(len(late) - 2)), order


class Engine:
    """Notes what lies in it."""

    def __init__(self, places: int) -> None:
        self.places, self.held, self.log = Places[str](places), list[str](), list[str]()

    def using(self, name: str, put: Callable[[], Any] | None = None) -> AbstractContextManager[Any]:
        return self.places.using(
            name, put or (lambda: self._put(name)), self._take_away, wake=lambda: None, needs_place=bool(name)
        )

    def _put(self, name: str) -> str:
        self.held.append(name)
        self.log.append(name)
        return name

    def _take_away(self, name: str) -> None:
        self.held.remove(name)


def test_who_was_used_least_lately_makes_room() -> None:
    engine = Engine(2)
    for name in ("a", "b", "a", "c"):
        with engine.using(name) as held:
            assert held == name
    assert engine.held == ["a", "c"] and engine.log == ["a", "b", "c"]


def test_an_adapter_that_somebody_draws_with_stays_and_the_third_waits() -> None:
    engine, began = Engine(2), threading.Event()

    def third() -> None:
        with engine.using("c"):
            began.set()

    with engine.using("a"), ThreadPoolExecutor(1) as threads:
        with engine.using("b"), engine.using(""):
            waits = threads.submit(third)
            assert not began.wait(0.1)
        waits.result(10)
        assert engine.held == ["a", "c"]


def test_nobody_draws_while_the_engine_goes_to_sleep() -> None:
    engine, asleep = Engine(1), threading.Event()

    def sleep() -> None:
        with engine.places.idle():
            asleep.set()

    with ThreadPoolExecutor(1) as threads:
        with engine.using(""):
            waits = threads.submit(sleep)
            assert not asleep.wait(0.1)
        waits.result(10)


def test_an_adapter_that_cannot_be_put_leaves_its_place_to_others() -> None:
    engine = Engine(1)

    def fails() -> None:
        raise ValueError("half a file")

    with pytest.raises(ValueError, match="half a file"), engine.using("a", fails):
        pass
    with engine.using("b") as held:
        assert held == "b"
