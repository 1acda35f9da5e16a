"""Membership messages of IGMP, versions 1 to 3 (RFC 1112, RFC 2236, RFC 3376), in IPv4."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.encapsulation import IP_HEADER, header_size
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.reader import Reader

PROTOCOL = 2
ALL_HOSTS = IPv4Address("224.0.0.1")
_QUERY, _REPORT_1, _REPORT_2, _LEAVE, _REPORT_3 = 0x11, 0x12, 0x16, 0x17, 0x22
_INCLUDE, _EXCLUDE, _TO_INCLUDE, _TO_EXCLUDE, _ALLOW, _BLOCK = 1, 2, 3, 4, 5, 6

_HEADER = Struct("!BBHI")
_REPORT = Struct("!B3xHH")
_RECORD = Struct("!BBHI")
_QUERY_3 = Struct("!BBHIBBH")
_IP = Struct("!BBHHHBBHII4s")
_ROUTER_ALERT = b"\x94\x04\0\0"
_CONTROL = 0xC0
"""The TOS of IGMP: internetwork control."""


def memberships(datagram: bytes) -> tuple[tuple[IPv4Address, bool], ...]:
    """The groups that a datagram is about, and whether its sender is a member of each from then on.

    Who wants some sources of a group only is a member. Raises WireError for what is no report.
    """
    message = datagram[header_size(datagram) :]
    if len(datagram) < IP_HEADER or datagram[9] != PROTOCOL:
        raise WireError("type", "no IGMP message")
    if not checksum.valid(message):
        raise WireError("checksum")
    reader = Reader(message)
    kind, _, _, group = reader.unpack(_HEADER)
    if kind in (_REPORT_1, _REPORT_2, _LEAVE):
        return _groups([(IPv4Address(group), kind != _LEAVE)])
    if kind != _REPORT_3:
        raise WireError("type", f"IGMP type {kind} is no report")
    reader = Reader(message)
    *_, count = reader.unpack(_REPORT)
    found = []
    for _ in range(count):
        mode, more, sources, group = reader.unpack(_RECORD)
        reader.take(4 * (sources + more))
        if mode in (_EXCLUDE, _TO_EXCLUDE) or (mode in (_INCLUDE, _TO_INCLUDE, _ALLOW) and sources):
            found.append((IPv4Address(group), True))
        elif mode in (_INCLUDE, _TO_INCLUDE):
            found.append((IPv4Address(group), False))
    return _groups(found)


def _groups(found: list[tuple[IPv4Address, bool]]) -> tuple[tuple[IPv4Address, bool], ...]:
    return tuple(each for each in found if each[0].is_multicast and each[0] != ALL_HOSTS)


def general_query(source: IPv4Address, interval: int, response: int = 10) -> bytes:
    """The datagram that asks for all memberships; both in seconds: the next query, the time to answer."""
    message = _QUERY_3.pack(_QUERY, response * 10, 0, 0, 2, interval, 0)
    total = checksum.internet_checksum(message)
    message = message[:2] + total.to_bytes(2, "big") + message[4:]
    length = _IP.size + len(message)
    fields = (int(source), int(ALL_HOSTS), _ROUTER_ALERT)
    header = _IP.pack(0x46, _CONTROL, length, 0, 0x4000, 1, PROTOCOL, 0, *fields)
    return header[:10] + checksum.internet_checksum(header).to_bytes(2, "big") + header[12:] + message
