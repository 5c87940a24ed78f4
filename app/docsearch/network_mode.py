"""Whether the network may be used: the environment variable ENV, read anew each time."""

import os

from app.docsearch.records import Refused

ONLINE = "online"


def require_online() -> None:
    """Raises Refused("offline") unless ENV is exactly `online`; unset, `offline` and `training` refuse alike."""
    if os.environ.get("ENV") != ONLINE:
        raise Refused("offline", "ENV is not exactly 'online'")
