"""A few methods for vLLM's worker, which runs in the engine's child process (its `worker_extension_cls`)."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


class EndsWithParent:
    def end_with_parent(self, parent: int) -> None:
        """Have the kernel end this process when the one that asks ends, however it does.

        vLLM's child of a host that was killed stays, and with it its memory. What counts is the thread that started the
        child (prctl(2)), so that has to last as long as the host.
        """
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
