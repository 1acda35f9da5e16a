"""One simulation from its first attachment to the last restart, and what came of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram, Effect, ReportEvent
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.effects import ClearBinding, SetBinding
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.simulate.counted import CountedDaemon, Tally
from testbed.simulate.host import DualHost, Host
from testbed.simulate.model import Model
from testbed.simulate.network import Daemon
from testbed.simulate.solutions import Solution, Zone
from testbed.simulate.world import World

SETTLE = 3
"""Advertisements between what one restart has done and the next: two within one could go unnoticed."""

MANY = 1000
"""Mobile nodes for which the garbage collector is off."""
MAKING = 0.2
"""What a mobile node takes until it begins, in registrations."""

Progress = Callable[[float, float], None]
"""Called now and again with the virtual time in seconds, and with the work that is done, in registrations."""


@dataclass(frozen=True, slots=True)
class Load:
    """Messages that passed one place, and their bytes from the IP header on."""

    messages: int
    octets: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the restart of one agent did."""

    agent: str
    """ha, x-ha, fa or gw."""
    kept: bool
    """Whether the successor had the state of its predecessor."""
    lost: int
    """Mobile nodes that the successor did not know any more, though they were there."""
    seconds: float | None
    """From the agent's death until all were known again; None: two lifetimes did not do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a solution took for so many mobile nodes."""

    solution: str
    nodes: int
    seed: int
    load: dict[str, Load]
    """By place: internet (in clear), ha, x-ha, fa, gw, mn, discovery; those that the solution has."""
    state: dict[str, int]
    """The most entries that there were at once: bindings, x-bindings, visitors, ike-sas."""
    away: int
    """Mobile nodes with a binding when the duration was over."""
    recovery: list[Recovery]
    """In the order of the restarts."""


class _Holding:
    """What an agent has its kernel do, as far as it says: tunnels of bindings or of visitors."""

    def __init__(self, daemon: CountedDaemon) -> None:
        self.held: set[IPv4Address] = set()
        self.most = 0
        daemon.heard = self._heard

    def _heard(self, effect: Effect) -> None:
        if isinstance(effect, SetBinding | SetVisitor):
            self.held.add(effect.home_address)
            self.most = max(self.most, len(self.held))
        elif isinstance(effect, ClearBinding | ClearVisitor):
            self.held.discard(effect.home_address)


def simulate(
    solution: Solution, model: Model, nodes: int, progress: Progress = lambda now, work: None
) -> Outcome:
    """Let mobile nodes attach, roam and outlive what dies; the same arguments give the same outcome."""
    with _uncollected() if nodes >= MANY else nullcontext():
        return _Run(
            World(solution, model, nodes, lambda made: progress(0.0, MAKING * made)), progress
        ).outcome()


