"""The process behind the `tun` data plane: a TUN device on one side, raw sockets on the other.

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

from testbed.mobileip.tunnel.endpoint import Endpoint, Local, Path, number
from testbed.mobileip.wire.checksum import internet_checksum
from testbed.mobileip.wire.encapsulation import IP_HEADER, ROOM
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.minimal import is_fragment

BURST = 64
LAST_BURSTS = 16
CONTROL_SIZE = 0x10000
MULTICAST = 0xE0000000
"""224.0.0.0, which stands for every group where destinations are listed."""

SOL_RAW, ICMP_FILTER = 255, 1
ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info, data."""
IP_RECVERR = 11
ORIGIN_ICMP = 2
UNREACHABLE, TIME_EXCEEDED = 3, 11
NET_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, TOO_BIG = 0, 1, 2, 4
HOST_GONE = frozenset({(UNREACHABLE, HOST_UNREACHABLE), (UNREACHABLE, PROTOCOL_UNREACHABLE)})
DONT_FRAGMENT = 0x40
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
        self.locals: dict[str, Local] = {}
        self.skipped: list[str] = []
        self.by_fd: dict[int, Endpoint] = {}
        self.mobiles: dict[int, tuple[Path, ...]] = {}
        self.accepting: dict[int, tuple[str, list[tuple[Endpoint, tuple[int, int]]]]] = {}
        """For each mobile node the local address, and what it added to the `accepted` of endpoints."""
        # What goes in lies in the buffer behind room for outer headers: inner source, inner destination.
        self.inner = struct.Struct(f"!{ROOM + 12}xII").unpack_from
        self.mobile_at = 1 if home_side else 0
        # What comes out: the inner address that must be the mobile node's.
        self.mobile = struct.Struct("!12xI" if home_side else "!16xI").unpack_from
        self.buffer = bytearray(ROOM + 0x10000)
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

    def encapsulate(self) -> bool:
        """Send a burst of datagrams from the device into their tunnels; returns whether there may be more."""
        buffer, view, count = self.buffer, self.view, self.count
        inner, mobile_at, find = self.inner, self.mobile_at, self.mobiles.get
        tun, into = self.tun, (view[ROOM:],)
        readv = os.readv
        packets = size = 0
        more = False
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
            if paths is None or buffer[ROOM] >> 4 != 4:  # also what the kernel sends by IPv6
                count["unknown"] += 1
                continue
            if not buffer[ROOM + 8]:  # RFC 2003 §3.1: never a datagram whose TTL is 0
                count["ttl"] += 1
                continue
            for way in paths:
                if addresses[0] == way.remote:  # RFC 2003 §3.2, RFC 5944 §4.2.3
                    count["loop"] += 1
                    continue
                path = way.fallback if way.fallback is not None and is_fragment(buffer, ROOM) else way
                if length > path.mtu and not path.fits(length):
                    self.too_big(length, path)
                    continue
                try:
                    path.socket.sendto(path.encode(view, ROOM, length), path.address)
                except OSError as error:
                    if not self.send_failed(error, length, path):
                        continue
                packets += 1
                size += length
        else:
            more = True
        count["encapsulated"] += packets
        count["encapsulated-bytes"] += size
        return more

    def decapsulate(self, endpoint: Endpoint) -> bool:
        """Take a burst that arrived at `endpoint` out of its tunnels; returns whether there may be more."""
        view, count, sender, mobile = self.view, self.count, endpoint.sender, self.mobile
        receive, decode, accepted = endpoint.socket.recv_into, endpoint.carrier.decode, endpoint.accepted
        tun, write = self.tun, os.write
        packets = size = 0
        more = False
        for _ in range(BURST):
            try:
                length = receive(view)
            except BlockingIOError:
                break
            except OSError:  # what an ICMP message said about an earlier packet
                self.read_errors(endpoint)
                continue
            try:
                datagram = decode(view[:length])
            except WireError as error:
                count[error.reason] += 1
                continue
            source, address = sender(view), mobile(datagram)[0]
            multicast = address >> 28 == MULTICAST >> 28
            if (source, MULTICAST if multicast else address) not in accepted:
                count["refused"] += 1  # RFC 3024 §4.3.2, RFC 5944 §4.2.2: silently
                continue
            if not datagram[8]:
                count["ttl"] += 1
                continue
            try:
                write(tun, datagram)
            except OSError:  # no IP datagram after all, or the device is down
                count["failed"] += 1
                continue
            packets += 1
            size += len(datagram)
        else:
            more = True
        count["decapsulated"] += packets
        count["decapsulated-bytes"] += size
        return more

    # -- what goes wrong on the way ----------------------------------------------------------------------

    def send_failed(self, error: OSError, length: int, path: Path) -> bool:
        """Handle what `sendto` raised for the datagram in the buffer; True if it was sent after all."""
        if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
            self.read_errors(path.endpoint)
            if length > path.mtu:
                self.too_big(length, path)
                return False
            try:  # the error may have been about an earlier packet
                path.socket.sendto(path.encode(self.view, ROOM, length), path.address)
                return True
            except OSError:
                pass
        self.count["failed"] += 1
        return False

    def too_big(self, length: int, path: Path) -> None:
        """Refuse the datagram in the buffer, or send it in fragments (RFC 2003 §5.1)."""
        if self.buffer[ROOM + 6] & DONT_FRAGMENT:
            self.count["too-big"] += 1
            self.send_icmp(bytes(self.view[ROOM : ROOM + length]), TOO_BIG, path.mtu)
            return
        path = path.fallback or path
        try:
            path.endpoint.send_fragments(path, self.view, ROOM, length)
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
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_RECVERR:
                    for path in endpoint.quoted(address[0], memoryview(quote)):
                        self.learn(path, memoryview(quote), *ERROR.unpack_from(data))

    def learn(
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
        if kind == UNREACHABLE and code == TOO_BIG and not datagram[6] & DONT_FRAGMENT:
            return  # the tunnel's doing, not the sender's; the next one is sent in fragments
        if kind == UNREACHABLE and code in (NET_UNREACHABLE, TOO_BIG):
            relayed = code
        elif kind == TIME_EXCEEDED or (kind, code) in HOST_GONE:
            relayed = HOST_UNREACHABLE
        else:
            return
        self.count["relayed-errors"] += 1
        self.send_icmp(bytes(datagram), relayed, path.mtu if relayed == TOO_BIG else 0)

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
        """Obey a list of commands of the control socket; False when it is closed."""
        try:
            request = self.control.recv(CONTROL_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not request:
            return False
        replies = []
        for each in json.loads(request):
            reply: dict[str, Any] = {}
            try:
                self.obey(each, reply)
            except OSError as error:
                reply["error"] = str(error)
            replies.append(reply)
        self.control.send(json.dumps(replies).encode())
        return True

    def obey(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        """`set` a tunnel, `remove` the one of a mobile node, or report the `counters`.

        `{"set": mobile, "local": …, "ends": […], "broadcasts": […]}`, where an end is
        `{"address": …, "encapsulations": […], "local_port": …, "remote_port": …}`;
        `{"remove": mobile}`; `{"counters": true}`; `{"skip": [address, …]}`;
        `{"send": mobile, "remotes": […], "datagram": hexadecimal}`.
        """
        if "set" in request:
            self.set(request["set"], request["local"], request["ends"], request["broadcasts"])
        elif "remove" in request:
            self.finish(request["remove"])
            self.remove(request["remove"])
        elif "skip" in request:
            self.skip(request["skip"])
        elif "send" in request:
            self.send(request["send"], request["remotes"], bytes.fromhex(request["datagram"]))
        else:
            reply.update(self.count)

    def set(self, mobile: str, local: str, ends: list[dict[str, Any]], broadcasts: list[str]) -> None:
        """Set up or replace a tunnel; without `ends` take it down."""
        if not ends:
            self.remove(mobile)
            return
        here = self.locals.get(local) or self.open(local)
        here.users += 1
        paths, accepting = [], []
        for end in ends:
            paths.append(here.path(end, end["encapsulations"][0]))
            for endpoint in (here.endpoints[name] for name in end["encapsulations"]):
                sender = endpoint.expected(endpoint.key(end))
                accepting += [(endpoint, (sender, number(address))) for address in (mobile, *broadcasts)]
        self.remove(mobile)
        self.mobiles[number(mobile)] = tuple(paths)
        self.accepting[number(mobile)] = local, accepting
        for endpoint, pair in accepting:
            endpoint.accepted.add(pair)

    def send(self, mobile: str, remotes: list[str], datagram: bytes) -> None:
        """Send a datagram that did not come from the device into tunnels of `mobile` (RFC 5944 §4.3)."""
        length = len(datagram)
        for way in self.mobiles.get(number(mobile), ()):
            if way.address[0] not in remotes:
                continue
            self.view[ROOM : ROOM + length] = datagram
            path = way.fallback if way.fallback is not None and is_fragment(self.buffer, ROOM) else way
            try:
                path.socket.sendto(path.encode(self.view, ROOM, length), path.address)
            except OSError as error:
                if not self.send_failed(error, length, path):
                    continue
            self.count["encapsulated"] += 1
            self.count["encapsulated-bytes"] += length

    def skip(self, sources: list[str]) -> None:
        """Leave what comes from these tunnel ends to the kernel."""
        self.skipped = sources
        for here in self.locals.values():
            here.skip(sources)

    def open(self, local: str) -> Local:
        """Open the endpoints of a local address."""
        here = self.locals[local] = Local(local)
        if self.skipped:
            here.skip(self.skipped)
        for endpoint in here.endpoints.values():
            self.by_fd[endpoint.socket.fileno()] = endpoint
            self.epoll.register(endpoint.socket.fileno(), select.EPOLLIN | select.EPOLLERR)
        return here

    def finish(self, mobile: str) -> None:
        """Move what has come so far: it would be lost with the tunnel; packets take another way now."""
        _, accepting = self.accepting.get(number(mobile), ("", ()))
        endpoints = {endpoint for endpoint, _ in accepting}
        for _ in range(LAST_BURSTS if endpoints else 0):
            if not any([self.encapsulate(), *map(self.decapsulate, endpoints)]):
                break

    def remove(self, mobile: str) -> None:
        """Take a tunnel down, and with the last one its endpoints."""
        paths = self.mobiles.pop(number(mobile), None)
        if paths is None:
            return
        local, accepting = self.accepting.pop(number(mobile))
        for endpoint, pair in accepting:
            endpoint.accepted.discard(pair)
        here = self.locals[local]
        for path in paths:
            here.release(path)
        here.users -= 1
        if not here.users:
            del self.locals[local]
            for endpoint in here.endpoints.values():
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
