"""Untrusted files and names: walked, checked, and read without waiting, without end, inside their tree.

Every function gives a reason instead of trusting: a named pipe is not opened, a link is not followed out of its tree, a
file is not read beyond its limit, an archive's member is not unpacked beyond it, a name is shown as it can be written.
"""

import codecs
import os
import re
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from app.corpus.records import RejectedFileError
from app.corpus.sources.folders import FOREIGN
from app.files.text import has_surrogates, one_line

MAX_FILE_BYTES = 64 << 20
"""More than this is never read of a file, whatever a recipe's cleaning allows."""
MAX_TEXT_BYTES = 16 << 20
"""The same for metadata and licence texts."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of packing whose output can be bounded while it is unpacked."""


def why(error: BaseException) -> str:
    """An error as a reason: "unreadable: " and its kind, with its words where they are not those of the system."""
    words = "" if isinstance(error, OSError) else one_line(error)
    return f"unreadable: {type(error).__name__}" + (f" ({words})" if words else "")


def failure(error: Exception) -> str:
    """An unforeseen error, as the reason why the thing that it came of is left out."""
    return f"failed: {type(error).__name__}" + (f" ({words})" if (words := one_line(error)) else "")


def odd_path(path: str) -> str:
    """Why a path inside a package can't be used; empty for one that can."""
    if has_surrogates(path):  # as which Python has the bytes of names that are not UTF-8
        return "name: not UTF-8"
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts and not path.startswith(("/", "\\")) or _CONTROL.search(path):
        return "name: empty or with a control character"
    if path.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":"):
        return "outside: the path leads out of its package"
    return ""


def read_regular(path: str | Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file. Raises RejectedFileError for anything else, and for one that is larger."""
    try:
        _check_kind(os.stat(path))
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            _check_kind(status)  # it may have changed since
            if status.st_size > max_bytes:
                raise RejectedFileError(f"too large: {status.st_size} bytes")
            raw = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, RejectedFileError):
            raise
        raise RejectedFileError(why(error)) from None
    if len(raw) > max_bytes:
        raise RejectedFileError(f"too large: more than {max_bytes} bytes")
    return raw


def read_text(path: str | Path) -> str:
    """Metadata or a licence, in whatever encoding: what isn't UTF-8 becomes replacement characters."""
    return decoded(read_regular(path, MAX_TEXT_BYTES))


def decoded(raw: bytes) -> str:
    """UTF-8, unless a byte-order mark or zeros in every other byte say UTF-16 (or 32): terms that are written so would
    else be no words at all. Half surrogate pairs become question marks."""
    wide = next((name for mark, name in _MARKS if raw.startswith(mark)), "")
    if not wide and raw and 3 * raw.count(0) > len(raw):
        wide = "utf-16-le" if raw[1::2].count(0) >= raw[::2].count(0) else "utf-16-be"
    return raw.decode(wide or "utf-8-sig", "replace").encode(errors="replace").decode()


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """A member's bytes, unpacked up to the limit whatever size it declares. Raises RejectedFileError, zipfile's and
    zlib's errors."""
    info = archive.getinfo(name)
    if reason := odd_member(info):
        raise RejectedFileError(reason)
    if info.file_size > max_bytes:
        raise RejectedFileError(f"too large: {info.file_size} bytes")
    with archive.open(info) as member:
        raw = member.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise RejectedFileError(f"too large: more than {max_bytes} bytes")
    return raw


def odd_member(info: zipfile.ZipInfo) -> str:
    """Why an archive's member can't be read; empty for one that can."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind not in (0, stat.S_IFREG):
        return f"unreadable: no regular file ({_KINDS.get(kind, 'a folder')})"
    if info.flag_bits & 1:
        return "unreadable: encrypted"
    if info.compress_type not in _METHODS:
        return f"unreadable: packed by method {info.compress_type}"
    return ""


def python_members(infos: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[str, str]]:
    """Name and reason of each Python file of an archive; the reason is empty for one that can be used. Where two have
    one name the last counts, as for every program that unpacks them."""
    last = {info.filename: info for info in infos}
    for info in infos:
        if info.filename.rstrip("/").endswith(".py"):
            again = "" if last[info.filename] is info else "duplicate: the archive holds the name again"
            yield info.filename, again or odd_path(info.filename) or odd_member(info)


def python_files(root: Path, skipped: Collection[str]) -> Iterator[tuple[str, str]]:
    """Path below the root and reason of each Python file; the reason is empty for one that can be used. Links to
    folders are not followed.

    skipped: names of folders that are not read; hidden ones are not either.
    """
    top = os.path.realpath(root)
    failed: list[OSError] = []
    for folder, folders, names in os.walk(top, onerror=failed.append):
        for name in sorted(set(folders) & {*skipped} & {*FOREIGN}):
            yield os.path.relpath(os.path.join(folder, name), top), "vendored: an environment or other people's code"
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skipped)
        for name in [*folders, *sorted(names)]:
            whole = os.path.join(folder, name)
            is_folder = name in folders
            if name.endswith(".py") or (is_folder and os.path.islink(whole)):
                path = os.path.relpath(whole, top)
                reason = _odd_file(whole, path, top, is_link_only=not name.endswith(".py"))
                if reason or not is_folder:
                    yield path, reason
    for error in failed:
        yield os.path.relpath(os.fspath(error.filename or top), top), why(error)


def found_files(root: Path, skipped: Collection[str], is_wanted: Callable[[str], bool]) -> list[str]:
    """Paths below the root of the regular files that are wanted, by their paths; folders as `python_files` has them,
    and .reuse."""
    top, found = os.path.realpath(root), []
    for folder, folders, names in os.walk(top):
        folders[:] = [n for n in folders if n not in skipped and (not n.startswith(".") or n == ".reuse")]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), top)
            if is_wanted(path) and not odd_path(path) and os.path.isfile(os.path.join(folder, name)):
                found.append(path)
    return sorted(found)


def _odd_file(whole: str, path: str, top: str, *, is_link_only: bool) -> str:
    """Why a file of a tree, or a link to a folder in it, can't be used. No folder above it is a link."""
    if reason := odd_path(path):
        return reason
    try:
        if os.path.islink(whole):
            os.path.realpath(whole, strict=True)
            if leads_out(whole, top):
                return "link: it leads out of its tree"
        if not is_link_only:
            _check_kind(os.stat(whole))
    except RejectedFileError as error:
        return str(error)
    except OSError as error:
        return "link: it leads nowhere" if os.path.islink(whole) else why(error)
    return ""


def leads_out(path: str, root: str) -> bool:
    """Whether a path below the root is in truth elsewhere, by a link in it."""
    return not os.path.realpath(path).startswith(os.path.realpath(root).rstrip("/") + "/")


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RejectedFileError(
            f"unreadable: no regular file ({_KINDS.get(stat.S_IFMT(status.st_mode), 'of another kind')})"
        )
