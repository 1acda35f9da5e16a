"""The process behind the `tun` data plane: a TUN device on one side, raw sockets on the other.

`tun.TunPlane` starts it, as `python -S -P -m testbed.mobileip.tunnel.worker TUN-FD CONTROL-FD home|visited`.
It imports little, so that it is small, and shares its interpreter with no other work. It ends when the
control socket closes. Datagrams are handled in place, in bursts, at one unpack and one look-up each.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from testbed.mobileip.tunnel.endpoint import Endpoint, Path, number
from testbed.mobileip.tunnel.failures import Failures
from testbed.mobileip.tunnel.icmp import TIME_EXCEEDED
from testbed.mobileip.tunnel.merging import Frames, Merger, header_end, takes
from testbed.mobileip.tunnel.requests import Requests
from testbed.mobileip.tunnel.superpackets import Superpackets
from testbed.mobileip.tunnel.tunnels import Tunnels
from testbed.mobileip.wire.encapsulation import ROOM, header_size
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.forwarding import forwarded
from testbed.mobileip.wire.minimal import is_fragment
from testbed.mobileip.wire.offload import (
    DEVICE_HEADER,
    FINISHED,
    NEEDS_CHECKSUM,
    device_header,
    segments,
    unfinished,
)

BURST = 64
LEFT_AT = ROOM - DEVICE_HEADER.size
"""Where the device says in the buffer what of a datagram is left to do, with `NEEDS_CHECKSUM` in a byte."""
LAST_BURSTS = 16
SOURCE = struct.Struct("!12xI").unpack_from
MULTICAST = 0xE0000000
"""224.0.0.0, which stands for every group where destinations are listed."""

COUNTERS = (
    "encapsulated", "encapsulated-bytes", "decapsulated", "decapsulated-bytes", "unknown", "refused",
    "malformed", "ttl", "loop", "too-big", "fragmented", "relayed-errors", "failed", "discards-not-reported",
)  # fmt: skip


class Worker:
    """Moves datagrams between the TUN device `tun` and the tunnels that are asked for at `control`."""

    def __init__(
        self, tun: int, control: socket.socket, home_side: bool, merger: Merger | None = None
    ) -> None:
        self.tun = tun
        self.count = dict.fromkeys(COUNTERS, 0)
        # What goes in lies in the buffer behind room for outer headers: inner source, inner destination.
        self.inner = struct.Struct(f"!{ROOM + 12}xII").unpack_from
        self.mobile_at = 1 if home_side else 0
        # What comes out: the inner address that must be the mobile node's.
        self.mobile = struct.Struct("!12xI" if home_side else "!16xI").unpack_from
        self.buffer = bytearray(ROOM + 0x10000)
        self.view = memoryview(self.buffer)
        self.failures = Failures(self.buffer, self.count)
        # A whole home network may be routed here, but of a visited one only who has a tunnel.
        silently = partial(self.failures.discard, "unknown")
        self.without_tunnel = self.failures.unreachable if home_side else silently
        self.epoll = select.epoll()
        self.epoll.register(tun, select.EPOLLIN)
        self.epoll.register(control.fileno(), select.EPOLLIN)
        self.tunnels = Tunnels(self.epoll)
        self.superpackets = Superpackets()
        self.merger = merger
        self.requests = Requests(control, self.obey)

    def run(self) -> None:
        """Serve until the control socket closes."""
        control = self.requests.fileno()
        while True:
            for fd, events in self.epoll.poll():
                if fd == self.tun:
                    self.encapsulate()
                elif fd == control:
                    if not self.requests.take():
                        return
                elif endpoint := self.tunnels.by_fd.get(fd):
                    if events & select.EPOLLERR:
                        self.failures.read_errors(endpoint)
                    self.decapsulate(endpoint)

    # -- datagrams ---------------------------------------------------------------------------------------

    def encapsulate(self) -> bool:
        """Send a burst of datagrams from the device into their tunnels; returns whether there may be more."""
        buffer, view, count = self.buffer, self.view, self.count
        inner, mobile_at, find = self.inner, self.mobile_at, self.tunnels.mobiles.get
        # The device's header of each datagram is where outer headers will be.
        tun, into = self.tun, (view[LEFT_AT:],)
        send, discard, readv = self.send, self.failures.discard, os.readv
        packets = size = 0
        more = False
        for _ in range(BURST):
            try:
                length = readv(tun, into) - DEVICE_HEADER.size
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
                if self.requests.catch_up(view[: ROOM + length]):
                    paths = find(addresses[mobile_at])
                if paths is None:
                    self.without_tunnel(view[ROOM : ROOM + length])
                    continue
            if not buffer[ROOM + 8]:  # RFC 2003 §3.1: never a datagram whose TTL is 0
                discard("ttl", view[ROOM : ROOM + length])
                continue
            if buffer[LEFT_AT] & NEEDS_CHECKSUM:  # other flags say that nothing is left
                sent, bytes_sent = self.send_unfinished(paths, length, addresses[0])
                packets += sent
                size += bytes_sent
                continue
            sent = send(paths, length, addresses[0])
            packets += sent
            size += sent * length
        else:
            more = True
        count["encapsulated"] += packets
        count["encapsulated-bytes"] += size
        return more

    def decapsulate(self, endpoint: Endpoint) -> bool:
        """Take a burst that arrived at `endpoint` out of its tunnels; returns whether there may be more."""
        view, count, sender, mobile = self.view, self.count, endpoint.sender, self.mobile
        receive, decode, accepted = endpoint.socket.recv_into, endpoint.carrier.decode, endpoint.accepted
        delivered = endpoint.delivered
        tun, write = self.tun, os.writev
        packets = size = 0
        more = False
        for _ in range(BURST):
            try:
                length = receive(view)
            except BlockingIOError:
                break
            except OSError:  # what an ICMP message said about an earlier packet
                self.failures.read_errors(endpoint)
                continue
            try:
                datagram = decode(view[:length])
            except WireError as error:
                self.failures.discard(error.reason, view[:length])
                continue
            source, address = sender(view), mobile(datagram)[0]
            multicast = address >> 28 == MULTICAST >> 28
            pair = source, MULTICAST if multicast else address
            if pair not in accepted:
                tunnelled = source, SOURCE(datagram)[0]
                if tunnelled not in delivered:
                    self.requests.catch_up(view[:length])
                if tunnelled in delivered:
                    for each in self.whole(bytes(datagram)):
                        self.relay(self.tunnels.mobiles[tunnelled[1]], each)
                    continue
                if pair not in accepted:  # RFC 3024 §4.3.2, RFC 5944 §4.2.2: silently
                    self.failures.discard("refused", view[:length])
                    continue
            if not datagram[8]:
                self.failures.discard("ttl", view[:length])
                continue
            start = unfinished(datagram)
            try:
                if start:
                    self.write_unfinished(datagram, start)
                else:
                    write(tun, (FINISHED, datagram))
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

    def write_unfinished(self, datagram: memoryview | bytes, start: int) -> None:
        """Write a datagram, perhaps a superpacket, whose checksum the device has to finish; raises OSError.

        A superpacket in a further tunnel is cut: the device takes no such thing.
        """
        size = self.superpackets.size(datagram, start)
        if size is None:
            raise OSError("the size of the segments is not known")
        if not size or start == header_size(datagram):
            os.writev(self.tun, (device_header(datagram, start, size), datagram))
            return
        for segment in segments(bytes(datagram), start, size):
            os.writev(self.tun, (FINISHED, segment))

    def whole(self, datagram: bytes) -> Iterable[bytes]:
        """What a raw socket can send on of a datagram that has come out of a tunnel."""
        start = unfinished(datagram)
        if not start:
            return (datagram,)
        size = self.superpackets.size(datagram, start)
        return () if size is None else segments(datagram, start, size)

    def relay(self, paths: tuple[Path, ...], datagram: bytes) -> None:
        """Send on what the mobile node itself has tunnelled to us (RFC 3024 §5.2)."""
        self.count["decapsulated"] += 1
        self.count["decapsulated-bytes"] += len(datagram)
        try:
            datagram = forwarded(datagram)
        except WireError as error:
            self.failures.discard(error.reason, datagram)
            if error.reason == "ttl":  # RFC 2003 §3.1
                self.failures.send_icmp(datagram, TIME_EXCEEDED, 0)
            return
        self.dispatch(paths, datagram)

    def dispatch(self, paths: Iterable[Path], datagram: bytes) -> None:
        """Send a datagram that did not come from the device into tunnels."""
        length = len(datagram)
        self.view[ROOM : ROOM + length] = datagram
        sent = self.send(paths, length, None)
        self.count["encapsulated"] += sent
        self.count["encapsulated-bytes"] += sent * length

    def send(self, paths: Iterable[Path], length: int, source: int | None) -> int:
        """Send the datagram in the buffer into tunnels; returns into how many.

        A datagram from `source` does not go into a tunnel to that (RFC 2003 §3.2, RFC 5944 §4.2.3).
        """
        sent, view, failures = 0, self.view, self.failures
        for way in paths:
            if way.remote == source:
                failures.discard("loop", view[ROOM : ROOM + length])
                continue
            path = way.fallback if way.fallback is not None and is_fragment(self.buffer, ROOM) else way
            if length > path.mtu and not path.fits(length):
                failures.too_big(length, path)
                continue
            try:
                path.socket.sendto(path.encode(view, ROOM, length), path.address)
            except OSError as error:
                if not failures.send_failed(error, length, path):
                    continue
            sent += 1
        return sent

    def send_unfinished(self, paths: Iterable[Path], length: int, source: int) -> tuple[int, int]:
        """Send what its sender has left to finish, perhaps a superpacket; returns how many packets and bytes.

        It lies in the buffer, and the device's header in front of it.
        """
        _, _, _, size, start, _ = DEVICE_HEADER.unpack_from(self.buffer, LEFT_AT)
        datagram = self.view[ROOM : ROOM + length]
        whole = self.merger is not None and takes(datagram, start)
        packets = sent = 0
        others = []
        for path in paths:
            if whole and path.on_ip and path.remote != source:
                count = self.send_segments(path, datagram, start, size)
                packets += count
                sent += count and length + (count - 1) * header_end(datagram, start)
            else:
                others.append(path)
        for segment in segments(bytes(datagram), start, size) if others else ():
            self.view[ROOM : ROOM + len(segment)] = segment
            count = self.send(others, len(segment), source)
            packets += count
            sent += count * len(segment)
        return packets, sent

    def send_segments(self, path: Path, datagram: memoryview, start: int, size: int) -> int:
        """Send a TCP superpacket into a tunnel, or a single segment; returns how many segments.

        `size` is that of the segments' data; 0 is no superpacket.
        """
        assert self.merger is not None
        end = header_end(datagram, start)
        size = size or max(len(datagram) - end, 1)
        if end + size > path.mtu and not path.fits(end + size):
            self.failures.too_big(len(datagram), path)
            return 0
        headers = path.encode(self.view, ROOM, end)
        try:
            return self.merger.send(headers, len(headers) - end + start, datagram[end:], size)
        except OSError:
            self.count["failed"] += 1
            return 0

    # -- requests ----------------------------------------------------------------------------------------

    def obey(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        """`set` tunnels, `remove` the one of a mobile node, or report the `counters` and `discarded`.

        `{"set": [mobile, …], "local": …, "ends": […], "broadcasts": […], "former": […], "delivery": …}`, as
        in `api.Tunnel` but of several mobile nodes, where an end is
        `{"address": …, "encapsulations": […], "local_port": …, "remote_port": …}`, and a former one has
        its own "local", too;
        `{"remove": mobile}`; `{"counters": true}`; `{"skip": [address, …]}`;
        `{"share": {encapsulation: filter}}`; `{"send": mobile, "remotes": […], "datagram": hexadecimal}`.
        """
        if "set" in request:
            self.tunnels.set(request["set"], request)
        elif "remove" in request:
            self.finish()
            self.tunnels.remove(request["remove"])
        elif "skip" in request:
            self.tunnels.skip(request["skip"])
        elif "share" in request:
            self.tunnels.share = request["share"]
        elif "send" in request:
            ways = self.tunnels.mobiles.get(number(request["send"]), ())
            named = [way for way in ways if way.address[0] in request["remotes"]]
            self.dispatch(named, bytes.fromhex(request["datagram"]))
        else:
            reply["discarded"] = self.failures.take()
            reply["counters"] = self.count

    def finish(self) -> None:
        """Move what has come so far: packets go another way now, and this would be lost with their tunnel."""
        for _ in range(LAST_BURSTS):
            endpoints = tuple(self.tunnels.by_fd.values())
            if not any([self.encapsulate(), *map(self.decapsulate, endpoints)]):
                break


def main(arguments: list[str]) -> None:
    """Serve the descriptors and the side named by `arguments`, and the `Frames` of a `Merger`."""
    tun, control, side, *more = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then closes the socket
    gc.disable()  # nothing here makes garbage in cycles while datagrams pass
    merger = Merger(Frames(int(more[0]), bytes.fromhex(more[1]))) if more else None
    Worker(int(tun), socket.socket(fileno=int(control)), side == "home", merger).run()


if __name__ == "__main__":
    main(sys.argv[1:])
