"""A home agent's, a foreign agent's and a mobile node's view of the same registrations, over a virtual day.

`build` makes a network, `live` lets its nodes wander and its daemons die while `Watch` looks for what must
never happen, and `come_to_rest` compares the three views when it is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from random import Random
from typing import Any

from mip_world import A, association

from testbed.mobileip.core.api import Datagram, Effect, SendDatagram
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
from testbed.mobileip.wire import registration_request
from testbed.mobileip.wire.code import accepted
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.simulate.network import NOWHERE, Daemon, VirtualNetwork

DAY = 86400.0
SLACK = 0.001
HOTELS = 3
NOT_FRESH = (131, 132, 133)
"""Codes of a home agent that did not take the identification for a new one."""


@dataclass
class Weather:
    """What becomes of a message on its way; shares are of 1, times in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    late: float = 0.0
    """The share that takes anything up to `latest`, and so is overtaken by others."""
    latest: float = 10.0

    def delays(self, rng: Random, far: bool) -> list[float]:
        """When the copies of one message arrive, from now."""
        if rng.random() < self.loss:
            return []
        copies = 2 if rng.random() < self.duplication else 1
        return [
            rng.uniform(0.0, self.latest) if rng.random() < self.late else rng.uniform(0.001, 0.05)
            for _ in range(copies)
        ]


class Shelled(Daemon):
    """A daemon with what its shell has had the kernel do."""

    def start(self) -> None:
        super().start()
        self.bindings: dict[IPv4Address, SetBinding] = {}
        self.proxied: set[IPv4Address] = set()
        self.visitors: dict[IPv4Address, SetVisitor] = {}
        self.uses: Effect = UseNothing()

    def apply(self, effect: Effect) -> None:
        if isinstance(effect, SetBinding):
            self.bindings[effect.home_address] = effect
        elif isinstance(effect, ClearBinding):
            del self.bindings[effect.home_address]
        elif isinstance(effect, ProxyArp):
            assert effect.enabled is (effect.home_address not in self.proxied), f"{self.name}: {effect}"
            (self.proxied.add if effect.enabled else self.proxied.remove)(effect.home_address)
        elif isinstance(effect, SetVisitor):
            self.visitors[effect.home_address] = effect
        elif isinstance(effect, ClearVisitor):
            del self.visitors[effect.home_address]
        elif isinstance(effect, (UseCoLocated, UseForeignAgent, UseHome, UseNothing)):
            self.uses = effect


@dataclass
class Layout:
    """How many of each there are, and how long what they say holds, in seconds."""

    nodes: int = 3
    home_networks: int = 1
    home_agents: int = 1
    """On each home network; with more than one, mobile nodes find theirs by asking all (§3.6.1.2)."""
    foreign_agents: int = 2
    lifetimes: tuple[int, ...] = (60, 120)
    advertising: Advertising = field(default_factory=lambda: Advertising(10.0, 30))


@dataclass
class World:
    """The network of a layout, with the parts by their role."""

    network: VirtualNetwork
    layout: Layout
    home_agents: list[Daemon] = field(default_factory=list)
    foreign_agents: list[Daemon] = field(default_factory=list)
    nodes: list[Daemon] = field(default_factory=list)

    @property
    def links(self) -> list[str]:
        """Where a mobile node may be."""
        visited = [agent.link for agent in self.foreign_agents]
        return [*visited, *(f"hotel-{n}" for n in range(HOTELS)), "home"]

    def go(self, node: Daemon, link: str, own_address: bool) -> None:
        """Move a mobile node to `link`; it may use an address of its own also where a foreign agent is."""
        config = node.core.config
        number = int(config.home_address) & 0xFFFF
        if link == "home":
            self.network.move(node, _home_link(config.home_prefix))
        elif link.startswith("hotel") or (own_address and link.startswith("visited")):
            place = self.links.index(link)
            self.network.move(node, link, A(f"198.{18 + place}.0.0") + number)
        else:
            self.network.move(node, link)

    def restart_at_next(self, daemon: Daemon, after: int) -> None:
        """Kill a daemon amid its next effects."""
        daemon.dies_after = after


