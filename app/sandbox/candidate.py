"""The process that runs a candidate program. It can send values and say that it failed, never that it passed.

Runs in a child of the candidate zygote, confined, with two pipes: requests come in on descriptor 3, responses go out
on 4. Whatever the program does to this module, its names or its pipes harms only itself: the judge takes every frame
for what a hostile program may have written.

Request 0 is the program: {"id": 0, "program": ..., "entry_point": ..., "setup": ...}; then calls
{"id": n, "args": [...], "kwargs": {...}}, expressions {"id": n, "evaluate": source}, or items of an iterator that was
answered {"id": n, "next": number, "count": how many at most}. Responses: {"id": n, "ok": value} or
{"id": n, "error": exception as `raised` describes it}, with "args" and "kwargs" when the call changed them, or
{"id": n, "unsendable": why the answer can't be told}: no exception, which tests could take for one that they expect.
"""

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from app.sandbox import assertions
from app.sandbox.decoder import from_json
from app.sandbox.evidence import Evidence
from app.sandbox.iterators import Lender, unsendable
from app.sandbox.raised import described
from app.sandbox.values import WireError, to_json
from app.sandbox.wire import Frames

REQUESTS, RESPONSES = 3, 4
MODULE = "candidate"
MAX_TRACEBACK = 8000
_IMMUTABLE = frozenset((int, str, float, bool, type(None), complex, bytes, frozenset, range))


def serve_calls() -> NoReturn:
    """A function problem: load the program, then answer calls of its entry point until the pipe closes."""
    frames = Frames(REQUESTS, RESPONSES)
    request = frames.receive()
    try:
        module, entry = _load_entry(request)
    except BaseException as error:  # SystemExit is one way to fail to load
        _send_error(frames, 0, error)
        os._exit(1)
    frames.send({"id": 0, "ok": None})
    lender = Lender()
    while True:
        request = frames.receive()
        try:
            if "evaluate" in request:
                response = _told(eval(request["evaluate"], module), lender, dict)
            elif "next" in request:
                response = lender.give(request)
            else:
                response = _call(entry, request, lender)
        except BaseException as error:
            _send_error(frames, request["id"], error)
            continue
        try:
            frames.send({"id": request["id"], **response})
        except WireError as error:
            small = {"error": [*response["error"][:3], None]} if "error" in response else unsendable(error)
            frames.send({"id": request["id"], **small})


def serve_script() -> NoReturn:
    """Run the program as __main__; its standard streams are descriptors that the caller reads and writes.

    Request 0 has "interactive": print lines as they come, and what is wrong to standard error, as at a terminal, where
    an assertion says what its sides were. An exception is sent without its arguments: nobody reads the pipe before the
    end, and they might not fit into it.
    """
    frames = Frames(REQUESTS, RESPONSES)
    request = frames.receive()
    interactive = request["interactive"]
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1 if interactive else -1, encoding="utf-8", closefd=False)  # noqa: SIM115
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout)
    code, output, errors = 0, sys.stdout, sys.stderr
    try:
        compiled = assertions.with_values if interactive else _compiled
        program = compiled(request["program"], "<candidate>")
    except BaseException as error:
        if interactive:
            _print_traceback(error, request["program"])
        _send_error(frames, 0, error, with_arguments=False)
        os._exit(1)
    try:
        _run(program, "__main__", assertions.names() if interactive else {})
    except SystemExit as stop:
        code = int(stop.code) if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if interactive and not isinstance(stop.code, int | None):
            print(stop.code, file=errors)
    except BaseException as error:
        if interactive:
            _print_traceback(error, request["program"])
        _send_error(frames, 1, error, with_arguments=False)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does at its end
    atexit._run_exitfuncs()
    _flush_all(request["program"], output, errors)
    os._exit(code & 0xFF)


