"""IPv4 datagrams (RFC 791 §3.1), with UDP in them (RFC 768), for sockets that take whole packets."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from testbed.mobileip.wire.checksum import internet_checksum

HEADER_SIZE = 20
ICMP, UDP = 1, 17
"""Protocol numbers."""
_HEADER = struct.Struct("!BBHHHBBH4s4s")
_DONT_FRAGMENT = 0x4000


def datagram(
    payload: bytes, protocol: int, source: IPv4Address, destination: IPv4Address, ttl: int = 64, tos: int = 0
) -> bytes:
    """An IPv4 datagram that may not be fragmented, and so needs no identification (RFC 6864 §4)."""
    length = HEADER_SIZE + len(payload)
    header = _HEADER.pack(
        0x45, tos, length, 0, _DONT_FRAGMENT, ttl, protocol, 0, source.packed, destination.packed
    )
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + payload


def udp(
    payload: bytes,
    source: tuple[IPv4Address, int],
    destination: tuple[IPv4Address, int],
    ttl: int = 64,
    tos: int = 0,
) -> bytes:
    """An IPv4 datagram with a UDP message between two addresses and ports."""
    length = 8 + len(payload)
    head = struct.pack("!HHH", source[1], destination[1], length)
    pseudo = source[0].packed + destination[0].packed + struct.pack("!HH", UDP, length)
    # 0 would mean that there is no checksum.
    checksum = internet_checksum(pseudo + head + b"\0\0" + payload) or 0xFFFF
    return datagram(head + checksum.to_bytes(2, "big") + payload, UDP, source[0], destination[0], ttl, tos)
