"""Tests that can't be kept apart from the program: they run in its process, confined, and the program could forge
their outcome. Verdicts are marked with the tier `in_process`, shown apart, and never become a reward."""

import os
from typing import Any

from app.records import Problem, Status
from app.sandbox.limits import Clock, TimedFrames, classify
from app.sandbox.marks import mark_assertions
from app.sandbox.process import Spawn
from app.sandbox.values import WireError
from app.sandbox.wire import pack, send_bytes


def judge_in_process(problem: Problem, program: str, spawn: Spawn, timeout_s: float) -> tuple[Status, str, float]:
    """Status, detail and CPU seconds."""
    marked, _ = mark_assertions(problem.tests)
    read_request, write_request = os.pipe()
    read_response, write_response = os.pipe()
    try:
        try:
            process = spawn("in_process", [read_request, write_response])
        finally:
            os.close(read_request)
            os.close(write_response)
        request = {"id": 0, "program": program, "entry_point": problem.entry_point, "style": problem.style}
        request |= {"setup": problem.setup, "tests": marked}
        try:
            send_bytes(write_request, pack(request))
            frames = TimedFrames(read_response, write_request, Clock(timeout_s, [process]))
            word, detail = _read(frames)
        except BrokenPipeError:
            word, detail = "died", "the program ended before its tests did"
        except WireError as error:
            word, detail = "load_error", str(error)
        finally:
            killed_here = not process.has_ended(grace_s=0.1)
            ended = process.end()
    finally:
        os.close(write_request)
        os.close(read_response)
    return (*classify(word, detail, ended, killed_here), ended.cpu_seconds)


def _read(frames: TimedFrames) -> tuple[str, str]:
    try:
        answer: Any = frames.receive()
        if "error" in answer:
            base, name, text = map(str, answer["error"][:3])
            if base == "MemoryError":
                return "memory", text
            status = "wrong_answer" if base == "AssertionError" else "runtime_error"
            return ("load_error" if answer["id"] == 0 else status), f"{name}: {text}"[:300]
        held, failed, evaded = map(int, answer["ok"])
        if held and not failed and not evaded:
            return "passed", ""
        went_round = ", and the tests went round one" * evaded
        return "wrong_answer", f"{held} assertions held, {failed} failed{went_round}"[:300]
    except TimeoutError as error:
        return "timeout", str(error)
    except EOFError:
        return "died", "the program ended before its tests did"
    except (WireError, KeyError, TypeError, ValueError) as error:
        return "protocol", str(error)[:300]
