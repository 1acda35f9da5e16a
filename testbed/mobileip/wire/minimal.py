"""Minimal encapsulation within IP (RFC 2004)."""

from __future__ import annotations

from struct import Struct
from typing import ClassVar

from testbed.mobileip.wire.checksum import internet_checksum, valid
from testbed.mobileip.wire.encapsulation import IP_HEADER, header_size
from testbed.mobileip.wire.error import WireError

SOURCE_PRESENT = 0x80
"""The S bit: the header has the original source address too."""

_HEADER = Struct("!BBH4s")
_SHORT, _LONG = _HEADER.size, _HEADER.size + 4


def is_fragment(buffer: memoryview | bytearray, at: int) -> bool:
    """Whether the datagram at `at` is part of another, which this encapsulation MUST NOT carry (§3)."""
    return bool(buffer[at + 6] & 0x3F or buffer[at + 7])


class Minimal:
    """A forwarding header of 8 or 12 bytes behind the datagram's own header, which is changed (§3)."""

    protocol: ClassVar = 55
    overhead: ClassVar = _LONG

    def __init__(self, local: bytes, remote: bytes) -> None:
        self._local, self._remote = local, remote

    def encode(self, buffer: memoryview, at: int, length: int) -> bytes:
        """The datagram's header with the tunnel's ends; its TTL and options stay what they are."""
        size = max(header_size(buffer[at:]), IP_HEADER)
        header = bytearray(buffer[at : at + size])
        forwarding = bytearray(_HEADER.pack(header[9], 0, 0, bytes(header[16:20])))
        if header[12:16] != self._local:
            forwarding[1] = SOURCE_PRESENT
            forwarding += header[12:16]
        forwarding[2:4] = internet_checksum(bytes(forwarding)).to_bytes(2, "big")
        header[9] = self.protocol
        header[12:20] = self._local + self._remote
        return bytes(header) + forwarding + buffer[at + size : at + length]

    @staticmethod
    def decode(packet: memoryview) -> bytes:
        """The datagram with its own header again; raises WireError "malformed", for a wrong checksum too.

        The reserved bits are ignored (§3).
        """
        size = header_size(packet)
        if size < IP_HEADER or len(packet) < size + _SHORT:
            raise WireError("malformed", "minimal forwarding header incomplete")
        protocol, flags, _, destination = _HEADER.unpack_from(packet, size)
        end = size + (_LONG if flags & SOURCE_PRESENT else _SHORT)
        if len(packet) < end or not valid(bytes(packet[size:end])):
            raise WireError("malformed", "minimal forwarding header wrong")
        header = bytearray(packet[:size])
        total = int.from_bytes(header[2:4], "big") - (end - size)
        if total < size:
            raise WireError("malformed", f"total length of {total} bytes")
        header[2:4] = total.to_bytes(2, "big")
        header[9] = protocol
        if flags & SOURCE_PRESENT:
            header[12:16] = packet[end - 4 : end]
        header[16:20] = destination
        header[10:12] = bytes(2)
        header[10:12] = internet_checksum(bytes(header)).to_bytes(2, "big")
        return bytes(header) + packet[end:]
