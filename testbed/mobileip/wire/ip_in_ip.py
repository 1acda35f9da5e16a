"""IP encapsulation within IP (RFC 2003)."""

from __future__ import annotations

from typing import ClassVar

from testbed.mobileip.wire.encapsulation import IP_HEADER, Prefix, header_size
from testbed.mobileip.wire.error import WireError


class IpInIp(Prefix):
    """A second IP header before the datagram (RFC 2003 §3.1)."""

    protocol: ClassVar = 4
    overhead: ClassVar = IP_HEADER

    @staticmethod
    def decode(packet: memoryview) -> memoryview:
        """All behind the outer header; raises WireError where that is no IP header."""
        start = header_size(packet)
        if start < IP_HEADER or len(packet) < start + IP_HEADER or packet[start] >> 4 != 4:
            raise WireError("malformed", "no IP header inside")
        return packet[start:]
