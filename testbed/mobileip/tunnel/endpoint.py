"""Local tunnel addresses and the paths from them: raw sockets, outer headers, path MTU."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.mobileip.io.bpf import JEQ, LDB_X, LDH_X, LDW, LDX_IHL, RET, Instruction, attach_filter
from testbed.mobileip.io.buffers import SO_RCVBUFFORCE, SO_SNDBUFFORCE, enlarge
from testbed.mobileip.wire import in_udp
from testbed.mobileip.wire.encapsulation import IP_HEADER, ROOM, Carrier, Encapsulation, header_size
from testbed.mobileip.wire.fragments import fragments
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal

CARRIERS: dict[str, type[Carrier]] = {
    Encapsulation.IP_IN_IP.value: IpInIp,
    Encapsulation.GRE.value: Gre,
    Encapsulation.MINIMAL.value: Minimal,
}
"""Encapsulations on IP itself, each of which has a raw socket."""
IN_UDP = {
    Encapsulation.UDP.value: in_udp.IpInUdp.next_header,
    Encapsulation.GRE_IN_UDP.value: in_udp.GreInUdp.next_header,
    Encapsulation.MINIMAL_IN_UDP.value: in_udp.MinimalInUdp.next_header,
}
"""Those in UDP, which share a socket, by the Next Header of their messages."""
FOR_FRAGMENTS = {
    Encapsulation.MINIMAL.value: Encapsulation.IP_IN_IP.value,
    Encapsulation.MINIMAL_IN_UDP.value: Encapsulation.UDP.value,
}
"""What carries fragments where an encapsulation cannot (RFC 2004 §3)."""
PMTU_LIFETIME = 600.0
"""Seconds until a learnt path MTU is forgotten and found anew (RFC 1191 §6.3)."""

# From linux/in.h, which the socket module does not name.
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
IP_RECVERR = 11
IP_FREEBIND = 15


Key = tuple[str, int, int, int]
"""The other end of a path: its address, in UDP the local and the remote port and the Next Header, else 0."""
_SOURCE = struct.Struct("!12xI").unpack_from
_DESTINATION = struct.Struct("!16xI").unpack_from
EVERYTHING: tuple[Instruction, ...] = ((RET, 0, 0, 0x40000),)
"""The filter of a socket that is handed all that its protocol is about."""


def tunnel_data(port: int, then: Sequence[Instruction] = EVERYTHING) -> tuple[Instruction, ...]:
    """A filter of a raw UDP socket: tunnel data messages (RFC 3519 §3.3) to `port` that `then` accepts."""
    return (
        (LDX_IHL, 0, 0, 0),
        (LDH_X, 0, 0, 2),  # the destination port
        (JEQ, 1, 0, port),
        (RET, 0, 0, 0),
        (LDB_X, 0, 0, 8),  # the type of the message
        (JEQ, 1, 0, 4),
        (RET, 0, 0, 0),
        *then,
    )


def number(address: str) -> int:
    """An IPv4 address in the host's order."""
    return int.from_bytes(socket.inet_aton(address), "big")


class Path:
    """One way through a tunnel, in one encapsulation, and its MTU as far as known."""

    def __init__(self, endpoint: Endpoint, key: Key, carrier: Carrier, fallback: Path | None = None) -> None:
        self.endpoint = endpoint
        self.socket = endpoint.socket
        self.users = 0
        self.key = key
        self.address = (key[0], 0)
        self.remote = number(key[0])
        self.encode = carrier.encode
        self.overhead = carrier.overhead
        self.on_ip = not key[1]
        """Whether no UDP is between, whose checksum would be about all the datagram."""
        self.fallback = fallback
        """The way in which fragments go, where this encapsulation cannot carry them."""
        self.largest = self.mtu = 0xFFFF - self.overhead
        """The largest inner datagram."""
        self._expires = 0.0

    def hold(self) -> None:
        """One mobile node more uses it."""
        self.users += 1
        if self.fallback is not None:
            self.fallback.hold()

    def release(self) -> None:
        """One mobile node less uses it; with the last one it goes."""
        self.users -= 1
        if not self.users:
            del self.endpoint.paths[self.key]
        if self.fallback is not None:
            self.fallback.release()

    def learn(self, mtu: int) -> None:
        """Note that outer packets may have `mtu` bytes only ("tunnel soft state", RFC 2003 §5)."""
        if mtu > self.overhead:
            self.mtu = min(self.mtu, max(68, mtu - self.overhead))
            self._expires = time.monotonic() + PMTU_LIFETIME

    def fits(self, size: int) -> bool:
        """Whether an inner datagram of `size` bytes may be tried; forgets an MTU learnt long ago."""
        if size > self.mtu and time.monotonic() > self._expires:
            self.mtu = self.largest
        return size <= self.mtu


