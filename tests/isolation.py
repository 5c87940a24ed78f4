"""A search for what one program can leave to the next: run by tests/unit/sandbox/test_isolation.py, here and as nobody.

The first draft tries every call that it may make, with every command that the call takes, on all that it holds. A
later draft, of the same problem or of another, reports all the state that it can see; it must be the state that the
first draft of a fresh supervisor sees. Run: python -m tests.isolation TIER STYLE... (prints what differs as JSON; {} is the right answer).
"""

# ruff: noqa: E501, the programs read best in long lines

import dataclasses
import json
import sys

from app.records import Problem, ProblemStyle
from app.sandbox.catalogue import FIXTURE
from app.sandbox.supervisor import Supervisor
from app.sandbox.syscalls import KILLED, number
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

SETTINGS = SandboxSettings(timeout_s=1.0)
TIERS = {
    "A": Confinement(tier="A"),
    "B": Confinement(landlock=False, bubblewrap=True, tier="B"),
    "A+bwrap": Confinement(bubblewrap=True, tier="A+bwrap"),
}
CHUNK = 250
"""Characters of a report that fit into a verdict's detail. Each draft that reports a part looks at all, so reports are
short: they hold the first four letters of each name, and five digits of the sum of what was seen."""

LOOK = r"""
import builtins, ctypes, gc, hashlib, json, os, random, resource, signal, socket, stat, struct, sys, threading
HEAP = gc.get_count()
DRAWN = random.random(), hash("a")
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
def call(number, *arguments):
    ctypes.memset(buffer, 0, 4096)
    result = libc.syscall(ctypes.c_long(number), *(a if isinstance(a, ctypes.Array) else ctypes.c_long(a) for a in arguments))
    return result, ctypes.get_errno() if result == -1 else buffer.raw[:32].hex().rstrip("0")
def descriptor(fd):
    found = [call(72, fd, command, 0) for command in (1, 3, 9, 11, 1025, 1032, 1034)]
    found += [call(72, fd, command, buffer) for command in (5, 16, 36, 1035, 1037)]
    found += [call(8, fd, 0, 1), call(16, fd, 0x541B, buffer), call(16, fd, 0x5401, buffer)]
    about = os.fstat(fd)
    found += [about.st_mode, about.st_size, about.st_nlink, about.st_rdev]
    return found + ([about.st_ino, about.st_atime_ns, about.st_mtime_ns] if stat.S_ISCHR(about.st_mode) else [])
def plain(value):
    if type(value) in (list, tuple, set, dict):
        return all(map(plain, value)) and (type(value) is not dict or all(map(plain, value.values())))
    return value is None or type(value) in (int, float, str, bytes, bool)
def frames():
    frame, found = sys._getframe(1), []
    while frame:
        seen = {k: v for k, v in frame.f_locals.items() if plain(v) and "def frames" not in repr(v)}
        found.append((frame.f_code.co_name, sorted((k, repr(v)) for k, v in seen.items())))
        frame = frame.f_back
    return [entry for entry in found if entry[0] not in ("<module>", "f", "report", "look", "frames")]
def files():
    found, device = [], os.stat(os.__file__).st_dev
    for top in sys.path:
        for folder, folders, names in os.walk(top):
            folders[:] = [] if folder.count("/") > top.count("/") + 1 else folders
            for name in [".", *names]:
                try:
                    about = os.stat(os.path.join(folder, name))
                except OSError as error:
                    found.append((folder, name, error.errno))
                    continue
                times = about.st_atime_ns, about.st_mtime_ns, about.st_ctime_ns  # bubblewrap's folders are as old as it
                found.append((folder, name, about.st_size, times if about.st_dev == device else 0))
    return sorted(found)
def thread_id():
    found = []
    thread = threading.Thread(target=lambda: found.append(threading.get_native_id()))
    thread.start(); thread.join()
    return found
def options():
    pair = socket.socketpair()
    found = [call(55, pair[0].fileno(), level, name, buffer, ctypes.create_string_buffer(struct.pack("i", 64))) for level in (0, 1, 6) for name in range(90)]
    return [answer for answer in found if answer[0] == 0]
def look():
    seen = {"heap": HEAP, "drawn": DRAWN, "frames": frames()}
    for fd in range(32):
        if call(72, fd, 1, 0)[0] >= 0:
            seen[f"fd {fd}"] = descriptor(fd)
    seen["ids"] = [call(n, 0, 0, 0) for n in (39, 102, 104, 107, 108, 110, 111, 121, 124, 186)]
    seen["thread"] = thread_id()
    seen["limits"] = [resource.getrlimit(kind) for kind in range(16)]
    seen["umask"] = os.umask(0)
    seen["scheduling"] = [sorted(os.sched_getaffinity(0)), *(call(n, 0, 0, buffer) for n in (140, 145, 143, 252, 315))]
    seen["affinity of others"] = sum(call(204, pid, 128, buffer)[0] >= 0 for pid in range(1, 3000))
    seen["clocks of others"] = sum(call(228, ~pid << 3 | 2, buffer)[0] >= 0 for pid in range(1, 3000))
    seen["signals"] = [str(signal.getsignal(n)) for n in range(1, 65)], sorted(signal.pthread_sigmask(0, ())), sorted(signal.sigpending())
    seen["timers"] = [signal.getitimer(n) for n in range(3)], call(37, 0)
    seen["prctl"] = [call(157, n, buffer, 0, 0, 0) for n in (2, 3, 7, 16, 21, 23, 25, 27, 30, 37, 39, 40)]
    seen["ipc"] = [call(n, 4711, 1, 0) for n in (29, 64, 68)], call(240, buffer, 0), call(99, buffer)
    seen["process"] = sorted(os.environ.items()), os.getcwd(), sys.argv, sys.orig_argv, sys.path, sorted(sys.modules), dir(builtins)
    seen["children"] = tuple(resource.getrusage(resource.RUSAGE_CHILDREN))
    seen["files"] = files()
    seen["socket options"] = options()
    seen["places"] = [os.path.lexists(p) for p in ("/proc/1/limits", "/proc/sys/kernel", "/sys/kernel/mm", "/dev/shm/x", "/tmp/x", "/left")]
    return seen
def report():
    return "".join(k[:4].ljust(4) + hashlib.sha256(json.dumps(v, default=str).encode()).hexdigest()[:5] for k, v in look().items())
"""
"""Defines report(): all that is seen, nine characters each. To see what lies behind a sum, print look()[name]."""

