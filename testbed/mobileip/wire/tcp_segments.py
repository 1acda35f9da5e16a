"""A TCP superpacket that goes into a tunnel: the headers of all its segments, made at once.

Only few bytes of the headers differ from segment to segment. So they are copied together, and each field is
written for all of them: that costs a Python program a fraction of a loop over the segments.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from testbed.mobileip.wire.checksum import internet_checksum
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp

_BEHIND = {IpInIp.protocol: 0, Gre.protocol: Gre.overhead - IpInIp.overhead}
"""By the Protocol field of an outer header, the bytes between it and the next IP header, if there is one."""
_LENGTH_AT, _ID_AT, _IP_CHECKSUM_AT = 2, 4, 10
_SEQUENCE_AT, _FLAGS_AT, _CHECKSUM_AT = 4, 13, 16
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
TCP_HEADER = bytes((*bytes(12), 5 << 4, *bytes(7)))
"""One without options, of nothing (RFC 9293 §3.1)."""
_SIZE_AT = 12
_ONE = struct.Struct("!H")
_LONG = struct.Struct("!I")


def tcp_header_size(packet: memoryview | bytes, at: int) -> int:
    """The bytes of the TCP header at `at`, its options included."""
    return packet[at + _SIZE_AT] >> 4 << 2


def tcp_segments(headers: bytes, outer: int, transport: int, data: int, size: int) -> tuple[bytearray, int]:
    """The headers of all segments in a row, and how many segments these are.

    `headers` are those of the superpacket, with the outer IP header at `outer` and the TCP header at
    `transport`; what is before the outer header is repeated as it is. `data` bytes follow them, `size` in
    each segment but the last. The checksums of TCP stay unfinished, those of IP are right, and an
    identification that is not 0 counts upwards.
    """
    count = -(-data // size) or 1
    stride = len(headers)
    first = bytearray(headers)
    flags = first[transport + _FLAGS_AT]
    first[transport + _FLAGS_AT] = flags & ~(_FIN | _PSH | _CWR)
    block = first * count
    last = (count - 1) * stride

    def write(at: int, form: str, values: Sequence[int]) -> None:
        written = struct.pack(f"!{count}{form}", *values)
        width = len(written) // count
        for byte in range(width):
            block[at + byte :: stride] = written[byte::width]

    block[last + transport + _FLAGS_AT] |= flags & (_FIN | _PSH)
    block[transport + _FLAGS_AT] |= flags & _CWR  # RFC 3168 §6.1.2: only the first
    (sequence,) = _LONG.unpack_from(first, transport + _SEQUENCE_AT)
    write(transport + _SEQUENCE_AT, "I", [sequence + at & 0xFFFFFFFF for at in range(0, data or 1, size)])
    lengths = [size] * (count - 1) + [data - (count - 1) * size]
    (pseudo,) = _ONE.unpack_from(first, transport + _CHECKSUM_AT)
    pseudo -= data
    write(transport + _CHECKSUM_AT, "H", [(pseudo + length) % 0xFFFF or 0xFFFF for length in lengths])
    at = outer
    while True:
        end = at + ((first[at] & 15) << 2)
        rest = stride - at
        (identification,) = _ONE.unpack_from(first, at + _ID_AT)
        numbers = [identification + n & 0xFFFF if identification else 0 for n in range(count)]
        first[at + _LENGTH_AT : at + _ID_AT + 2] = bytes(4)
        first[at + _IP_CHECKSUM_AT : at + _IP_CHECKSUM_AT + 2] = bytes(2)
        write(at + _LENGTH_AT, "H", [rest + length for length in lengths])
        write(at + _ID_AT, "H", numbers)
        total = 0xFFFF - internet_checksum(bytes(first[at:end]))
        sums = [total + rest + length + number for length, number in zip(lengths, numbers, strict=True)]
        write(at + _IP_CHECKSUM_AT, "H", [0xFFFF - (each % 0xFFFF or 0xFFFF) for each in sums])
        behind = _BEHIND.get(first[at + 9])
        if behind is None:
            return block, count
        at = end + behind
