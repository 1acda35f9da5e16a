"""Local tunnel addresses and the paths from them: raw sockets, outer headers, path MTU."""

from __future__ import annotations

import array
import contextlib
import socket
import struct
import time

from testbed.mobileip.wire.encapsulation import IP_HEADER, Carrier, Encapsulation
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal

BUFFER = 4 << 20
CARRIERS: dict[str, type[Carrier]] = {
    Encapsulation.IP_IN_IP.value: IpInIp,
    Encapsulation.GRE.value: Gre,
    Encapsulation.MINIMAL.value: Minimal,
}
"""Encapsulations that raw sockets carry."""
PMTU_LIFETIME = 600.0
"""Seconds until a learnt path MTU is forgotten and found anew (RFC 1191 §6.3)."""

# From linux/in.h and asm-generic/socket.h, which the socket module does not name.
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
IP_RECVERR = 11
IP_FREEBIND = 15
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


class Path:
    """One way through a tunnel, in one encapsulation, and its MTU as far as known."""

    def __init__(self, endpoint: Endpoint, remote: str, fallback: Path | None = None) -> None:
        self.endpoint = endpoint
        self.socket = endpoint.socket
        self.users = 0
        self.address = (remote, 0)
        packed = socket.inet_aton(remote)
        self.remote = int.from_bytes(packed, "big")
        carrier = endpoint.carrier(socket.inet_aton(endpoint.local), packed)
        self.encode = carrier.encode
        self.overhead = carrier.overhead
        self.fallback = fallback
        """The way in IP in IP, for what this encapsulation cannot carry."""
        self.largest = self.mtu = 0xFFFF - self.overhead
        """The largest inner datagram."""
        self._expires = 0.0

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

    def __init__(self, local: str, carrier: type[Carrier]) -> None:
        self.local = local
        self.carrier = carrier
        self.paths: dict[str, Path] = {}
        self.accepted: set[tuple[int, int]] = set()
        """Outer source and inner address of the mobile node, of what may come out of a tunnel here."""
        self.socket = self._open()
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self._fragmenter: socket.socket | None = None

    def _open(self) -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.carrier.protocol)
        # The care-of address may be a moment away from being configured, or already be gone.
        raw.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            with contextlib.suppress(PermissionError):  # the default size does, with more drops in bursts
                raw.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        raw.bind((self.local, 0))
        return raw

    @property
    def fragmenter(self) -> socket.socket:
        """A socket for what must be sent in fragments; one with IP_HDRINCL never fragments."""
        if self._fragmenter is None:
            self._fragmenter = self._open()
            self._fragmenter.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            # It must not be handed a copy of every arriving packet: a filter that accepts no byte.
            code = array.array("B", struct.pack("=HBBI", 0x06, 0, 0, 0))
            program = struct.pack("@HP", 1, code.buffer_info()[0])
            self._fragmenter.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        return self._fragmenter

    def send_fragments(self, packet: memoryview | bytes, address: tuple[str, int]) -> None:
        """Send a packet that is too large for its way; raises OSError."""
        self.fragmenter.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, packet[1])
        self.fragmenter.sendto(packet[IP_HEADER:], address)

    def path(self, remote: str, fallback: Path | None = None) -> Path:
        """The path to `remote`, shared by the mobile nodes that are there."""
        path = self.paths.get(remote) or self.paths.setdefault(remote, Path(self, remote, fallback))
        path.users += 1
        return path

    def release(self, path: Path) -> None:
        """One mobile node less uses `path`."""
        path.users -= 1
        if not path.users:
            del self.paths[path.address[0]]

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        if self._fragmenter is not None:
            self._fragmenter.close()


class Local:
    """A local tunnel address, with an endpoint for every encapsulation.

    So also what was not agreed on arrives here, and is discarded in silence (RFC 3024 §4.3.2).
    """

    def __init__(self, address: str) -> None:
        self.endpoints = {name: Endpoint(address, carrier) for name, carrier in CARRIERS.items()}
        self.users = 0

    def path(self, remote: str, encapsulation: str) -> Path:
        """The path to `remote`; where minimal encapsulation cannot be used, IP in IP is."""
        fallback = None
        if encapsulation == Encapsulation.MINIMAL.value:
            fallback = self.path(remote, Encapsulation.IP_IN_IP.value)
        return self.endpoints[encapsulation].path(remote, fallback)

    def release(self, path: Path) -> None:
        """One mobile node less uses `path`."""
        if path.fallback is not None:
            self.release(path.fallback)
        path.endpoint.release(path)
