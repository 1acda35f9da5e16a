"""DHCP messages of a client (RFC 2131, options RFC 2132), in the UDP and IPv4 headers they travel in."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.mobileip.wire.ipv4 import HEADER_SIZE, udp

CLIENT_PORT, SERVER_PORT = 68, 67
BROADCAST = IPv4Address("255.255.255.255")
UNSPECIFIED = IPv4Address("0.0.0.0")

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK = range(1, 7)
MASK, ROUTER, REQUESTED, LEASE_TIME, TYPE, SERVER, PARAMETERS, T1, T2, CLIENT = (
    1,
    3,
    50,
    51,
    53,
    54,
    55,
    58,
    59,
    61,
)
_PAD, _END = 0, 255

_NETWORK_CONTROL = 0xC0
_UDP_SIZE = 8
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s192xI")
_COOKIE = 0x63825363
_MINIMUM = 300
"""Octets of a BOOTP message that every relay and server takes (RFC 1542 §2.1)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server says."""

    type: int
    transaction: int
    address: IPv4Address
    hardware: bytes
    options: Mapping[int, bytes]

    def address_option(self, code: int) -> IPv4Address | None:
        """The (first) address of an option."""
        value = self.options.get(code, b"")
        return IPv4Address(value[:4]) if len(value) >= 4 else None

    def seconds(self, code: int) -> int | None:
        """The value of a time option."""
        value = self.options.get(code, b"")
        return int.from_bytes(value) if len(value) == 4 else None


def encode(
    kind: int,
    transaction: int,
    hardware: bytes,
    options: Mapping[int, bytes],
    source: IPv4Address = UNSPECIFIED,
    destination: IPv4Address = BROADCAST,
) -> bytes:
    """An IPv4 packet with a client's message; `source` is the client's address once it has one."""
    bootp = _BOOTP.pack(
        1,
        1,
        len(hardware),
        0,
        transaction,
        0,
        0,
        source.packed,
        bytes(4),
        bytes(4),
        bytes(4),
        hardware,
        _COOKIE,
    )
    every = {TYPE: bytes([kind]), CLIENT: b"\x01" + hardware, **options}
    coded = b"".join(bytes([code, len(value)]) + value for code, value in every.items()) + bytes([_END])
    payload = (bootp + coded).ljust(_MINIMUM, bytes([_PAD]))
    return udp(payload, (source, CLIENT_PORT), (destination, SERVER_PORT), tos=_NETWORK_CONTROL)


def decode(packet: bytes) -> Reply | None:
    """A server's message in an IPv4 packet; None where it is none, or makes no sense."""
    start = (packet[0] & 0xF) * 4 + _UDP_SIZE if packet else 0
    if len(packet) < start + _BOOTP.size or start < HEADER_SIZE + _UDP_SIZE:
        return None
    operation, _, length, _, transaction, _, _, _, yours, _, _, hardware, cookie = _BOOTP.unpack_from(
        packet, start
    )
    options = _options(packet[start + _BOOTP.size :])
    kind = options.get(TYPE, b"")
    if operation != 2 or cookie != _COOKIE or length > 16 or len(kind) != 1:
        return None
    return Reply(kind[0], transaction, IPv4Address(yours), hardware[:length], options)


def _options(data: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 1 >= len(data):
            break
        code, length = data[at], data[at + 1]
        # What is split over several instances belongs together (RFC 3396).
        options[code] = options.get(code, b"") + data[at + 2 : at + 2 + length]
        at += 2 + length
    return options
