"""Connections to allowed hosts: a name is resolved once, all its addresses are judged, and the judged one is used.

A resolver that is asked twice may answer differently (DNS rebinding), so nothing below this ever gets a name to connect
to. `Network` is what httpcore opens its connections through: its public interface `network_backend`.
"""

import dataclasses
import functools
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import certifi
import httpcore

from app.docsearch.addresses import refuse_unless_public
from app.docsearch.network_mode import require_online
from app.docsearch.records import Limits, Refused

Resolver = Callable[[str], Sequence[str]]
"""Host name to all of its addresses as text; OSError where there is none."""
Connect = Callable[[str, int, float], socket.socket]
"""(address, port, seconds) to a connected socket; OSError where none can be had."""


class Deadline:
    """The end of one fetch, redirects included."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; raises Refused("timeout") when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Refused("timeout", "the time for the whole fetch is over")
        return left


def connect_to_address(address: str, port: int, seconds: float) -> socket.socket:
    """A TCP connection; the address is in numbers, so that nothing is resolved here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def resolve(host: str) -> list[str]:
    """All addresses that the system knows of a name. The dot at its end keeps local search domains out."""
    found = socket.getaddrinfo(f"{host}.", 443, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """How connections are opened. Tests bring one that counts their servers on loopback as public."""

    also_public: frozenset[str] = frozenset()
    """Addresses that count as public as well."""
    port: int = 443
    """That is connected to; the URL itself can name no port."""
    tls: ssl.SSLContext | None = None
    """None: certificates of `certifi`."""
    connect: Connect = connect_to_address


@functools.cache
def public_certificates() -> ssl.SSLContext:
    """TLS 1.2 or newer, by the authorities of `certifi`; neither the environment nor the system adds one."""
    return ssl.create_default_context(cafile=certifi.where())


class Network(httpcore.NetworkBackend):
    """Opens the connections of one fetch, within its deadline."""

    def __init__(self, resolver: Resolver, opener: Opener, limits: Limits, deadline: Deadline) -> None:
        self._resolver = resolver
        self._opener = opener
        self._limits = limits
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """Raises Refused, or OSError where the connection fails. The given timeout is not asked: the deadline is."""
        require_online()
        address = refuse_unless_public(self._addresses(host), also_public=self._opener.also_public)
        require_online()
        connection = self._opener.connect(address, self._opener.port, self._deadline.left())
        try:
            _check_peer(connection, address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        most = self._limits.raw_bytes + self._limits.header_bytes
        return _Stream(connection, self._deadline, most)

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise Refused("connection", "only TCP is spoken")

    def sleep(self, seconds: float) -> None:
        raise Refused("connection", "a connection is tried once")

    def _addresses(self, host: str) -> Sequence[str]:
        """What the resolver says within its limit. It can't be stopped, so a slow one is left behind in a thread."""
        answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolver(host))
            except Exception as error:
                answers.put(error)

        seconds = min(self._limits.resolver_seconds, self._deadline.left())
        threading.Thread(target=ask, name="docsearch-resolver", daemon=True).start()
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            raise Refused("timeout", f"the resolver took longer than {seconds:.1f} s") from None
        if isinstance(answer, Exception):
            raise Refused("dns", f"{host} can't be resolved ({type(answer).__name__})") from answer
        return answer


def _check_peer(connection: socket.socket, address: str) -> None:
    """A second look at what is connected: everything above could be right and the socket still lead elsewhere."""
    peer = str(connection.getpeername()[0])
    if ipaddress.ip_address(peer) != ipaddress.ip_address(address):
        raise Refused("peer", f"connected to {peer} instead of {address}")


class _Stream(httpcore.NetworkStream):
    """A socket whose every step ends with the deadline, and which gives a bounded number of bytes."""

    def __init__(self, connection: socket.socket, deadline: Deadline, most: int) -> None:
        self._socket = connection
        self._deadline = deadline
        self._most = self._left = most

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._socket.settimeout(self._deadline.left())
        data = self._socket.recv(max_bytes)
        self._left -= len(data)
        if self._left < 0:
            raise Refused("too_large", f"more than {self._most} bytes were sent")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        while buffer:
            self._socket.settimeout(self._deadline.left())
            buffer = buffer[self._socket.send(buffer) :]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            self._socket.settimeout(self._deadline.left())
            secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except BaseException:
            self.close()
            raise
        return _Stream(secured, self._deadline, self._most)

    def get_extra_info(self, info: str) -> Any:
        """Nothing: httpcore then takes the connection for HTTP/1.1, which is all that it may speak."""
        return None
