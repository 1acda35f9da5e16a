"""The UDP sockets of the registration protocol (RFC 5944 §3)."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.keepalive import IDENTIFIER
from testbed.mobileip.io.bpf import JEQ, JSET, LDB, LDH, LDW, RET, Instruction, attach_filter
from testbed.mobileip.io.changes import index
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.wire.ipv4 import ICMP
from testbed.mobileip.wire.reader import address
from testbed.mobileip.wire.udp_tunnel import DATA, IP_IN_IP

# From linux/in.h: not all of them are in the socket module.
IP_TTL, IP_PKTINFO, IP_RECVERR, IP_RECVTTL = 2, 8, 11, 12
MSG_ERRQUEUE = 0x2000
IN_PKTINFO = struct.Struct("=I4s4s")
"""struct in_pktinfo: interface index, local address, destination address of the header."""
EXTENDED_ERROR = struct.Struct("=IBBBxII")
ORIGIN_ICMP, ORIGIN_TIMESTAMP, UNREACHABLE = 2, 4, 3
SO_TIMESTAMPING, STAMP_DEPARTURES = 37, 1 << 8 | 1 << 4
"""A time stamp in the error queue when a datagram goes to its link, after ARP (TX_SCHED)."""
SO_RCVBUFFORCE = 33
BURST = 64
BUFFER = 4 << 20


def _address(packed: bytes) -> IPv4Address:
    return address(int.from_bytes(packed, "big"))


def registrations(echo: int, at: Instruction, value: int) -> Sequence[Instruction]:
    """A filter for all but tunnel data (RFC 3519 §3.3), which is the data plane's, at a UDP socket.

    Of tunnel data it accepts ICMP messages of the type `echo` in which `at` loads `value`: the data plane
    has these, too.
    """
    return (
        (LDB, 0, 0, 8),
        (JEQ, 0, 12, DATA),
        (LDB, 0, 0, 9),
        (JEQ, 0, 11, IP_IN_IP),
        (LDB, 0, 0, 12),
        (JEQ, 0, 9, 0x45),
        (LDH, 0, 0, 18),
        (JSET, 7, 0, 0x3FFF),  # fragments
        (LDB, 0, 0, 21),
        (JEQ, 0, 5, ICMP),
        (LDB, 0, 0, 32),
        (JEQ, 0, 3, echo),
        at,
        (JEQ, 0, 1, value),
        (RET, 0, 0, 0x40000),
        (RET, 0, 0, 0),
    )


def keepalives(home_agent: IPv4Address) -> Sequence[Instruction]:
    """At a home agent: registrations, and keepalives."""
    return registrations(8, (LDW, 0, 0, 28), int(home_agent))


ANSWERS = registrations(0, (LDH, 0, 0, 36), IDENTIFIER)
"""At the other end: registrations, and answers to keepalives."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """ICMP Destination Unreachable came back for a datagram we sent."""

    destination: IPv4Address
    code: int


@dataclass(frozen=True, slots=True)
class Place:
    """A UDP port: at every address of this node, or at one address or on one link, which others may be at."""

    port: int
    address: IPv4Address | None = None
    interface: str | None = None

    def __str__(self) -> str:
        at = f" at {self.address}" if self.address else ""
        return f"UDP port {self.port}{at}" + (f" on {self.interface}" if self.interface else "")


class RegistrationSocket:
    """One UDP port at every address of this node; each datagram says from which address it goes."""

    def __init__(self, place: Place, program: Sequence[Instruction], departures: bool = False) -> None:
        """`program` filters what arrives; with `departures` it is known of each datagram whether it has left.

        A port at every address is taken alone. At a narrower place the kernel would hand datagrams to any of
        the daemons that have it, so it is to be claimed before. Raises NodeError.
        """
        self.place = place
        self.held_back = False
        """Whether the last datagram still waits in this node, for ARP say."""
        self._earlier: deque[bytes] = deque(maxlen=8)
        self._last = b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for option in (IP_PKTINFO, IP_RECVTTL, IP_RECVERR):
            self.socket.setsockopt(socket.IPPROTO_IP, option, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.stamps = False
        """Whether the kernel reports departures."""
        if departures:
            with suppress(OSError):  # a kernel without: then all is taken to leave at once
                self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMP_DEPARTURES)
                self.stamps = True
        with suppress(PermissionError):  # the default size does, with more drops in a flood
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        attach_filter(self.socket, program)
        try:
            if place.address or place.interface:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if place.interface is not None:
                self.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.interface.encode() + b"\0"
                )
            self.socket.bind((str(place.address or ""), place.port))
        except OSError as error:
            self.socket.close()
            raise NodeError(f"{place}: {error.strerror}") from error

    def join(self, interface: str, group: IPv4Address) -> None:
        """Receive what is sent to a multicast group on a link."""
        request = group.packed + bytes(4) + struct.pack("=I", index(interface))
        with suppress(OSError):  # already a member; or a link without multicast, where broadcast remains
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)

    def receive(self) -> Iterator[Datagram]:
        """A burst of what has arrived."""
        names: dict[int, str] = {}  # to ask the kernel for each takes longer than to receive
        for _ in range(BURST):
            try:
                payload, ancillary, _, (source, source_port) = self.socket.recvmsg(0x10000, 128)
            except BlockingIOError:
                return
            except OSError:  # what ICMP said about an earlier datagram; `unreachable` reads it
                continue
            interface, destination, ttl = None, IPv4Address(0), 0
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                    number, _, header = IN_PKTINFO.unpack_from(data)
                    destination = _address(header)
                    with suppress(OSError):
                        interface = names.get(number) or names.setdefault(
                            number, socket.if_indextoname(number)
                        )
                elif level == socket.IPPROTO_IP and kind == IP_TTL:
                    (ttl,) = struct.unpack_from("=i", data)
            sender = _address(socket.inet_aton(source))
            yield Datagram(payload, sender, source_port, destination, self.place.port, interface, ttl)

    def unreachable(self) -> Iterator[Unreachable]:
        """What ICMP has said about datagrams sent from here; `held_back` is brought up to date."""
        while True:
            try:
                quote, ancillary, _, address = self.socket.recvmsg(2048, 512, MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_RECVERR:
                    _, origin, icmp_type, code, _, _ = EXTENDED_ERROR.unpack_from(data)
                    if origin == ORIGIN_TIMESTAMP and not quote.endswith((*self._earlier,)):
                        self.held_back = False
                    if origin == ORIGIN_ICMP and icmp_type == UNREACHABLE:
                        yield Unreachable(IPv4Address(address[0]), code)

    def send(self, datagram: Datagram) -> None:
        """Send from the source address, out of the interface if there is one; raises NodeError."""
        if self._last:
            self._earlier.append(self._last)
        self._last = datagram.payload
        number = index(datagram.interface) if datagram.interface else 0
        local = IN_PKTINFO.pack(number, datagram.source.packed, bytes(4))
        ancillary = [
            (socket.IPPROTO_IP, IP_PKTINFO, local),
            (socket.IPPROTO_IP, IP_TTL, struct.pack("=i", datagram.ttl)),
        ]
        destination = (socket.inet_ntoa(datagram.destination.packed), datagram.destination_port)
        try:
            try:
                self.socket.sendmsg([datagram.payload], ancillary, 0, destination)
            except OSError:  # it may be the error of an earlier datagram: the kernel reports that once
                self.socket.sendmsg([datagram.payload], ancillary, 0, destination)
        except OSError as error:
            where = f"from {datagram.source} to {datagram.destination}"
            raise NodeError(f"cannot send {where}: {error.strerror}") from error
        self.held_back = self.stamps

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
