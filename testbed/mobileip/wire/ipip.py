"""IP-in-IP encapsulation (RFC 2003 §3.1): the outer header."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.error import WireError

PROTOCOL = 4
HEADER_SIZE = 20
_HEADER = Struct("!BBHHHBBHII")
_DONT_FRAGMENT = 0x4000
_MORE_OR_OFFSET = 0x3FFF


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """A datagram taken out of its tunnel."""

    source: IPv4Address
    """The tunnel's entry point."""
    destination: IPv4Address
    """The tunnel's exit point."""
    inner: bytes
    """The datagram inside, header included; its bytes were not changed."""
    inner_source: IPv4Address
    inner_destination: IPv4Address


def _inner_header(packet: bytes) -> tuple[int, int, IPv4Address, IPv4Address]:
    """TOS, flags, source and destination of the datagram inside."""
    if len(packet) < HEADER_SIZE:
        raise WireError("truncated", f"an inner datagram of {len(packet)} bytes")
    version_length, tos, length, _, flags, ttl, _, _, source, destination = _HEADER.unpack_from(packet)
    if version_length >> 4 != 4 or version_length & 0xF < 5:
        raise WireError("version", f"inner header begins with {version_length:#04x}")
    if not (version_length & 0xF) * 4 <= length <= len(packet):
        raise WireError("length", f"inner datagram of {length} in {len(packet)} bytes")
    if ttl == 0:
        raise WireError("ttl", "inner TTL is 0")  # neither to be encapsulated nor to be taken out
    return tos, flags, IPv4Address(source), IPv4Address(destination)


def encapsulate(
    inner: bytes, source: IPv4Address, destination: IPv4Address, *, identification: int = 0, ttl: int = 64
) -> bytes:
    """Put a datagram into a tunnel; TOS and Don't Fragment are the inner header's.

    The inner TTL stays: forwarding has lowered it. Raises WireError for no IPv4 datagram or one with TTL 0.
    """
    tos, flags, _, _ = _inner_header(inner)
    length = HEADER_SIZE + len(inner)
    if length > 0xFFFF:
        raise WireError("length", f"{length} bytes do not fit an IPv4 datagram")
    fields = [0x45, tos, length, identification, flags & _DONT_FRAGMENT, ttl, PROTOCOL, 0]
    addresses = (int(source), int(destination))
    fields[7] = checksum.internet_checksum(_HEADER.pack(*fields, *addresses))
    return _HEADER.pack(*fields, *addresses) + inner


def decapsulate(packet: bytes) -> Encapsulated:
    """Take a datagram out of its tunnel; raises WireError for what is no whole IP-in-IP datagram."""
    if len(packet) < HEADER_SIZE:
        raise WireError("truncated", f"{len(packet)} bytes")
    version_length, _, length, _, flags, _, protocol, _, source, destination = _HEADER.unpack_from(packet)
    header_size = (version_length & 0xF) * 4
    if version_length >> 4 != 4 or header_size < HEADER_SIZE:
        raise WireError("version", f"header begins with {version_length:#04x}")
    if not header_size <= length <= len(packet):
        raise WireError("length", f"datagram of {length} in {len(packet)} bytes")
    if protocol != PROTOCOL:
        raise WireError("type", f"protocol {protocol} is not IP-in-IP")
    if flags & _MORE_OR_OFFSET:
        raise WireError("fragment")
    if not checksum.valid(packet[:header_size]):
        raise WireError("checksum")
    inner = packet[header_size:length]
    _, _, inner_source, inner_destination = _inner_header(inner)
    return Encapsulated(IPv4Address(source), IPv4Address(destination), inner, inner_source, inner_destination)
