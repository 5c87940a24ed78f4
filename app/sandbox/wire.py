"""Frames over pipes, between a candidate program and its judge.

A frame is a 4-byte little-endian length and that many bytes of ASCII JSON whose values went through `values.to_json`.
Size, depth and number of items are checked before anything is encoded and before anything is decoded. Both directions
are fuzzed in tests/unit/sandbox/test_wire.py. At the end: the messages of supervisor and judge, who trust each other.
"""

import fcntl
import json
import os
import re
import socket
import struct
from typing import Any

from app.sandbox.syscalls import FIONREAD
from app.sandbox.values import MAX_BYTES, MAX_DEPTH, MAX_ITEMS, TooLargeError, WireError

_HEADER = struct.Struct("<I")
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # linear, also where no end comes
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder(parse_constant=float).decode  # each NaN an object of its own, as it was


class Frames:
    """Frames over a pair of blocking pipe ends."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Raises WireError for a frame that is too large, OSError when nobody reads any more."""
        send_bytes(self._write_fd, pack(message))

    def receive(self) -> Any:
        """The next frame's JSON. Raises EOFError at the end, WireError for anything but a frame."""
        while len(self._buffer) < _HEADER.size:
            self._fill()
        size = _HEADER.unpack_from(self._buffer)[0]
        if size > MAX_BYTES:
            raise WireError(f"a frame of {size} bytes, {MAX_BYTES} are allowed")
        while len(self._buffer) < _HEADER.size + size:
            self._fill()
        payload = bytes(self._buffer[_HEADER.size : _HEADER.size + size])
        del self._buffer[: _HEADER.size + size]
        return unpack(payload)

    @property
    def has_unread(self) -> bool:
        """Whether bytes are there after the last frame that was received."""
        waiting = struct.unpack("@i", fcntl.ioctl(self._read_fd, FIONREAD, bytes(4)))[0]
        return bool(self._buffer) or waiting > 0

    def _fill(self) -> None:
        data = os.read(self._read_fd, 1 << 16)
        if not data:
            raise EOFError("the other side closed the channel")
        self._buffer += data


def send_bytes(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def pack(message: dict[str, Any]) -> bytes:
    """The frame of a JSON object whose values went through `to_json`."""
    payload = _encode(message).encode("ascii")
    if len(payload) > MAX_BYTES:
        raise TooLargeError(f"{len(payload)} bytes of data, {MAX_BYTES} can be sent")
    return _HEADER.pack(len(payload)) + payload


def unpack(payload: bytes) -> Any:
    """The JSON of a frame without its header; `from_json` makes values of its parts. Raises WireError."""
    try:
        text = payload.decode("ascii")
        _check_shape(text)
        return _decode(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise WireError(f"no frame: {str(error)[:100]}") from None


def _check_shape(text: str) -> None:
    """Refuse too many items or too deep nesting before a parser builds them."""
    opened = text.count("[") + text.count("{")
    if opened <= 2 * MAX_DEPTH and text.count(",") + opened <= MAX_ITEMS:
        return
    bare = _TEXT.sub("", text)
    if bare.count(",") + bare.count("[") + bare.count("{") > 3 * MAX_ITEMS:  # an item costs up to three: {"t":[,
        raise WireError(f"more than {MAX_ITEMS} items")
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > 3 * MAX_DEPTH + 4:  # a level costs up to three: {"deque":[,[; the message itself adds a little
            raise WireError(f"nested deeper than {MAX_DEPTH}")


def send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """One message between supervisor and judge, who trust each other."""
    data = json.dumps(message).encode()
    data = _HEADER.pack(len(data)) + data
    if fds:
        sent = socket.send_fds(control, [data], fds)
        data = data[sent:]
    if data:
        control.sendall(data)


def receive(control: socket.socket) -> tuple[Any, list[int]]:
    """Raises EOFError when the other side is gone."""
    data, fds, _, _ = socket.recv_fds(control, 1 << 16, 4)
    while len(data) < _HEADER.size or len(data) < _HEADER.size + _HEADER.unpack_from(data)[0]:
        more = control.recv(1 << 20)
        if not more:
            break
        data += more
    if len(data) < _HEADER.size:
        raise EOFError("the control socket is closed")
    return json.loads(data[_HEADER.size :]), fds
