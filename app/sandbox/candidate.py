"""The process that runs a candidate program. It can send values and say that it failed, never that it passed.

Runs in a child of the candidate zygote, confined, with two pipes: requests come in on descriptor 3, responses go out
on 4. Whatever the program does to this module, its names or its pipes harms only itself: the judge takes every frame
for what a hostile program may have written.

Request 0 is the program: {"id": 0, "program": ..., "entry_point": ..., "setup": ...}; then calls
{"id": n, "args": [...], "kwargs": {...}} or expressions {"id": n, "evaluate": source}. Responses:
{"id": n, "ok": value}, with "args" and "kwargs" when the call changed them, or
{"id": n, "error": [built-in base, type, text, arguments]}.
"""

import atexit
import contextlib
import os
import sys
import threading
import types
from typing import Any, NoReturn

from app.sandbox.checks import HELD
from app.sandbox.values import WireError, from_json, to_json
from app.sandbox.wire import Frames

REQUESTS, RESPONSES = 3, 4
MODULE = "candidate"
MAX_TEXT = 300
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
    while True:
        request = frames.receive()
        try:
            if "evaluate" in request:
                response = {"ok": to_json(eval(request["evaluate"], module))}
            else:
                response = _call(entry, request)
            frames.send({"id": request["id"], **response})
        except BaseException as error:
            _send_error(frames, request["id"], error)


def serve_script() -> NoReturn:
    """Run the program as __main__; its standard streams are descriptors that the caller reads and writes.

    Request 0 has "interactive": print lines as they come, and what is wrong to standard error, as at a terminal. An
    exception is sent without its arguments: nobody reads the pipe before the end, and they might not fit into it.
    """
    frames = Frames(REQUESTS, RESPONSES)
    request = frames.receive()
    interactive = request["interactive"]
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1 if interactive else -1, encoding="utf-8", closefd=False)  # noqa: SIM115
    code, output, errors = 0, sys.stdout, sys.stderr
    try:
        program = compile(request["program"], "<candidate>", "exec")
    except BaseException as error:
        if interactive:
            _print_traceback(error, request["program"])
        _send_error(frames, 0, error, with_arguments=False)
        os._exit(1)
    try:
        _run(program, "__main__")
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
    for stream in (sys.stdout, output, *([errors] if interactive else [])):
        with contextlib.suppress(ValueError, AttributeError):  # closed, or replaced by something else
            stream.flush()
    os._exit(code & 0xFF)


def serve_in_process() -> NoReturn:
    """Tests that can't be split: program and tests share this process, so the program can forge the outcome."""
    frames = Frames(REQUESTS, RESPONSES)
    request = frames.receive()
    held: set[int] = set()
    stage = "load"
    try:
        module, entry = _load_entry(request)
        stage = "check"
        module[HELD] = held.add
        exec(compile(request["tests"], "<tests>", "exec"), module)
        if request["style"] == "check":
            module["check"](entry)
        frames.send({"id": 0, "ok": len(held)})
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
    return _run(compile(source, "<candidate>", "exec"), name)


def _run(code: types.CodeType, name: str) -> dict[str, Any]:
    """Execute as a real module, which dataclasses and typing look up by name."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(code, module.__dict__)
    return module.__dict__


def _call(entry: Any, request: dict[str, Any]) -> dict[str, Any]:
    args = from_json(request["args"])
    kwargs = from_json(request["kwargs"])
    result = entry(*args, **kwargs)
    response = {"ok": to_json(result)}
    if any(type(value) not in _IMMUTABLE for value in (*args, *kwargs.values())):
        after = {"args": to_json(args), "kwargs": to_json(kwargs)}
        if after["args"] != request["args"] or after["kwargs"] != request["kwargs"]:
            response |= after
    return response


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
    """The exception as data: built-in base, own name, text, arguments. An error here ends the candidate."""
    base = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    try:
        args = to_json(list(error.args)) if with_arguments else None
    except BaseException:
        args = None
    try:
        frames.send({"id": request_id, "error": [base, type(error).__name__[:MAX_TEXT], text, args]})
    except (OSError, WireError):
        os._exit(1)
