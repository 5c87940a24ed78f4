"""Runs a candidate program against its tests in a process of its own, with limits. The first cut, until the sandbox.

Covered: wall and CPU time, address space, file size, open files, an empty environment, an empty working folder, no
standard input, and a token that only the finished check writes. NOT covered: candidate and tests share one process, so
a hostile program can forge a pass; it may fork; files stay readable; the network is not cut off. Every verdict says so
in its tier, `process`.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time

from app.records import Problem, Status, Verdict

TIER = "process"
READY = "ready"
_CHILD = """
import json, resource, sys
job = json.loads(sys.stdin.read())
sys.stdin.close()
for limit, value in job["limits"].items():
    resource.setrlimit(getattr(resource, limit), (value, value))
def finish(word, detail=""):
    sys.__stdout__.write(job["token"] + word + " " + str(detail).replace("\\n", " ")[:300])
    sys.__stdout__.flush()
    import os
    os._exit(0)
sys.stdout.write("ready")
sys.stdout.flush()
import io
sys.stdout = sys.stderr = io.StringIO()
space = {"__name__": "candidate"}
stage = "load_error"
try:
    exec(compile(job["program"], "<candidate>", "exec"), space)
    stage = "runtime_error"
    candidate = space[job["entry_point"]]
    exec(compile(job["tests"], "<tests>", "exec"), space)
    space["check"](candidate)
except MemoryError:
    finish("memory")
except AssertionError as error:
    finish("wrong_answer" if stage == "runtime_error" else stage, repr(error))
except BaseException as error:
    finish(stage, repr(error))
finish("passed")
"""


class ProcessJudge:
    """Implements `records.Judge`."""

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes

    def judge(self, problem: Problem, program: str) -> Verdict:
        token = secrets.token_hex(16)
        limits = {
            "RLIMIT_AS": self._memory_bytes,
            "RLIMIT_CPU": int(self._timeout_s) + 1,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": 32,
        }
        job = {
            "token": token,
            "limits": limits,
            "program": program,
            "entry_point": problem.entry_point,
            "tests": problem.tests,
        }
        start, cpu = time.monotonic(), _children_cpu()
        output, timed_out = self._run(json.dumps(job))
        status, detail = _read(output, token, timed_out)
        return Verdict(
            problem_id=problem.id,
            status=status,
            detail=detail,
            cpu_seconds=round(_children_cpu() - cpu, 3),
            wall_seconds=round(time.monotonic() - start, 3),
            tier=TIER,
        )

    def _run(self, job: str) -> tuple[str, bool]:
        """Standard output of the child, and whether it ran out of time. Its whole process group is ended."""
        with tempfile.TemporaryDirectory() as folder:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                start_new_session=True,
                text=True,
                errors="replace",
            )
            try:
                return child.communicate(job, timeout=self._timeout_s)[0], False
            except subprocess.TimeoutExpired:
                return "", True
            finally:
                with contextlib.suppress(ProcessLookupError):  # the group is gone already
                    os.killpg(child.pid, signal.SIGKILL)
                assert child.stdout is not None
                child.stdout.close()  # a process that left the group may hold the other end for ever
                child.wait()


def _read(output: str, token: str, timed_out: bool) -> tuple[Status, str]:
    if timed_out:
        return Status.TIMEOUT, ""
    if not output.startswith(READY):
        return Status.INFRA, "the child did not start"
    output = output.removeprefix(READY)
    if not output.startswith(token):
        return Status.DIED, "the process ended before its tests did"
    word, _, detail = output.removeprefix(token).partition(" ")
    return Status(word), detail


def _children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system
