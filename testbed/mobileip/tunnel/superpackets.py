"""The superpackets that arrive in tunnels: into what segments their senders meant them to be cut.

A raw socket hands out a superpacket whole and does not say the size of its segments. A packet socket that
sees the same packets does (PACKET_VNET_HDR, packet(7)).
"""

from __future__ import annotations

import socket
from contextlib import suppress

from testbed.mobileip.io.bpf import (
    ADD_X,
    JA,
    JEQ,
    JGT,
    LDB,
    LDH,
    MOD,
    RET,
    SUB,
    TAX,
    XOR,
    Instruction,
    attach_filter,
)  # fmt: skip
from testbed.mobileip.io.buffers import enlarge
from testbed.mobileip.wire.encapsulation import Carrier
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.offload import (
    ALWAYS_WHOLE,
    CHECKSUM_AT,
    DEVICE_HEADER,
    GRE,
    IP_IN_IP,
    TCP,
    UDP,
    transport,
)  # fmt: skip

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


def left_to_links() -> list[Instruction]:
    """The filter for what is in IP in IP or GRE and has an unfinished checksum, or is a further tunnel.

    Neither header has options. It compares as `wire.offload.unfinished` does.
    """
    program: list[Instruction] = [(LDB, 0, 0, NETWORK + 9)]
    for protocol, header in ((IpInIp.protocol, 20), (Gre.protocol, 24)):
        at = NETWORK + header
        add = [(ADD_X, 0, 0, 0), (TAX, 0, 0, 0)]
        words = [instruction for word in (14, 16, 18) for instruction in ((LDH, 0, 0, at + word), *add)]
        summed = [(LDH, 0, 0, at + 12), (TAX, 0, 0, 0), *words, (LDB, 0, 0, at + 9), *add]
        summed += [(LDH, 0, 0, at + 2), (SUB, 0, 0, 20), *add]
        compared = [
            (LDB, 0, 0, at + 9),
            (JEQ, 0, 2, TCP),
            (LDH, 0, 0, at + 20 + CHECKSUM_AT[TCP]),
            (JA, 0, 0, 1),
            (LDH, 0, 0, at + 20 + CHECKSUM_AT[UDP]),
            (XOR, 0, 0, 0xFFFF),
            (ADD_X, 0, 0, 0),
            (MOD, 0, 0, 0xFFFF),
            (JEQ, 0, 1, 0),
            (RET, 0, 0, SEEN),
            (RET, 0, 0, 0),
        ]
        end = len(summed) + len(compared)
        block = [
            (LDB, 0, 0, at + 9),
            (JEQ, end + 3, 0, IP_IN_IP),
            (JEQ, end + 2, 0, GRE),
            (JEQ, 3, 0, UDP),
            (JEQ, 0, end + 1, TCP),
            (LDH, 0, 0, at + 2),
            (JGT, 0, end - 1, ALWAYS_WHOLE),
            *summed,
            *compared,
        ]
        program += [(JEQ, 0, len(block), protocol), *block]
    return [*program, (RET, 0, 0, 0)]


def open_witness() -> socket.socket:
    """A packet socket for the beginnings of what arrives in tunnels and may be a superpacket."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    witness = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_IP))
    enlarge(witness)
    witness.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    attach_filter(witness, left_to_links())
    return witness


class Superpackets:
    """Knows the sizes of segments."""

    def __init__(self) -> None:
        self._witness = open_witness()
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
        self._read()
        known = self._sizes.pop(bytes(datagram[:IDENTITY]), 0)
        if known or len(datagram) <= ETHERNET:
            return known
        # A header has options, or the kernel had no room to keep it.
        return SMALLEST if tcp else None

    def _read(self) -> None:
        """Note the superpackets that have arrived."""
        buffer, sizes, witness = self._buffer, self._sizes, self._witness
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
