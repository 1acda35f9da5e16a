"""The agents a mobile node has heard on a link, and what their silence means (RFC 5944 §2.4.2, §2.4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.api import AgentMessage
from testbed.mobileip.core.encapsulations import advertised
from testbed.mobileip.wire.agent_advertisement import (
    AgentAdvertisement,
    AgentFlag,
    MobilityAgentExtension,
)
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value

MAX_AGENTS = 32
"""Agents remembered at once, so that a flood of advertisements takes no room."""

_FIRST_AFTER_ROLLOVER = 256


@value
class Agent:
    """An agent as its latest advertisement shows it."""

    address: IPv4Address
    link_address: bytes | None
    mobility: MobilityAgentExtension
    routers: tuple[IPv4Address, ...]
    prefixes: frozenset[IPv4Network]
    lifetime: int
    heard: float
    challenge: bytes | None = None
    """To be answered by requests (RFC 4721 §2)."""

    @classmethod
    def from_message(cls, message: AgentMessage, now: float) -> Agent | None:
        """Read an advertisement; None for a plain router's. Raises WireError for what is none."""
        advertisement = AgentAdvertisement.decode(message.payload)
        if advertisement.mobility is None:
            return None
        return cls(
            message.source,
            message.link_address,
            advertisement.mobility,
            tuple(address for address, _ in advertisement.routers),
            advertisement.prefixes,
            advertisement.lifetime,
            now,
            advertisement.challenge,
        )

    @property
    def expires(self) -> float:
        """When it must be taken for lost (§2.4.2.1)."""
        return self.heard + self.lifetime

    @property
    def is_foreign_agent(self) -> bool:
        """Whether it offers a care-of address."""
        return bool(self.mobility.flags & AgentFlag.FOREIGN_AGENT and self.mobility.care_of_addresses)

    def is_home_agent(self, home_agent: IPv4Address, home_prefix: IPv4Network) -> bool:
        """Whether this is the home link: its home agent, by its address or one on the home network."""
        if not self.mobility.flags & AgentFlag.HOME_AGENT:
            return False
        return self.address == home_agent or any(
            address in home_prefix for address in (self.address, *self.routers)
        )

    @property
    def encapsulations(self) -> tuple[Encapsulation, ...]:
        """What it offers beside IP in IP."""
        return advertised(self.mobility.flags)

    def words(self) -> dict[str, str | bool | None]:
        """What the event about its advertisement says."""
        return {
            "agent": str(self.address),
            "home_agent": self.has(AgentFlag.HOME_AGENT),
            "foreign_agent": self.is_foreign_agent,
            "care_of": str(self.mobility.care_of_addresses[0]) if self.is_foreign_agent else None,
            "busy": self.has(AgentFlag.BUSY),
        }

    def has(self, flag: AgentFlag) -> bool:
        """Whether the advertisement has `flag` set."""
        return bool(self.mobility.flags & flag)

    def rebooted_since(self, earlier: Agent) -> bool:
        """Whether the sequence number fell below what a rollover leaves (§2.4.4)."""
        return self.mobility.sequence < min(earlier.mobility.sequence, _FIRST_AFTER_ROLLOVER)

    def on_other_subnet(self, other: Agent) -> bool:
        """Whether both advertise their prefixes and have none in common (§2.4.2.2)."""
        return bool(self.prefixes and other.prefixes) and not self.prefixes & other.prefixes

    def overdue(self, now: float) -> bool:
        """Whether it should have been heard again by now: it advertises thrice in a lifetime (§2.1)."""
        return now - self.heard > self.lifetime / 2


class AgentList:
    """Agents by address."""

    def __init__(self) -> None:
        self._agents: dict[IPv4Address, Agent] = {}

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def get(self, address: IPv4Address) -> Agent | None:
        """What was last heard of `address`."""
        return self._agents.get(address)

    def put(self, agent: Agent, keep: IPv4Address | None) -> None:
        """Remember `agent`; when there are too many, the longest silent agent goes, but not `keep`."""
        self._agents.pop(agent.address, None)
        self._agents[agent.address] = agent
        if len(self._agents) > MAX_AGENTS:
            del self._agents[next(address for address in self._agents if address != keep)]

    def alive(self, now: float) -> list[Agent]:
        """Those whose advertisement has not expired, the latest heard first; the others are forgotten."""
        for agent in [each for each in self._agents.values() if each.expires <= now]:
            del self._agents[agent.address]
        return list(reversed(self._agents.values()))

    def clear(self) -> None:
        """Forget all."""
        self._agents.clear()
