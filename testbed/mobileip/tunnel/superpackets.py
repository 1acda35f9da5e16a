"""The superpackets that arrive in tunnels: into what segments their senders meant them to be cut.

A raw socket hands out a superpacket whole and does not say the size of its segments. A packet socket that
sees the same packets does (PACKET_VNET_HDR, packet(7)).
"""

from __future__ import annotations

import socket
from contextlib import suppress

from testbed.mobileip.io.bpf import JEQ, LDB, RET, attach_filter
from testbed.mobileip.io.buffers import enlarge
from testbed.mobileip.wire.encapsulation import Carrier
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.offload import ALWAYS_WHOLE, DEVICE_HEADER, TCP, transport

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_IP = 0x0800
CARRIERS: dict[int, type[Carrier]] = {each.protocol: each for each in (IpInIp, Gre)}
"""What Linux has tunnel devices for, which carry superpackets."""
NETWORK = 0xFFF00000
"""Where in a filter's packet the IP header begins (SKF_NET_OFF of linux/filter.h)."""
LINK_HEADERS = {1: 14, 772: 14}
"""Bytes before the IP header, by ARPHRD_ of linux/if_arp.h: Ethernet and loopback; others have none."""
SEEN = 160
"""Bytes of each packet that are looked at: more than two tunnels' headers."""
IDENTITY = 64
"""Bytes by which a datagram is known again: to the end of a TCP header even in another tunnel."""
MOST = 512
"""Sizes that are kept: more than the kernel keeps packets."""
ETHERNET = 1500
SMALLEST = 536
"""Bytes of data in a segment that every path carries (RFC 1122 §4.2.2.6)."""


def open_witness() -> socket.socket:
    """A packet socket for the beginnings of all tunnelled packets that arrive."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    witness = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_IP))
    enlarge(witness)
    witness.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    first, second = CARRIERS
    program = (
        (LDB, 0, 0, NETWORK + 9),
        (JEQ, 1, 0, first),
        (JEQ, 0, 1, second),
        (RET, 0, 0, SEEN),
        (RET, 0, 0, 0),
    )
    attach_filter(witness, program)
    return witness


class Superpackets:
    """Knows the sizes of segments, from the first unfinished datagram on."""

    def __init__(self) -> None:
        self._witness: socket.socket | None = None
        self._sizes: dict[bytes, int] = {}
        self._buffer = memoryview(bytearray(DEVICE_HEADER.size + SEEN))

    def size(self, datagram: memoryview | bytes, start: int) -> int | None:
        """The size of the segments of an unfinished datagram that has come out of a tunnel; 0: it is none.

        The transport header is at `start`. None where that is unknown and cannot be guessed. What of TCP is
        so short that it needs no cutting is not looked up.
        """
        tcp = transport(datagram, start) == TCP
        if tcp and len(datagram) <= ALWAYS_WHOLE:
            return 0
        if self._witness is None:
            self._witness = open_witness()
        self._read(self._witness)
        known = self._sizes.pop(bytes(datagram[:IDENTITY]), 0)
        if known or len(datagram) <= ETHERNET:
            return known
        # The first ever, or the kernel had no room to keep it.
        return SMALLEST if tcp else None

    def _read(self, witness: socket.socket) -> None:
        """Note the superpackets that have arrived."""
        buffer, sizes = self._buffer, self._sizes
        while True:
            try:
                length, (_, _, _, link, _) = witness.recvfrom_into(buffer)
            except BlockingIOError:
                break
            except OSError:  # a packet that it cannot describe, or a link that has gone down
                continue
            _, kind, _, size, _, _ = DEVICE_HEADER.unpack_from(buffer)
            if not kind:
                continue
            packet = buffer[DEVICE_HEADER.size + LINK_HEADERS.get(link, 0) : length]
            if (carrier := CARRIERS.get(packet[9])) is not None:  # else it came before there was a filter
                with suppress(WireError):
                    sizes[bytes(carrier.decode(packet)[:IDENTITY])] = size
        while len(sizes) > MOST:
            del sizes[next(iter(sizes))]
