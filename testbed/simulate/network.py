"""Home agents, foreign agents and mobile nodes on one network in virtual time.

A discrete-event simulator of the cores of testbed.mobileip, without sockets and without a clock: what a core
sends arrives later, twice or never, and what is due is done when it is due. A simulated day costs what its
messages cost, however many nodes sleep in between.

A daemon can be killed between any two of its effects. Its successor has what was asked to remember, as JSON,
and nothing else. What is in flight then arrives at the successor.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from math import inf
from random import Random
from typing import Protocol

from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Core,
    Datagram,
    Effect,
    Record,
    Remember,
    SendAgentMessage,
    SendDatagram,
)
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.security import Peer

EPOCH = 1_790_000_000.0
"""Unix time when virtual time begins."""
NOWHERE = "nowhere"
"""A link that nothing leaves and where nobody advertises."""


class Weather(Protocol):
    """What becomes of messages on their way."""

    def delays(self, rng: Random, far: bool) -> Sequence[float]:
        """Seconds until each copy of one message arrives; `far`: beyond the link it is sent on."""


class Daemon:
    """A core with what its shell does for it: `make` starts a process of it, with the clock it is to read."""

    __slots__ = (
        "_make",
        "care_of",
        "clock_offset",
        "core",
        "dies_after",
        "down",
        "link",
        "link_address",
        "name",
        "records",
        "wakes",
    )

    def __init__(self, name: str, link_address: bytes, make: Callable[[Clock], Core]) -> None:
        self.name = name
        self.link_address = link_address
        self.link = NOWHERE
        self.care_of: IPv4Address | None = None
        """The co-located care-of address of a mobile node, where it has one."""
        self.clock_offset = 0.0
        """Seconds that this node's clock is ahead."""
        self.records: dict[Peer, Record] = {}
        self.wakes = inf
        """When the network looks at its deadline next."""
        self.down = False
        """Whether there is no process of it at present."""
        self.dies_after: int | None = None
        """How many of its next effects are carried out until it is killed; what is remembered comes first."""
        self._make = make
        self.start()

    def clock(self, now: float) -> float:
        """The Unix time that this node believes it is."""
        return EPOCH + now + self.clock_offset

    def start(self) -> None:
        """A new process, which has none of the routes and tunnels of the one before."""
        self.core = self._make(self.clock)
        self.dies_after = None
        self.down = False
        self.wakes = inf

    def keep(self, effect: Remember) -> None:
        """What goes into the file of the shell."""
        if effect.record is None:
            self.records.pop(effect.node, None)
        else:
            self.records[effect.node] = effect.record

    def kept(self) -> dict[Peer, Record]:
        """What comes back out of it."""
        return {node: json.loads(json.dumps(record)) for node, record in self.records.items()}

    def apply(self, effect: Effect) -> None:
        """What the shell has the kernel do: nothing, as no data is sent here."""


class Link:
    """Who can hear whom, by link address."""

    def __init__(self) -> None:
        self.agents: dict[bytes, Daemon] = {}
        self.nodes: dict[bytes, Daemon] = {}

    def find(self, link_address: bytes) -> Daemon | None:
        """Who has `link_address`."""
        return self.nodes.get(link_address) or self.agents.get(link_address)


Observer = Callable[[Daemon, Datagram | None, list[Effect]], None]
"""Called with a daemon, the datagram it took if it was one, and all effects of that, carried out or not."""


