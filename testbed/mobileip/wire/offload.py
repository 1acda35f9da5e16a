"""Datagrams whose senders left work to network devices: unfinished checksums, and superpackets.

Linux hands such a datagram from node to node as it is, through virtual links and its own tunnel devices. In
the checksum field is then the sum of the pseudo header alone, and a superpacket is what a device would have
cut into segments. `unfinished` recognises the first, `device_header` describes both to a TUN device, and
`segments` does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from testbed.mobileip.wire.checksum import internet_checksum

TCP, UDP = 6, 17
IP_IN_IP, GRE = 4, 47
CHECKSUM_AT = {TCP: 16, UDP: 6}
"""Where in the transport header the checksum is."""
ALWAYS_WHOLE = 576
"""Bytes of a datagram that every path carries and every host accepts (RFC 791 §3.1, RFC 879)."""
NO_SEGMENTS, SEGMENTS = 0, {TCP: 1, UDP: 5}
"""virtio_net_hdr.gso_type: none, TCP over IPv4, and UDP datagrams of equal size."""
_ECN = 0x80
"""Of gso_type: CWR is set, which only the first segment may have (RFC 3168 §6.1.2)."""
NEEDS_CHECKSUM = 1

DEVICE_HEADER = Struct("=BBHHHH")
"""struct virtio_net_hdr (linux/virtio_net.h): flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
FINISHED = bytes(DEVICE_HEADER.size)
"""The device header of a datagram with which nothing is left to do."""

_IP = Struct("!BxHxxHxBxxII").unpack_from
_WORD = Struct("!H")
_LONG = Struct("!I")
_FRAGMENT = 0x3FFF
_LENGTH_AT, _ID_AT, _IP_CHECKSUM_AT = 2, 4, 10
_PLAIN_GRE = b"\0\0\x08\0"
_SEQUENCE_AT, _SIZE_AT, _FLAGS_AT = 4, 12, 13
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_UDP_HEADER, _UDP_LENGTH_AT = 8, 4


def unfinished(datagram: memoryview | bytes, at: int = 0) -> int:
    """Where the transport header begins whose checksum is not finished; 0 where there is none.

    It may be in further tunnels inside. One in 65,535 finished checksums looks like an unfinished one, and a
    device that finishes it again makes no difference. `at` is where the IP header is.
    """
    if len(datagram) < at + 20:
        return 0
    first, length, fragment, protocol, source, destination = _IP(datagram, at)
    start: int = at + ((first & 15) << 2)
    if fragment & _FRAGMENT:
        return 0
    if (offset := CHECKSUM_AT.get(protocol)) is None:
        if protocol == IP_IN_IP:
            return unfinished(datagram, start)
        if protocol == GRE and datagram[start : start + 4] == _PLAIN_GRE:
            return unfinished(datagram, start + 4)
        return 0
    if len(datagram) < start + offset + 2:
        return 0
    (checksum,) = _WORD.unpack_from(datagram, start + offset)
    if not checksum or (source + destination + protocol + length - (start - at) - checksum) % 0xFFFF:
        return 0
    return start


def transport(datagram: memoryview | bytes, start: int, at: int = 0) -> int:
    """The protocol of the transport header at `start`, which `unfinished` has found."""
    protocol, after = datagram[at + 9], at + ((datagram[at] & 15) << 2)
    if after == start:
        return protocol
    return transport(datagram, start, after + (4 if protocol == GRE else 0))


def device_header(datagram: memoryview | bytes, start: int, size: int = 0) -> bytes:
    """What a TUN device must know of an unfinished datagram; `size` is that of a superpacket's segments.

    It counts the bytes behind the transport header; 0 is no superpacket.
    """
    protocol = transport(datagram, start)
    kind, end = NO_SEGMENTS, 0
    if size:
        kind, end = SEGMENTS[protocol], start + _header_size(datagram, start, protocol)
        if protocol == TCP and datagram[start + _FLAGS_AT] & _CWR:
            kind |= _ECN
    return DEVICE_HEADER.pack(NEEDS_CHECKSUM, kind, end, size, start, CHECKSUM_AT[protocol])


def _header_size(datagram: memoryview | bytes, start: int, protocol: int) -> int:
    return (datagram[start + _SIZE_AT] >> 4) << 2 if protocol == TCP else _UDP_HEADER


def segments(datagram: bytes, start: int, size: int = 0) -> Iterator[bytes]:
    """The datagrams, with finished checksums, that an unfinished one stands for; `size` as above."""
    protocol = transport(datagram, start)
    body = start + _header_size(datagram, start, protocol)
    data = datagram[body:]
    size = size or len(data) or 1
    for number, place in enumerate(range(0, len(data) or 1, size)):
        part = data[place : place + size]
        head = bytearray(datagram[:body])
        last = place + size >= len(data)
        if protocol == TCP:
            sequence = _LONG.unpack_from(head, start + _SEQUENCE_AT)[0] + place & 0xFFFFFFFF
            _LONG.pack_into(head, start + _SEQUENCE_AT, sequence)
            head[start + _FLAGS_AT] &= ~((0 if last else _FIN | _PSH) | (_CWR if number else 0)) & 0xFF
        else:
            _WORD.pack_into(head, start + _UDP_LENGTH_AT, _UDP_HEADER + len(part))
        inner = _adapt_headers(head, start, len(part) - len(data), number)
        pseudo = (
            bytes(head[inner + 12 : inner + 20]) + bytes((0, protocol)) + _WORD.pack(body - start + len(part))
        )
        offset = start + CHECKSUM_AT[protocol]
        head[offset : offset + 2] = bytes(2)
        finished = internet_checksum(pseudo + bytes(head[start:]) + part)
        _WORD.pack_into(head, offset, finished or 0xFFFF)  # RFC 768: 0 would mean that there is none
        yield bytes(head) + part


def _adapt_headers(head: bytearray, start: int, longer: int, number: int) -> int:
    """Adapt every IP header before `start` to a segment; returns where the last of them begins."""
    at = 0
    while True:
        size = (head[at] & 15) << 2
        _WORD.pack_into(head, at + _LENGTH_AT, _WORD.unpack_from(head, at + _LENGTH_AT)[0] + longer)
        _WORD.pack_into(head, at + _ID_AT, _WORD.unpack_from(head, at + _ID_AT)[0] + number & 0xFFFF)
        _WORD.pack_into(head, at + _IP_CHECKSUM_AT, 0)
        _WORD.pack_into(head, at + _IP_CHECKSUM_AT, internet_checksum(bytes(head[at : at + size])))
        if at + size == start:
            return at
        at += size + (4 if head[at + 9] == GRE else 0)