def build(layout: Layout, seed: int, weather: Weather) -> World:
    """All daemons of a layout, the mobile nodes nowhere yet."""
    world = World(VirtualNetwork(seed, weather), layout)
    network, longest = world.network, max(layout.lifetimes)
    for net in range(layout.home_networks):
        prefix = IPv4Network((f"10.{net}.0.0", 16))
        home_link = _home_link(prefix)
        addresses = [prefix[2 + n] for n in range(layout.home_agents)]
        homes = [prefix[256 + n] for n in range(net, layout.nodes, layout.home_networks)]
        keys = tuple(association(home, key=str(home).encode()) for home in homes)
        for address in addresses:
            config = HomeAgentConfig(
                address, prefix, home_link, layout.advertising, lifetime=longest, mobile_nodes=keys
            )
            make = partial(HomeAgent, config, rng=network.rng)
            agent = Shelled(f"ha {address}", b"ha" + address.packed, make)
            network.add_agent(agent, home_link, address, prefix.broadcast_address)
            world.home_agents.append(agent)
        for n, home in enumerate(homes):
            asked = addresses[0] if len(addresses) == 1 else prefix.broadcast_address
            lifetime = layout.lifetimes[n % len(layout.lifetimes)]
            key = association(asked, key=str(home).encode())
            node_config = MobileNodeConfig(
                home, prefix, asked, key, lifetime=lifetime, reverse_tunnel=n % 3 == 0
            )
            node = Shelled(
                f"mn {home}", b"mn" + home.packed, partial(MobileNode, node_config, rng=network.rng)
            )
            network.add_node(node)
            world.nodes.append(node)
    for n in range(layout.foreign_agents):
        here, care_of = A(f"172.{16 + n}.0.1"), A(f"203.0.113.{1 + n}")
        fa_config = ForeignAgentConfig(
            f"visited-{n}", here, care_of, prefix_length=16, advertising=layout.advertising,
            registration_lifetime=longest if n % 2 else min(layout.lifetimes),
            registration_required=n % 3 == 0,
        )  # fmt: skip
        agent = Shelled(
            f"fa {care_of}", b"fa" + care_of.packed, partial(ForeignAgent, fa_config, rng=network.rng)
        )
        network.add_agent(agent, f"visited-{n}", here, care_of)
        world.foreign_agents.append(agent)
    return world


