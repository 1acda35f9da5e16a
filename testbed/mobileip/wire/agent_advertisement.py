"""The Agent Advertisement: an ICMP Router Advertisement and its extensions (RFC 5944 §2.1)."""

from __future__ import annotations

from enum import IntFlag
from ipaddress import IPv4Address, IPv4Network
from struct import Struct

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.challenge import ADVERTISED
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension, decode_extensions, encode_extensions
from testbed.mobileip.wire.reader import Reader
from testbed.mobileip.wire.value import value

TYPE = 9
COMMON_TRAFFIC = 0
NO_COMMON_TRAFFIC = 16
"""The two values of the ICMP Code: whether the agent also routes what is not from mobile nodes."""
MOBILITY_AGENT = 16
PREFIX_LENGTHS = 19

_HEADER = Struct("!BBHBBH")
_ROUTER = Struct("!Ii")
_MOBILITY = Struct("!HHBB")
_ADDRESS = Struct("!I")


class AgentFlag(IntFlag):
    """The sixteen bits after the registration lifetime; the lowest five are reserved and ignored."""

    REGISTRATION_REQUIRED = 0x8000
    BUSY = 0x4000
    HOME_AGENT = 0x2000
    FOREIGN_AGENT = 0x1000
    MINIMAL = 0x0800
    GRE = 0x0400
    R = 0x0200
    REVERSE_TUNNEL = 0x0100
    UDP_TUNNEL = 0x0080
    REVOCATION = 0x0040
    REGIONAL = 0x0020


@value
class MobilityAgentExtension:
    """The extension that makes a router advertisement an agent's (§2.1.1); `flags` holds all sixteen bits."""

    sequence: int
    registration_lifetime: int
    flags: int
    care_of_addresses: tuple[IPv4Address, ...] = ()

    def encode(self) -> Extension:
        """As an extension."""
        data = _MOBILITY.pack(self.sequence, self.registration_lifetime, self.flags >> 8, self.flags & 0xFF)
        return Extension(MOBILITY_AGENT, data + b"".join(a.packed for a in self.care_of_addresses))

    @classmethod
    def decode(cls, data: bytes) -> MobilityAgentExtension:
        """From the data of an extension; raises WireError "truncated" or "length"."""
        reader = Reader(data)
        sequence, lifetime, high, low = reader.unpack(_MOBILITY)
        if reader.remaining % _ADDRESS.size:
            raise WireError("length", f"mobility agent extension of {len(data)} bytes")
        addresses = tuple(
            IPv4Address(address) for (address,) in _ADDRESS.iter_unpack(data[reader.position :])
        )
        return cls(sequence, lifetime, high << 8 | low, addresses)


@value
class AgentAdvertisement:
    """An advertisement; `routers` pairs addresses with their preference levels (RFC 1256 §3)."""

    lifetime: int
    routers: tuple[tuple[IPv4Address, int], ...] = ()
    mobility: MobilityAgentExtension | None = None
    """None: a plain router advertisement."""
    prefix_lengths: tuple[int, ...] | None = None
    """One for each of `routers`; None: no such extension."""
    code: int = COMMON_TRAFFIC
    challenge: bytes | None = None
    """For registrations to come (RFC 4721 §2); None: no such extension."""

    @property
    def prefixes(self) -> frozenset[IPv4Network]:
        """The network prefixes of the router addresses; empty without the Prefix-Lengths Extension."""
        if self.prefix_lengths is None:
            return frozenset()
        return frozenset(
            IPv4Network((address, length), strict=False)
            for (address, _), length in zip(self.routers, self.prefix_lengths, strict=True)
        )

    def encode(self) -> bytes:
        """The ICMP message, padded to an even length (§2.1.3)."""
        extensions = []
        if self.mobility is not None:
            extensions.append(self.mobility.encode())
        if self.prefix_lengths is not None:
            extensions.append(Extension(PREFIX_LENGTHS, bytes(self.prefix_lengths)))
        if self.challenge is not None:
            extensions.append(Extension(ADVERTISED, self.challenge))
        body = b"".join(_ROUTER.pack(int(address), preference) for address, preference in self.routers)
        body += encode_extensions(extensions)
        if len(body) % 2:
            body += b"\0"
        header = _HEADER.pack(TYPE, self.code, 0, len(self.routers), 2, self.lifetime)
        total = checksum.internet_checksum(header + body)
        return header[:2] + total.to_bytes(2, "big") + header[4:] + body

    @classmethod
    def decode(cls, payload: bytes) -> AgentAdvertisement:
        """Read an ICMP message; raises WireError for anything but a whole, valid router advertisement."""
        reader = Reader(payload)
        kind, code, _, count, entry_size, lifetime = reader.unpack(_HEADER)
        if kind != TYPE or code not in (COMMON_TRAFFIC, NO_COMMON_TRAFFIC):
            raise WireError("type", f"ICMP type {kind} code {code} is not an agent advertisement")
        if not checksum.valid(payload):
            raise WireError("checksum")
        if count and entry_size < 2:
            raise WireError("length", f"router entries of {entry_size} words")
        routers = []
        for _ in range(count):
            entry = Reader(reader.take(4 * entry_size))
            address, preference = entry.unpack(_ROUTER)
            routers.append((IPv4Address(address), preference))
        mobility: MobilityAgentExtension | None = None
        prefix_lengths: tuple[int, ...] | None = None
        challenge: bytes | None = None
        known = (MOBILITY_AGENT, PREFIX_LENGTHS, ADVERTISED)
        for extension in decode_extensions(payload, reader.position, known):
            if extension.type == MOBILITY_AGENT and mobility is None:
                mobility = MobilityAgentExtension.decode(extension.data)
            elif extension.type == PREFIX_LENGTHS and prefix_lengths is None:
                if len(extension.data) != count or any(length > 32 for length in extension.data):
                    raise WireError("length", f"prefix lengths {list(extension.data)} for {count} routers")
                prefix_lengths = tuple(extension.data)
            elif extension.type == ADVERTISED and challenge is None:
                challenge = extension.data
        return cls(lifetime, tuple(routers), mobility, prefix_lengths, code, challenge)
