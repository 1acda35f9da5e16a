"""Many mobile nodes in one process, each a `MobileNode` of its own, with co-located care-of addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from random import Random, SystemRandom

from testbed.mobileip.core.api import Clock, Datagram, Effect, ReportEvent, SendDatagram
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseNothing
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire import registration_reply

AT_ONCE = 64
"""Nodes that do what is due before replies are looked at again."""
_REPLY = bytes((registration_reply.TYPE,))


class Crowd:
    """Mobile nodes by home address; node number n has the care-of address number n of each network."""

    def __init__(
        self,
        configs: Iterable[MobileNodeConfig],
        networks: Mapping[str, IPv4Network],
        clock: Clock,
        rng: Random | None = None,
    ) -> None:
        """`networks` are the prefixes of care-of addresses by name.

        Raises ValueError for a mobile node without a home address, and for a prefix with too few addresses.
        """
        rng = rng or SystemRandom()
        self.nodes: dict[IPv4Address, MobileNode] = {}
        self.tunnels: dict[IPv4Address, UseCoLocated] = {}
        """The tunnel of each node that is registered, by home address."""
        self.places: dict[IPv4Address, str] = {}
        """The network of each node that is attached, by home address."""
        self.networks = networks
        self.events: Counter[str] = Counter()
        self._numbers: dict[IPv4Address, int] = {}
        self._out: list[SendDatagram] = []
        self._due: Timers[IPv4Address] = Timers()
        self._moves: Timers[IPv4Address] = Timers()
        self._ways: dict[IPv4Address, str] = {}  # where those go that `_moves` has
        for number, config in enumerate(configs):
            if config.home_address is None:
                raise ValueError("every mobile node of a crowd needs a home address")
            self._numbers[config.home_address] = number
            self.nodes[config.home_address] = MobileNode(config, clock, rng)
        for name, prefix in networks.items():
            if prefix.num_addresses <= len(self.nodes):
                raise ValueError(f"{name}: {prefix} has no care-of addresses for {len(self.nodes)} nodes")

    def move(self, homes: Collection[IPv4Address], network: str, within: float, now: float) -> None:
        """Have nodes attach to a network, evenly `within` so many seconds.

        Raises ValueError for a network or a node that there is not.
        """
        if network not in self.networks:
            raise ValueError(f"unknown network {network!r}; expected one of {', '.join(self.networks)}")
        if unknown := next((home for home in homes if home not in self.nodes), None):
            raise ValueError(f"no mobile node has the home address {unknown}")
        for rank, home in enumerate(homes):
            self._ways[home] = network
            self._moves.set(home, now + within * rank / len(homes))

    def receive(self, datagram: Datagram, now: float) -> None:
        """Hand a reply to the node whose home address it has."""
        payload = datagram.payload
        home = IPv4Address(payload[4:8]) if payload[:1] == _REPLY and len(payload) >= 8 else None
        node = self.nodes.get(home) if home is not None else None
        if home is None or node is None:
            self.events["discarded"] += 1
            return
        node.receive(datagram, now)
        self._after(home, node, now)

    def tick(self, now: float) -> None:
        """Repeat, renew and attach what is due, `AT_ONCE` nodes at most; the others are due still.

        Those that wait for a reply come first: on a busy machine nodes rather attach late than ask again
        although their replies are there.
        """
        due = self._due.pop_due(now, AT_ONCE)
        for home in due:
            node = self.nodes[home]
            node.tick(now)
            self._after(home, node, now)
        for home in self._moves.pop_due(now, AT_ONCE - len(due)):
            node, network = self.nodes[home], self._ways.pop(home)
            care_of = self.networks[network][self._numbers[home] + 1]
            self.places[home] = network
            node.attach(network, care_of, now)
            self._after(home, node, now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        due = [each for each in (self._moves.next(), self._due.next()) if each is not None]
        return min(due, default=None)

    def effects(self) -> list[SendDatagram]:
        """Drain what is to be sent."""
        out, self._out = self._out, []
        return out

    def registered(self, network: str | None = None) -> int:
        """How many nodes are registered where they are; with `network` only those there."""
        here = self.tunnels.values() if network is None else [
            each for each in self.tunnels.values() if each.interface == network
        ]  # fmt: skip
        return len(here)

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture of all together."""
        counters: Counter[str] = Counter()
        for node in self.nodes.values():
            counters.update(node.counters)
        attached = Counter(self.places.values())
        return {
            "role": "bulk-nodes",
            "nodes": len(self.nodes),
            "registered": self.registered(),
            "moving": len(self._moves),
            "networks": {
                name: {"attached": attached[name], "registered": self.registered(name)}
                for name in self.networks
            },
            "counters": dict(sorted(counters.items())),
            "events": dict(sorted(self.events.items())),
        }

    def picture(self, home: IPv4Address, now: float) -> dict[str, object]:
        """What one node reports of itself; raises ValueError where there is none."""
        node = self.nodes.get(home)
        if node is None:
            raise ValueError(f"no mobile node has the home address {home}")
        return node.state(now)

    def _after(self, home: IPv4Address, node: MobileNode, now: float) -> None:
        for effect in node.effects():
            self._take(home, node, effect, now)
        if (due := node.deadline()) is None:
            self._due.cancel(home)
        else:
            self._due.set(home, due)

    def _take(self, home: IPv4Address, node: MobileNode, effect: Effect, now: float) -> None:
        if isinstance(effect, SendDatagram):
            self._out.append(effect)
            node.departed(now)
        elif isinstance(effect, UseCoLocated):
            self.tunnels[home] = effect
        elif isinstance(effect, UseNothing):
            self.tunnels.pop(home, None)
        elif isinstance(effect, ReportEvent):
            self.events[effect.name] += 1
