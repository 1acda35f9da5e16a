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
from collections.abc import Iterable
from typing import Any

from testbed.mobileip.tunnel import icmp
from testbed.mobileip.tunnel.endpoint import Endpoint, Path, number
from testbed.mobileip.tunnel.icmp import TIME_EXCEEDED, UNREACHABLE, open_icmp
from testbed.mobileip.tunnel.traces import Traces
from testbed.mobileip.tunnel.tunnels import Tunnels
from testbed.mobileip.wire.encapsulation import IP_HEADER, ROOM
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.forwarding import forwarded
from testbed.mobileip.wire.minimal import is_fragment

BURST = 64
LAST_BURSTS = 16
CONTROL_SIZE = 0x10000
SOURCE = struct.Struct("!12xI").unpack_from
MULTICAST = 0xE0000000
"""224.0.0.0, which stands for every group where destinations are listed."""

ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, type, code, info, data."""
IP_RECVERR = 11
ORIGIN_ICMP = 2
NET_UNREACHABLE, HOST_UNREACHABLE, PROTOCOL_UNREACHABLE, TOO_BIG = 0, 1, 2, 4
HOST_GONE = frozenset({(UNREACHABLE, HOST_UNREACHABLE), (UNREACHABLE, PROTOCOL_UNREACHABLE)})
DONT_FRAGMENT = 0x40

COUNTERS = (
    "encapsulated", "encapsulated-bytes", "decapsulated", "decapsulated-bytes", "unknown", "refused",
    "malformed", "ttl", "loop", "too-big", "fragmented", "relayed-errors", "failed", "discards-not-reported",
)  # fmt: skip


class Worker:
    """Moves datagrams between the TUN device `tun` and the tunnels that `control` names."""

    def __init__(self, tun: int, control: socket.socket, home_side: bool) -> None:
        self.tun = tun
        self.control = control
        self.count = dict.fromkeys(COUNTERS, 0)
        # What goes in lies in the buffer behind room for outer headers: inner source, inner destination.
        self.inner = struct.Struct(f"!{ROOM + 12}xII").unpack_from
        self.mobile_at = 1 if home_side else 0
        # What comes out: the inner address that must be the mobile node's.
        self.mobile = struct.Struct("!12xI" if home_side else "!16xI").unpack_from
        self.buffer = bytearray(ROOM + 0x10000)
        self.view = memoryview(self.buffer)
        self.icmp = open_icmp()
        self.traces = Traces()
        self.epoll = select.epoll()
        self.epoll.register(tun, select.EPOLLIN)
        self.epoll.register(control.fileno(), select.EPOLLIN)
        self.tunnels = Tunnels(self.epoll)

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
                elif endpoint := self.tunnels.by_fd.get(fd):
                    if events & select.EPOLLERR:
                        self.read_errors(endpoint)
                    self.decapsulate(endpoint)

    # -- datagrams ---------------------------------------------------------------------------------------

    def encapsulate(self) -> bool:
        """Send a burst of datagrams from the device into their tunnels; returns whether there may be more."""
        buffer, view, count = self.buffer, self.view, self.count
        inner, mobile_at, find = self.inner, self.mobile_at, self.tunnels.mobiles.get
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
            if buffer[ROOM] >> 4 != 4:  # what the kernel sends by IPv6
                count["unknown"] += 1
                continue
            if paths is None:
                self.discard("unknown", view[ROOM : ROOM + length])
                continue
            if not buffer[ROOM + 8]:  # RFC 2003 §3.1: never a datagram whose TTL is 0
                self.discard("ttl", view[ROOM : ROOM + length])
                continue
            for way in paths:
                if addresses[0] == way.remote:  # RFC 2003 §3.2, RFC 5944 §4.2.3
                    self.discard("loop", view[ROOM : ROOM + length])
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
                self.discard(error.reason, view[:length])
                continue
            source, address = sender(view), mobile(datagram)[0]
            multicast = address >> 28 == MULTICAST >> 28
            if (source, MULTICAST if multicast else address) not in accepted:
                origin = SOURCE(datagram)[0]
                if (source, origin) in endpoint.delivered:
                    self.relay(self.tunnels.mobiles[origin], bytes(datagram))
                else:  # RFC 3024 §4.3.2, RFC 5944 §4.2.2: silently
                    self.discard("refused", view[:length])
                continue
            if not datagram[8]:
                self.discard("ttl", view[:length])
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

    def relay(self, paths: tuple[Path, ...], datagram: bytes) -> None:
        """Send on what the mobile node itself has tunnelled to us (RFC 3024 §5.2)."""
        self.count["decapsulated"] += 1
        self.count["decapsulated-bytes"] += len(datagram)
        try:
            datagram = forwarded(datagram)
        except WireError as error:
            self.discard(error.reason, datagram)
            if error.reason == "ttl":  # RFC 2003 §3.1
                self.send_icmp(datagram, TIME_EXCEEDED, 0)
            return
        self.dispatch(paths, datagram)

    def dispatch(self, paths: Iterable[Path], datagram: bytes) -> None:
        """Send a datagram that did not come from the device into tunnels."""
        length = len(datagram)
        self.view[ROOM : ROOM + length] = datagram
        for way in paths:
            path = way.fallback if way.fallback is not None and is_fragment(self.buffer, ROOM) else way
            if length > path.mtu and not path.fits(length):
                self.too_big(length, path)
                continue
            try:
                path.socket.sendto(path.encode(self.view, ROOM, length), path.address)
            except OSError as error:
                if not self.send_failed(error, length, path):
                    continue
            self.count["encapsulated"] += 1
            self.count["encapsulated-bytes"] += length

    # -- what goes wrong on the way ----------------------------------------------------------------------

    def discard(self, reason: str, packet: memoryview | bytes) -> None:
        """Count a packet that is discarded silently, and keep a trace of it (RFC 5944 §1.7)."""
        self.count[reason] += 1
        self.traces.note(reason, packet)

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
            self.send_icmp(bytes(self.view[ROOM : ROOM + length]), UNREACHABLE, TOO_BIG, path.mtu)
            return
        if path.fallback is not None:
            path.fallback.learn(path.mtu + path.fallback.overhead)
            path = path.fallback
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
        mtu = path.mtu if relayed == TOO_BIG else 0
        self.send_icmp(bytes(datagram), UNREACHABLE, relayed, mtu)

    def send_icmp(self, datagram: bytes, kind: int, code: int, mtu: int = 0) -> None:
        """Send an ICMP error to the sender of `datagram`, where there may be one."""
        if (message := icmp.error(datagram, kind, code, mtu)) is None:
            return
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
        """`set` a tunnel, `remove` the one of a mobile node, or report the `counters` and `discarded`.

        `{"set": mobile, "local": …, "ends": […], "broadcasts": […], "former": […], "delivery": end or null}`,
        as in `api.Tunnel`, where an end is
        `{"address": …, "encapsulations": […], "local_port": …, "remote_port": …}`, and a former one has
        its own "local", too;
        `{"remove": mobile}`; `{"counters": true}`; `{"skip": [address, …]}`;
        `{"send": mobile, "remotes": […], "datagram": hexadecimal}`.
        """
        if "set" in request:
            self.tunnels.set(request["set"], request)
        elif "remove" in request:
            self.finish()
            self.tunnels.remove(request["remove"])
        elif "skip" in request:
            self.tunnels.skip(request["skip"])
        elif "send" in request:
            ways = self.tunnels.mobiles.get(number(request["send"]), ())
            named = [way for way in ways if way.address[0] in request["remotes"]]
            self.dispatch(named, bytes.fromhex(request["datagram"]))
        else:
            reply["discarded"], more = self.traces.take()
            self.count["discards-not-reported"] += more
            reply["counters"] = self.count

    def finish(self) -> None:
        """Move what has come so far: packets go another way now, and this would be lost with their tunnel."""
        for _ in range(LAST_BURSTS):
            endpoints = tuple(self.tunnels.by_fd.values())
            if not any([self.encapsulate(), *map(self.decapsulate, endpoints)]):
                break


def main(arguments: list[str]) -> None:
    """Serve the descriptors and the side named by `arguments`."""
    tun, control, side = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then closes the socket
    gc.disable()  # nothing here makes garbage in cycles while datagrams pass
    Worker(int(tun), socket.socket(fileno=int(control)), side == "home").run()


if __name__ == "__main__":
    main(sys.argv[1:])
