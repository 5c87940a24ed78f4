"""What a confined program may read: Python's own files and those of a few packages.

That is the standard library, numpy, sortedcontainers and tzdata where they are installed, their shared objects, and the
system's time zones.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import zoneinfo

LIBRARIES = ("numpy", "sortedcontainers", "tzdata")
"""Importable beside the standard library, when installed: what LeetCode's solutions may use as well, and the time zones
of zoneinfo where the system has none."""
_PACKAGES = ("site-packages", "dist-packages")
"""They may hold the very benchmark that a program is judged by."""
_WITH_SHARED_OBJECTS = "ctypes ssl sqlite3 lzma bz2 zlib uuid decimal _elementtree numpy".split()
_LIST_MAPPED_FILES = """
import importlib, json, sys
sys.path += json.loads(sys.argv[1])
for name in json.loads(sys.argv[2]):
    try: importlib.import_module(name)
    except ImportError: pass
print(json.dumps(sorted({line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if ".so" in line})))
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Paths a program may read, and where it imports from. Made here; read by the zygotes."""

    interpreter: str
    listed: tuple[str, ...]
    """Folders of the standard library, whose names may be listed; installed packages in them are not shown."""
    hidden: tuple[str, ...]
    """Folders of installed packages inside of them."""
    folders: tuple[str, ...]
    files: tuple[str, ...]
    import_path: tuple[str, ...]
    bundled: tuple[str, ...]
    """Shared objects that come with the libraries, and the system's time zones."""
    libraries: dict[str, str]
    """Folder of each importable package beside the standard library."""


@functools.cache
def python_view() -> View:
    """The view of the interpreter that runs this. Starts it once to see which shared objects it maps."""
    interpreter = _interpreter()
    standard = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
    extensions = [folder for path in standard if os.path.isdir(folder := os.path.join(path, "lib-dynload"))]
    libraries = _libraries()
    bundled = [folder + ".libs" for folder in libraries.values() if os.path.isdir(folder + ".libs")]
    bundled += filter(os.path.isdir, zoneinfo.TZPATH)
    inside = [entry for folder in standard for entry in os.scandir(folder)]
    shown = [entry for entry in inside if entry.name not in _PACKAGES]
    folders = [*(entry.path for entry in shown if entry.is_dir()), *libraries.values(), *bundled]
    shared = [path for path in _mapped_files(interpreter, libraries) if os.path.exists(path)]
    return View(
        interpreter=interpreter,
        listed=tuple(standard),
        hidden=tuple(entry.path for entry in inside if entry.name in _PACKAGES),
        folders=tuple(folders),
        files=(*(entry.path for entry in shown if entry.is_file()), *shared),
        import_path=(*standard, *extensions),
        bundled=tuple(bundled),
        libraries=libraries,
    )


def keep_in_memory(view: View) -> None:
    """Ask the kernel to read all that a program may read, once.

    A file that one program had read first would come faster to the next, and the time of its last access be a new one.
    """
    for top in (*view.folders, *view.files):
        for folder, _, names in os.walk(top) if os.path.isdir(top) else ((os.path.dirname(top), [], [top]),):
            for name in names:
                with contextlib.suppress(OSError):
                    fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                    try:
                        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
                        os.read(fd, 1)
                    finally:
                        os.close(fd)


def _interpreter() -> str:
    """The interpreter that this virtual environment was made with. sys.executable may be a copy of it inside of the
    environment, and out of reach for a process that another user started."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = (os.path.join(sys.base_prefix, "bin", version), os.path.realpath(sys.executable))
    return next((place for place in places if os.access(place, os.X_OK)), "/proc/self/exe")


def _mapped_files(interpreter: str, libraries: dict[str, str]) -> list[str]:
    parents = json.dumps(sorted({os.path.dirname(folder) for folder in libraries.values()}))
    listing = subprocess.run(
        [interpreter, "-s", "-S", "-P", "-c", _LIST_MAPPED_FILES, parents, json.dumps(_WITH_SHARED_OBJECTS)],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(listing.stdout)


def _libraries() -> dict[str, str]:
    found = {name: importlib.util.find_spec(name) for name in LIBRARIES}
    return {name: os.path.dirname(spec.origin) for name, spec in found.items() if spec and spec.origin}
