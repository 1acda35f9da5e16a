"""Agent discovery on one link: soliciting, listening, and judging what is heard (RFC 5944 §2.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from random import Random

from testbed.mobileip.core.api import AgentMessage
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.mobile.agents import Agent, AgentList
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.wire import agent_advertisement, agent_solicitation
from testbed.mobileip.wire.agent_advertisement import AgentFlag
from testbed.mobileip.wire.error import WireError

ALL_MOBILITY_AGENTS = IPv4Address("224.0.0.11")
INITIAL_SOLICITATIONS = 3
"""Solicitations at one per second; the interval after the last of them has doubled already (§2.4)."""
MAX_SOLICITATION_INTERVAL = 60.0


class Discovery:
    """The agents of the link the mobile node is on; `current` is the agent in use.

    `home_agent` is the address by which it recognises the home network.
    """

    def __init__(
        self,
        config: MobileNodeConfig,
        home: HomeAddress,
        home_agent: Callable[[], IPv4Address],
        counters: Counter[str],
        discards: Discards,
        rng: Random,
    ) -> None:
        self.current: Agent | None = None
        self._config = config
        self._home = home
        self._home_agent = home_agent
        self._counters = counters
        self._discards = discards
        self._rng = rng
        self._agents = AgentList()
        self._solicitations = 0

    @property
    def addresses(self) -> list[IPv4Address]:
        """Of all agents remembered."""
        return [agent.address for agent in self._agents]

    def clear(self) -> None:
        """The link was left: forget its agents."""
        self.current = None
        self._agents.clear()
        self._solicitations = 0

    def restart(self) -> None:
        """Search anew, at the highest rate again; what was heard remains."""
        self.current = None
        self._solicitations = 0

    def solicit(self, interface: str) -> tuple[AgentMessage, float]:
        """A solicitation, and the seconds until the next."""
        self._counters["solicitations-sent"] += 1
        self._solicitations += 1
        # The exponent is bounded because a search may last for years.
        doublings = min(16, max(0, self._solicitations + 1 - INITIAL_SOLICITATIONS))
        interval = min(2.0**doublings, MAX_SOLICITATION_INTERVAL)
        message = AgentMessage(
            agent_solicitation.encode(), self._home.address, ALL_MOBILITY_AGENTS, interface
        )
        # Randomised as RFC 1256 wants, but never faster than one per second.
        return message, interval * self._rng.uniform(1.0, 1.25)

    def receive(self, message: AgentMessage, now: float) -> tuple[Agent, bool] | None:
        """The agent that advertises, and whether it is new or offers something else than before.

        None, and counted, for anything but a valid agent advertisement.
        """
        if message.payload[:1] != bytes((agent_advertisement.TYPE,)) or message.ttl != 1:
            self._counters["agent-messages-ignored"] += 1
            return None
        try:
            agent = Agent.from_message(message, now)
        except WireError as error:
            self._discards.agent_message("advertisements-discarded", error.reason, message, now)
            return None
        if agent is None or not is_unicast(agent.address):
            self._counters["agent-messages-ignored"] += 1
            return None
        self._counters["advertisements-received"] += 1
        before = self._agents.get(agent.address)
        self._agents.put(agent, self.current.address if self.current else None)
        return agent, before is None or before.mobility.flags != agent.mobility.flags

    def is_home(self, agent: Agent) -> bool:
        """Whether hearing `agent` means to be at home (§2.4.3)."""
        return agent.is_home_agent(self._home_agent(), self._config.home_prefix)

    def suits(self, agent: Agent) -> bool:
        """Whether a registration through `agent` can succeed."""
        if not agent.is_foreign_agent or agent.link_address is None or agent.has(AgentFlag.BUSY):
            return False
        if agent.mobility.registration_lifetime == 0:
            return False
        if self._config.reverse_tunnel and not agent.has(AgentFlag.REVERSE_TUNNEL):
            self._counters["agents-without-reverse-tunnel"] += 1
            return False
        return True

    def best(self, now: float) -> Agent | None:
        """The home agent if it is heard, else the foreign agent heard last."""
        alive = self._agents.alive(now)
        home = [agent for agent in alive if self.is_home(agent)]
        return next(iter(home or [agent for agent in alive if self.suits(agent)]), None)

    def alternative(self, agent: Agent, now: float) -> Agent:
        """Another foreign agent than `agent`; itself where there is none."""
        others = (other for other in self._agents.alive(now) if other.address != agent.address)
        return next((other for other in others if self.suits(other)), agent)

    def moved_to(self, agent: Agent, now: float) -> bool:
        """Whether `agent` shows a move: other prefixes, and the current agent is silent (§2.4.2.2).

        Prefixes alone would make a node between two agents switch with every advertisement.
        """
        current = self.current
        return (
            current is not None
            and agent.address != current.address
            and current.overdue(now)
            and not agent.overdue(now)
            and agent.on_other_subnet(current)
            and self.suits(agent)
        )

    def moved(self, now: float) -> Agent | None:
        """An agent that shows a move."""
        return next((agent for agent in self._agents.alive(now) if self.moved_to(agent, now)), None)
