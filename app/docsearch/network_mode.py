"""Whether the network may be used: the environment variable ENV, read anew each time."""


def require_online() -> None:
    """Raises Refused("offline") unless ENV is exactly `online`; unset, `offline` and `training` refuse alike."""
    raise NotImplementedError
