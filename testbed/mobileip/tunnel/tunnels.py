"""The tunnels of the tunnel process: which way datagrams go, and from whom which are taken."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any, NamedTuple

from testbed.mobileip.io.bpf import Instruction
from testbed.mobileip.tunnel.endpoint import Endpoint, Local, Path, number

Pair = tuple[int, int]
"""What `Endpoint.sender` says of a packet, and an inner address."""


class _Ends(NamedTuple):
    """What tunnels have in common that differ in the mobile node alone."""

    locals: tuple[Local, ...]
    paths: tuple[Path, ...]
    accepted: tuple[tuple[set[Pair], int], ...]
    """Where what comes out is listed, and as whose."""
    delivered: tuple[set[Pair], ...]
    further: tuple[int, ...]
    """Destinations beside the mobile node that what comes out may have."""

    def pairs(self, mobile: int) -> Iterable[tuple[set[Pair], Pair]]:
        """What is listed of a mobile node, and where."""
        for known, sender in self.accepted:
            yield known, (sender, mobile)
            for address in self.further:
                yield known, (sender, address)
        for known in self.delivered:
            yield known, (mobile, mobile)


class Tunnels:
    """Tunnels by mobile node, and the sockets of their local addresses, which `epoll` watches."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._skipped: list[str] = []
        self.share: dict[str, list[Instruction]] | None = None
        """Filters of what is for this process, by encapsulation; None: there is no other."""
        self._ends: dict[int, _Ends] = {}
        self.locals: dict[str, Local] = {}
        self.by_fd: dict[int, Endpoint] = {}
        """The endpoints by their sockets."""
        self.mobiles: dict[int, tuple[Path, ...]] = {}
        """Where the datagrams of each mobile node go."""

    def set(self, mobiles: list[str], tunnel: dict[str, Any]) -> None:
        """Set up or replace tunnels of mobile nodes, alike in all else; without `ends` take them down.

        Raises OSError where a local address cannot be used; then nothing has changed.
        """
        if not tunnel["ends"]:
            for each in mobiles:
                self.remove(each)
            return
        ends = self._open_ends(tunnel)
        for each in mobiles:
            mobile = number(each)
            before = self._ends.pop(mobile, None)
            for local in ends.locals:
                local.users += 1
            for path in ends.paths:
                path.hold()
            if before is not None:
                self._take_down(mobile, before)
            self._ends[mobile], self.mobiles[mobile] = ends, ends.paths
            for known, pair in ends.pairs(mobile):
                known.add(pair)

    def _open_ends(self, tunnel: dict[str, Any]) -> _Ends:
        local, ends, former = tunnel["local"], tunnel["ends"], tunnel.get("former", [])
        delivery = [tunnel["delivery"]] if tunnel.get("delivery") else []
        addresses = [local, *(end["local"] for end in former), *(end["address"] for end in delivery)]
        places: dict[str, Local] = {}
        try:
            for address in dict.fromkeys(addresses):
                places[address] = self.locals.get(address) or self._open(address, ends[0]["local_port"])
        except OSError:
            for place in places.values():
                self._close_unused(place)
            raise
        accepted = []
        for end in (*ends, *former):
            for name in end["encapsulations"]:
                endpoint = places[end.get("local", local)].endpoint(name)
                accepted.append((endpoint.accepted, endpoint.expected(endpoint.key(end, name))))
        delivered = [
            places[end["address"]].endpoint(name).delivered
            for end in delivery
            for name in end["encapsulations"]
        ]
        return _Ends(
            tuple(places.values()),
            tuple(places[local].path(end, end["encapsulations"][0]) for end in ends),
            tuple(accepted),
            tuple(delivered),
            tuple(map(number, tunnel["broadcasts"])),
        )

    def skip(self, sources: list[str]) -> None:
        """Leave what comes from these tunnel ends to the kernel."""
        self._skipped = sources
        for here in self.locals.values():
            here.skip(sources)

    def _open(self, local: str, port: int) -> Local:
        """Open the endpoints of a local address; `port` is ours of tunnels in UDP."""
        here = self.locals[local] = Local(local, port, self.share)
        if self._skipped:
            here.skip(self._skipped)
        for endpoint in here.endpoints.values():
            self.by_fd[endpoint.socket.fileno()] = endpoint
            self._epoll.register(endpoint.socket.fileno(), select.EPOLLIN | select.EPOLLERR)
        return here

    def remove(self, mobile: str) -> None:
        """Take a tunnel down, and with the last one its endpoints."""
        which = number(mobile)
        if self.mobiles.pop(which, None) is not None:
            self._take_down(which, self._ends.pop(which))

    def _take_down(self, mobile: int, ends: _Ends) -> None:
        for known, pair in ends.pairs(mobile):
            known.discard(pair)
        for path in ends.paths:
            path.release()
        for here in ends.locals:
            here.users -= 1
            self._close_unused(here)

    def _close_unused(self, here: Local) -> None:
        """Close the endpoints of a local address without users."""
        if not here.users:
            del self.locals[here.address]
            for endpoint in here.endpoints.values():
                del self.by_fd[endpoint.socket.fileno()]
                self._epoll.unregister(endpoint.socket.fileno())
                endpoint.close()
