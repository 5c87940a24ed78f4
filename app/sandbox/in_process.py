"""Tests that can't be kept apart from the program: they run in its process, confined.

The program could forge their outcome, so verdicts have the tier `in_process`, are shown apart, and are never a reward.
"""

from typing import Any

from app.records import Problem, Status
from app.sandbox.limits import Clock, TimedFrames, classify, send_timed
from app.sandbox.marks import mark_assertions
from app.sandbox.process import Descriptors, Spawn
from app.sandbox.values import WireError
from app.sandbox.wire import pack


def judge_in_process(problem: Problem, program: str, spawn: Spawn, timeout_s: float) -> tuple[Status, str, float]:
    """Status, detail and CPU seconds."""
    marked, _ = mark_assertions(problem.tests)
    with Descriptors() as ours:
        with Descriptors() as theirs:
            read_request, write_request = theirs.pipe_to(ours)
            read_response, write_response = ours.pipe_to(theirs)
            process = spawn("in_process", [read_request, write_response])
        request = {"id": 0, "program": program, "entry_point": problem.entry_point, "style": problem.style}
        request |= {"setup": problem.setup, "tests": marked}
        clock = Clock(timeout_s, [process])
        try:
            send_timed(write_request, pack(request), clock)
            word, detail = _read(TimedFrames(read_response, write_request, clock))
        except TimeoutError as error:
            word, detail = "timeout", str(error)
        except BrokenPipeError:
            word, detail = "died", "the program ended before its tests did"
        except WireError as error:
            word, detail = "load_error", str(error)
        finally:
            killed_here = not process.has_ended(grace_s=0.1)
            ended = process.end()
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
    except (WireError, KeyError, TypeError, ValueError, OverflowError) as error:
        return "protocol", str(error)[:300]
