"""Many mobile nodes in one process, each a `MobileNode` of its own, with co-located care-of addresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


class Move:
    """Nodes that are to attach to a network, and how far that is."""

    def __init__(self, network: str, numbers: range) -> None:
        self.network = network
        self.numbers = numbers
        """Which nodes of the crowd."""
        self.waiting = set(numbers)
        """The nodes that are still to register there."""
        self.diverted = 0
        """How many nodes a later move has sent elsewhere before they registered there."""
        self.requests = 0
        """Registration requests of these nodes since they attached, repeated ones as well."""
        self.replies = 0
        """Datagrams that came for them as replies."""

    @property
    def arrived(self) -> int:
        """How many nodes have registered there, wherever they are now."""
        return len(self.numbers) - len(self.waiting) - self.diverted

    def divert(self, number: int) -> None:
        """A later move sends a node elsewhere."""
        if number in self.waiting:
            self.waiting.remove(number)
            self.diverted += 1


@dataclass(slots=True, eq=False)
class Member:
    """A mobile node of a crowd."""

    number: int
    """Its place in the crowd; node number n has the care-of address number n + 1 of each network's prefix."""
    home: IPv4Address
    node: MobileNode
    network: str | None = None
    """Where it is attached."""
    tunnel: UseCoLocated | None = None
    """Its tunnel while it is registered."""
    move: Move | None = None
    """The move that brought it there."""


class Crowd:
    """Mobile nodes in the order of their configurations."""

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
        self.networks = networks
        self.members: list[Member] = []
        self.events: Counter[str] = Counter()
        # By numbers: the hash of an address takes longer than all else that is done for a key.
        self._by_home: dict[int, Member] = {}
        self._due: Timers[int] = Timers()
        self._departures: Timers[int] = Timers()
        self._moves: dict[int, Move] = {}  # of those who are to depart
        self._out: list[SendDatagram] = []
        for number, config in enumerate(configs):
            if config.home_address is None:
                raise ValueError("every mobile node of a crowd needs a home address")
            member = Member(number, config.home_address, MobileNode(config, clock, rng))
            self.members.append(member)
            self._by_home[int(member.home)] = member
        for name, prefix in networks.items():
            if prefix.num_addresses <= len(self.members):
                raise ValueError(f"{name}: {prefix} has no care-of addresses for {len(self.members)} nodes")

    def at(self, home: bytes) -> Member | None:
        """The node with a home address, in network byte order."""
        return self._by_home.get(int.from_bytes(home, "big"))

    def member(self, home: IPv4Address) -> Member:
        """The node with a home address; raises ValueError where there is none."""
        if (found := self.at(home.packed)) is None:
            ours = " to ".join(self.homes())
            raise ValueError(f"no mobile node has the home address {home}; they have {ours}")
        return found

    def homes(self, numbers: range | None = None) -> list[str]:
        """The home addresses of the first and the last of these nodes, by default of all."""
        numbers = numbers or range(len(self.members))
        return [str(self.members[each].home) for each in (numbers[0], numbers[-1])]

    def move(self, numbers: range, network: str, within: float, now: float) -> Move:
        """Have nodes attach to a network, evenly `within` so many seconds.

        A node that was to go elsewhere does not. Raises ValueError for an unknown network.
        """
        self.check_network(network)
        move = Move(network, numbers)
        for rank, number in enumerate(numbers):
            if (other := self._moves.get(number)) is not None:
                other.divert(number)
            self._moves[number] = move
            self._departures.set(number, now + within * rank / len(numbers))
        return move

    def check_network(self, name: str) -> None:
        """Raise ValueError for an unknown network."""
        if name not in self.networks:
            raise ValueError(f"unknown network {name!r}; expected one of {', '.join(self.networks)}")

    def receive(self, datagram: Datagram, now: float) -> None:
        """Hand a reply to the node whose home address it has."""
        payload = datagram.payload
        member = self.at(payload[4:8]) if payload[:1] == _REPLY and len(payload) >= 8 else None
        if member is None:
            self.events["discarded"] += 1
            return
        if member.move is not None:
            member.move.replies += 1
        member.node.receive(datagram, now)
        self._after(member, now)

    def tick(self, now: float) -> None:
        """Repeat, renew and attach what is due, `AT_ONCE` nodes at most; the others are due still.

        Those that wait for a reply come first: on a busy machine nodes rather attach late than ask again
        although their replies are there.
        """
        due = self._due.pop_due(now, AT_ONCE)
        for number in due:
            member = self.members[number]
            member.node.tick(now)
            self._after(member, now)
        for number in self._departures.pop_due(now, AT_ONCE - len(due)):
            self._attach(self.members[number], self._moves.pop(number), now)

    def _attach(self, member: Member, move: Move, now: float) -> None:
        if member.move is not None:
            member.move.divert(member.number)
        member.move, member.network = move, move.network
        member.node.attach(move.network, self.networks[move.network][member.number + 1], now)
        self._after(member, now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        due = [each for each in (self._departures.next(), self._due.next()) if each is not None]
        return min(due, default=None)

    def effects(self) -> list[SendDatagram]:
        """Drain what is to be sent."""
        out, self._out = self._out, []
        return out

    def registered(self, network: str | None = None) -> int:
        """How many nodes are registered; with `network` only those there."""
        tunnels = [each.tunnel for each in self.members if each.tunnel is not None]
        return sum(network in (None, tunnel.interface) for tunnel in tunnels)

    def state(self) -> dict[str, object]:
        """A JSON-serialisable picture of all together."""
        counters: Counter[str] = Counter()
        for member in self.members:
            counters.update(member.node.counters)
        attached = Counter(member.network for member in self.members)
        return {
            "role": "bulk-nodes",
            "nodes": len(self.members),
            "homes": self.homes(),
            "registered": self.registered(),
            "moving": len(self._moves),
            "networks": {
                name: {"attached": attached[name], "registered": self.registered(name)}
                for name in self.networks
            },
            "counters": dict(sorted(counters.items())),
            "events": dict(sorted(self.events.items())),
        }

    def _after(self, member: Member, now: float) -> None:
        for effect in member.node.effects():
            self._take(member, effect, now)
        if (due := member.node.deadline()) is None:
            self._due.cancel(member.number)
        else:
            self._due.set(member.number, due)

    def _take(self, member: Member, effect: Effect, now: float) -> None:
        if isinstance(effect, SendDatagram):
            self._out.append(effect)
            if member.move is not None:
                member.move.requests += 1
            member.node.departed(now)
        elif isinstance(effect, UseCoLocated):
            member.tunnel = effect
            if member.move is not None:
                member.move.waiting.discard(member.number)
        elif isinstance(effect, UseNothing):
            member.tunnel = None
        elif isinstance(effect, ReportEvent):
            self.events[effect.name] += 1