class Endpoint:
    """A local tunnel address and an encapsulation: the socket that sends from it and receives at it."""

    def __init__(
        self,
        local: str,
        carrier: type[Carrier],
        program: Sequence[Instruction] = EVERYTHING,
        shared: bool = False,
    ) -> None:
        """`program` filters what arrives; with `shared` there are more processes for the rest."""
        self.local = local
        self.carrier = carrier
        self._program = program
        self._shared = shared
        self.paths: dict[Key, Path] = {}
        self.accepted: set[tuple[int, int]] = set()
        """`sender` and inner address of the mobile node, of what may come out of a tunnel here."""
        self.delivered: set[tuple[int, int]] = set()
        """`sender` and inner source of what a mobile node tunnels to us, to be sent on (RFC 3024 §5.2)."""
        self.socket = self._open()
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self._fragmenter: socket.socket | None = None

    def _open(self) -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.carrier.protocol)
        if self._program is not EVERYTHING:
            attach_filter(raw, self._program)
        # The care-of address may be a moment away from being configured, or already be gone.
        raw.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        enlarge(raw, SO_SNDBUFFORCE, SO_RCVBUFFORCE)
        raw.bind((self.local, 0))
        return raw

    @property
    def fragmenter(self) -> socket.socket:
        """A socket for what must be sent in fragments; one with IP_HDRINCL never fragments."""
        if self._fragmenter is None:
            self._fragmenter = self._open()
            self._fragmenter.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            # It must not be handed a copy of every arriving packet: a filter that accepts no byte.
            attach_filter(self._fragmenter, [(RET, 0, 0, 0)])
        return self._fragmenter

    def send_fragments(self, path: Path, buffer: memoryview, at: int, length: int) -> None:
        """Send a datagram that is too large for its way; raises OSError."""
        packet = path.encode(buffer, at, length)
        self.fragmenter.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, packet[1])
        self.fragmenter.sendto(packet[IP_HEADER:], path.address)

    def skip(self, sources: list[str]) -> None:
        """Receive nothing from these tunnel ends any more, as others take it."""
        program = [(LDW, 0, 0, 12)]
        for source in sources:
            program += [(JEQ, 0, 1, number(source)), (RET, 0, 0, 0)]
        attach_filter(self.socket, [*program, *self._program])

    @staticmethod
    def sender(packet: memoryview) -> int:
        """What a packet that has arrived must share with a `key`, as a number."""
        return int(_SOURCE(packet)[0])

    @staticmethod
    def expected(key: Key) -> int:
        """The `sender` of packets from the other end."""
        return number(key[0])

    def key(self, end: dict[str, Any], _encapsulation: str) -> Key:
        """The key of the path to an end, as `Worker.obey` takes it."""
        return end["address"], 0, 0, 0

    def carry(self, key: Key) -> Carrier:
        """What makes packets for the other end."""
        return self.carrier(socket.inet_aton(self.local), socket.inet_aton(key[0]))

    def quoted(self, address: str, _quote: memoryview) -> Iterable[Path]:
        """The paths that an error is about; `_quote` is the packet as ICMP quotes it."""
        return filter(None, [self.paths.get((address, 0, 0, 0))])

    def sent(self, path: Path, datagram: memoryview | bytes) -> bool:
        """Whether an error that quotes a datagram is about what went from here: every process hears of it."""
        return not self._shared or (self.expected(path.key), _DESTINATION(datagram)[0]) in self.accepted

    def path(self, key: Key, fallback: Path | None = None) -> Path:
        """The path to another end, shared by the mobile nodes that are there: each is to `hold` it."""
        return self.paths.get(key) or self.paths.setdefault(key, Path(self, key, self.carry(key), fallback))

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        if self._fragmenter is not None:
            self._fragmenter.close()


