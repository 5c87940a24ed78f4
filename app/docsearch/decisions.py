"""The log of what was allowed and what was refused: one JSON line a decision, without queries and texts of pages.

    {"at": "2026-11-30T10:00:00Z", "id": "5f1c0a92e7d3", "mode": "online", "what": "fetch", "verdict": "allow",
     "reason": "", "host": "docs.python.org", "bytes": 48213, "ms": 212}

`id` is the same for all that one request did, and can't be turned back into the request's own id, which allows
searches. The file is its owner's alone and starts anew at 16 MiB; the one before is kept beside it.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import time
from pathlib import Path

MAX_BYTES = 16 << 20
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")


class DecisionLog:
    """Several processes may write to one file: a line is one write."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max_bytes = path, max_bytes

    def write(
        self,
        request: str,
        what: str,
        verdict: str,
        *,
        reason: str = "",
        host: str = "",
        num_bytes: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """what: search, fetch, cache, network, link or offline. verdict: allow or block. Raises OSError where the line
        can't be written whole."""
        mode = os.environ.get("ENV", "")
        row = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": hashlib.sha256(request.encode(errors="replace")).hexdigest()[:12],
            "mode": mode if mode in ("online", "offline", "training") else "other" if mode else "unset",
            "what": what,
            "verdict": verdict,
            "reason": reason,
            "host": host if _HOST.fullmatch(host) else "?" if host else "",
            "bytes": num_bytes,
            "ms": round(seconds * 1000),
        }
        line = json.dumps(row).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            if os.fstat(file).st_size > self._max_bytes:
                self._begin_anew(file)
        finally:
            os.close(file)

    def _begin_anew(self, file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self.path), os.fstat(file)):  # else another process was faster
                os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
