"""What goes wrong on the way into a tunnel and in it (RFC 2003 §4, §5)."""

from __future__ import annotations

import errno
import socket
import struct
import time

from testbed.mobileip.core.limits import TokenBucket
from testbed.mobileip.tunnel import icmp
from testbed.mobileip.tunnel.endpoint import Endpoint, Path
from testbed.mobileip.tunnel.icmp import TIME_EXCEEDED, UNREACHABLE, open_icmp
from testbed.mobileip.tunnel.traces import Traces
from testbed.mobileip.wire.encapsulation import IP_HEADER, ROOM
from testbed.mobileip.wire.error import WireError

ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info, data."""
IP_RECVERR = 11
ORIGIN_ICMP = 2
NET_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, TOO_BIG = 0, 1, 2, 4
HOST_GONE = frozenset({(UNREACHABLE, HOST_UNREACHABLE), (UNREACHABLE, PROTOCOL_UNREACHABLE)})
DONT_FRAGMENT = 0x40
PER_SECOND, AT_ONCE = 1000, 50
"""Of messages Host Unreachable about no tunnel: `icmp_msgs_per_sec` and `icmp_msgs_burst` of Linux."""


class Failures:
    """Counts and traces what is discarded, learns path MTUs, and informs the senders of datagrams."""

    def __init__(self, buffer: bytearray, count: dict[str, int]) -> None:
        """In `buffer`, behind `ROOM` bytes, lies the datagram that is to be sent."""
        self._buffer, self._view = buffer, memoryview(buffer)
        self._count = count
        self.icmp = open_icmp()
        self._traces = Traces()
        self._unreachable = TokenBucket(PER_SECOND, AT_ONCE)

    def discard(self, reason: str, packet: memoryview | bytes) -> None:
        """Count a packet that is discarded silently, and keep a trace of it (RFC 5944 §1.7)."""
        self._count[reason] += 1
        self._traces.note(reason, packet)

    def unreachable(self, datagram: memoryview) -> None:
        """Discard what is for no mobile node with a tunnel, and inform its sender as a router does."""
        self._count["unknown"] += 1
        if self._unreachable.allow(time.monotonic()):
            self.send_icmp(bytes(datagram), UNREACHABLE, HOST_UNREACHABLE)

    def send_failed(self, error: OSError, length: int, path: Path) -> bool:
        """Handle what `sendto` raised for the datagram in the buffer; True if it was sent after all."""
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            self.read_errors(path.endpoint)
            if length > path.mtu:
                self.too_big(length, path)
                return False
            try:  # the error may have been about an earlier packet
                path.socket.sendto(path.encode(self._view, ROOM, length), path.address)
                return True
            except OSError:
                pass
        self._count["failed"] += 1
        return False

    def too_big(self, length: int, path: Path) -> None:
        """Refuse the datagram in the buffer, or send it in fragments (RFC 2003 §5.1)."""
        if self._buffer[ROOM + 6] & DONT_FRAGMENT:
            self._count["too-big"] += 1
            self.send_icmp(bytes(self._view[ROOM : ROOM + length]), UNREACHABLE, TOO_BIG, path.mtu)
            return
        if path.fallback is not None:
            path.fallback.learn(path.mtu + path.fallback.overhead)
            path = path.fallback
        try:
            path.endpoint.send_fragments(path, self._view, ROOM, length)
            self._count["fragmented"] += 1
        except OSError:
            self._count["failed"] += 1

    def read_errors(self, endpoint: Endpoint) -> None:
        """Read what ICMP said about packets from `endpoint`: learn from it and relay it (RFC 2003 §4)."""
        while True:
            try:
                quote, ancillary, _, address = endpoint.socket.recvmsg(1024, 256, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_RECVERR:
                    for path in endpoint.quoted(address[0], memoryview(quote)):
                        self._learn(path, memoryview(quote), *ERROR.unpack_from(data))

    def _learn(
        self,
        path: Path,
        quote: memoryview,
        number: int,
        origin: int,
        kind: int,
        code: int,
        info: int,
        _data: int,
    ) -> None:
        """Take one entry of an error queue."""
        if number == errno.EMSGSIZE:
            path.learn(info)
        if origin != ORIGIN_ICMP:
            return
        try:
            datagram = path.endpoint.carrier.decode(quote)
        except WireError:
            datagram = b""
        if len(datagram) < IP_HEADER + 8:
            return  # the router quoted too little of the datagram to find its sender
        if not path.endpoint.sent(path, datagram):
            return
        if kind == UNREACHABLE and code == TOO_BIG and not datagram[6] & DONT_FRAGMENT:
            return  # the tunnel's doing, not the sender's; the next one is sent in fragments
        if kind == UNREACHABLE and code in (NET_UNREACHABLE, TOO_BIG):
            relayed = code
        elif kind == TIME_EXCEEDED or (kind, code) in HOST_GONE:
            relayed = HOST_UNREACHABLE
        else:
            return
        self._count["relayed-errors"] += 1
        mtu = path.mtu if relayed == TOO_BIG else 0
        self.send_icmp(bytes(datagram), UNREACHABLE, relayed, mtu)

    def send_icmp(self, datagram: bytes, kind: int, code: int, mtu: int = 0) -> None:
        """Send an ICMP error to the sender of `datagram`, where there may be one."""
        if (message := icmp.error(datagram, kind, code, mtu)) is None:
            return
        try:
            self.icmp.sendto(message, (socket.inet_ntoa(datagram[12:16]), 0))
        except OSError:
            self._count["failed"] += 1

    def take(self) -> list[dict[str, str | int]]:
        """The traces since the last call."""
        traces, more = self._traces.take()
        self._count["discards-not-reported"] += more
        return traces
