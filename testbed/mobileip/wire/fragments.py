"""Fragmentation of IPv4 datagrams (RFC 791 §3.2), where it must come before encapsulation (RFC 3519 §4.8)."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.encapsulation import IP_HEADER, header_size

_MORE, _OFFSET = 0x2000, 0x1FFF
_COPIED = 0x80
_END, _NO_OPERATION = 0, 1


def fragments(datagram: bytes, mtu: int) -> Iterator[bytes]:
    """The fragments of `datagram`, itself a fragment maybe, none longer than `mtu`, at least 68 bytes."""
    size = header_size(datagram)
    flags = int.from_bytes(datagram[6:8], "big")
    offset, more = flags & _OFFSET, flags & _MORE
    header, data = datagram[:size], datagram[size:]
    while data:
        room = (mtu - len(header)) // 8 * 8
        last = len(header) + len(data) <= mtu
        part, data = (data, b"") if last else (data[:room], data[room:])
        yield _packet(header, part, offset | (more if last else _MORE))
        offset += len(part) // 8
        header = datagram[:IP_HEADER] + _copied(datagram[IP_HEADER:size])


def _packet(header: bytes, data: bytes, flags: int) -> bytes:
    first = bytes((0x40 | len(header) // 4, header[1])) + (len(header) + len(data)).to_bytes(2, "big")
    header = first + header[4:6] + flags.to_bytes(2, "big") + header[8:10] + b"\0\0" + header[12:]
    return header[:10] + checksum.internet_checksum(header).to_bytes(2, "big") + header[12:] + data


def _copied(options: bytes) -> bytes:
    """The options that every fragment has."""
    copied, at = b"", 0
    while at < len(options) and options[at] != _END:
        length = 1 if options[at] == _NO_OPERATION else max(2, *options[at + 1 : at + 2])
        if options[at] & _COPIED:
            copied += options[at : at + length]
        at += length
    return copied + bytes(-len(copied) % 4)
