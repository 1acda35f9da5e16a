"""IP encapsulation within IP (RFC 2003)."""

from __future__ import annotations

from typing import ClassVar

from testbed.mobileip.wire.encapsulation import IP_HEADER, header_size, outer_header
from testbed.mobileip.wire.error import WireError


class IpInIp:
    """A second IP header before the datagram (RFC 2003 §3.1)."""

    protocol: ClassVar = 4
    overhead: ClassVar = IP_HEADER

    def __init__(self, local: bytes, remote: bytes) -> None:
        self._header = outer_header(self.protocol, local, remote)

    def encode(self, buffer: memoryview, at: int, length: int) -> memoryview:
        """TOS and Don't Fragment are the datagram's."""
        start = at - IP_HEADER
        buffer[start:at] = self._header
        buffer[start + 1] = buffer[at + 1]
        buffer[start + 6] = buffer[at + 6] & 0x40
        return buffer[start : at + length]

    @staticmethod
    def decode(packet: memoryview) -> memoryview:
        """All behind the outer header; raises WireError where that is no IP header."""
        start = header_size(packet)
        if start < IP_HEADER or len(packet) < start + IP_HEADER or packet[start] >> 4 != 4:
            raise WireError("malformed", "no IP header inside")
        return packet[start:]
