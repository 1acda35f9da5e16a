"""Mobile IP through NATs: two extensions and the tunnel data message (RFC 3519 §3.1 to §3.3)."""

from __future__ import annotations

from enum import IntFlag
from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire import ipv4
from testbed.mobileip.wire.encapsulation import IP_HEADER
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.gre import HEADER as GRE_HEADER
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.minimal import Minimal
from testbed.mobileip.wire.reader import unpack_fixed
from testbed.mobileip.wire.value import value

REQUEST, REPLY = 144, 44
"""Types of the extensions: the one may be skipped, the other may not."""
DATA = 4
"""Type of the tunnel data message."""
IP_IN_IP, GRE, MINIMAL = 4, 47, 55
"""Encapsulations, numbered as in the Protocol field of the IP header (§3.1.4)."""
ACCEPTED, DECLINED = 0, 64
"""Reply codes: 0 to 63 assent, the others do not (§3.2.1)."""

_SUBTYPE = 0
_REQUEST = Struct("!BBBBH")
_REPLY = Struct("!BBHH")
_DATA = Struct("!BBH")
HEADER_SIZE = _DATA.size


class TunnelFlag(IntFlag):
    """The bits of the request; the reply has FORCE alone, in the same place."""

    FORCE = 0x80
    THROUGH_AGENT = 0x40
    """R: a co-located care-of address is registered through a foreign agent, as that requires."""


@value
class UdpTunnelRequest:
    """The UDP Tunnel Request Extension (§3.1)."""

    force: bool = False
    through_agent: bool = False
    encapsulation: int = 0
    """0: what the M and G bits of the registration request say."""

    def encode(self) -> Extension:
        """As an extension."""
        flags = TunnelFlag.FORCE * self.force | TunnelFlag.THROUGH_AGENT * self.through_agent
        return Extension(REQUEST, _REQUEST.pack(_SUBTYPE, 0, flags, self.encapsulation, 0))

    @classmethod
    def decode(cls, data: bytes) -> UdpTunnelRequest | None:
        """From the data of an extension; None for one that must be taken as not understood.

        That is any with another length or sub-type, and with Reserved 3 not zero: §3.1.3 says MUST, against
        the SHOULD of §4.6.1 for a denial.
        """
        if len(data) != _REQUEST.size:
            return None
        subtype, _, flags, encapsulation, reserved = _REQUEST.unpack(data)
        if subtype != _SUBTYPE or reserved:
            return None
        return cls(bool(flags & TunnelFlag.FORCE), bool(flags & TunnelFlag.THROUGH_AGENT), encapsulation)


@value
class UdpTunnelReply:
    """The UDP Tunnel Reply Extension (§3.2); `keepalive` is in seconds, 0 leaves it to the other end."""

    code: int = ACCEPTED
    forced: bool = False
    keepalive: int = 0

    @property
    def assents(self) -> bool:
        """Whether the home agent tunnels in UDP."""
        return self.code < DECLINED

    def encode(self) -> Extension:
        """As an extension."""
        flags = (TunnelFlag.FORCE * self.forced) << 8
        return Extension(REPLY, _REPLY.pack(_SUBTYPE, self.code, flags, self.keepalive))

    @classmethod
    def decode(cls, data: bytes) -> UdpTunnelReply:
        """From the data of an extension; raises WireError "length" or "type"."""
        if len(data) != _REPLY.size:
            raise WireError("length", f"UDP tunnel reply extension of {len(data)} bytes")
        subtype, code, flags, keepalive = _REPLY.unpack(data)
        if subtype != _SUBTYPE:
            raise WireError("type", f"UDP tunnel reply extension of sub-type {subtype}")
        return cls(code, bool(flags >> 8 & TunnelFlag.FORCE), keepalive)


@value
class TunnelData:
    """The tunnel data message (§3.3): `payload` begins with the header that `next_header` names."""

    next_header: int
    payload: bytes

    @classmethod
    def around(cls, next_header: int, datagram: bytes) -> TunnelData:
        """A message that carries `datagram`, which has no options where the encapsulation is minimal."""
        if next_header == GRE:
            return cls(next_header, GRE_HEADER + datagram)
        if next_header == MINIMAL:
            # With the source in it, as a NAT changes that of the outer header.
            packet = Minimal(bytes(4), bytes(4)).encode(memoryview(datagram), 0, len(datagram))
            return cls(next_header, packet[IP_HEADER:])
        return cls(next_header, datagram)

    def datagram(self, source: IPv4Address, destination: IPv4Address) -> bytes:
        """What it carries, from and to these outer addresses; raises WireError."""
        packet = memoryview(ipv4.datagram(self.payload, self.next_header, source, destination))
        if self.next_header == GRE:
            return bytes(Gre.decode(packet))
        if self.next_header == MINIMAL:
            return Minimal.decode(packet)
        return self.payload

    def encode(self) -> bytes:
        """The UDP payload."""
        return _DATA.pack(DATA, self.next_header, 0) + self.payload

    @classmethod
    def decode(cls, payload: bytes) -> TunnelData:
        """The whole message; raises WireError "truncated" or "type"."""
        next_header, _ = unpack_fixed(payload, _DATA, DATA, "a tunnel data message")
        return cls(next_header, payload[_DATA.size :])
