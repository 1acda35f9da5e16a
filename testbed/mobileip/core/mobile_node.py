"""The mobile node (RFC 5944 §2.4, §3.6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random, SystemRandom

from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Datagram,
    Effect,
    GratuitousArp,
    SendAgentMessage,
    UseHome,
)
from testbed.mobileip.core.counters import MOBILE_NODE
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.gratuitous_arp import GratuitousArps
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.mobile.agents import Agent
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.discovery import Discovery
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.path import Path
from testbed.mobileip.core.mobile.refusals import CHALLENGED
from testbed.mobileip.core.mobile.registrar import Registrar
from testbed.mobileip.core.mobile.requests import Requester
from testbed.mobileip.core.mobile.revocation import NodeRevocation
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.agent_advertisement import AgentFlag
from testbed.mobileip.wire.code import Code, from_foreign_agent
from testbed.mobileip.wire.revocation import REVOCATION
from testbed.mobileip.wire.udp_tunnel import DATA


class MobileNode:
    """Finds out where it is, registers with its home agent, and reports to its shell which way packets go.

    `attach`, `discover`, `detach` and `deregister` are what a connection manager says; they count as
    indications of the link layer, so a request they cause is sent at once.
    """

    def __init__(self, config: MobileNodeConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self.counters = Counter(dict.fromkeys(MOBILE_NODE, 0))
        self._out = Outbox()
        rng = rng or SystemRandom()
        # Beside those of the registrar: agent (silent for too long), solicit.
        self._timers: Timers[str] = Timers()
        self._arps = GratuitousArps(self._out)
        self._keepalives = Keepalives(config.keepalive, self.counters, config.port)
        discards = Discards(self._out, self.counters)
        self._home = HomeAddress(config)
        revocation = NodeRevocation(config, clock, self._out, self.counters, discards)
        self._requester = Requester(config, self._home, clock, self.counters, discards, rng, revocation)
        self._registrar = Registrar(
            self._requester, config, self._timers, self._out, self.counters, self._keepalives
        )
        where = self._home, lambda: self._requester.home_agent
        self._discovery = Discovery(config, *where, self.counters, discards, rng)
        self._interface: str | None = None
        self._discovering = False
        self._register = True
        self._care_of_index = 0  # which of the agent's care-of addresses to try

    # What a connection manager says.

    def attach(self, interface: str, care_of: IPv4Address, now: float) -> None:
        """Use the co-located care-of address `care_of` on `interface` and register it directly.

        Raises ValueError for an address that cannot be a care-of address. Called again for the same
        attachment it registers anew and then reports to the shell again what to use.
        """
        if not is_unicast(care_of) or care_of == self._home.address:
            raise ValueError(f"{care_of} cannot be a care-of address")
        path = Path("co-located", interface, care_of, care_of)
        if path != self._registrar.path:
            self._leave(interface)
        self._interface, self._registrar.path = interface, path
        self._registrar.usage.tell_again()
        self._registrar.deregistering = False
        self._requester.repetition.moved()
        self._registrar.start(now)

    def discover(self, interface: str, now: float, register: bool = True) -> None:
        """Look for an agent on `interface`, to register through it or to find that this is home.

        Without `register` an agent found is only used as default router. Whatever was known of another
        attachment is forgotten; said again of the same one, it asks again unless an agent was found already.
        """
        same = (self._interface, self._register) == (interface, register)
        if same and self._discovering and not self._registrar.deregistering:
            if self._discovery.current is None:
                self._discovery.restart()  # or each time it is said the next solicitation moves further away
                self._solicit(now)
            return
        self._leave(interface)
        self._interface, self._discovering, self._register = interface, True, register
        self._solicit(now)

    def detach(self, now: float, moving: bool = False) -> None:
        """Forget the attachment, and the registration too unless `moving` on may overlap; send nothing."""
        self._leave("" if moving else None)
        self._out.event("detached")

    def deregister(self, now: float) -> None:
        """Ask the home agent to delete all bindings, over the current attachment.

        Raises ValueError when there is none.
        """
        if self._registrar.path is None:
            raise ValueError("not attached: there is no way to reach the home agent")
        self._registrar.deregistering = True
        self._timers.cancel("renew")
        self._requester.repetition.moved()
        self._registrar.start(now)

    def renew(self, now: float) -> None:
        """Ask the home agent again for what it granted last, to see that it can still be reached.

        Raises ValueError where nothing was asked for.
        """
        if self._registrar.path is None or not self._register:
            raise ValueError("there is no registration to renew")
        self._renew(now)

    # What becomes of requests, what arrives, what is due, what is reported.

    def departed(self, now: float) -> None:
        """The last request left this node at `now`, perhaps later than it was to."""
        self._registrar.departed(now)

    def held_back(self) -> None:
        """The last request still waits inside this node, for ARP say; `departed` may follow."""
        self._registrar.held_back()

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a reply, or what came out of a tunnel in UDP: the reply to a keepalive maybe."""
        if datagram.payload[:1] == bytes((DATA,)):
            self._keepalives.receive(datagram, now)
            return
        if datagram.payload[:1] == bytes((REVOCATION,)):
            if (revoked := self._requester.revocation.receive(datagram, now)) is not None:
                self._registrar.revoked(revoked, now)
            return
        path, known = self._registrar.path, self._home.known
        code = self._registrar.receive(datagram, now)
        if self._home.known > known and path is not None and path.mode == "home":
            self._go_home(now)
        if code is None or not from_foreign_agent(code) or code == Code.FA_LIFETIME_TOO_LONG:
            return
        if code in CHALLENGED and path is not None and path.agent is not None:
            if self._requester.responses.spent(path.agent):
                self._solicit(now)  # RFC 4721 §3.3: the reply has offered none
        elif self._registrar.path is path:  # else the same agent is asked for less
            self._try_elsewhere(now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an advertisement."""
        if message.interface != self._interface:
            self.counters["agent-messages-ignored"] += 1
            return
        heard = self._discovery.receive(message, now)
        if heard is None:
            return
        agent, news = heard
        self._requester.responses.heard(agent.address, agent.challenge)
        if news:
            self._out.event("agent-advertisement", **agent.words())
        if self._registrar.deregistering:
            self._refresh(agent)
        elif self._discovering:
            self._heard(agent, now)
        else:
            self._heard_while_co_located(agent, now)

    def tick(self, now: float) -> None:
        """Repeat requests and solicitations, renew and expire the registration, notice silent agents."""
        for timer in self._timers.pop_due(now):
            if timer == "request":
                if self._registrar.timed_out():
                    self._try_elsewhere(now)
                self._registrar.send(now)
            elif timer == "renew":
                self._renew(now)
            elif timer in ("expire", "drop"):
                self._registrar.due(timer, now)
            elif timer == "agent":
                self._agent_silent(now)
            else:
                self._solicit(now)
        self._arps.tick(now)
        keepalives, lost = self._keepalives.tick(now)
        self._out.add(*keepalives)
        for home_address in lost:  # RFC 3519 §4.10: a new request shows the new mapping
            self._out.event("mapping-lost", keepalive=self._keepalives.shorten(home_address))
            if not self._registrar.asking:
                self._registrar.start(now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        due = (self._timers.next(), self._arps.next(), self._keepalives.deadline())
        return min((when for when in due if when is not None), default=None)

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        return self._out.drain()

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null: not registered, or for ever."""
        registered, path = self._registrar.registered, self._registrar.path
        agent = self._discovery.current
        return {
            "role": "mobile-node",
            "state": self._registrar.state(self._register) if self._interface else "detached",
            "mode": path.mode if path else None,
            "interface": self._interface,
            "home_address": str(self._home.address) if self._home.known else None,
            "nai": self.config.nai,
            "home_agent": str(self._requester.home_agent),
            "care_of": str(path.care_of_address) if path and path.mode != "home" else None,
            "former_care_of": [*map(str, self._registrar.former.care_of_addresses)],
            "agent": str(agent.address) if agent else None,
            "registered": registered is not None,
            "lifetime": self._registrar.granted if registered else None,
            "lifetime_left": lifetime_left(self._timers.get("expire"), now) if registered else None,
            "keepalive": self._keepalives.interval(self._home.address),
            "clock_offset": round(self._requester.clock_offset, 3),
            "agents": [str(address) for address in self._discovery.addresses],
            "counters": dict(sorted(self.counters.items())),
        }

    # Agents (§2.4).

    def _solicit(self, now: float) -> None:
        if self._interface is not None:
            message, interval = self._discovery.solicit(self._interface)
            self._out.add(SendAgentMessage(message))
            self._timers.set("solicit", now + interval)

    def _refresh(self, agent: Agent) -> Agent | None:
        """Note that the agent in use is heard; return what it was before, None for another agent."""
        current = self._discovery.current
        if current is None or agent.address != current.address:
            return None
        self._discovery.current = agent
        self._timers.set("agent", agent.expires)
        return current

    def _heard(self, agent: Agent, now: float) -> None:
        before = self._refresh(agent)
        if before is not None:
            path = self._registrar.path
            if path is None or path.mode == "home":
                return
            if agent.has(AgentFlag.BUSY) and agent.rebooted_since(before):  # RFC 3543 §4.1: not here again
                self._agent_silent(now)
            elif path.care_of_address not in agent.mobility.care_of_addresses or agent.rebooted_since(before):
                self._out.event("agent-rebooted", agent=str(agent.address))
                self._use_agent(agent, now)
        elif (
            self._discovery.is_home(agent)
            or self._discovery.moved_to(agent, now)
            or (self._discovery.current is None and self._discovery.suits(agent))
        ):
            self._use_agent(agent, now)

    def _heard_while_co_located(self, agent: Agent, now: float) -> None:
        """An advertisement can show that this is home, or that registration must go through it (§2.4.1)."""
        path = self._registrar.path
        if path is None:
            return
        if self._discovery.is_home(agent):
            self._discovering = True
            self._use_agent(agent, now)
        elif (before := self._refresh(agent)) is not None:
            if agent.rebooted_since(before):
                self._out.event("agent-rebooted", agent=str(agent.address))
                self._registrar.start(now)
        elif (
            path.agent is None and agent.has(AgentFlag.REGISTRATION_REQUIRED) and self._discovery.suits(agent)
        ):
            self._discovery.current = agent
            self._timers.set("agent", agent.expires)
            self._registrar.path = replace(
                path,
                agent=agent.address,
                agent_link_address=agent.link_address,
                lifetime_limit=agent.mobility.registration_lifetime,
                agent_behind_nat=agent.has(AgentFlag.UDP_TUNNEL),
            )
            self._registrar.start(now)

    def _use_agent(self, agent: Agent, now: float) -> None:
        current = self._discovery.current
        if current is None or agent.address != current.address:
            self._care_of_index = 0
        self._discovery.current = agent
        self._timers.cancel("solicit")
        self._timers.set("agent", agent.expires)
        if self._discovery.is_home(agent):
            self._go_home(now)
            return
        self._arps.cancel(self._home.address)
        path = self._registrar.path = self._path_through(agent)
        registered = self._registrar.registered
        holds = registered is not None and registered.path == path
        self._registrar.use_agent(path, registered=holds)
        if self._register:
            self._registrar.start(now)

    def _path_through(self, agent: Agent) -> Path:
        assert self._interface is not None
        ends = self._interface, self._home.address
        return Path.through(*ends, agent, self._care_of_index, self.config.delivery)

    def _try_elsewhere(self, now: float) -> None:
        """Point the next request at the agent's next care-of address, then at another agent (§2.4)."""
        agent, path = self._discovery.current, self._registrar.path
        if agent is None or path is None or path.mode != "foreign-agent" or self._registrar.deregistering:
            return
        self._care_of_index += 1
        if self._care_of_index >= len(agent.mobility.care_of_addresses):
            self._care_of_index = 0
            agent = self._discovery.alternative(agent, now)
            self._discovery.current = agent
            self._timers.set("agent", agent.expires)
        self._registrar.path = self._path_through(agent)

    def _renew(self, now: float) -> None:
        if self._registrar.asking:
            return
        other = self._discovery.moved(now) if self._discovering else None
        if other is not None:
            self._use_agent(other, now)
        else:
            self._registrar.start(now)

    def _agent_silent(self, now: float) -> None:
        """§2.4.2.1. What was granted holds until it expires; the agent may come back."""
        agent = self._discovery.current
        if agent is None:
            return
        self.counters["agents-lost"] += 1
        self._out.event("lost-agent", agent=str(agent.address))
        self._discovery.restart()
        if self._registrar.go_without_agent(now) or self._registrar.deregistering:
            return
        other = self._discovery.best(now)
        if other is not None:
            self._use_agent(other, now)
        else:
            self._solicit(now)

    def _go_home(self, now: float) -> None:
        """§2.4.3, in the order of §4.6: routes, gratuitous ARP, request."""
        agent, address = self._discovery.current, self._home.address
        assert self._interface is not None and agent is not None
        home = Path("home", self._interface, address, address)
        if self._registrar.path == home:
            return
        self._registrar.path = home
        self._timers.cancel("renew")
        if not self._home.known:  # the reply brings it, and then we are here again
            self._registrar.path = replace(home, agent_link_address=agent.link_address)
            return self._registrar.start(now)
        advertised = (each for each in agent.routers if each in self.config.home_prefix)
        router = self.config.home_router or next(advertised, None)
        self._registrar.usage.use(UseHome(self._interface, router))
        self._out.event("at-home", agent=str(agent.address))
        self._arps.announce(GratuitousArp(address, self._interface), now)
        if self._register:
            self._registrar.start(now)

    def _leave(self, to: str | None = None) -> None:
        """Forget all about the attachment; on the way `to` another interface, which may overlap."""
        self._registrar.leave(to)
        for timer in ("agent", "solicit"):
            self._timers.cancel(timer)
        self._arps.cancel(self._home.address)
        self._discovery.clear()
        self._interface, self._discovering, self._register, self._care_of_index = None, False, True, 0
