"""ENV=offline while a model is trained: the guard of the documentation search then refuses the network
(`app.docsearch.network_mode`), whatever the user's environment says.

ENV is that guard's mode and nothing else: weights are fetched as before, and Hugging Face's variables are left alone.
"""

import contextlib
import os
from collections.abc import Iterator

MODE = "ENV"


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Set ENV to `offline` in this process for the duration of the block, and then back to what it was.

    What the block starts inherits it: processes, and all workers of a Ray that it connects to
    (`app.cluster.session.connected`), however long that Ray is used. Decorates a function as well.
    """
    before = os.environ.get(MODE)
    os.environ[MODE] = "offline"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(MODE, None)
        else:
            os.environ[MODE] = before
