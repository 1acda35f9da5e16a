"""The process behind the `tun` data plane: a TUN device on one side, raw protocol-4 sockets on the other.

`tun.TunPlane` starts it, as `python -S -P -m testbed.mobileip.tunnel.worker TUN-FD CONTROL-FD home|visited`.
It imports little, so that it is small, and shares its interpreter with no other work. It ends when the
control socket closes. Datagrams are handled in place, in bursts, at one unpack and one look-up each.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any

from testbed.mobileip.tunnel.endpoint import HEADER, Endpoint, Path
from testbed.mobileip.wire.checksum import internet_checksum

BURST = 64
CONTROL_SIZE = 0x10000

SOL_RAW, ICMP_FILTER = 255, 1
ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info, data."""
IP_RECVERR = 11
ORIGIN_ICMP = 2
UNREACHABLE, TIME_EXCEEDED = 3, 11
NET_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, TOO_BIG = 0, 1, 2, 4
HOST_GONE = frozenset({(UNREACHABLE, HOST_UNREACHABLE), (UNREACHABLE, PROTOCOL_UNREACHABLE)})
ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
"""ICMP types that are never answered by another error (RFC 1122 §3.2.2)."""

COUNTERS = (
    "encapsulated", "encapsulated-bytes", "decapsulated", "decapsulated-bytes", "unknown", "refused",
    "malformed", "ttl", "loop", "too-big", "fragmented", "relayed-errors", "failed",
)  # fmt: skip


