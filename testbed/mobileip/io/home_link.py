"""What a home agent hears on its home link for mobile nodes that are away (RFC 5944 §4.3, §4.6)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.io.bpf import JA, JEQ, JGE, LDB, LDH, LDW, RET, Instruction, attach_filter
from testbed.mobileip.io.changes import index
from testbed.mobileip.io.packet import (
    BURST,
    ETH_P_ALL,
    ETH_P_ARP,
    ETH_P_IP,
    PACKET_OUTGOING,
    PKTTYPE,
    PROTOCOL,
    add_checksum_state,
    arp,
    open_everywhere,
    open_listener,
    packets,
)

ARP_REQUEST, ARP_REPLY = 1, 2
PACKET_BROADCAST, PACKET_MULTICAST = 1, 2
HATYPE = 0xFFFFF000 + 28
"""Where a filter finds the kind of the device (SKF_AD_HATYPE)."""
TUNNELS = (0xFFFE, 768, 778)
"""Devices that a tunnel can have, by if_arp.h: a TUN, IP in IP, GRE."""

ARP_PROBES: Sequence[Instruction] = (
    (LDH, 0, 0, 6),
    (JEQ, 0, 3, ARP_REQUEST),
    (LDW, 0, 0, 14),
    (JEQ, 0, 1, 0),
    (RET, 0, 0, 0x40000),
    (RET, 0, 0, 0),
)


def to_everybody_or(groups: Collection[IPv4Address], sent_here: bool = False) -> Sequence[Instruction]:
    """A filter for what is broadcast on a link, or sent to one of `groups`; `sent_here`: from here, too."""
    count = len(groups)
    is_ip: Sequence[Instruction] = ((LDH, 0, 0, PROTOCOL), (JEQ, 1, 0, ETH_P_IP), (RET, 0, 0, 0))
    return (
        *(is_ip if sent_here else ()),
        (LDB, 0, 0, PKTTYPE),
        (JEQ, count + 3 + sent_here, 0, PACKET_BROADCAST),
        *([(JEQ, 1, 0, PACKET_OUTGOING)] if sent_here else []),
        (JEQ, 0, count + 1, PACKET_MULTICAST),
        (LDW, 0, 0, 16),
        *((JEQ, count - number, 0, int(group)) for number, group in enumerate(groups)),
        (RET, 0, 0, 0),
        (RET, 0, 0, 0x40000),
    )


def tunnelled(broadcast: IPv4Address) -> Sequence[Instruction]:
    """A filter for what comes out of tunnels to everybody or to a group."""
    return (
        (LDB, 0, 0, PKTTYPE),
        (JEQ, 9, 0, PACKET_OUTGOING),
        (LDH, 0, 0, HATYPE),
        *((JEQ, len(TUNNELS) - number, 0, kind) for number, kind in enumerate(TUNNELS)),
        (JA, 0, 0, 4),
        (LDW, 0, 0, 16),
        (JGE, 1, 0, 0xE0000000),
        (JEQ, 0, 1, int(broadcast)),
        (RET, 0, 0, 0x40000),
        (RET, 0, 0, 0),
    )


class ProbeListener:
    """Answers ARP probes, by which a host sees whether an address is taken (RFC 5227 §2.1.1).

    Their sender address is 0.0.0.0. The kernel's proxy ARP answers all other requests and none of these.
    """

    def __init__(self, interface: str) -> None:
        """Raises NodeError."""
        self._interface = interface
        self.socket = open_listener(interface, ETH_P_ARP, ARP_PROBES)

    def answer(self, addresses: Container[IPv4Address]) -> None:
        """Answer what has arrived about one of `addresses`, with the link address of this node."""
        for _ in range(BURST):
            try:
                packet, (_, _, _, _, sender) = self.socket.recvfrom(64)
            except OSError:  # nothing more; or the link went down, which others report
                return
            target = IPv4Address(packet[24:28])
            if len(packet) >= 28 and target in addresses:
                ours = self.socket.getsockname()[4]
                reply = arp(ARP_REPLY, ours, target, sender, UNSPECIFIED)
                self.socket.sendto(reply, (self._interface, ETH_P_ARP, 0, 0, sender))


class BroadcastListener:
    """Hears the datagrams of a link to any of `addresses`, its broadcast addresses, and to groups."""

    def __init__(
        self,
        interface: str,
        addresses: Collection[IPv4Address],
        relays: Callable[[IPv4Address], bool] | None = None,
    ) -> None:
        """`relays`: whether a datagram with some source is heard although this node has sent it itself.

        Raises NodeError.
        """
        self._interface = interface
        self._addresses = frozenset(addresses)
        self._relays = relays
        self._members: dict[IPv4Address, socket.socket] = {}
        # The kernel shows what is sent from here only to who wants all protocols.
        protocol = ETH_P_IP if relays is None else ETH_P_ALL
        self.socket = open_listener(interface, protocol, self._filter(()))
        add_checksum_state(self.socket)

    def join(self, groups: Collection[IPv4Address]) -> None:
        """Be a member of `groups`, as their routers see it, and hear what is sent to them; of no others."""
        for group in self._members.keys() - {*groups}:
            self._members.pop(group).close()
        for group in {*groups} - self._members.keys():
            # A socket for each, as the kernel limits the memberships of a socket.
            member = self._members[group] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            request = group.packed + bytes(4) + struct.pack("=I", index(self._interface))
            with suppress(OSError):  # a link without multicast, or with too many members
                member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        attach_filter(self.socket, self._filter(groups))

    def _filter(self, groups: Collection[IPv4Address]) -> Sequence[Instruction]:
        if self._relays is None:
            return to_everybody_or(groups)
        return to_everybody_or([*groups, *self._addresses], sent_here=True)

    def datagrams(self) -> Iterator[bytes]:
        """What has arrived: whole IP datagrams, with the checksums that hardware was to fill in."""
        for packet in packets(self.socket, outgoing=self._relays is not None):
            if packet.outgoing and not (self._relays and self._relays(packet.source)):
                continue
            if packet.destination in self._addresses or packet.destination in self._members:
                yield packet.complete()


class TunnelListener:
    """Hears what comes out of tunnels to everybody or to a group, which no router forwards."""

    def __init__(self, broadcast: IPv4Address) -> None:
        """`broadcast` is the directed broadcast address of the home link. Raises NodeError."""
        self.socket = open_everywhere(ETH_P_IP, tunnelled(broadcast))
        add_checksum_state(self.socket)

    def datagrams(self) -> Iterator[tuple[str, bytes]]:
        """What has arrived, each with its device."""
        for packet in packets(self.socket):
            yield packet.interface, packet.complete()