class Watch:
    """What must never happen, seen from the messages alone."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.network = world.network
        self.latest: dict[tuple[Daemon, IPv4Address], int] = {}  # what a home agent accepted last
        self.bound: dict[tuple[Daemon, IPv4Address], tuple[IPv4Address, float]] = {}  # until when it granted
        self.granted: dict[tuple[IPv4Address, IPv4Address], float] = {}  # the same, by whichever home agent
        self.order = count()
        self.asked: dict[tuple[Daemon, IPv4Address, int], int] = {}  # in which order an agent got requests
        self.relayed: dict[
            tuple[Daemon, IPv4Address], tuple[int, int]
        ] = {}  # the latest it relayed a grant of
        self.visits: dict[tuple[Daemon, IPv4Address], float] = {}  # until when it may forward
        self.codes: Counter[int] = Counter()
        self.network.observers.append(self.observe)

    def observe(self, daemon: Daemon, cause: Datagram | None, effects: list[Effect]) -> None:
        if isinstance(daemon.core, HomeAgent):
            if cause is not None:
                for effect in effects:
                    if isinstance(effect, SendDatagram):
                        self._answered(daemon, cause, effect.datagram)
        elif isinstance(daemon.core, ForeignAgent):
            for effect in effects:
                if isinstance(effect, ClearVisitor):
                    self.visits.pop((daemon, effect.home_address), None)
            if cause is None:
                return
            if cause.payload[0] == registration_request.TYPE:
                request = RegistrationRequest.decode(cause.payload)
                # The lower half is all that an agent knows a request by (§3.7.3.1), and it may come twice.
                key = daemon, request.home_address, request.low_identification
                self.asked[key] = next(self.order)
            else:
                self._relayed(daemon, RegistrationReply.decode(cause.payload), effects)

    def _answered(self, agent: Daemon, cause: Datagram, answer: Datagram) -> None:
        request = RegistrationRequest.decode(cause.payload)
        reply = RegistrationReply.decode(answer.payload)
        self.codes[reply.code] += 1
        key = agent, request.home_address
        if reply.code in NOT_FRESH:
            return
        assert request.identification > self.latest.get(key, -1), f"{agent.name} accepted a replay"
        self.latest[key] = request.identification
        if not accepted(reply.code):
            return
        assert reply.lifetime <= request.lifetime
        if request.lifetime == 0:
            if request.care_of_address in (request.home_address, self.bound.get(key, (None, 0))[0]):
                self.bound.pop(key, None)
            return
        until = self.network.now + reply.lifetime
        self.bound[key] = request.care_of_address, until
        place = request.home_address, request.care_of_address
        self.granted[place] = max(until, self.granted.get(place, 0.0))

    def _relayed(self, agent: Daemon, reply: RegistrationReply, effects: list[Effect]) -> None:
        key = agent, reply.home_address
        number, stamp = self.asked.get((*key, reply.low_identification), -1), reply.identification
        latest = self.relayed.get(key, (-1, -1))
        overtaken = number < latest[0] and stamp < latest[1]  # where requests, too, came in another order
        for effect in effects:
            if isinstance(effect, SetVisitor):
                assert accepted(reply.code) and reply.lifetime, f"{agent.name} forwards although {reply.code}"
                assert effect.home_address == reply.home_address
                assert not overtaken, f"{agent.name} forwards by a reply that a later one has overtaken"
                self.visits[key] = self.network.now + reply.lifetime
            elif isinstance(effect, SendDatagram) and accepted(reply.code) and not overtaken:
                self.relayed[key] = number, stamp

    def check(self) -> None:
        """What holds at any time."""
        now = self.network.now
        for agent in self.world.home_agents:
            held = {home for (each, home), (_, until) in self.bound.items() if each is agent and until > now}
            assert held - {*agent.bindings} == set(), f"{agent.name} has lost bindings at {now}"
            for home, binding in agent.bindings.items():
                care_of, until = self.bound.get((agent, home), (None, 0.0))
                assert until + SLACK >= now, f"{agent.name} has {home} bound at {now}, beyond {until}"
                assert [end.address for end in binding.ends] == [care_of]
            assert agent.proxied == {*agent.bindings}
        for agent in self.world.foreign_agents:
            for home in agent.visitors:
                until = self.visits.get((agent, home), 0.0)
                assert until + SLACK >= now, f"{agent.name} forwards for {home} at {now}, beyond {until}"
        for node in self.world.nodes:
            care_of = _care_of(self.world, node)
            if care_of is not None:
                until = self.granted.get((node.core.config.home_address, care_of), 0.0)
                assert until + SLACK >= now, f"{node.name} believes at {now} in what ended at {until}"

    def every(self, period: float, end: float) -> None:
        """Check now and again, until `end`."""
        self.check()
        if self.network.now < end:
            self.network.at(self.network.now + period, partial(self.every, period, end))


def _care_of(world: World, node: Daemon) -> IPv4Address | None:
    """Where a mobile node believes to be registered."""
    uses = node.uses
    if isinstance(uses, UseCoLocated):
        return uses.care_of_address
    if isinstance(uses, UseForeignAgent) and uses.registered:
        (agent,) = (each for each in world.foreign_agents if each.link == uses.interface)
        return agent.core.config.care_of
    return None


def disagreements(world: World, *, stale: bool = False) -> list[str]:
    """Where home agents, foreign agents and mobile nodes do not agree, in words.

    With `stale`, what was left behind elsewhere may still await its end.
    """
    now, found = world.network.now, []
    bound: dict[str, dict[str, tuple]] = {}
    for agent in world.home_agents:
        for each in agent.core.state(now)["bindings"]:
            (binding,) = each["bindings"]
            bound.setdefault(each["home_address"], {})[agent.name] = binding
        if sorted(agent.bindings) != sorted(A(e["home_address"]) for e in agent.core.state(now)["bindings"]):
            found.append(f"{agent.name}: its shell has other bindings than itself")
    visits: dict[str, dict[str, dict]] = {}
    for agent in world.foreign_agents:
        visitors = agent.core.state(now)["visitors"]
        for each in visitors:
            visits.setdefault(each["home_address"], {})[agent.name] = each
        if {*map(str, agent.visitors)} != {each["home_address"] for each in visitors}:
            found.append(f"{agent.name}: its shell has other visitors than itself")
    for node in world.nodes:
        found += _disagreements(world, node, bound, visits, stale)
    return found


def _disagreements(
    world: World, node: Daemon, bound: dict[str, Any], visits: dict[str, Any], stale: bool
) -> Iterator[str]:
    state = node.core.state(world.network.now)
    home, name = state["home_address"], node.name
    bindings = bound.get(home, {})
    visited = visits.get(home, {})
    if state["state"] in ("at-home", "deregistered", "discovering"):
        if not stale and (bindings or visited):
            yield f"{name} is {state['state']}, but there are {bindings} and {visited}"
        if state["state"] == "at-home" and not isinstance(node.uses, UseHome):
            yield f"{name} is at home, and its shell is not"
        return
    if state["state"] != "registered":
        yield f"{name} is {state['state']} at {node.link}"
        return
    ours = {agent: each for agent, each in bindings.items() if agent.endswith(f" {state['home_agent']}")}
    if not ours or (not stale and ours != bindings):
        yield f"{name} is registered with {state['home_agent']}, but there are {bindings}"
        return
    (binding,) = ours.values()
    if binding["care_of_address"] != state["care_of"]:
        yield f"{name} is at {state['care_of']}, but there is {binding}"
    if not state["lifetime_left"] <= binding["lifetime_left"] + SLACK:
        yield f"{name} believes in {state['lifetime_left']} s, its home agent in {binding['lifetime_left']} s"
    here = {agent.name for agent in world.foreign_agents if agent.link == node.link and state["agent"]}
    through = {agent: each for agent, each in visited.items() if agent in here}
    if {*through} != here or (not stale and through != visited):
        yield f"{name} registered through {here}, but visits {visited}"
        return
    for each in through.values():
        if each["care_of"] != state["care_of"] or each["home_agent"] != state["home_agent"]:
            yield f"{name}: {state['care_of']} of {state['home_agent']}, but visits as {each}"
        if each["link_address"] != node.link_address.hex(":"):
            yield f"{name}: another link address in {each}"
        if not state["lifetime_left"] <= each["lifetime_left"] + SLACK:
            yield f"{name} believes in {state['lifetime_left']} s, its foreign agent in {each}"


def _home_link(prefix: IPv4Network) -> str:
    return f"home-{prefix}"


def wander(world: World, node: Daemon, stay: float, end: float) -> None:
    """One thing that befalls a mobile node, and the next about `stay` seconds later."""
    network = world.network
    if network.now >= end:
        return
    rng, chance = network.rng, network.rng.random()
    if chance < 0.05:
        network.move(node, NOWHERE)
    elif chance < 0.1:
        network.deregister(node)
    elif chance < 0.15:
        node.clock_offset = rng.choice((0.0, 3.0, -3.0, 3600.0, -365 * DAY))
    elif chance < 0.2:
        network.restart(node)
    else:
        world.go(node, rng.choice(world.links), own_address=rng.random() < 0.3)
    network.at(network.now + rng.expovariate(1 / stay), partial(wander, world, node, stay, end))


def kill(world: World, pause: float, end: float) -> None:
    """Kill an agent, between or amid its effects, and the next about `pause` seconds later."""
    network = world.network
    if network.now >= end:
        return
    agent = network.rng.choice([*world.home_agents, *world.foreign_agents])
    if network.rng.random() < 0.5:
        network.restart(agent)
    else:
        agent.dies_after = network.rng.randrange(4)
    network.at(network.now + network.rng.expovariate(1 / pause), partial(kill, world, pause, end))


def storm(world: World, weather: Weather, pause: float, end: float) -> None:
    """Let nothing through, for as long as the longest lifetime at most, about every `pause` seconds."""
    network = world.network
    if network.now >= end:
        return
    network.weather = Weather(loss=1.0)
    calm = network.now + network.rng.uniform(0.0, max(world.layout.lifetimes))
    network.at(calm, partial(setattr, network, "weather", weather))
    network.at(calm + network.rng.expovariate(1 / pause), partial(storm, world, weather, pause, end))


def live(world: World, hours: float, stay: float, pause: float, checks: float) -> Watch:
    """Let mobile nodes wander and agents die for some hours; all intervals in seconds."""
    network, watch = world.network, Watch(world)
    end = network.now + hours * 3600
    for agent in [*world.home_agents, *world.foreign_agents]:  # those of one home network agree on the time
        right = agent in world.home_agents
        agent.clock_offset = network.rng.uniform(-1.0, 1.0) if right else network.rng.uniform(-5000.0, 5000.0)
    for node in world.nodes:
        network.at(network.rng.uniform(0, stay / 10), partial(wander, world, node, stay, end))
    network.at(pause, partial(kill, world, pause, end))
    network.at(5 * stay, partial(storm, world, network.weather, 5 * stay, end))
    watch.every(checks, end)
    network.run(end)
    return watch


def come_to_rest(world: World, watch: Watch) -> None:
    """With a network that is whole, whoever is somewhere is soon reachable, and nothing stays behind."""
    network, layout = world.network, world.layout
    network.run(network.now + max(layout.lifetimes))  # until the last storm is over
    network.weather = Weather()
    for node in world.nodes:
        if node.link == NOWHERE or node.core.state(network.now)["state"] == "deregistered":
            world.go(node, network.rng.choice(world.links), own_address=False)
    network.run(network.now + 2 * 75.0 + layout.advertising.lifetime)  # two solicitations at their slowest
    watch.check()
    assert disagreements(world, stale=True) == []
    network.run(network.now + max(layout.lifetimes))
    watch.check()
    assert disagreements(world) == []