def open_icmp() -> socket.socket:
    """A socket for ICMP messages of our own; it receives none."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    raw.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF))
    return raw


class Worker:
    """Moves datagrams between the TUN device `tun` and the tunnels that `control` names."""

    def __init__(self, tun: int, control: socket.socket, home_side: bool) -> None:
        self.tun = tun
        self.control = control
        self.count = dict.fromkeys(COUNTERS, 0)
        self.endpoints: dict[str, Endpoint] = {}
        self.by_fd: dict[int, Endpoint] = {}
        self.mobiles: dict[int, tuple[Path, ...]] = {}
        # What goes in lies in the buffer behind room for the outer header: inner source, inner destination.
        self.inner = struct.Struct("!32xII").unpack_from
        self.mobile_at = 1 if home_side else 0
        # What comes out: outer source, and the inner address that must be the mobile node's.
        self.outer = struct.Struct("!12xI16xI" if home_side else "!12xI20xI").unpack_from
        self.buffer = bytearray(HEADER + 0x10000)
        self.view = memoryview(self.buffer)
        self.icmp = open_icmp()
        self.epoll = select.epoll()
        self.epoll.register(tun, select.EPOLLIN)
        self.epoll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Serve until the control socket closes."""
        control = self.control.fileno()
        while True:
            for fd, events in self.epoll.poll():
                if fd == self.tun:
                    self.encapsulate()
                elif fd == control:
                    if not self.command():
                        return
                elif endpoint := self.by_fd.get(fd):
                    if events & select.EPOLLERR:
                        self.read_errors(endpoint)
                    self.decapsulate(endpoint)

    # -- datagrams ---------------------------------------------------------------------------------------

    def encapsulate(self) -> None:
        """Take a burst of datagrams from the device and send each into its tunnels."""
        buffer, view, count = self.buffer, self.view, self.count
        inner, mobile_at, find = self.inner, self.mobile_at, self.mobiles.get
        tun, into = self.tun, (view[HEADER:],)
        readv = os.readv
        packets = size = 0
        last: Path | None = None
        for _ in range(BURST):
            try:
                length = readv(tun, into)
            except BlockingIOError:
                break
            except OSError:  # the device is down
                count["failed"] += 1
                break
            addresses = inner(buffer)
            paths = find(addresses[mobile_at])
            if paths is None or buffer[HEADER] >> 4 != 4:  # also what the kernel sends by IPv6
                count["unknown"] += 1
                continue
            if not buffer[28]:  # RFC 2003 §3.1: never a datagram whose TTL is 0
                count["ttl"] += 1
                continue
            for path in paths:
                if addresses[0] == path.remote:  # RFC 2003 §3.2, RFC 5944 §4.2.3
                    count["loop"] += 1
                    continue
                if length > path.mtu and not path.fits(length):
                    self.too_big(length, path)
                    last = None
                    continue
                if path is not last:
                    buffer[:HEADER] = path.header
                    last = path
                buffer[1] = buffer[21]  # TOS
                buffer[6] = buffer[26] & 0x40  # Don't Fragment
                try:
                    path.socket.sendto(view[: HEADER + length], path.address)
                except OSError as error:
                    last = None
                    if not self.send_failed(error, length, path):
                        continue
                packets += 1
                size += length
        count["encapsulated"] += packets
        count["encapsulated-bytes"] += size

    def decapsulate(self, endpoint: Endpoint) -> None:
        """Take a burst of datagrams that arrived at `endpoint` out of their tunnels, if they may."""
        buffer, view, count = self.buffer, self.view, self.count
        receive, outer, accepted = endpoint.socket.recv_into, self.outer, endpoint.accepted
        tun, write = self.tun, os.write
        packets = size = 0
        for _ in range(BURST):
            try:
                length = receive(buffer)
            except BlockingIOError:
                break
            except OSError:  # what an ICMP message said about an earlier packet
                self.read_errors(endpoint)
                continue
            if buffer[0] != 0x45:  # options in the outer header
                length = self.strip_options(length)
            if length < 2 * HEADER or buffer[HEADER] >> 4 != 4:
                count["malformed"] += 1
                continue
            if outer(buffer) not in accepted:  # RFC 3024 §4.3.2, RFC 5944 §4.2.2: silently
                count["refused"] += 1
                continue
            if not buffer[28]:
                count["ttl"] += 1
                continue
            try:
                write(tun, view[HEADER:length])
            except OSError:  # no IP datagram after all, or the device is down
                count["failed"] += 1
                continue
            packets += 1
            size += length - HEADER
        count["decapsulated"] += packets
        count["decapsulated-bytes"] += size

    def strip_options(self, length: int) -> int:
        """Move the inner datagram to where it begins without options; returns the length, 0 for nonsense."""
        header = (self.buffer[0] & 15) * 4
        if not HEADER <= header <= length:
            return 0
        self.view[HEADER : length - header + HEADER] = bytes(self.view[header:length])
        return length - header + HEADER

    # -- what goes wrong on the way ----------------------------------------------------------------------

    def send_failed(self, error: OSError, length: int, path: Path) -> bool:
        """Handle what `sendto` raised for the datagram in the buffer; True if it was sent after all."""
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            self.read_errors(path.endpoint)
            if length > path.mtu:
                self.too_big(length, path)
                return False
            try:  # the error may have been about an earlier packet
                self.buffer[:HEADER] = path.header
                self.buffer[1], self.buffer[6] = self.buffer[21], self.buffer[26] & 0x40
                path.socket.sendto(self.view[: HEADER + length], path.address)
                return True
            except OSError:
                pass
        self.count["failed"] += 1
        return False

    def too_big(self, length: int, path: Path) -> None:
        """Refuse the datagram in the buffer, or send it in fragments (RFC 2003 §5.1)."""
        datagram = bytes(self.view[HEADER : HEADER + length])
        if datagram[6] & 0x40:
            self.count["too-big"] += 1
            self.send_icmp(datagram, TOO_BIG, path.mtu)
            return
        try:
            path.endpoint.fragmenter.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, datagram[1])
            path.endpoint.fragmenter.sendto(datagram, path.address)
            self.count["fragmented"] += 1
        except OSError:
            self.count["failed"] += 1

    def read_errors(self, endpoint: Endpoint) -> None:
        """Read what ICMP said about packets from `endpoint`: learn from it and relay it (RFC 2003 §4)."""
        while True:
            try:
                quote, ancillary, _, address = endpoint.socket.recvmsg(1024, 256, socket.MSG_ERRQUEUE)
            except OSError:
                return
            path = endpoint.paths.get(address[0])
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_RECVERR and path is not None:
                    self.learn(path, quote, *ERROR.unpack_from(data))

    def learn(
        self, path: Path, quote: bytes, number: int, origin: int, kind: int, code: int, info: int, _data: int
    ) -> None:
        """Take one entry of an error queue."""
        if number == errno.EMSGSIZE:
            path.learn(info)
        if origin != ORIGIN_ICMP or len(quote) < 2 * HEADER + 8:
            return  # the router quoted too little of the datagram to find its sender
        if kind == UNREACHABLE and code in (NET_UNREACHABLE, TOO_BIG):
            relayed = code
        elif kind == TIME_EXCEEDED or (kind, code) in HOST_GONE:
            relayed = HOST_UNREACHABLE
        else:
            return
        self.count["relayed-errors"] += 1
        self.send_icmp(quote[HEADER:], relayed, path.mtu if relayed == TOO_BIG else 0)

    def send_icmp(self, datagram: bytes, code: int, mtu: int) -> None:
        """Send Destination Unreachable to the sender of `datagram`."""
        header = (datagram[0] & 15) * 4
        if datagram[9] == socket.IPPROTO_ICMP and len(datagram) > header and datagram[header] in ICMP_ERRORS:
            return
        if int.from_bytes(datagram[6:8], "big") & 0x1FFF or not 0 < datagram[12] < 224:
            return  # not the first fragment; or a sender that is no single host
        message = struct.pack("!BBHHH", UNREACHABLE, code, 0, 0, mtu) + datagram[: header + 8]
        message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
        try:
            self.icmp.sendto(message, (socket.inet_ntoa(datagram[12:16]), 0))
        except OSError:
            self.count["failed"] += 1

    # -- commands ----------------------------------------------------------------------------------------

    def command(self) -> bool:
        """Obey one command of the control socket; False when it is closed."""
        try:
            request = self.control.recv(CONTROL_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not request:
            return False
        reply: dict[str, Any] = {}
        try:
            self.obey(json.loads(request), reply)
        except OSError as error:
            reply["error"] = str(error)
        self.control.send(json.dumps(reply).encode())
        return True

    def obey(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        """`{"set": mobile, "local": …, "remotes": […]}`, `{"remove": mobile}` or `{"counters": true}`."""
        if "set" in request:
            self.set(request["set"], request["local"], request["remotes"])
        elif "remove" in request:
            self.remove(request["remove"])
        else:
            reply.update(self.count)

    def set(self, mobile: str, local: str, remotes: list[str]) -> None:
        """Set up or replace a tunnel; without `remotes` take it down."""
        if not remotes:
            self.remove(mobile)
            return
        endpoint = self.endpoints.get(local)
        if endpoint is None:
            endpoint = self.endpoints[local] = Endpoint(local)
            self.by_fd[endpoint.socket.fileno()] = endpoint
            self.epoll.register(endpoint.socket.fileno(), select.EPOLLIN | select.EPOLLERR)
        address = int.from_bytes(socket.inet_aton(mobile), "big")
        paths = tuple(endpoint.path(remote) for remote in remotes)
        self.remove(mobile)
        self.mobiles[address] = paths
        endpoint.accepted.update((path.remote, address) for path in paths)

    def remove(self, mobile: str) -> None:
        """Take a tunnel down, and with the last one its endpoint."""
        address = int.from_bytes(socket.inet_aton(mobile), "big")
        for path in self.mobiles.pop(address, ()):
            endpoint = path.endpoint
            endpoint.accepted.discard((path.remote, address))
            endpoint.release(path)
            if not endpoint.paths:
                del self.endpoints[endpoint.local]
                del self.by_fd[endpoint.socket.fileno()]
                self.epoll.unregister(endpoint.socket.fileno())
                endpoint.close()


def main(arguments: list[str]) -> None:
    """Serve the descriptors and the side named by `arguments`."""
    tun, control, side = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then closes the socket
    gc.disable()  # nothing here makes garbage in cycles while datagrams pass
    Worker(int(tun), socket.socket(fileno=int(control)), side == "home").run()


if __name__ == "__main__":
    main(sys.argv[1:])