def serve_in_process() -> NoReturn:
    """Tests that can't be split: program and tests share this process, so the program can forge the outcome."""
    frames = Frames(REQUESTS, RESPONSES)
    request = frames.receive()
    evidence = Evidence()
    stage = "load"
    try:
        module, entry = _load_entry(request)
        stage = "check"
        module.update(evidence.names())
        exec(compile(request["tests"], "<tests>", "exec"), module)
        if request["style"] == "check":
            module["check"](entry)
        frames.send({"id": 0, "ok": [evidence.num_held, evidence.num_failed, evidence.evaded is not None]})
    except BaseException as error:
        _send_error(frames, 0 if stage == "load" else 1, error)
    os._exit(0)


def _load_entry(request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The program's globals, and what its tests call."""
    module = _load(request["program"], MODULE)
    if request["setup"]:
        exec(compile(request["setup"], "<setup>", "exec"), module)
    name = request["entry_point"]
    return module, module[name] if name in module else eval(name, module)


def _load(source: str, name: str) -> dict[str, Any]:
    return _run(_compiled(source, "<candidate>"), name)


def _compiled(source: str, file: str) -> types.CodeType:
    return compile(source, file, "exec")


def _run(code: types.CodeType, name: str, names: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Execute as a real module, which dataclasses and typing look up by name. names: what it has from the start."""
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    exec(code, module.__dict__)
    return module.__dict__


def _call(entry: Any, request: dict[str, Any], lender: Lender) -> dict[str, Any]:
    args = from_json(request["args"])
    kwargs = from_json(request["kwargs"])
    try:
        result = entry(*args, **kwargs)
    except BaseException as error:
        with contextlib.suppress(Exception):  # what it left in its arguments can't be told
            return {"error": described(error), **_changed(args, kwargs, request)}
        raise
    return _told(result, lender, lambda: _changed(args, kwargs, request))


def _told(result: Any, lender: Lender, changed: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": lender.to_json(result), **changed()}
    except WireError as error:
        return unsendable(error)


def _changed(args: list[Any], kwargs: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the call left them, if it changed them."""
    if any(type(value) not in _IMMUTABLE for value in (*args, *kwargs.values())):
        after = {"args": to_json(args), "kwargs": to_json(kwargs)}
        if after["args"] != request["args"] or after["kwargs"] != request["kwargs"]:
            return after
    return {}


def _flush_all(source: str, *streams: Any) -> None:
    """These and the standard streams, and files of the program's own, which the interpreter would free at its end."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    makes_some = any(word in source for word in ("open", "Wrapper", "Buffered"))  # looking at all objects takes time
    opened = [held for held in gc.get_objects() if issubclass(type(held), kinds)] if makes_some else []
    opened.sort(key=lambda stream: not isinstance(stream, io.TextIOWrapper))  # into the buffers below them
    for stream in (sys.stdout, *streams, *opened):
        with contextlib.suppress(Exception):  # closed, or replaced by something else
            stream.flush()


def _print_traceback(error: BaseException, source: str) -> None:
    """To standard error, with the program's own lines and without this module's frames."""
    with contextlib.suppress(BaseException):  # no memory is left, or the exception's own text raises
        import linecache
        import traceback

        linecache.cache["<candidate>"] = (len(source), None, source.splitlines(keepends=True), "<candidate>")
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != "<candidate>":
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace))
        os.write(2, text[-MAX_TRACEBACK:].encode("utf-8", "replace"))


def _send_error(frames: Frames, request_id: int, error: BaseException, *, with_arguments: bool = True) -> None:
    """The exception as data. An error here ends the candidate."""
    try:
        told = described(error, with_arguments=with_arguments)
    except BaseException:  # its attributes raise
        told = described(error, with_arguments=False)
    try:
        try:
            frames.send({"id": request_id, "error": told})
        except WireError:  # too large with its arguments
            frames.send({"id": request_id, "error": described(error, with_arguments=False)})
    except (OSError, WireError):
        os._exit(1)