def work(model: Model, nodes: int) -> float:
    """About what a simulation takes but for recovery, in registrations."""
    return nodes * (MAKING + model.expected(model.duration))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: it would look at all objects now and again, of which none is garbage."""
    enabled = gc.isenabled()
    gc.collect()  # but those of the simulation before are
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Run:
    """A world in which time passes."""

    def __init__(self, world: World, progress: Progress) -> None:
        self._world = world
        self._network = world.network
        self._model = world.model
        self._progress = progress
        self._home = [_Holding(agent) for agent in world.home_agents]
        self._foreign = [_Holding(agent) for agent in world.foreign_agents]
        self._most_associations = 0

    def outcome(self) -> Outcome:
        """Let the duration pass, then the restarts, and say what came of both."""
        world, network = self._world, self._network
        for host in world.hosts:
            network.at(network.rng.uniform(0.0, self._model.attach), partial(self._roam, host))
        self._pass(self._model.duration)
        load, state = self._load(), self._state()
        away = len(self._home[0].held)
        return Outcome(
            world.solution.name, len(world.hosts), self._model.seed, load, state, away, list(self._restarts())
        )

    def _pass(self, seconds: float) -> None:
        """Let time pass, and report it."""
        until = self._network.now + seconds
        while self._network.now < until:
            self._network.run(min(until, self._network.now + 10.0))
            now = self._network.now
            done = MAKING + self._model.expected(min(now, self._model.duration))
            self._progress(now, done * len(self._world.hosts))
            if self._world.gateway is not None:
                associations = len(self._world.gateway.associations)
                self._most_associations = max(self._most_associations, associations)

    def _roam(self, host: Host) -> None:
        network, sites = self._network, self._world.solution.sites
        host.move(network.rng.choice([site for site in sites if site is not host.site]))
        if self._model.stay is not None:
            stay = network.rng.expovariate(1 / self._model.stay)
            network.at(network.now + stay, partial(self._roam, host))

    # What is counted.

    def _load(self) -> dict[str, Load]:
        world = self._world
        tallies = {"internet": [self._network.internet], "ha": [world.home_agents[0].tally]}
        tallies["x-ha"] = [agent.tally for agent in world.home_agents[1:]]
        tallies["fa"] = [agent.tally for agent in world.foreign_agents]
        tallies["gw"] = [world.gateway.tally] if world.gateway is not None else []
        tallies["mn"] = [world.mobile_nodes]
        tallies["discovery"] = [self._network.discovery]
        return {place: _sum(found) for place, found in tallies.items() if found}

    def _state(self) -> dict[str, int]:
        state = {"bindings": self._home[0].most}
        if len(self._home) > 1:
            state["x-bindings"] = self._home[1].most
        if self._foreign:
            state["visitors"] = max(each.most for each in self._foreign)
        if self._world.gateway is not None:
            state["ike-sas"] = self._most_associations
        return state

    # What dies, and how long it takes until that is mended.

    def _restarts(self) -> Iterator[Recovery]:
        world = self._world
        for agent in self._model.restarts:
            if agent == "gw":
                if world.gateway is not None:
                    yield self._recovery(agent, False, self._restart_gateway())
                continue
            agents, holdings = {
                "ha": (world.home_agents[:1], self._home[:1]),
                "x-ha": (world.home_agents[1:], self._home[1:]),
                "fa": (world.foreign_agents, self._foreign),
            }[agent]
            if agents:
                for kept in (True, False):
                    missing = self._restart(agents[0], holdings[0], kept)
                    if agent == "x-ha":
                        self._lose_way(holdings[0], missing)
                    yield self._recovery(agent, kept, missing)

    def _restart(self, daemon: CountedDaemon, holding: _Holding, kept: bool) -> set[IPv4Address]:
        """Kill an agent and start it again; returns the mobile nodes that are there and that it lost."""
        before = set(holding.held)
        if isinstance(daemon.core, ForeignAgent):  # it keeps, until they expire, those that have moved on
            here = (host.daemon for host in self._world.hosts if host.daemon.link == daemon.link)
            before &= {*map(_address, here)}
        daemon.down = True
        self._pass(self._model.outage)
        if not kept:
            daemon.records.clear()
        holding.held.clear()
        self._network.restart(daemon)
        return before - holding.held

    def _restart_gateway(self) -> set[IPv4Address]:
        """Kill the gateway: each mobile node finds out by dead peer detection, at a time of its own."""
        world, network = self._world, self._network
        assert world.gateway is not None
        missing = set()
        for number in world.gateway.restart():
            host = world.hosts[number]
            network.at(network.now + world.gateway.found_dead(), partial(self._found_dead, host))
            if host.site is not None and host.site.zone is Zone.OUTSIDE:
                missing.add(_address(host.daemon))
        return missing

    def _lose_way(self, outside: _Holding, missing: set[IPv4Address]) -> None:
        """Nothing comes from the gateway to those that the home agent outside has lost."""
        world, died = self._world, self._network.now - self._model.outage
        assert world.gateway is not None
        for host in world.hosts:
            assert isinstance(host, DualHost)
            if (home := _address(host.outer)) in missing:
                silent = partial(self._found_silent, host, outside, home)
                self._network.at(died + world.gateway.found_dead(), silent)

    def _found_silent(self, host: Host, outside: _Holding, home: IPv4Address) -> None:
        if home not in outside.held:  # else it has registered meanwhile
            host.lost_ipsec()

    def _found_dead(self, host: Host) -> None:
        assert self._world.gateway is not None
        if host.number not in self._world.gateway.associations:
            host.lost_ipsec()

    def _recovery(self, agent: str, kept: bool, missing: set[IPv4Address]) -> Recovery:
        """Wait until none of those is `missing` whom the agent, back just now, or the dead gateway lost."""
        network, lost = self._network, len(missing)
        died = mended = network.now
        if agent != "gw":
            died -= self._model.outage

        def observe(daemon: Daemon, cause: Datagram | None, effects: list[Effect]) -> None:
            nonlocal mended
            core = daemon.core
            if not isinstance(core, MobileNode) or core.config.home_address not in missing:
                return
            for effect in effects:
                if isinstance(effect, ReportEvent) and effect.name in ("registered", "deregistered"):
                    missing.discard(core.config.home_address)
                    mended = network.now

        network.observers.append(observe)
        bound = network.now + 2 * self._model.lifetime
        while missing and network.now < bound:
            self._pass(1.0)
        network.observers.remove(observe)
        self._pass(SETTLE * self._model.advertise)
        return Recovery(agent, kept, lost, None if missing else mended - died)


def _address(node: CountedDaemon) -> IPv4Address:
    """The home address of a mobile node."""
    assert isinstance(node.core, MobileNode)
    address = node.core.config.home_address
    assert address is not None
    return address


def _sum(tallies: list[Tally]) -> Load:
    return Load(sum(each.messages for each in tallies), sum(each.octets for each in tallies))