class UdpEndpoint(Endpoint):
    """The endpoint of tunnel data messages (RFC 3519): of all UDP, its socket is handed them alone.

    Registration messages at the same port are the daemon's, whose socket is not handed these.
    """

    _PORTS = struct.Struct("!HH").unpack_from
    _MODE = struct.Struct("!HH5xB").unpack_from  # with the Next Header, behind the type of the message

    def send_fragments(self, path: Path, buffer: memoryview, at: int, length: int) -> None:
        """A NAT loses fragments of UDP: it is the datagram inside that is fragmented (§4.8)."""
        room = memoryview(bytearray(ROOM + length))
        for fragment in fragments(bytes(buffer[at : at + length]), path.mtu):
            room[ROOM : ROOM + len(fragment)] = fragment
            self.socket.sendto(path.encode(room, ROOM, len(fragment)), path.address)

    @staticmethod
    def sender(packet: memoryview) -> int:
        """The outer source, both ports, and the Next Header.

        They "exactly match the values used for the tunnel" (§4.3), and "the tunnelling mode established for
        the mobility binding" (§3.3).
        """
        remote, local, next_header = UdpEndpoint._MODE(packet, header_size(packet))
        return int(_SOURCE(packet)[0] << 40 | remote << 24 | local << 8 | next_header)

    @staticmethod
    def expected(key: Key) -> int:
        """The same of what the other end sends."""
        address, local, remote, next_header = key
        return number(address) << 40 | remote << 24 | local << 8 | next_header

    def key(self, end: dict[str, Any], encapsulation: str) -> Key:
        """With the ports of both ends."""
        return end["address"], end["local_port"], end["remote_port"], IN_UDP[encapsulation]

    def carry(self, key: Key) -> Carrier:
        """What makes packets between the ports of both ends."""
        remote, local_port, remote_port, next_header = key
        ends = socket.inet_aton(self.local), socket.inet_aton(remote)
        carrier = next(each for each in in_udp.CARRIERS if each.next_header == next_header)
        return carrier(*ends, local_port, remote_port)

    def quoted(self, address: str, quote: memoryview) -> Iterable[Path]:
        """Without a quote, as the kernel's own errors are, those to all ports."""
        size = header_size(quote)
        ports = self._PORTS(quote, size) if len(quote) >= size + 4 and size else None
        return [path for key, path in self.paths.items() if key[0] == address and ports in (None, key[1:3])]


class Local:
    """A local tunnel address, with an endpoint for every encapsulation.

    So also what was not agreed on arrives here, and is discarded in silence (RFC 3024 §4.3.2).
    """

    def __init__(
        self, address: str, port: int, share: Mapping[str, Sequence[Instruction]] | None = None
    ) -> None:
        """`port` is ours of tunnels in UDP; `share` filters what is for this process, by encapsulation."""
        self.address = address
        shared, programs = share is not None, share or {}
        self.endpoints = {
            name: Endpoint(address, carrier, programs.get(name, EVERYTHING), shared)
            for name, carrier in CARRIERS.items()
        }
        udp = Encapsulation.UDP.value
        messages = tunnel_data(port, programs.get(udp, EVERYTHING))
        self.endpoints[udp] = UdpEndpoint(address, in_udp.IpInUdp, messages, shared)
        self.users = 0

    def endpoint(self, encapsulation: str) -> Endpoint:
        """Where datagrams in an encapsulation leave and arrive."""
        return self.endpoints[Encapsulation.UDP.value if encapsulation in IN_UDP else encapsulation]

    def path(self, end: dict[str, Any], encapsulation: str) -> Path:
        """The path to an end, with the one for fragments where that is another."""
        fallback = None
        if encapsulation in FOR_FRAGMENTS:
            fallback = self.path(end, FOR_FRAGMENTS[encapsulation])
        endpoint = self.endpoint(encapsulation)
        return endpoint.path(endpoint.key(end, encapsulation), fallback)

    def skip(self, sources: list[str]) -> None:
        """Leave what comes from these tunnel ends to the kernel; raw sockets would get copies of it."""
        for name in CARRIERS:
            self.endpoints[name].skip(sources)
