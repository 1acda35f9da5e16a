"""What a home agent hears on its home link for mobile nodes that are away (RFC 5944 §4.3, §4.6)."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Sequence
from ipaddress import IPv4Address

from testbed.mobileip.io.bpf import JEQ, LDB, LDH, LDW, RET, Instruction
from testbed.mobileip.io.packet import (
    BURST,
    ETH_P_ARP,
    ETH_P_IP,
    PKTTYPE,
    add_checksum_state,
    arp,
    open_listener,
    packets,
)

ARP_REQUEST, ARP_REPLY = 1, 2
PACKET_BROADCAST = 1
_UNSPECIFIED = IPv4Address(0)

ARP_PROBES: Sequence[Instruction] = (
    (LDH, 0, 0, 6),
    (JEQ, 0, 3, ARP_REQUEST),
    (LDW, 0, 0, 14),
    (JEQ, 0, 1, 0),
    (RET, 0, 0, 0x40000),
    (RET, 0, 0, 0),
)
BROADCASTS: Sequence[Instruction] = (
    (LDB, 0, 0, PKTTYPE),
    (JEQ, 0, 1, PACKET_BROADCAST),
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
                reply = arp(ARP_REPLY, ours, target, sender, _UNSPECIFIED)
                self.socket.sendto(reply, (self._interface, ETH_P_ARP, 0, 0, sender))


class BroadcastListener:
    """Hears the broadcast datagrams of a link, to any of `addresses`."""

    def __init__(self, interface: str, addresses: Collection[IPv4Address]) -> None:
        """Raises NodeError."""
        self._addresses = addresses
        self.socket = open_listener(interface, ETH_P_IP, BROADCASTS)
        add_checksum_state(self.socket)

    def datagrams(self) -> Iterator[bytes]:
        """What has arrived: whole IP datagrams, with the checksums that hardware was to fill in."""
        for packet in packets(self.socket):
            if IPv4Address(packet.data[16:20]) in self._addresses:
                yield packet.complete()
