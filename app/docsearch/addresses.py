"""Which addresses are public, by a table of our own: the answers of `ipaddress` change with Python's patch versions.

Source of the table: IANA's special-purpose address registries for IPv4 and IPv6, RFC 6890 and its updates. What they
call globally reachable but no web site lives at (anycast of relays, AS112) is refused as well.
"""

import ipaddress
from collections.abc import Collection, Sequence

from app.docsearch.records import Refused

_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, inside each virtual machine
        "169.254.0.0/16",  # link-local, metadata of cloud machines
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""The only block of IPv6 that holds public sites: mapped, translated, local and multicast addresses lie outside."""
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


def refuse_unless_public(addresses: Sequence[str], *, also_public: Collection[str] = ()) -> str:
    """The first of a name's addresses, if all of them are public; raises Refused("ip") otherwise, for no address too.

    also_public: addresses that count as public as well; only tests give some, for their servers on loopback.
    """
    if not addresses:
        raise Refused("ip", "the name has no address")
    for address in addresses:
        if address not in also_public and not _is_public(address):
            raise Refused("ip", f"{address[:64]!r} is not a public address")
    return addresses[0]


def _is_public(text: str) -> bool:
    """Also False for text that is not an address in plain notation, and for an IPv6 address with a zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    return address in _GLOBAL_UNICAST and not any(address in block for block in _NOT_PUBLIC_6)
