"""The tunnels of the tunnel process: which way datagrams go, and from whom which are taken."""

from __future__ import annotations

import select
from typing import Any

from testbed.mobileip.io.bpf import Instruction
from testbed.mobileip.tunnel.endpoint import Endpoint, Local, Path, number

Pair = tuple[int, int]
"""What `Endpoint.sender` says of a packet, and an inner address."""


class Tunnels:
    """Tunnels by mobile node, and the sockets of their local addresses, which `epoll` watches."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._skipped: list[str] = []
        self.share: dict[str, list[Instruction]] | None = None
        """Filters of what is for this process, by encapsulation; None: there is no other."""
        self._additions: dict[int, tuple[list[str], list[tuple[set[Pair], Pair]]]] = {}
        # Of each mobile node the local addresses, and what it added to which sets of their endpoints.
        self.locals: dict[str, Local] = {}
        self.by_fd: dict[int, Endpoint] = {}
        """The endpoints by their sockets."""
        self.mobiles: dict[int, tuple[Path, ...]] = {}
        """Where the datagrams of each mobile node go."""

    def set(self, mobile: str, tunnel: dict[str, Any]) -> None:
        """Set up or replace a tunnel; without `ends` take it down."""
        local, ends, former = tunnel["local"], tunnel["ends"], tunnel.get("former", [])
        if not ends:
            self.remove(mobile)
            return
        delivery = [tunnel["delivery"]] if tunnel.get("delivery") else []
        users = [local, *(end["local"] for end in former), *(end["address"] for end in delivery)]
        places = {address: self._enter(address, ends[0]["local_port"]) for address in dict.fromkeys(users)}
        paths = tuple(places[local].path(end, end["encapsulations"][0]) for end in ends)
        additions = []
        for end in (*ends, *former):
            for name in end["encapsulations"]:
                endpoint = places[end.get("local", local)].endpoint(name)
                sender = endpoint.expected(endpoint.key(end, name))
                for address in (mobile, *tunnel["broadcasts"]):
                    additions.append((endpoint.accepted, (sender, number(address))))
        for end in delivery:
            for name in end["encapsulations"]:
                endpoint = places[end["address"]].endpoint(name)
                additions.append((endpoint.delivered, (number(mobile), number(mobile))))
        self.remove(mobile)
        self.mobiles[number(mobile)] = paths
        self._additions[number(mobile)] = [*places], additions
        for known, pair in additions:
            known.add(pair)

    def _enter(self, local: str, port: int) -> Local:
        """The endpoints of a local address, with one user more; `port` is ours of tunnels in UDP."""
        here = self.locals.get(local) or self._open(local, port)
        here.users += 1
        return here

    def skip(self, sources: list[str]) -> None:
        """Leave what comes from these tunnel ends to the kernel."""
        self._skipped = sources
        for here in self.locals.values():
            here.skip(sources)

    def _open(self, local: str, port: int) -> Local:
        """Open the endpoints of a local address."""
        here = self.locals[local] = Local(local, port, self.share)
        if self._skipped:
            here.skip(self._skipped)
        for endpoint in here.endpoints.values():
            self.by_fd[endpoint.socket.fileno()] = endpoint
            self._epoll.register(endpoint.socket.fileno(), select.EPOLLIN | select.EPOLLERR)
        return here

    def remove(self, mobile: str) -> None:
        """Take a tunnel down, and with the last one its endpoints."""
        paths = self.mobiles.pop(number(mobile), None)
        if paths is None:
            return
        users, additions = self._additions.pop(number(mobile))
        for known, pair in additions:
            known.discard(pair)
        for path in paths:
            self.locals[users[0]].release(path)
        for local in users:
            self._leave(local)

    def _leave(self, local: str) -> None:
        """Close the endpoints of a local address with their last user."""
        here = self.locals[local]
        here.users -= 1
        if not here.users:
            del self.locals[local]
            for endpoint in here.endpoints.values():
                del self.by_fd[endpoint.socket.fileno()]
                self._epoll.unregister(endpoint.socket.fileno())
                endpoint.close()
