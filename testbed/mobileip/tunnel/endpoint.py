"""Local tunnel addresses and the paths from them: raw sockets, outer headers, path MTU."""

from __future__ import annotations

import array
import contextlib
import socket
import struct
import time

HEADER = 20
TTL = 64
BUFFER = 4 << 20
LARGEST = 0xFFFF - HEADER
PMTU_LIFETIME = 600.0
"""Seconds until a learnt path MTU is forgotten and found anew (RFC 1191 §6.3)."""

# From linux/in.h and asm-generic/socket.h, which the socket module does not name.
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
IP_RECVERR = 11
IP_FREEBIND = 15
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


class Path:
    """One way through a tunnel: the outer header (RFC 2003 §3.1), and the path's MTU as far as known."""

    def __init__(self, endpoint: Endpoint, remote: str) -> None:
        self.endpoint = endpoint
        self.socket = endpoint.socket
        self.users = 0
        self.address = (remote, 0)
        packed = socket.inet_aton(remote)
        self.remote = int.from_bytes(packed, "big")
        # The kernel fills in length, identification and checksum; TOS and DF will be the inner header's.
        self.header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, TTL, 4, 0, socket.inet_aton(endpoint.local), packed
        )
        self.mtu = LARGEST
        """The largest inner datagram."""
        self._expires = 0.0

    def learn(self, mtu: int) -> None:
        """Note that outer packets may have `mtu` bytes only ("tunnel soft state", RFC 2003 §5)."""
        if mtu > HEADER:
            self.mtu = min(self.mtu, max(68, mtu - HEADER))
            self._expires = time.monotonic() + PMTU_LIFETIME

    def fits(self, size: int) -> bool:
        """Whether an inner datagram of `size` bytes may be tried; forgets an MTU learnt long ago."""
        if size > self.mtu and time.monotonic() > self._expires:
            self.mtu = LARGEST
        return size <= self.mtu


class Endpoint:
    """A local tunnel address: the socket that sends from it and receives at it."""

    def __init__(self, local: str) -> None:
        self.local = local
        self.paths: dict[str, Path] = {}
        self.accepted: set[tuple[int, int]] = set()
        """Outer source and inner address of the mobile node, of what may come out of a tunnel here."""
        self.socket = self._open()
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self._fragmenter: socket.socket | None = None

    def _open(self) -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_IPIP)
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

    def path(self, remote: str) -> Path:
        """The path to `remote`, shared by the mobile nodes that are there."""
        path = self.paths.get(remote) or self.paths.setdefault(remote, Path(self, remote))
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
