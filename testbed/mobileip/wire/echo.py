"""ICMP echo messages (RFC 792) without data, in IPv4: the keepalives of tunnels in UDP (RFC 3519 §4.9)."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire import checksum, ipv4
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.value import value

REQUEST, REPLY = 8, 0
_MESSAGE = Struct("!BBHHH")
_FRAGMENT = 0x3FFF


@value
class Echo:
    """An echo request or reply."""

    type: int
    identifier: int
    sequence: int

    def datagram(self, source: IPv4Address, destination: IPv4Address) -> bytes:
        """The IPv4 datagram that carries it."""
        message = _MESSAGE.pack(self.type, 0, 0, self.identifier, self.sequence)
        total = checksum.internet_checksum(message).to_bytes(2, "big")
        return ipv4.datagram(message[:2] + total + message[4:], ipv4.ICMP, source, destination)

    @classmethod
    def from_datagram(cls, packet: bytes) -> tuple[IPv4Address, IPv4Address, Echo]:
        """Source, destination and message of a datagram; raises WireError for one that carries no echo."""
        size = (packet[0] & 15) * 4 if packet else 0
        if len(packet) < max(size, ipv4.HEADER_SIZE) + _MESSAGE.size or size < ipv4.HEADER_SIZE:
            raise WireError("truncated", f"an echo in {len(packet)} bytes")
        if packet[0] >> 4 != 4 or packet[9] != ipv4.ICMP or int.from_bytes(packet[6:8], "big") & _FRAGMENT:
            raise WireError("type", "no ICMP message")
        if not checksum.valid(packet[:size]):
            raise WireError("checksum")
        kind, code, _, identifier, sequence = _MESSAGE.unpack_from(packet, size)
        if kind not in (REQUEST, REPLY) or code:
            raise WireError("type", f"ICMP type {kind} code {code} is no echo")
        if not checksum.valid(packet[size : int.from_bytes(packet[2:4], "big")]):
            raise WireError("checksum")
        addresses = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        return *addresses, cls(kind, identifier, sequence)
