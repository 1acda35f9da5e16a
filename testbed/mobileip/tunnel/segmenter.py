"""Hands all segments of a TCP superpacket to the kernel in one system call, which then merges them again.

Through all links of a lab, and the kernels at their ends, a superpacket goes as one packet, at a fraction of
the cost of its segments. A process cannot send one in a tunnel: a device takes no description of a packet with
two IP headers. But the kernel makes such superpackets itself, where it merges what it receives (GRO), and one
place to receive packets from this node is a VXLAN device. So the tunnel packets of all segments go to the
kernel's VXLAN port on the loopback device as one superpacket of UDP (UDP_SEGMENT, udp(7)). The kernel takes
them apart, out of VXLAN, and merges those in IP in IP; those in GRE and minimal encapsulation, which it does
not merge, still go on together. Then it forwards them like packets that have come to a router.

The TCP checksums are unfinished, as the sender has left them. A frame says where (remote checksum offload), so
that the kernel knows, and whatever link needs them finished finishes them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.mobileip.io.buffers import SO_SNDBUFFORCE, enlarge
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.wire.encapsulation import header_size
from testbed.mobileip.wire.offload import TCP
from testbed.mobileip.wire.tcp_segments import tcp_segments

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink

PORT = 4789
"""Of VXLAN (RFC 7348 §8)."""
UDP_SEGMENT = 103
"""From linux/udp.h, which the socket module does not name."""
MOST, LARGEST = 64, 0xFFFF - 28
"""Segments, and bytes in all, in one system call (UDP_MAX_SEGMENTS of older kernels; RFC 768, RFC 791)."""
_VXLAN = struct.Struct("!II")
_IS_VALID, _REMOTE_CHECKSUM = 0x08000000, 0x00200000
"""The I flag (RFC 7348 §5), and Linux's flag for: behind the identifier is where the checksum starts."""
_SENDER, _IPV4 = bytes.fromhex("020000000001"), b"\x08\0"
_ETHERNET = 14
_BEFORE = _VXLAN.size + _ETHERNET
_DONT_FRAGMENT = 0x40
_TTL_AT, _FLAGS_AT, _PROTOCOL_AT = 8, 6, 9
_TCP_SIZE_AT = 12


class Segmenter:
    """Sends segments to the VXLAN device of this node that has `identifier` and the link address `address`."""

    def __init__(self, identifier: int, address: bytes) -> None:
        self._identifier = identifier << 8
        self._ethernet = address + _SENDER + _IPV4
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        enlarge(self._socket, SO_SNDBUFFORCE)
        self._socket.connect(("127.0.0.1", PORT))

    def send(self, headers: memoryview | bytes, transport: int, data: memoryview, size: int) -> int:
        """Send a superpacket in its tunnel; returns how many segments it has; raises OSError.

        `headers` begin with the outer one, the TCP header is at `transport`, and each segment has `size`
        bytes of `data`.
        """
        where = (_ETHERNET + transport) >> 1
        before = _VXLAN.pack(_IS_VALID | _REMOTE_CHECKSUM, self._identifier | where) + self._ethernet
        stride = _BEFORE + len(headers)
        made = bytearray(before + headers)
        made[_BEFORE + _TTL_AT] += 1  # that forwarding takes
        block, count = tcp_segments(bytes(made), _BEFORE, _BEFORE + transport, len(data), size)
        view = memoryview(block)
        most = min(MOST, LARGEST // (stride + size))
        for first in range(0, count, most):
            pieces: list[memoryview] = []
            numbers = range(first, min(first + most, count))
            for number in numbers:
                pieces += (
                    view[number * stride : (number + 1) * stride],
                    data[number * size : (number + 1) * size],
                )
            self._socket.sendmsg(pieces, _ancillary(stride + size) if len(numbers) > 1 else ())
        return count


def _ancillary(size: int) -> Sequence[tuple[int, int, bytes]]:
    return ((socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size)),)


def takes(datagram: memoryview, start: int) -> bool:
    """Whether an unfinished datagram, whose transport header is at `start`, can go this way.

    It must be TCP that is not fragmented, as then the outer header needs no identification (RFC 6864 §4.1).
    """
    return (
        datagram[_PROTOCOL_AT] == TCP
        and start == header_size(datagram)
        and bool(datagram[_FLAGS_AT] & _DONT_FRAGMENT)
        and datagram[_TTL_AT] < 0xFF
    )


def header_end(datagram: memoryview, start: int) -> int:
    """Where the data of TCP begin, whose header is at `start`."""
    return start + (datagram[start + _TCP_SIZE_AT] >> 4 << 2)


def open_segmenter(netlink: Netlink, interface: str) -> tuple[int, bytes] | None:
    """Make the VXLAN device `interface`, by which a `Segmenter` works; None where the kernel has no such thing.

    Whoever would send to it from elsewhere has to guess its identifier and its link address.
    """
    identifier = int.from_bytes(os.urandom(3), "big")
    address = b"\x02" + os.urandom(5)
    netlink.delete_link(interface)  # a killed predecessor's
    try:
        netlink.add_vxlan(interface, identifier, PORT, address)
    except NodeError:
        return None
    if _works(interface, identifier, address):
        return identifier, address
    netlink.delete_link(interface)
    return None


def _works(interface: str, identifier: int, address: bytes) -> bool:
    """Whether of one system call two segments arrive, by sending two that go nowhere."""
    arrived = Path("/sys/class/net", interface, "statistics/rx_packets")
    nowhere = bytes.fromhex("4500000000004000010400000000000000000000")
    with suppress(OSError, ValueError):
        before = int(arrived.read_text())
        Segmenter(identifier, address).send(nowhere + bytes(20), 20, memoryview(bytes(2)), 1)
        return int(arrived.read_text()) == before + 2
    return False