LEAVE = r"""
import ctypes, gc, os, random, resource, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def leave():
    one = ctypes.create_string_buffer(struct.pack("i", 1) + bytes(4092))
    def call(number, *arguments):
        return libc.syscall(ctypes.c_long(number), *(a if isinstance(a, ctypes.Array) else ctypes.c_long(a) for a in arguments))
    lock = lambda kind: ctypes.create_string_buffer(struct.pack("hhqqi", kind, 0, 0, 0, 0) + bytes(64))
    for fd in range(5):
        for command in (*range(4, 48), *range(1024, 1048)):  # not the four that duplicate or close
            for argument in (0, 1, 2, 9, 0x400, 0x800, 0x2000, 0x4000, 0x8000, 1 << 20, os.getpid(), lock(0), lock(1)):
                call(72, fd, command, argument)
        for request in (*range(0x5401, 0x5480), 0x40086602, 0x8901, 0x8902, 0x40049409, 0xC0045877, 0xC0045878, 0x6601):
            if request != 0x5450:
                call(16, fd, request, one)
        for operation in range(1, 16):
            call(73, fd, operation)
    for number in (*range(70, 100), *range(101, 128), *range(132, 202), *range(203, 219), *range(221, 228), *range(233, 270), *range(273, 280), *range(282, 435), *range(437, 470)):
        if number not in SKIPPED:
            for arguments in ((0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1), (0, one, 4096, 0, 0, 0), (one, 0, 1, 0, 0, 0), (4711, 1, 0o1777, 0, 0, 0)):
                call(number, *arguments)
    os.closerange(5, 1024)  # what they opened
    os.umask(0o123)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}); signal.alarm(1000)
    for n in range(50):
        thread = threading.Thread(target=time.sleep, args=(0.001,)); thread.start(); thread.join()  # memory has room for few
    kept = [socket.socketpair() for _ in range(4)] + [os.pipe() for _ in range(4)] + [bytearray(1 << 20) for _ in range(20)]
    for top in [*sys.path, "/", "/tmp", "/dev", "/dev/shm"]:
        for folder, folders, names in os.walk(top):
            folders[:] = [] if folder.count("/") > top.count("/") else folders
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb") as file: file.read(1)
                except OSError: pass
            for name in ("left", ".left"):
                try: os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_RDWR))
                except OSError: pass
    for kind in {*range(16)} - {resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_AS}:  # those end it
        try: resource.setrlimit(kind, (1, 1))
        except (OSError, ValueError): pass
    random.seed(7); sys.setrecursionlimit(77); gc.disable(); os.environ["LEFT"] = "1"; sys.modules["left"] = sys; sys.path.append("left")
"""
"""Defines leave()."""

