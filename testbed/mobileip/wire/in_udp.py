"""IP, GRE and minimal encapsulation in UDP: tunnel data messages (RFC 3519 §3.3, §4.1 to §4.3)."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from testbed.mobileip.wire import gre
from testbed.mobileip.wire.encapsulation import IP_HEADER, Prefix, header_size
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal

_MESSAGE = Struct("!HHHHBBH")
"""The UDP header (RFC 768), and the header of the message: type, next header, reserved."""
_UDP, _DATA = 17, 4
_DONT_FRAGMENT = 0x40
_LENGTH = Struct("!H")
_PORTS = 4
"""Bytes of a UDP header before its length."""


class _Message:
    """What all three have in common."""

    protocol: ClassVar = _UDP

    @staticmethod
    def decode(packet: memoryview) -> memoryview | bytes:
        """The datagram in a tunnel data message, its outer IP header included; raises WireError (§4.3).

        The UDP checksum is not looked at: where packets come from this host, it is not there yet, and what is
        inside has checksums of its own.
        """
        outer = header_size(packet)
        start = outer + _MESSAGE.size
        if outer < IP_HEADER or len(packet) < start or packet[outer + 8] != _DATA:
            raise WireError("malformed", "no tunnel data message")
        kind = packet[outer + 9]
        if kind == Gre.protocol:
            return gre.payload(packet, start)
        if kind == Minimal.protocol:
            # "the UDP and the Mobile IP headers are removed", length and Protocol of the header adjusted
            header = bytearray(packet[:outer])
            header[9] = kind
            header[2:4] = max(0, int.from_bytes(header[2:4], "big") - _MESSAGE.size).to_bytes(2, "big")
            return Minimal.decode(memoryview(bytes(header) + packet[start:]))
        if kind != IpInIp.protocol or len(packet) < start + IP_HEADER or packet[start] >> 4 != 4:
            raise WireError("malformed", "no IP header inside")
        return packet[start:]


def _checksum(total: int) -> int:
    """What makes a sum of words, that of a UDP message and its pseudo header, come to 0; 0 means none."""
    return 0xFFFF - total % 0xFFFF


class _InUdp(_Message, Prefix):
    """An IP header, a UDP header and a message header before the datagram, between two UDP ports."""

    next_header: ClassVar[int]
    further: ClassVar = b""
    """What follows the message header."""

    def __init__(self, local: bytes, remote: bytes, local_port: int = 0, remote_port: int = 0) -> None:
        message = _MESSAGE.pack(local_port, remote_port, 0, 0, _DATA, self.next_header, 0) + self.further
        super().__init__(local, remote, message)
        self._size = len(message)
        # What the checksum covers besides the datagram and, twice, the length.
        self._sum = int.from_bytes(local + remote + message, "big") % 0xFFFF + self.protocol

    def encode(self, buffer: memoryview, at: int, length: int) -> memoryview:
        """TOS is the datagram's; Don't Fragment is always set, as a NAT loses fragments (§4.8)."""
        packet = super().encode(buffer, at, length)
        packet[6] = _DONT_FRAGMENT
        size = length + self._size
        # As 2**16 is 1 modulo 0xffff, the whole number's remainder is that of the sum of its words.
        total = int.from_bytes(buffer[at : at + length], "big") << 8 * (length & 1)
        _LENGTH.pack_into(packet, IP_HEADER + _PORTS, size)
        _LENGTH.pack_into(packet, IP_HEADER + _PORTS + 2, _checksum(total + 2 * size + self._sum))
        return packet


class IpInUdp(_InUdp):
    """The datagram itself behind the message header."""

    next_header: ClassVar = IpInIp.protocol
    overhead: ClassVar = IP_HEADER + _MESSAGE.size


class GreInUdp(_InUdp):
    """A GRE header without a checksum behind the message header."""

    next_header: ClassVar = Gre.protocol
    further: ClassVar = gre.HEADER
    overhead: ClassVar = IP_HEADER + _MESSAGE.size + len(gre.HEADER)


class MinimalInUdp(_Message):
    """The UDP header and the message header between the datagram's own header and the forwarding header."""

    next_header: ClassVar = Minimal.protocol
    overhead: ClassVar = IpInUdp.overhead  # as fragments are in IP in UDP

    def __init__(self, local: bytes, remote: bytes, local_port: int = 0, remote_port: int = 0) -> None:
        self._minimal = Minimal(local, remote)
        self._message = _MESSAGE.pack(local_port, remote_port, 0, 0, _DATA, self.next_header, 0)
        self._ends = int.from_bytes(local + remote, "big") + _UDP

    def encode(self, buffer: memoryview, at: int, length: int) -> bytes:
        """TTL, options and Don't Fragment stay what they are: they are the datagram's again at the end."""
        packet = self._minimal.encode(buffer, at, length)
        header = bytearray(packet[: header_size(packet)])
        header[9] = self.protocol
        message = bytearray(self._message + packet[len(header) :])
        _LENGTH.pack_into(message, _PORTS, len(message))
        total = int.from_bytes(message, "big") << 8 * (len(message) & 1)
        _LENGTH.pack_into(message, _PORTS + 2, _checksum(total + len(message) + self._ends))
        return bytes(header + message)


CARRIERS = (IpInUdp, GreInUdp, MinimalInUdp)
"""Each with its Next Header, numbered as the Protocol field of the IP header (§3.3)."""
