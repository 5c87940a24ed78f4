"""How well this machine can confine a program, found by trying, and written into every verdict.

A   Landlock 4 or newer and seccomp (Linux 6.7 and newer)
B   seccomp and bubblewrap, no Landlock
C   Landlock 1 to 3 and seccomp (Linux 5.13 and newer); seccomp alone keeps programs off the network
"A+bwrap" and "C+bwrap" say that bubblewrap's namespaces are there as one more layer. `unsafe` is anything less, run
because the user typed --unsafe. `in_process` marks tests that can't be kept apart from the program: a program can
forge their outcome.
"""

import dataclasses
import functools
import os
import shutil
import subprocess
from typing import Any

from app.errors import UserError
from app.records import UNSAFE
from app.sandbox.process import Zygote, ZygoteError
from app.sandbox.readable_paths import python_view

FULL_LANDLOCK = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What the zygotes of this machine are started with, and what it amounts to. Made by `confinement`."""

    landlock: bool = True
    seccomp: bool = True
    bubblewrap: bool = False
    tier: str = UNSAFE

    def start(self, role: str) -> Zygote:
        """Raises ZygoteError when it does not start or the confinement asked for does not hold."""
        wrapper = bubblewrap_command() if self.bubblewrap else ()
        zygote = Zygote(role, landlock=self.landlock, seccomp=self.seccomp, wrapper=wrapper)
        if self.tier != UNSAFE and tier_of(zygote.report, self.bubblewrap) != self.tier:
            zygote.close()
            raise ZygoteError(f"tier {self.tier} was found at start and does not hold any more: {zygote.report}")
        return zygote


def tier_of(report: dict[str, Any], bubblewrap: bool) -> str:
    """The tier that a zygote's report of itself amounts to."""
    extra = "+bwrap" if bubblewrap else ""
    if not report["seccomp"]:
        return UNSAFE
    if report["landlock"] and not report["escapes"]:
        return ("A" if report["landlock"] >= FULL_LANDLOCK else "C") + extra
    seen = {name for name in report["escapes"] if name != "open /"}  # bubblewrap's own empty root
    return "B" if bubblewrap and not seen else UNSAFE


def confinement(*, unsafe: bool = False) -> Confinement:
    """The best that works here. Raises UserError below the floor, unless `unsafe`."""
    best, reasons = _probe()
    if best.tier == UNSAFE and not unsafe:
        raise UserError(
            f"programs can't be confined on this machine ({reasons}): take a Linux of 5.13 or newer with Landlock and "
            "seccomp, install bubblewrap, or give --unsafe, which runs them with your rights and marks every score"
        )
    return best


@functools.cache
def _probe() -> tuple[Confinement, str]:
    """Try the layers, strongest first. The second value says what failed."""
    reasons = []
    wrappers = (True, False) if _bubblewrap_works() else (False,)
    for landlock, seccomp in ((True, True), (False, True), (False, False)):
        for bubblewrap in wrappers:
            tried = Confinement(landlock=landlock, seccomp=seccomp, bubblewrap=bubblewrap)
            try:
                zygote = tried.start("candidate")
            except (ZygoteError, OSError) as error:
                reasons.append(str(error))
                continue
            zygote.close()
            tier = tier_of(zygote.report, bubblewrap)
            if tier != UNSAFE or not seccomp:
                return dataclasses.replace(tried, tier=tier), "; ".join(reasons) or "no layer works"
            reasons.append(f"without Landlock a program can still {', '.join(zygote.report['escapes'])}")
    return Confinement(landlock=False, seccomp=False), "; ".join(reasons)


def bubblewrap_command() -> tuple[str, ...]:
    """Namespaces of its own for everything, and a root that holds the system's read-only programs and libraries."""
    view = python_view()
    prefix = os.path.dirname(os.path.dirname(view.interpreter))
    shown = [*view.libraries.values(), *view.bundled, os.path.dirname(os.path.abspath(__file__))]
    shown.append(os.path.join(os.path.dirname(shown[-1]), "__init__.py"))
    # Without --die-with-parent: killed while it sets up, bubblewrap leaves a process that waits for ever. The zygote
    # ends itself when its supervisor is gone, and bubblewrap with it.
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all"]
    for folder in ("/bin", "/lib", "/lib64"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    for path in ("/usr", prefix):
        command += ["--ro-bind", path, path]
    for path in view.hidden:
        command += ["--tmpfs", path]
    for path in shown:
        command += ["--ro-bind", path, path]
    for path in view.hidden:
        command += ["--remount-ro", path]
    return (*command, "--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/", "--chdir", "/", "--")


@functools.cache
def _bubblewrap_works() -> bool:
    if shutil.which("bwrap") is None:
        return False
    try:
        done = subprocess.run([*bubblewrap_command(), python_view().interpreter, "-S", "-c", ""], timeout=20, env={})
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
