"""Sends the segments of a TCP superpacket into a tunnel so that the kernel merges them again.

Through virtual links, and the kernels of the nodes between them, a superpacket goes as one packet, at a
fraction of its segments' cost. A process cannot send one in a tunnel: no socket takes the description of a
packet with two IP headers. But the kernel makes such superpackets itself where it merges what it receives
(GRO), and from a VXLAN device it receives what this very node has sent. So the tunnel packets of all segments
go to the VXLAN port on the loopback device in one system call, as a superpacket of UDP (UDP_SEGMENT).
The kernel cuts it, takes the tunnel packets out of VXLAN, merges those in IP in IP and in GRE, and forwards
the result as a router does. Those in minimal encapsulation it does not merge, and still handles in one go.

Checksums of TCP stay unfinished, as the kernel has left them. Each frame says where the checksum is (Linux's
remote checksum offload of VXLAN); the kernel then has it finished by the first link that needs it so.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.mobileip.io.buffers import SO_SNDBUFFORCE, enlarge
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.wire.encapsulation import header_size, outer_header
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.offload import TCP
from testbed.mobileip.wire.tcp_segments import TCP_HEADER, tcp_header_size, tcp_segments
from testbed.mobileip.wire.value import value

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink

PORT = 4789
"""Of VXLAN (RFC 7348 §5)."""
SOL_UDP, UDP_SEGMENT = 17, 103
"""From linux/udp.h, which the socket module does not name."""
MOST, LARGEST = 64, 0xFFFF - 28
"""Segments, and bytes in all, of one system call (UDP_MAX_SEGMENTS of older kernels; RFC 768)."""
_VXLAN = struct.Struct("!II")
_IDENTIFIED, _CHECKSUM_LEFT = 0x08000000, 0x00200000
"""Flags of VXLAN: I (RFC 7348 §5), and VXLAN_HF_RCO of Linux (net/vxlan.h)."""
_ETHERNET = 14
_SENDER, _IPV4 = bytes.fromhex("020000000000"), b"\x08\0"
_BEFORE = _VXLAN.size + _ETHERNET
_FLAGS_AT, _TTL_AT, _PROTOCOL_AT = 6, 8, 9
_DONT_FRAGMENT = 0x40


@value
class Frames:
    """Which frames a VXLAN device takes."""

    identifier: int
    address: bytes
    """The link address."""

    def before(self, transport: int) -> bytes:
        """What comes before a packet with a transport header, and an unfinished checksum, at `transport`."""
        place = _ETHERNET + transport >> 1
        return (
            _VXLAN.pack(_IDENTIFIED | _CHECKSUM_LEFT, self.identifier << 8 | place)
            + self.address
            + _SENDER
            + _IPV4
        )


class Merger:
    """Sends the segments of superpackets to a VXLAN device of this node."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        enlarge(self._socket, SO_SNDBUFFORCE)
        self._socket.connect(("127.0.0.1", PORT))

    def send(self, headers: memoryview | bytes, transport: int, data: memoryview, size: int) -> int:
        """Send a superpacket in its tunnel; returns into how many segments it was cut. Raises OSError.

        `headers` begin with the outer IP header, and the TCP header is at `transport`. Each segment has
        `size` bytes of `data`, the last perhaps fewer.
        """
        first = bytearray(self._frames.before(transport) + headers)
        first[_BEFORE + _TTL_AT] += 1  # which forwarding takes
        block, count = tcp_segments(bytes(first), _BEFORE, _BEFORE + transport, len(data), size)
        view, stride = memoryview(block), len(first)
        most = min(MOST, LARGEST // (stride + size))
        for begin in range(0, count, most):
            numbers = range(begin, min(begin + most, count))
            pieces = [
                piece
                for n in numbers
                for piece in (view[n * stride : (n + 1) * stride], data[n * size : (n + 1) * size])
            ]
            cut = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", stride + size))] if len(numbers) > 1 else []
            self._socket.sendmsg(pieces, cut)
        return count

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def takes(datagram: memoryview, start: int) -> bool:
    """Whether a `Merger` can send an unfinished datagram, whose transport header is at `start`.

    It must be TCP that is never fragmented: then its outer header needs no identification (RFC 6864 §4.1).
    """
    return (
        datagram[_PROTOCOL_AT] == TCP
        and start == header_size(datagram)
        and bool(datagram[_FLAGS_AT] & _DONT_FRAGMENT)
        and datagram[_TTL_AT] < 0xFF  # an outer header may have it too (RFC 2004 §3.1)
    )


def header_end(datagram: memoryview, start: int) -> int:
    """Where the data of TCP begin, whose header is at `start`."""
    return start + tcp_header_size(datagram, start)


def make_merging_device(netlink: Netlink, interface: str) -> Frames | None:
    """Make the VXLAN device `interface` for a `Merger`; None where the kernel cannot do all of this.

    It is found out by trying. The identifier and the link address are random: what others may send to the
    port comes to nothing.
    """
    frames = Frames(int.from_bytes(os.urandom(3), "big"), b"\x02" + os.urandom(5))
    netlink.delete_link(interface)  # a killed predecessor's
    with suppress(NodeError):
        netlink.add_vxlan(interface, frames.identifier, PORT, frames.address)
        if _works(interface, frames):
            return frames
    netlink.delete_link(interface)
    return None


def _works(interface: str, frames: Frames) -> bool:
    """Whether two segments, sent with one system call, arrive as two packets; they are for nobody."""
    arrived = Path("/sys/class/net", interface, "statistics/rx_packets")
    nobody = outer_header(IpInIp.protocol, bytes(4), bytes(4)) + outer_header(TCP, bytes(4), bytes(4))
    merger = Merger(frames)
    try:
        before = int(arrived.read_text())
        merger.send(nobody + TCP_HEADER, len(nobody), memoryview(bytes(2)), 1)
        return int(arrived.read_text()) == before + 2
    except OSError:
        return False
    finally:
        merger.close()
