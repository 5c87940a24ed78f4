"""What one program leaves behind, the next one does not see: on every tier, as this user and as nobody."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from app.records import Status
from app.sandbox import process, tiers
from app.sandbox.catalogue import FIXTURE
from app.sandbox.readable_paths import python_view
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from tests.conftest import ROOT
from tests.isolation import STYLES, TIERS, differences
from tests.unit.sandbox.test_supervisor import SETTINGS, SORT, check

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the search knows the numbers of calls on x86_64")


@X86
@pytest.mark.parametrize("user", ["this user", "nobody"])
@pytest.mark.parametrize("tier", TIERS)
def test_a_search_finds_nothing_that_one_draft_leaves_to_another(tier: str, user: str) -> None:
    if TIERS[tier].bubblewrap and not tiers._bubblewrap_works():
        pytest.skip("this tier needs bubblewrap (apt-get install bubblewrap)")
    prefix = NOBODY if user == "nobody" else []
    if prefix and (os.geteuid() != 0 or shutil.which("setpriv") is None):
        pytest.skip("only root may become nobody, by setpriv")
    if prefix and subprocess.run([*prefix, sys.executable, "-c", "import app.cli"], cwd=ROOT).returncode:
        pytest.skip(f"nobody may not run {sys.executable}")
    found: dict[str, list[str]] = dict.fromkeys(STYLES, [])
    for _ in range(3):  # other programs of the machine touch Python's files too; what a draft leaves comes each time
        command = [*prefix, sys.executable, "-m", "tests.isolation", tier, *found]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        if not any(what.startswith("file ") for differing in found.values() for what in differing):
            break
    assert found == {}


@X86
def test_the_search_finds_flags_on_a_description_that_drafts_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all drafts shared one once. FIONBIO is enough: F_SETFL is refused anyway."""
    for style in ("calls", "in_process"):
        shared = os.open(os.devnull, os.O_RDWR)
        monkeypatch.setattr(process, "open_null", lambda shared=shared: os.dup(shared))
        found = differences(TIERS["A"], style)
        os.close(shared)
        assert any(what.startswith("fd 2 ") for what in found), (style, found)


LEARN = """
import fcntl, os
def held(): return sum(1 << k for k in (0, 1) if STATE(k))
number, given = 0, []
def f(i):
    global number
    k, number = number, number + 1
    if k: KEEP(k - 1, not given[k - 1])
    given.append(not STATE(k))
    KEEP(k, given[k])
    return given[k]
"""
"""It is asked again where its last answer was right, and answers otherwise next time where it was wrong."""
MEMORIES = {
    "flags": "def STATE(k): return fcntl.fcntl(k, fcntl.F_GETFL) & os.O_NONBLOCK\n"
    "def KEEP(k, wrong): os.set_blocking(k, not wrong)\n",
    "files": "import site\ndef STATE(k): return os.path.exists(f'PLACE/left{k}')\n"
    "def KEEP(k, wrong):\n"
    "    try: os.close(os.open(f'PLACE/left{k}', os.O_CREAT | os.O_RDWR)) if wrong else None\n"
    "    except OSError: pass\n",
}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("tier", TIERS)
def test_a_program_that_knows_nothing_does_not_learn_the_answers_draft_by_draft(tier: str, memory: str) -> None:
    if TIERS[tier].bubblewrap and not tiers._bubblewrap_works():
        pytest.skip("this tier needs bubblewrap (apt-get install bubblewrap)")
    program = (LEARN + MEMORIES[memory]).replace("PLACE", python_view().hidden[0])
    with Supervisor(SETTINGS, TIERS[tier]) as made:
        for want in ((False, True), (True, False), (False, False)):
            tests = check(*(f"assert candidate({i}) is {value}" for i, value in enumerate(want)))
            came = [made.judge(tests, program).status for _ in range(6)]
            assert set(came) == {Status.WRONG_ANSWER}, (want, came)


@pytest.mark.parametrize("end", ["os._exit(37)", "while True: pass"])
def test_the_zygote_does_not_know_how_the_last_draft_ended(end: str) -> None:
    """What it knew, the next draft had: in the frames that it was forked in, and anywhere in its memory."""
    ends = f"import os\ndef f(x):\n    {end}"
    looks = (
        "import sys\nframe, seen = sys._getframe(), []\n"
        "while frame := frame.f_back: seen += [k for k, v in frame.f_locals.items() if v in (37, 37 << 8, 9, 65280)]\n"
        "def f(x): raise ValueError(str(seen))"
    )
    with Supervisor(SETTINGS, Confinement(tier="A")) as made:
        before = made.judge(FIXTURE, looks).detail
        assert made.judge(FIXTURE, ends).status in (Status.DIED, Status.TIMEOUT)
        assert made.judge(FIXTURE, looks).detail == before == "ValueError: []"


def test_reading_a_file_leaves_no_time_of_access() -> None:
    path = python_view().listed[0] + "/antigravity.py"
    if os.geteuid() != 0 or not os.path.exists(path):
        pytest.skip("the file's times have to be set")
    for confined in TIERS.values():
        if confined.bubblewrap and not tiers._bubblewrap_works():
            continue
        with Supervisor(SETTINGS, confined) as made:
            assert made.judge(FIXTURE, SORT).status == Status.PASSED
            if not (confined.bubblewrap or made._zygotes["candidate"].report["own_mounts"]):
                pytest.skip("the kernel gives no mount namespace here")
            before = os.stat(path)
            os.utime(path, ns=(0, before.st_mtime_ns))
            try:
                assert made.judge(FIXTURE, f"open({path!r}).read()\n{SORT}").status == Status.PASSED
                assert os.stat(path).st_atime_ns == 0
            finally:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_program_is_alone_in_its_process_namespace_and_sees_neither_proc_nor_sys() -> None:
    program = "import os, threading\ndef f(x): raise ValueError(str([os.getpid(), *map(os.path.exists, PLACES)]))\n"
    program = program.replace("PLACES", repr(("/proc/1/status", "/proc/self", "/sys/kernel", "/dev/null")))
    for confined in TIERS.values():
        if confined.bubblewrap and not tiers._bubblewrap_works():
            continue
        with Supervisor(SETTINGS, confined) as made:
            details = {made.judge(FIXTURE, program).detail for _ in range(3)}
            report = made._zygotes["candidate"].report
            if not report["own_namespaces"] or not (confined.bubblewrap or report["own_mounts"]):
                pytest.skip("the kernel gives no namespaces here")
            seen = [1, False, False, False, confined.bubblewrap]
            assert details == {f"ValueError: {seen}"}, (confined, details)
