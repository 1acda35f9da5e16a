"""Generic routing encapsulation (RFC 2784) of IPv4 in IPv4."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.encapsulation import IP_HEADER, Prefix, header_size
from testbed.mobileip.wire.error import WireError

CHECKSUM = 0x8000
"""Checksum Present (§2.2)."""
REFUSED = 0x7C00
"""The bits 1 to 5, flags of RFC 1701 such as Key and Sequence Number Present (§2.3)."""
VERSION = 0x0007
IPV4 = 0x0800
"""The Protocol Type of a datagram (§3)."""

_HEADER = Struct("!HH")
HEADER = _HEADER.pack(0, IPV4)
"""The header of every datagram that is sent."""


class Gre(Prefix):
    """An IP header and a GRE header of four bytes, without a checksum, before the datagram."""

    protocol: ClassVar = 47
    overhead: ClassVar = IP_HEADER + _HEADER.size

    def __init__(self, local: bytes, remote: bytes) -> None:
        super().__init__(local, remote, HEADER)

    @staticmethod
    def decode(packet: memoryview) -> memoryview:
        """The datagram behind the outer IP header; raises WireError as `payload` does."""
        return payload(packet, header_size(packet))


def payload(packet: memoryview, outer: int) -> memoryview:
    """The datagram behind the GRE header that follows `outer` bytes of other headers, the IP header first.

    It is what a sender of this RFC means; raises WireError for what RFC 1701 adds, and what is damaged. The
    bits 6 to 12 are ignored (§2.3). "loop" is a datagram for the tunnel's other end (§3.1).
    """
    start = outer + _HEADER.size
    if outer < IP_HEADER or len(packet) < start + IP_HEADER:
        raise WireError("malformed", "GRE header incomplete")
    flags, kind = _HEADER.unpack_from(packet, outer)
    if flags & (REFUSED | VERSION):
        raise WireError("malformed", f"GRE flags {flags:#06x}")
    if flags & CHECKSUM:
        if not checksum.valid(bytes(packet[outer:])):
            raise WireError("malformed", "GRE checksum wrong")
        start += 4
    if kind != IPV4 or len(packet) < start + IP_HEADER or packet[start] >> 4 != 4:
        raise WireError("malformed", "no IP header inside")
    if packet[start + 16 : start + 20] == packet[12:16]:
        raise WireError("loop")
    return packet[start:]
