"""ICMP messages to the senders of datagrams that do not get through a tunnel (RFC 792, RFC 2003 §4)."""

from __future__ import annotations

import socket
import struct

from testbed.mobileip.wire.checksum import internet_checksum

SOL_RAW, ICMP_FILTER = 255, 1
UNREACHABLE, TIME_EXCEEDED = 3, 11
ERRORS = frozenset({3, 4, 5, 11, 12})
"""Types that are never answered by another error (RFC 1122 §3.2.2)."""


def open_icmp() -> socket.socket:
    """A socket for ICMP messages of our own; it receives none."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    raw.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF))
    return raw


def error(datagram: bytes, kind: int, code: int, mtu: int = 0) -> bytes | None:
    """The error message about `datagram`; None where there must be none (RFC 1122 §3.2.2)."""
    header = (datagram[0] & 15) * 4
    if datagram[9] == socket.IPPROTO_ICMP and len(datagram) > header and datagram[header] in ERRORS:
        return None
    if int.from_bytes(datagram[6:8], "big") & 0x1FFF or not 0 < datagram[12] < 224 or datagram[16] >= 224:
        return None  # not the first fragment; or a sender or a receiver that is no single host
    message = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + datagram[: header + 8]
    return message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
