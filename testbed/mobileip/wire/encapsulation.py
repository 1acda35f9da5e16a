"""The encapsulations that a registration may agree on (RFC 5944 §4.1, RFC 3519 §3.1).

Each has a class, with one object for each way through a tunnel: `ip_in_ip`, `gre`, `minimal`, and those in
UDP in `in_udp`. They work in a buffer of the process that carries datagrams, which copies little.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import ClassVar, Protocol

IP_HEADER = 20
"""Bytes of an IP header without options."""
TTL = 64
"""Enough for every way to the other end of a tunnel."""
ROOM = 64
"""Bytes that `Carrier.encode` may use in front of a datagram."""


class Encapsulation(Enum):
    """How a datagram is carried to the other end of a tunnel."""

    IP_IN_IP = "ip-in-ip"  # RFC 2003: every agent and mobile node has it
    GRE = "gre"  # RFC 2784, the G bit
    MINIMAL = "minimal"  # RFC 2004, the M bit
    # RFC 3519 §3.3: tunnel data messages (type 4) between UDP ports
    UDP = "udp"  # IP in UDP: every agent and mobile node with tunnels in UDP has it
    GRE_IN_UDP = "gre-in-udp"
    MINIMAL_IN_UDP = "minimal-in-udp"


OVERHEAD = {
    Encapsulation.IP_IN_IP: 20,
    Encapsulation.GRE: 24,
    Encapsulation.MINIMAL: 20,  # as fragments are in IP in IP
    Encapsulation.UDP: 32,
    Encapsulation.GRE_IN_UDP: 36,
    Encapsulation.MINIMAL_IN_UDP: 32,
}
"""Bytes by which a tunnel's MTU is below that of the link."""


class Carrier(Protocol):
    """One encapsulation, on the way from one address to another; made with both, packed."""

    protocol: ClassVar[int]
    """The Protocol field of the outer IP header."""
    overhead: ClassVar[int]
    """How many bytes longer a datagram becomes, at most."""

    def __init__(self, local: bytes, remote: bytes) -> None:
        """Prepare what is the same in every packet."""

    def encode(self, buffer: memoryview, at: int, length: int) -> memoryview | bytes:
        """The packet that carries the datagram of `length` bytes at `at` in `buffer`.

        The datagram stays as it is; the `ROOM` in front of it may be written to. Total length, checksum and,
        where it is 0, identification of the outer header are left to the kernel (raw(7)).
        """

    @staticmethod
    def decode(packet: memoryview) -> memoryview | bytes:
        """The datagram in a packet that begins with its outer IP header.

        Raises WireError: "loop" for a datagram that would go back into its tunnel, else what is wrong.
        """


def outer_header(protocol: int, local: bytes, remote: bytes) -> bytes:
    """An outer IP header, without what depends on the datagram inside or is left to the kernel."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, TTL, protocol, 0, local, remote)


def header_size(packet: memoryview | bytes) -> int:
    """The bytes of the IP header that `packet` begins with, its options included."""
    return (packet[0] & 0xF) << 2 if packet else 0


class Prefix:
    """A way to carry a datagram as it is, behind headers that are `overhead` bytes long."""

    protocol: ClassVar[int]
    overhead: ClassVar[int]

    def __init__(self, local: bytes, remote: bytes, further: bytes = b"") -> None:
        """`further` is what follows the outer IP header."""
        self._header = outer_header(self.protocol, local, remote) + further

    def encode(self, buffer: memoryview, at: int, length: int) -> memoryview:
        """TOS and Don't Fragment are the datagram's (RFC 2003 §3.1)."""
        start = at - self.overhead
        buffer[start:at] = self._header
        buffer[start + 1] = buffer[at + 1]
        buffer[start + 6] = buffer[at + 6] & 0x40
        return buffer[start : at + length]
