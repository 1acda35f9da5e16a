"""A home agent, foreign agents and a mobile node on a network that may lose, delay and repeat."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from random import Random

from testbed.mobileip.core.api import (
    AgentMessage,
    Core,
    Datagram,
    Effect,
    ReportEvent,
    SendAgentMessage,
    SendDatagram,
)
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp, SetBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseForeignAgent, UseHome, UseNothing
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.parameters import Advertising
from testbed.mobileip.core.security import Peer, ReplayProtection, SecurityAssociation
from testbed.mobileip.wire.algorithm import Algorithm

A = IPv4Address
EPOCH = 1_790_000_000.0
HOME_ADDRESS = A("10.0.1.100")
HOME_AGENT = A("10.0.1.2")
HOME_PREFIX = IPv4Network("10.0.1.0/24")
CARE_OF = A("198.51.100.70")
FA_ADDRESS = A("192.0.2.1")
FA_CARE_OF = A("203.0.113.10")
MN_MAC = bytes.fromhex("020000000001")
KEY = bytes(range(16))


def clock(now: float) -> float:
    return EPOCH + now


def association(
    peer: Peer,
    spi: int = 256,
    key: bytes = KEY,
    algorithm: Algorithm = Algorithm.HMAC_MD5,
    replay: ReplayProtection = ReplayProtection.TIMESTAMPS,
) -> SecurityAssociation:
    return SecurityAssociation(peer, spi, key, algorithm, replay)


def home_agent_config(**changes) -> HomeAgentConfig:
    config = HomeAgentConfig(
        HOME_AGENT, HOME_PREFIX, "home", Advertising(), mobile_nodes=(association(HOME_ADDRESS),)
    )
    return replace(config, **changes)


def foreign_agent_config(**changes) -> ForeignAgentConfig:
    return replace(ForeignAgentConfig("visited", FA_ADDRESS, FA_CARE_OF), **changes)


def mobile_node_config(**changes) -> MobileNodeConfig:
    config = MobileNodeConfig(HOME_ADDRESS, HOME_PREFIX, HOME_AGENT, association(HOME_AGENT))
    return replace(config, **changes)


def sent(effects: list[Effect]) -> list[Datagram]:
    return [effect.datagram for effect in effects if isinstance(effect, SendDatagram)]


def events(effects: list[Effect], name: str) -> list[dict[str, object]]:
    return [
        dict(effect.fields) for effect in effects if isinstance(effect, ReportEvent) and effect.name == name
    ]


def only_discarded(effects: list[Effect]) -> bool:
    """Whether something was discarded silently: nothing but its trace is left (RFC 5944 §1.7)."""
    names = [effect.name if isinstance(effect, ReportEvent) else None for effect in effects]
    return set(names) == {"discarded"}


class World:
    """Time is simulated: `run(until)` goes from one deadline or arrival to the next."""

    def __init__(
        self,
        mn: MobileNode | None = None,
        ha: HomeAgent | None = None,
        fas: list[ForeignAgent] | None = None,
        seed: int = 1,
        now: float = 0.0,
    ) -> None:
        self.rng = Random(seed)
        self.mn = mn or MobileNode(mobile_node_config(), clock, Random(seed))
        self.ha = ha or HomeAgent(home_agent_config(), clock, Random(seed + 1))
        self.fas = [ForeignAgent(foreign_agent_config(), clock, Random(seed + 2))] if fas is None else fas
        self.now = now
        self.where: str | None = None  # the network the mobile node is on
        self.care_of: IPv4Address | None = None
        self.loss = 0.0
        self.duplication = 0.0
        self.delay: Callable[[], float] = lambda: 0.001
        self.silent: set[str] = set()  # networks whose advertisements are not heard
        self.log: list[tuple[float, Core, Effect]] = []
        self.bindings: dict[IPv4Address, tuple[IPv4Address, ...]] = {}
        self.proxied: set[IPv4Address] = set()
        self.visitors: dict[IPv4Address, ForeignAgent] = {}
        self.use: Effect = UseNothing()
        self.wire: list[bytes] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    # What the connection manager does.

    def attach(self, network: str, care_of: IPv4Address) -> None:
        self.where, self.care_of = network, care_of
        self.mn.attach(network, care_of, self.now)
        self._drain()

    def discover(self, network: str, register: bool = True) -> None:
        self.where, self.care_of = network, None
        self.mn.discover(network, self.now, register)
        self._drain()

    def run(self, duration: float, steps: int = 1_000_000) -> None:
        end = self.now + duration
        self._drain()
        for _ in range(steps):
            cores = [self.mn, self.ha, *self.fas]
            due = [when for core in cores if (when := core.deadline()) is not None]
            if self._queue:
                due.append(self._queue[0][0])
            following = min(due, default=end)
            if following > end:
                self.now = end
                return
            self.now = max(self.now, following)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            for core in cores:
                when = core.deadline()
                if when is not None and when <= self.now:
                    core.tick(self.now)
                    after = core.deadline()
                    assert after is None or after > self.now, f"{core} does not get on"
            self._drain()
        raise AssertionError("too many steps: something spins")

    def reachable(self) -> bool:
        """Whether a datagram to the home address would arrive, judged by what the shells were told."""
        care_of = self.bindings.get(HOME_ADDRESS)
        if care_of is None:
            return isinstance(self.use, UseHome) and self.where == "home"
        if self.care_of in care_of:
            return isinstance(self.use, UseCoLocated)
        fa = self.visitors.get(HOME_ADDRESS)
        return (
            fa is not None
            and fa.config.care_of in care_of
            and fa.config.interface == self.where
            and isinstance(self.use, UseForeignAgent)
            and self.use.registered
        )

    # The network.

    def _drain(self) -> None:
        for core in [self.mn, self.ha, *self.fas]:
            for effect in core.effects():
                self.log.append((self.now, core, effect))
                self._carry_out(core, effect)

    def _carry_out(self, core: Core, effect: Effect) -> None:
        if isinstance(effect, SendDatagram):
            self._post(lambda: self._deliver(core, effect.datagram))
        elif isinstance(effect, SendAgentMessage):
            self._post(lambda: self._deliver_agent_message(core, effect.message))
        elif isinstance(effect, SetBinding):
            self.bindings[effect.home_address] = tuple(end.address for end in effect.ends)
        elif isinstance(effect, ClearBinding):
            del self.bindings[effect.home_address]
        elif isinstance(effect, ProxyArp):
            assert effect.enabled is (effect.home_address not in self.proxied)
            (self.proxied.add if effect.enabled else self.proxied.remove)(effect.home_address)
        elif isinstance(effect, SetVisitor):
            self.visitors[effect.home_address] = core
        elif isinstance(effect, ClearVisitor):
            if self.visitors.get(effect.home_address) is core:
                del self.visitors[effect.home_address]
        elif isinstance(effect, (UseCoLocated, UseForeignAgent, UseHome, UseNothing)):
            self.use = effect

    def _post(self, deliver: Callable[[], None]) -> None:
        if self.rng.random() < self.loss:
            return
        copies = 2 if self.rng.random() < self.duplication else 1
        for _ in range(copies):
            heapq.heappush(self._queue, (self.now + self.delay(), next(self._order), deliver))

    def _deliver(self, sender: Core, datagram: Datagram) -> None:
        self.wire.append(datagram.payload)
        mac = MN_MAC if sender is self.mn else b"\x02agent"
        if sender is self.mn and datagram.interface != self.where:
            return
        for core in [self.ha, *self.fas]:
            address = core.config.address
            if core is self.ha and datagram.destination == address and core is not sender:
                self.ha.receive(replace(datagram, interface=None, link_address=mac), self.now)
            elif core is not self.ha and datagram.destination in (address, core.config.care_of):
                interface = core.config.interface if sender is self.mn else "internet"
                if sender is self.mn and self.where != core.config.interface:
                    continue
                core.receive(replace(datagram, interface=interface, link_address=mac), self.now)
        if sender is not self.mn and (
            datagram.destination == self.care_of
            or (datagram.destination == HOME_ADDRESS and datagram.interface == self.where)
        ):
            self.mn.receive(replace(datagram, interface=self.where, link_address=mac), self.now)

    def _deliver_agent_message(self, sender: Core, message: AgentMessage) -> None:
        self.wire.append(message.payload)
        mac = MN_MAC if sender is self.mn else b"\x02agent"
        message = replace(message, link_address=mac)
        if sender is self.mn:
            if message.interface == self.where:
                for core in [self.ha, *self.fas]:
                    at = "home" if core is self.ha else core.config.interface
                    if at == message.interface:
                        core.receive_agent_message(message, self.now)
        elif message.interface == self.where and message.interface not in self.silent:
            self.mn.receive_agent_message(message, self.now)
