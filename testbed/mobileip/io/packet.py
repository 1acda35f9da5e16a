"""Frames on a link: agent discovery, registration requests with their senders' link addresses, ARP.

AF_PACKET sockets, because agent discovery and the delivery to a mobile node that has no address on the link
need link-layer addresses (RFC 5944 §2.1, §3.7.3.2, §4.2.2). Filters run in the kernel (classic BPF).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from testbed.mobileip.core.api import AgentMessage, Datagram
from testbed.mobileip.core.links import BROADCAST, UNSPECIFIED
from testbed.mobileip.io.bpf import (
    JEQ,
    JSET,
    LDB,
    LDB_X,
    LDH,
    LDH_X,
    LDX_IHL,
    RET,
    Instruction,
    attach_filter,
)  # fmt: skip
from testbed.mobileip.io.buffers import enlarge
from testbed.mobileip.io.changes import index
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.steering import Share
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.checksum import valid
from testbed.mobileip.wire.ipv4 import HEADER_SIZE, ICMP, UDP, datagram, udp, udp_checksum
from testbed.mobileip.wire.value import value

ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806
PACKET_OTHERHOST, PACKET_OUTGOING = 3, 4
BURST = 64
_BROADCAST = b"\xff" * 6
# From linux/if_packet.h; struct tpacket_auxdata begins with its status.
_SOL_PACKET, _PACKET_AUXDATA, _AUXDATA_SPACE, _CSUM_NOT_READY = 263, 8, 64, 8

PROTOCOL, PKTTYPE = 0xFFFFF000, 0xFFFFF004

AGENT_DISCOVERY: Sequence[Instruction] = (
    (LDB, 0, 0, 9),
    (JEQ, 0, 7, ICMP),
    (LDH, 0, 0, 6),
    (JSET, 5, 0, 0x3FFF),  # fragments
    (LDX_IHL, 0, 0, 0),
    (LDB_X, 0, 0, 0),
    (JEQ, 1, 0, 9),  # advertisement
    (JEQ, 0, 1, 10),  # solicitation
    (RET, 0, 0, 0x40000),
    (RET, 0, 0, 0),
)
REGISTRATION: Sequence[Instruction] = (
    (LDH, 0, 0, PROTOCOL),
    (JEQ, 0, 10, ETH_P_IP),
    (LDB, 0, 0, PKTTYPE),
    (JEQ, 8, 0, PACKET_OUTGOING),
    (LDB, 0, 0, 9),
    (JEQ, 0, 6, UDP),
    (LDH, 0, 0, 6),
    (JSET, 4, 0, 0x3FFF),
    (LDX_IHL, 0, 0, 0),
    (LDH_X, 0, 0, 2),
    (JEQ, 0, 1, PORT),
    (RET, 0, 0, 0x40000),
    (RET, 0, 0, 0),
)


def open_listener(interface: str, protocol: int, program: Sequence[Instruction]) -> socket.socket:
    """A socket for what arrives on `interface`; raises NodeError.

    Made for no protocol and bound after the filter is in place: so nothing unfiltered gets in, and binding
    needs not wait for the kernel to have let go of an earlier binding.
    """
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        attach_filter(sock, program)
        sock.bind((interface, protocol))
    except OSError as error:
        raise NodeError(f"cannot listen on interface {interface!r}: {error.strerror}") from error
    enlarge(sock)
    return sock


def open_everywhere(protocol: int, program: Sequence[Instruction]) -> socket.socket:
    """A socket for what arrives on any interface, those that are yet to come too; raises NodeError."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    try:
        sock = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
        attach_filter(sock, program)
    except OSError as error:
        raise NodeError(f"cannot listen on all interfaces: {error.strerror}") from error
    with suppress(BlockingIOError):  # what got in before the filter was in place
        while True:
            sock.recv(1)
    return sock


def add_checksum_state(sock: socket.socket) -> None:
    """Have the kernel say of each packet whether its sender left a checksum to hardware."""
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)