ENDS = {
    "": "wrong_answer",
    "os._exit(37)": "exit code 37",
    "while True: pass": "timeout",
    "[bytes(1 << 28) for _ in range(99)]": "memory",
}
"""How the draft that left something ends, and what its verdict says if it came so far."""
PROBLEMS: dict[str, Problem] = {
    "calls": FIXTURE,
    "in_process": dataclasses.replace(FIXTURE, tests="assert value(f(3)) == 3", style=ProblemStyle.ASSERTIONS),
}
STYLES = (*PROBLEMS, "script")
SCRIPT = dataclasses.replace(FIXTURE, tests='[["1", "2"]]', style=ProblemStyle.STDIO)


def look(supervisor: Supervisor, style: str, problem_id: str) -> dict[str, str]:
    """What a draft of this style sees, as sums by their names."""
    if style == "script":
        run = supervisor.run_script(LOOK + "print(report())", "1")
        return _entries(run.output.strip() or run.detail + run.errors)
    problem, text = dataclasses.replace(PROBLEMS[style], id=problem_id), ""
    while True:
        raises = f"raise KeyError(report()[int('{len(text):06}'):][:{CHUNK}])"  # programs are of one length
        program = f"{LOOK}class Node: pass\ndef value(n): pass\ndef f(x): {raises}\n"
        piece = supervisor.judge(problem, program).detail.removeprefix("KeyError: ")[1:-1]
        text += piece
        if len(piece) < CHUNK:
            return _entries(text)


def _entries(text: str) -> dict[str, str]:
    found = {text[at : at + 4].strip(): text[at + 4 : at + 9] for at in range(0, len(text), 9)}
    assert len(text) == 9 * len(found) and found.keys() >= {"heap", "fd 2", "file", "plac"}, text
    return found


def leave(supervisor: Supervisor, style: str, end: str) -> None:
    never_return = {202, 219, 231, 247, 335, 336}
    skipped = {number(name, "x86_64") for name in KILLED} | never_return
    source = f"SKIPPED = {skipped!r}\n{LEAVE}"
    if style == "script":
        supervisor.run_script(source + f"leave()\n{end}\n", "1")
        verdict = supervisor.judge(SCRIPT, source + f"leave()\n{end}\n")
    else:
        program = f"class Node: pass\ndef value(n): pass\ndef f(x):\n    leave()\n    {end or 'return x'}\n"
        verdict = supervisor.judge(PROBLEMS[style], source + program)
    assert ENDS[end] in f"{verdict.status} {verdict.detail}", (style, end, verdict)


def differences(confined: Confinement, style: str) -> list[str]:
    """What later drafts, run in this way, see otherwise than the first draft of a fresh supervisor."""
    found = []
    with Supervisor(SETTINGS, confined) as fresh:
        expected = look(fresh, style, "first")
    with Supervisor(SETTINGS, confined) as supervisor:
        for end in list(ENDS)[: None if style == "calls" else 2]:
            leave(supervisor, style, end)
            for problem_id in ("fixture", "another"):
                seen = look(supervisor, style, problem_id)
                for key in expected.keys() | seen.keys():
                    if expected.get(key) != seen.get(key):
                        found.append(f"{key} after {end!r}: {seen.get(key)}, fresh {expected.get(key)}")
    return found


if __name__ == "__main__":
    differing = {style: differences(TIERS[sys.argv[1]], style) for style in sys.argv[2:]}
    print(json.dumps({style: found for style, found in differing.items() if found}))
