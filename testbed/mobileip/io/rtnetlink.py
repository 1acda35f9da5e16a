"""Messages of rtnetlink, packed by hand, and many of them in one system call (rtnetlink(7)).

A library that packs any message of any version takes longer for each than the kernel does for hundreds, and
to import it takes longer than the rest of a daemon's start.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_RULE, DELETE_RULE, GET_RULE = 32, 33, 34
CREATE, EXCLUSIVE, REPLACE = 0x400, 0x200, 0x100
"""Flags of a message: make it if it is not there; refuse if it is; put it in the place of what is."""
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_SOL_NETLINK, _CAP_ACK = 270, 10
_SIZE = 0x10000
MOST = 128
"""Messages in one system call: were the kernel to refuse them all, its answers would fit into our buffer."""

Message = tuple[int, int, bytes]
"""Kind, flags, and what follows the header."""
Attributes = dict[int, bytes]
Value = bytes | int | str | IPv4Address
Values = dict[int, Value]
"""Attributes to be packed."""

ATTRIBUTE = struct.Struct("=HH")
"""struct rtattr: length, its own 4 bytes included, and type; the value follows."""
LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, which flags to change."""
ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, destination's and source's prefix length, TOS, table, protocol, scope, type, flags;
and struct fib_rule_hdr, of which the three before the flags are two unused and an action."""
NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, index, state, flags, type."""


def packed(values: Values) -> bytes:
    """Attributes by their kinds: bytes as they are, an integer of 32 bits, a name, an address."""
    pieces: list[bytes] = []
    for kind, value in values.items():
        if isinstance(value, IPv4Address):
            value = value.packed
        elif isinstance(value, int):
            value = value.to_bytes(4, sys.byteorder)
        elif isinstance(value, str):
            value = value.encode() + b"\0"
        pieces += (ATTRIBUTE.pack(4 + len(value), kind), value, bytes(-len(value) % 4))
    return b"".join(pieces)


def attributes(data: bytes) -> Attributes:
    """The attributes that follow a fixed part, by their kinds."""
    found: Attributes = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def integer(value: bytes) -> int:
    """An attribute that is a number."""
    return int.from_bytes(value, sys.byteorder)


class Rtnetlink:
    """A socket of rtnetlink; the kernel carries out what is sent before `sendmsg` returns."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        with suppress(OSError):  # the answer to what was refused needs not quote it
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._last = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def change(self, messages: Sequence[Message]) -> list[int]:
        """Have the kernel carry out messages in order; returns the error number of each, 0 for none.

        One that is refused does not keep the kernel from the next.
        """
        errors: list[int] = []
        for at in range(0, len(messages), MOST):
            errors += self._change(messages[at : at + MOST])
        return errors

    def _change(self, messages: Sequence[Message]) -> list[int]:
        first, self._last = self._last + 1, self._last + len(messages)
        errors = [0] * len(messages)
        # The kernel reports every error unasked; so its answer to the last message completes the list.
        pieces: list[bytes] = []
        for number, (kind, flags, body) in enumerate(messages, first):
            flags |= _REQUEST if number < self._last else _REQUEST | _ACK
            pieces += (_HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0), body)
        self._socket.send(b"".join(pieces))
        for kind, number, body in self._answers():
            if kind == _ERROR and first <= number <= self._last:
                errors[number - first] = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                if number == self._last:
                    return errors
        raise AssertionError

    def ask(self, kind: int, body: bytes) -> bytes:
        """The answer to a question about one thing: what follows its header. Raises OSError."""
        return next(self._ask(kind, 0, body))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All there is of a kind: what follows each header. Raises OSError."""
        return list(self._ask(kind, _DUMP, body))

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._last += 1
        asked = self._last
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, asked, 0)
        self._socket.send(header + body)
        for answer, number, said in self._answers():
            if number != asked:
                continue  # of an earlier question, of whose answers not all were read
            if answer == _DONE:
                return
            if answer == _ERROR:
                error = -int.from_bytes(said[:4], sys.byteorder, signed=True)
                raise OSError(error, os.strerror(error))
            yield said

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """What the kernel says: kind, number of the message it answers, what follows the header."""
        while True:
            data = self._socket.recv(_SIZE)
            at = 0
            while at < len(data):
                length, kind, _, number, _ = _HEADER.unpack_from(data, at)
                yield kind, number, data[at + _HEADER.size : at + length]
                at += length + 3 & ~3


def error_name(number: int) -> str:
    """`ENODEV`, say."""
    return errno.errorcode.get(number, str(number))