@value
class Packet:
    """An IPv4 datagram with a valid header, as it arrived on a link."""

    data: bytes
    link_address: bytes
    """Of its sender."""
    unfinished: bool = False
    """Whether the checksum behind the header was left to hardware; known after `add_checksum_state`."""
    interface: str = ""
    outgoing: bool = False
    """Whether it was sent from this node."""

    @property
    def payload(self) -> bytes:
        """What follows the header."""
        return self.data[(self.data[0] & 15) * 4 :]

    @property
    def source(self) -> IPv4Address:
        """The sender's address."""
        return IPv4Address(self.data[12:16])

    @property
    def destination(self) -> IPv4Address:
        """The receiver's address."""
        return IPv4Address(self.data[16:20])

    @property
    def ttl(self) -> int:
        """What is left of its time to live."""
        return self.data[8]

    def complete(self) -> bytes:
        """The datagram, with the UDP checksum that hardware was to fill in."""
        if not self.unfinished or self.data[9] != UDP or self.data[6] & 0x3F or self.data[7]:
            return self.data
        segment = self.payload
        checksum = udp_checksum(self.source, self.destination, segment[:6] + b"\0\0" + segment[8:])
        head = self.data[: len(self.data) - len(segment)]
        return head + segment[:6] + checksum.to_bytes(2, "big") + segment[8:]


def packets(sock: socket.socket, burst: int = BURST, outgoing: bool = False) -> Iterator[Packet]:
    """A burst of IPv4 datagrams that others have sent; with `outgoing` also what was sent from this node."""
    for _ in range(burst):
        try:
            packet, ancillary, _, (interface, _, kind, _, link_address) = sock.recvmsg(
                0x10000, _AUXDATA_SPACE
            )
        except OSError:  # nothing more; or the link went down, which others report
            return
        header = (packet[0] & 15) * 4
        length = int.from_bytes(packet[2:4], "big")
        sent = kind == PACKET_OUTGOING
        if (
            kind == PACKET_OTHERHOST
            or (sent and not outgoing)
            or not HEADER_SIZE <= header <= length <= len(packet)
        ):
            continue
        if not valid(packet[:header]):
            continue
        unfinished = any(
            level == _SOL_PACKET and int.from_bytes(data[:4], sys.byteorder) & _CSUM_NOT_READY
            for level, _, data in ancillary
        )
        yield Packet(packet[:length], link_address, unfinished, interface, sent)


def registration(packet: Packet, interface: str) -> Datagram | None:
    """The UDP datagram to port 434 that a packet of `interface` is; None for a broken one, or a broadcast."""
    segment = packet.payload
    port, _, length, _ = struct.unpack_from("!HHHH", segment.ljust(8, b"\0"))
    if not 8 <= length <= len(segment) or packet.destination == BROADCAST:
        return None
    checked = not packet.unfinished and segment[6:8] != b"\0\0"
    if checked and udp_checksum(packet.source, packet.destination, segment[:length]) != 0xFFFF:
        return None  # §3.6.2.1, §3.7.2.1: silently
    return Datagram(
        segment[8:length],
        packet.source,
        port,
        packet.destination,
        PORT,
        interface,
        packet.ttl,
        packet.link_address,
    )


