"""IP in UDP: a datagram in a tunnel data message (RFC 3519 §3.3, §4.2)."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from testbed.mobileip.wire.encapsulation import IP_HEADER, Prefix, header_size
from testbed.mobileip.wire.error import WireError

_MESSAGE = Struct("!HHHHBBH")
"""The UDP header (RFC 768), and the header of the message: type, next header, reserved."""
_DATA, _IP = 4, 4
_DONT_FRAGMENT = 0x40
_LENGTH = Struct("!H")


class IpInUdp(Prefix):
    """An IP header, a UDP header and a message header before the datagram, between two UDP ports."""

    protocol: ClassVar = 17
    overhead: ClassVar = IP_HEADER + _MESSAGE.size

    def __init__(self, local: bytes, remote: bytes, local_port: int = 0, remote_port: int = 0) -> None:
        message = _MESSAGE.pack(local_port, remote_port, 0, 0, _DATA, _IP, 0)
        super().__init__(local, remote, message)
        # What the checksum covers besides the datagram and, twice, the length.
        self._sum = int.from_bytes(local + remote + message, "big") % 0xFFFF + self.protocol

    def encode(self, buffer: memoryview, at: int, length: int) -> memoryview:
        """TOS is the datagram's; Don't Fragment is always set, as a NAT loses fragments (§4.8)."""
        packet = super().encode(buffer, at, length)
        packet[6] = _DONT_FRAGMENT
        size = length + _MESSAGE.size
        # As 2**16 is 1 modulo 0xffff, the whole number's remainder is that of the sum of its words.
        total = int.from_bytes(buffer[at : at + length], "big") << 8 * (length & 1)
        _LENGTH.pack_into(packet, IP_HEADER + 4, size)
        _LENGTH.pack_into(packet, IP_HEADER + 6, 0xFFFF - (total + 2 * size + self._sum) % 0xFFFF)
        return packet

    @staticmethod
    def decode(packet: memoryview) -> memoryview:
        """What a tunnel data message carries; raises WireError where that is no IP header.

        The checksum is not looked at: where packets come from this host, it is not there yet, and what is
        inside has checksums of its own.
        """
        outer = header_size(packet)
        start = outer + _MESSAGE.size
        if outer < IP_HEADER or len(packet) < start + IP_HEADER or packet[start] >> 4 != 4:
            raise WireError("malformed", "no IP header inside")
        if packet[outer + 8] != _DATA or packet[outer + 9] != _IP:  # §3.3: no other tunnelling mode
            raise WireError("malformed", "no tunnel data message that carries IP")
        return packet[start:]
