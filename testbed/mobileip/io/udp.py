"""The UDP sockets of the registration protocol (RFC 5944 §3)."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.keepalive import IDENTIFIER
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.io.bpf import AND, JEQ, LDB, LDH, LDW, RET, Instruction, attach_choice, attach_filter
from testbed.mobileip.io.buffers import enlarge
from testbed.mobileip.io.changes import index
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.wire.ipv4 import ICMP
from testbed.mobileip.wire.reader import address
from testbed.mobileip.wire.udp_tunnel import DATA, GRE, IP_IN_IP, MINIMAL
from testbed.mobileip.wire.value import value

# From linux/in.h: not all of them are in the socket module.
IP_TTL, IP_PKTINFO, IP_RECVERR, IP_RECVTTL = 2, 8, 11, 12
MSG_ERRQUEUE = 0x2000
IN_PKTINFO = struct.Struct("=I4s4s")
"""struct in_pktinfo: interface index, local address, destination address of the header."""
INT = struct.Struct("=i")
EXTENDED_ERROR = struct.Struct("=IBBBxII")
ORIGIN_ICMP, ORIGIN_TIMESTAMP, UNREACHABLE = 2, 4, 3
SO_TIMESTAMPNS = 35
"""With each datagram the time of day at which it arrived."""
TIMESPEC = struct.Struct("=qq")
SO_TIMESTAMPING, STAMP_DEPARTURES = 37, 1 << 8 | 1 << 4
"""A time stamp in the error queue when a datagram goes to its link, after ARP (TX_SCHED)."""
BURST = 64
IFREQ, SIOCGIFNAME = struct.Struct("=16si20x"), 0x8910
"""struct ifreq: name and index of an interface."""


_DATA_AT = 12
"""Where the data of a tunnel data message begin, counted from the UDP header."""
_ACCEPT, _REJECT = (RET, 0, 0, 0x40000), (RET, 0, 0, 0)
Test = tuple[tuple[Instruction, ...], int]
"""What is loaded, and what it has to be."""


@lru_cache(maxsize=0x400)
def _address(packed: bytes) -> IPv4Address:
    return address(int.from_bytes(packed, "big"))


@lru_cache(maxsize=0x400)
def _sender(text: str) -> IPv4Address:
    """The address that the kernel names in words."""
    return _address(socket.inet_aton(text))


@lru_cache(maxsize=64)
def _departure(interface: int, source: IPv4Address, ttl: int) -> tuple[tuple[int, int, bytes], ...]:
    """What the kernel is told of a datagram that leaves: by which interface, from where, with what TTL."""
    local = IN_PKTINFO.pack(interface, source.packed, bytes(4))
    return (socket.IPPROTO_IP, IP_PKTINFO, local), (socket.IPPROTO_IP, IP_TTL, INT.pack(ttl))


def _inside(ip: int) -> tuple[tuple[Test, ...], int, int]:
    """Of a whole ICMP datagram: what shows it, where its destination is, and where the ICMP header is."""
    tests = (
        (((LDB, 0, 0, ip),), 0x45),
        (((LDH, 0, 0, ip + 6), (AND, 0, 0, 0x3FFF)), 0),  # no fragment
        (((LDB, 0, 0, ip + 9),), ICMP),
    )
    return tests, ip + 16, ip + 20


def _forwarded(source_present: int) -> tuple[tuple[Test, ...], int, int]:
    """The same in minimal encapsulation (RFC 2004 §3.1), where 128 is the bit of the source."""
    tests = (
        (((LDB, 0, 0, _DATA_AT),), ICMP),
        (((LDB, 0, 0, _DATA_AT + 1), (AND, 0, 0, 0x80)), source_present),
    )
    return tests, _DATA_AT + 4, _DATA_AT + (12 if source_present else 8)


_LAYOUTS = (
    (IP_IN_IP, *_inside(_DATA_AT)),
    (GRE, *_inside(_DATA_AT + 4)),
    (MINIMAL, *_forwarded(0x80)),
    (MINIMAL, *_forwarded(0)),
)


def registrations(echo: int, address: IPv4Address | None = None) -> Sequence[Instruction]:
    """A filter for all but tunnel data (RFC 3519 §3.3), which is the data plane's, at a UDP socket.

    Of tunnel data it accepts ICMP messages of the type `echo`, to `address` or, without, with our identifier:
    the data plane has these, too.
    """
    program = [(LDB, 0, 0, 8), (JEQ, 1, 0, DATA), _ACCEPT]
    for next_header, tests, destination, icmp in _LAYOUTS:
        last: Test = (((LDH, 0, 0, icmp + 4),), IDENTIFIER)
        if address is not None:
            last = (((LDW, 0, 0, destination),), int(address))
        way = ((((LDB, 0, 0, 9),), next_header), *tests, (((LDB, 0, 0, icmp),), echo), last)
        left = sum(len(loads) + 1 for loads, _ in way) + 1
        for loads, expected in way:
            left -= len(loads) + 1
            program += [*loads, (JEQ, 0, left, expected)]
        program.append(_ACCEPT)
    return (*program, _REJECT)


def keepalives(home_agent: IPv4Address) -> Sequence[Instruction]:
    """At a home agent: registrations, and keepalives."""
    return registrations(8, home_agent)


ANSWERS = registrations(0)
"""At the other end: registrations, and answers to keepalives."""


@value
class Unreachable:
    """ICMP Destination Unreachable came back for a datagram we sent."""

    destination: IPv4Address
    code: int


@value
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

    def __init__(
        self,
        place: Place,
        program: Sequence[Instruction],
        departures: bool = False,
        *,
        shared: bool = False,
    ) -> None:
        """`program` filters what arrives; with `departures` it is known of each datagram whether it has left.

        A port at every address is taken alone. At a narrower place the kernel would hand datagrams to any of
        the daemons that have it, so it is to be claimed before. So is one that is `shared` among more of our
        sockets (`share_out`). Raises NodeError.
        """
        self.place = place
        self.held_back = False
        """Whether the last datagram still waits in this node, for ARP say."""
        self.waited = 0.0
        """Seconds that the last datagram received had waited in the kernel, after `stamp_arrivals`."""
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
        enlarge(self.socket)
        attach_filter(self.socket, program)
        try:
            if shared:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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

    def stamp_arrivals(self) -> None:
        """Have the kernel note when datagrams arrive."""
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def receive(self, most: int = BURST) -> Iterator[Datagram]:
        """A burst of what has arrived; `waited` is that of each."""
        names: dict[int, str | None] = {}
        for _ in range(most):
            try:
                payload, ancillary, _, (source, source_port) = self.socket.recvmsg(0x10000, 128)
            except BlockingIOError:
                return
            except OSError:  # what ICMP said about an earlier datagram; `unreachable` reads it
                continue
            interface, destination, ttl = None, UNSPECIFIED, 0
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                    number, _, header = IN_PKTINFO.unpack_from(data)
                    destination = _address(header)
                    if (interface := names.get(number)) is None:
                        interface = names[number] = self._name(number)
                elif level == socket.IPPROTO_IP and kind == IP_TTL:
                    (ttl,) = INT.unpack_from(data)
                elif level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = TIMESPEC.unpack_from(data)
                    self.waited = max(0.0, time.time() - seconds - nanoseconds / 1e9)
            yield Datagram(
                payload, _sender(source), source_port, destination, self.place.port, interface, ttl
            )

    def _name(self, number: int) -> str | None:
        """The name of an interface; None if it has gone. `if_indextoname` opens a socket each time."""
        try:
            name, _ = IFREQ.unpack(fcntl.ioctl(self.socket, SIOCGIFNAME, IFREQ.pack(b"", number)))
        except OSError:
            return None
        return str(name.rstrip(b"\0").decode())

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
        if self.stamps:
            if self._last:
                self._earlier.append(self._last)
            self._last = datagram.payload
        number = index(datagram.interface) if datagram.interface else 0
        ancillary = _departure(number, datagram.source, datagram.ttl)
        destination = (str(datagram.destination), datagram.destination_port)
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


def share_out(place: Place, steering: Steering, program: Sequence[Instruction]) -> list[RegistrationSocket]:
    """A socket for each process of a daemon, in order; the kernel hands each what is about its mobile nodes.

    What is sent to everybody or to a group reaches all sockets of a port, so that each has a filter as well.
    None may be closed while others are in use: the kernel would number them anew. Raises NodeError.
    """
    shares = [Share(steering, number) for number in range(steering.processes)]
    sockets = [RegistrationSocket(place, share.messages(program), shared=True) for share in shares]
    try:
        attach_choice(sockets[0].socket, steering.choice())
    except OSError as error:
        raise NodeError(f"{place}: a program that shares it out: {error.strerror}") from error
    return sockets
