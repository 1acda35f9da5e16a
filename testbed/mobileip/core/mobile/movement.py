"""Where a mobile node is: the agent in use, and the move to another or home (RFC 5944 §2.4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from testbed.mobileip.core.api import GratuitousArp, SendAgentMessage
from testbed.mobileip.core.gratuitous_arp import GratuitousArps
from testbed.mobileip.core.mobile.agents import Agent
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.discovery import Discovery
from testbed.mobileip.core.mobile.effects import UseHome
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.path import Path
from testbed.mobileip.core.mobile.registrar import Registrar
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire.agent_advertisement import AgentFlag


class Movement:
    """Chooses the agent, and gives the registrar the path through it.

    Uses the timers agent (silent for too long) and solicit.
    """

    def __init__(
        self,
        config: MobileNodeConfig,
        home: HomeAddress,
        discovery: Discovery,
        registrar: Registrar,
        timers: Timers[str],
        out: Outbox,
        counters: Counter[str],
    ) -> None:
        self.interface: str | None = None
        """The link attached to; None: none."""
        self.register = True
        """Whether an agent found is to be registered through, not only used as default router."""
        self.arps = GratuitousArps(out)
        self._config = config
        self._home = home
        self._discovery = discovery
        self._registrar = registrar
        self._timers = timers
        self._out = out
        self._counters = counters
        self._discovering = False
        self._care_of_index = 0  # which of the agent's care-of addresses to try

    def discover(self, interface: str, now: float, register: bool) -> None:
        """Look for an agent on `interface`; see `MobileNode.discover`."""
        same = (self.interface, self.register) == (interface, register)
        if same and self._discovering and not self._registrar.deregistering:
            if self._discovery.current is None:
                self._discovery.restart()  # or each time it is said the next solicitation moves further away
                self.solicit(now)
            return
        self.leave(interface)
        self.interface, self._discovering, self.register = interface, True, register
        self.solicit(now)

    def leave(self, to: str | None = None) -> None:
        """Forget all about the attachment; on the way `to` another interface, which may overlap."""
        self._registrar.leave(to)
        for timer in ("agent", "solicit"):
            self._timers.cancel(timer)
        self.arps.cancel(self._home.address)
        self._discovery.clear()
        self.interface, self._discovering, self.register, self._care_of_index = None, False, True, 0

    def solicit(self, now: float) -> None:
        """Ask agents on the link to advertise themselves (§2.4)."""
        if self.interface is not None:
            message, interval = self._discovery.solicit(self.interface)
            self._out.add(SendAgentMessage(message))
            self._timers.set("solicit", now + interval)

    def heard(self, agent: Agent, now: float) -> None:
        """An agent on the link has advertised itself."""
        if self._registrar.deregistering:
            self._refresh(agent)
        elif self._discovering:
            self._heard_while_discovering(agent, now)
        else:
            self._heard_while_co_located(agent, now)

    def _refresh(self, agent: Agent) -> Agent | None:
        """Note that the agent in use is heard; return what it was before, None for another agent."""
        current = self._discovery.current
        if current is None or agent.address != current.address:
            return None
        self._discovery.current = agent
        self._timers.set("agent", agent.expires)
        return current

    def _heard_while_discovering(self, agent: Agent, now: float) -> None:
        before = self._refresh(agent)
        if before is not None:
            path = self._registrar.path
            if path is None or path.mode == "home":
                return
            if agent.has(AgentFlag.BUSY) and agent.rebooted_since(before):  # RFC 3543 §4.1: not here again
                self.agent_silent(now)
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
            self.go_home(now)
            return
        self.arps.cancel(self._home.address)
        path = self._registrar.path = self._path_through(agent)
        registered = self._registrar.registered
        holds = registered is not None and registered.path == path
        self._registrar.use_agent(path, registered=holds)
        if self.register:
            self._registrar.start(now)

    def _path_through(self, agent: Agent) -> Path:
        assert self.interface is not None
        ends = self.interface, self._home.address
        return Path.through(*ends, agent, self._care_of_index, self._config.delivery)

    def try_elsewhere(self, now: float) -> None:
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

    def renew(self, now: float) -> None:
        """Ask again for what was granted last, through a better agent where there is one (§2.4.2.2)."""
        if self._registrar.asking:
            return
        other = self._discovery.moved(now) if self._discovering else None
        if other is not None:
            self._use_agent(other, now)
        else:
            self._registrar.start(now)

    def agent_silent(self, now: float) -> None:
        """§2.4.2.1. What was granted holds until it expires; the agent may come back."""
        agent = self._discovery.current
        if agent is None:
            return
        self._counters["agents-lost"] += 1
        self._out.event("lost-agent", agent=str(agent.address))
        self._discovery.restart()
        if self._registrar.go_without_agent(now) or self._registrar.deregistering:
            return
        other = self._discovery.best(now)
        if other is not None:
            self._use_agent(other, now)
        else:
            self.solicit(now)

    def go_home(self, now: float) -> None:
        """§2.4.3, in the order of §4.6: routes, gratuitous ARP, request."""
        agent, address = self._discovery.current, self._home.address
        assert self.interface is not None and agent is not None
        home = Path("home", self.interface, address, address)
        if self._registrar.path == home:
            return
        self._registrar.path = home
        self._timers.cancel("renew")
        if not self._home.known:  # the reply brings it, and then we are here again
            self._registrar.path = replace(home, agent_link_address=agent.link_address)
            return self._registrar.start(now)
        advertised = (each for each in agent.routers if each in self._config.home_prefix)
        router = self._config.home_router or next(advertised, None)
        self._registrar.usage.use(UseHome(self.interface, router))
        self._out.event("at-home", agent=str(agent.address))
        self.arps.announce(GratuitousArp(address, self.interface), now)
        if self.register:
            self._registrar.start(now)