class AgentListener:
    """Hears the advertisements and solicitations of one link."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.index = index(interface)
        self.socket = open_listener(interface, ETH_P_IP, AGENT_DISCOVERY)

    def messages(self) -> Iterator[AgentMessage]:
        """What has arrived."""
        for packet in packets(self.socket):
            yield AgentMessage(
                packet.payload,
                packet.source,
                packet.destination,
                self.interface,
                packet.ttl,
                packet.link_address,
            )


class SenderWatch:
    """Remembers from which link address each registration request of one link came.

    The requests themselves arrive at the UDP socket. This socket is handed every frame before IP sees it
    (ETH_P_ALL), so that the link address is here when the request is there.
    """

    CAPACITY = 4096

    def __init__(self, interface: str, share: Share | None = None) -> None:
        """`share`: of the requests only those of its mobile nodes."""
        self.interface = interface
        program = REGISTRATION if share is None else share.datagrams(REGISTRATION)
        self.socket = open_listener(interface, ETH_P_ALL, program)
        add_checksum_state(self.socket)
        self._senders: dict[tuple[IPv4Address, int, bytes], bytes] = {}
        self._unheard: list[Datagram] = []

    def update(self) -> None:
        """Read all that has arrived: the request that is asked about may be the last of a flood."""
        for packet in packets(self.socket, self.CAPACITY):
            payload, source = packet.payload, packet.source
            port, _, length, _ = struct.unpack_from("!HHHH", payload.ljust(8, b"\0"))
            if source == UNSPECIFIED and not packet.destination.is_multicast:
                if (unheard := registration(packet, self.interface)) is not None:
                    self._unheard.append(unheard)
            else:
                self._senders[(source, port, payload[8:length])] = packet.link_address
        while len(self._senders) > self.CAPACITY:  # what IP dropped is never asked for
            del self._senders[next(iter(self._senders))]

    def unheard(self) -> list[Datagram]:
        """The requests from 0.0.0.0 to one address (RFC 2794 §3), which IP drops before any UDP socket."""
        unheard, self._unheard = self._unheard, []
        return unheard

    def sender(self, source: IPv4Address, port: int, payload: bytes) -> bytes | None:
        """The link address that a request came from; each is reported once."""
        return self._senders.pop((source, port, payload), None)


def multicast_link_address(destination: IPv4Address) -> bytes | None:
    """The Ethernet address of an IPv4 multicast group or of the limited broadcast; None for one host."""
    if destination.is_multicast:
        return (0x01005E000000 | int(destination) & 0x7FFFFF).to_bytes(6, "big")
    return _BROADCAST if int(destination) == 0xFFFFFFFF else None


def arp(
    operation: int,
    sender_link_address: bytes,
    sender: IPv4Address,
    target_link_address: bytes,
    target: IPv4Address,
) -> bytes:
    """An ARP packet for Ethernet and IPv4 (RFC 826)."""
    ends = (sender_link_address, sender.packed, target_link_address, target.packed)
    return struct.pack("!HHBBH6s4s6s4s", 1, ETH_P_IP, 6, 4, operation, *ends)


class LinkSender:
    """Puts frames on links."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)

    def _send(self, packet: bytes, interface: str, protocol: int, link_address: bytes) -> None:
        try:
            self._socket.sendto(packet, (interface, protocol, 0, 0, link_address))
        except OSError as error:
            raise NodeError(f"cannot send on interface {interface!r}: {error.strerror}") from error

    def send_datagram(self, message: Datagram, interface: str, link_address: bytes) -> None:
        """Send a registration message to a link address; raises NodeError."""
        source = (message.source, message.source_port)
        destination = (message.destination, message.destination_port)
        packet = udp(message.payload, source, destination, message.ttl)
        self._send(packet, interface, ETH_P_IP, link_address)

    def send_agent_message(self, message: AgentMessage) -> None:
        """Send an advertisement or solicitation; raises NodeError."""
        link_address = message.link_address or multicast_link_address(message.destination)
        if link_address is None:
            raise NodeError(f"no link address to send to {message.destination} on {message.interface!r}")
        packet = datagram(message.payload, ICMP, message.source, message.destination, message.ttl)
        self._send(packet, message.interface, ETH_P_IP, link_address)

    def send_to_all(self, packet: bytes, interface: str) -> None:
        """Put a datagram to everybody or to a group on a link; raises NodeError."""
        link_address = multicast_link_address(IPv4Address(packet[16:20])) or _BROADCAST
        self._send(packet, interface, ETH_P_IP, link_address)

    def send_gratuitous_arp(self, address: IPv4Address, interface: str, link_address: bytes | None) -> None:
        """Broadcast an ARP reply that says where `address` is (RFC 5944 §4.6); raises NodeError."""
        announced = link_address or self.link_address(interface)
        # As a reply both hardware addresses are the announced one; so hosts take it at once, even when they
        # heard something else a moment ago.
        packet = arp(2, announced, address, announced, address)
        self._send(packet, interface, ETH_P_ARP, _BROADCAST)

    def link_address(self, interface: str) -> bytes:
        """The address of this node on a link; raises NodeError."""
        import fcntl

        with suppress(OSError):
            request = struct.pack("16s24x", interface.encode())
            return fcntl.ioctl(self._socket, 0x8927, request)[18:24]  # SIOCGIFHWADDR
        raise NodeError(f"there is no interface {interface!r}")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
