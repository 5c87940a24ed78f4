"""Which addresses are public, by a table of our own: the answers of `ipaddress` change with Python's patch versions."""

from collections.abc import Collection, Sequence


def refuse_unless_public(addresses: Sequence[str], *, also_public: Collection[str] = ()) -> str:
    """The first of a name's addresses, if all of them are public; raises Refused("ip") otherwise.

    also_public: addresses that count as public as well; only tests give some, for their servers on loopback.
    """
    raise NotImplementedError
