"""IPv4 datagrams (RFC 791 §3.1), with UDP in them (RFC 768), for sockets that take whole packets."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from testbed.mobileip.wire.checksum import internet_checksum

HEADER_SIZE = 20
ICMP, IP_IN_IP, UDP = 1, 4, 17
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


def udp_checksum(source: IPv4Address, destination: IPv4Address, segment: bytes) -> int:
    """The checksum of a UDP segment with 0 in its place; 0xffff for a whole segment with a valid one."""
    pseudo = source.packed + destination.packed + struct.pack("!HH", UDP, len(segment))
    return internet_checksum(pseudo + segment) or 0xFFFF  # 0 would mean that there is no checksum


def ip_in_ip(inner: bytes, source: IPv4Address, destination: IPv4Address, identification: int) -> bytes:
    """An IPv4 datagram around another (RFC 2003 §3.1), which a router may fragment where that one may be."""
    outer = datagram(inner, IP_IN_IP, source, destination, tos=inner[1])
    if inner[6] & 0x40:
        return outer
    head = outer[:4] + identification.to_bytes(2, "big") + b"\0\0" + outer[8:10] + b"\0\0" + outer[12:20]
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + inner


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
    checksum = udp_checksum(source[0], destination[0], head + b"\0\0" + payload)
    return datagram(head + checksum.to_bytes(2, "big") + payload, UDP, source[0], destination[0], ttl, tos)