class VirtualNetwork:
    """Links with agents and mobile nodes, the Internet between them, and the time."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.weather = weather
        self.links: dict[str, Link] = {NOWHERE: Link()}
        self.daemons: list[Daemon] = []
        self.observers: list[Observer] = []
        self.kills = 0
        self.routes: dict[IPv4Address, list[Daemon]] = {}
        """Who has an address at present."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    # Who is here, and what happens to them.

    def add_agent(self, agent: Daemon, link: str, *addresses: IPv4Address) -> None:
        """Start an agent on `link`, reachable from everywhere at `addresses`."""
        agent.link = link
        self.links.setdefault(link, Link()).agents[agent.link_address] = agent
        for address in addresses:
            self.routes.setdefault(address, []).append(agent)
        self.daemons.append(agent)
        self.after(agent)

    def add_node(self, node: Daemon) -> None:
        """A mobile node, nowhere at first."""
        self.daemons.append(node)

    def join(self, node: Daemon, link: str, care_of: IPv4Address | None = None) -> None:
        """Let `node` be on `link` and have an address there; its core hears nothing of it."""
        self.links[node.link].nodes.pop(node.link_address, None)
        if node.care_of is not None:
            del self.routes[node.care_of]
        if care_of is not None:
            self.routes[care_of] = [node]
        node.link, node.care_of = link, care_of
        self.links.setdefault(link, Link()).nodes[node.link_address] = node

    def move(self, node: Daemon, link: str, care_of: IPv4Address | None = None) -> None:
        """Attach `node` to `link`, with a co-located care-of address or in search of an agent."""
        self.join(node, link, care_of)
        self._attach(node)

    def _attach(self, node: Daemon) -> None:
        assert isinstance(node.core, MobileNode)
        if node.care_of is None:
            node.core.discover(node.link, self.now)
        else:
            node.core.attach(node.link, node.care_of, self.now)
        self.after(node)

    def deregister(self, node: Daemon) -> None:
        """Have a mobile node give its registration back, where it has a way to."""
        assert isinstance(node.core, MobileNode)
        try:
            node.core.deregister(self.now)
        except ValueError:
            return
        self.after(node)

    def restart(self, daemon: Daemon) -> None:
        """Kill `daemon` and start it again, with its memory; a mobile node attaches where it was."""
        self.kills += 1
        daemon.start()
        if isinstance(daemon.core, MobileNode):
            self._attach(daemon)
            return
        assert isinstance(daemon.core, (HomeAgent, ForeignAgent))
        daemon.core.restore(daemon.kept(), self.now)
        self.after(daemon)

    # Time.

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at `when`; at once where that has passed."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, do = heapq.heappop(queue)
            do()
        self.now = until

    def _wake(self, daemon: Daemon, when: float) -> None:
        if daemon.wakes != when or daemon.down:
            return  # an earlier deadline came between, or another process
        daemon.wakes = inf
        due = daemon.core.deadline()
        if due is not None and due <= self.now:
            daemon.core.tick(self.now)
            due = daemon.core.deadline()
            assert due is None or due > self.now, f"{daemon.name} does not get on"
        self.after(daemon)

    def after(self, daemon: Daemon, cause: Datagram | None = None) -> None:
        """Carry out what a core asks for, as its shell does: what is to be remembered first.

        `cause` is the datagram that it took, if it was that.
        """
        effects = daemon.core.effects()
        if effects:
            for effect in effects:
                if isinstance(effect, Remember):
                    daemon.keep(effect)
            for observe in self.observers:
                observe(daemon, cause, effects)
            for effect in effects[: daemon.dies_after]:
                if isinstance(effect, SendDatagram):
                    self.send(daemon, effect.datagram)
                elif isinstance(effect, SendAgentMessage):
                    self.send_agent_message(daemon, effect.message)
                else:
                    daemon.apply(effect)
            if daemon.dies_after is not None:
                self.restart(daemon)
                return
        due = daemon.core.deadline()
        if due is not None and due < daemon.wakes:  # a later one is found when it wakes
            daemon.wakes = max(due, self.now)
            self.at(due, partial(self._wake, daemon, daemon.wakes))

    # Messages.

    def post(self, deliver: Callable[[], None], far: bool) -> None:
        """Let a message arrive, as the weather has it."""
        for delay in self.weather.delays(self.rng, far):
            self.at(self.now + delay, deliver)

    def send(self, sender: Daemon, datagram: Datagram) -> None:
        """Carry a datagram to its destination: a neighbour whose link address is known, or any."""
        if sender.link == NOWHERE:
            return
        if datagram.link_address is not None and datagram.interface is not None:
            frame = partial(self._frame, sender.link_address, datagram.interface, datagram)
            self.post(frame, far=False)
        else:
            routed = partial(self.routed, sender.link_address, sender.link, datagram)
            self.post(routed, far=True)

    def _frame(self, sender: bytes, link: str, datagram: Datagram) -> None:
        """A datagram to a neighbour, whose link address is known."""
        assert datagram.link_address is not None
        receiver = self.links[link].find(datagram.link_address)
        if receiver is not None:  # else it has left meanwhile
            self.deliver(receiver, replace(datagram, link_address=sender))

    def routed(self, sender: bytes, link: str, datagram: Datagram) -> None:
        """A datagram from `link` to whoever has its destination address by now."""
        for receiver in self.routes.get(datagram.destination, ()):
            neighbours = receiver.link == link
            self.deliver(
                receiver,
                replace(
                    datagram,
                    interface=link if neighbours else None,
                    link_address=sender if neighbours else b"router",
                ),
            )

    def deliver(self, receiver: Daemon, datagram: Datagram) -> None:
        """A datagram has arrived."""
        if receiver.down:
            return
        receiver.core.receive(datagram, self.now)
        self.after(receiver, datagram)

    def send_agent_message(self, sender: Daemon, message: AgentMessage) -> None:
        """Carry an advertisement or a solicitation over the link."""
        link = self.links[sender.link]
        if message.link_address is not None:
            receivers = [link.find(message.link_address)]
        else:
            receivers = [*(link.agents if isinstance(sender.core, MobileNode) else link.nodes).values()]
        heard = replace(message, link_address=sender.link_address)
        for receiver in receivers:
            if receiver is not None:
                self.post(partial(self._deliver_agent_message, receiver, heard), far=False)

    def _deliver_agent_message(self, receiver: Daemon, message: AgentMessage) -> None:
        if receiver.link == message.interface and not receiver.down:
            receiver.core.receive_agent_message(message, self.now)
            self.after(receiver)
