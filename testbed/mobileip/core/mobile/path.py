"""How a mobile node reaches its home agent, and what it has asked for on that way (RFC 5944 §3.6)."""

from __future__ import annotations

from dataclasses import field
from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.mobile.agents import Agent
from testbed.mobileip.core.parameters import ALTERNATIVES, INFINITE_LIFETIME
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_request import RequestFlag
from testbed.mobileip.wire.value import value


@value
class Path:
    """How requests go and what they register: decided by where the mobile node is attached."""

    mode: str
    """co-located, foreign-agent or home."""
    interface: str
    source: IPv4Address = field(compare=False)
    """Of requests with a co-located care-of address; of all others the home address, once it is known."""
    care_of_address: IPv4Address
    agent: IPv4Address | None = None
    """The foreign agent that relays; None: directly to the home agent."""
    agent_link_address: bytes | None = None
    lifetime_limit: int = INFINITE_LIFETIME
    """What the agent accepts."""
    encapsulations: tuple[Encapsulation, ...] = field(default=ALTERNATIVES, compare=False)
    """What may be asked for beside IP in IP: what the agent offers, and nobody has refused."""
    agent_behind_nat: bool = False
    """The U bit of its advertisements (RFC 3519 §3.4)."""
    encapsulating: bool = field(default=False, compare=False)
    """Whether the Encapsulating Delivery Style is asked for (RFC 3024 §3.3): nobody has refused it."""
    local: tuple[IPv4Network, ...] = field(default=(), compare=False)
    """The prefixes of the visited link, as far as the agent advertises them."""

    @classmethod
    def through(
        cls, interface: str, home_address: IPv4Address, agent: Agent, index: int, delivery: Delivery
    ) -> Path:
        """With a care-of address of a foreign agent, chosen by `index`."""
        addresses = agent.mobility.care_of_addresses
        return cls(
            "foreign-agent",
            interface,
            home_address,
            addresses[index % len(addresses)],
            agent.address,
            agent.link_address,
            agent.mobility.registration_lifetime,
            agent.encapsulations,
            encapsulating=delivery is Delivery.ENCAPSULATING,
            local=tuple(sorted(agent.prefixes)),
        )


@value
class Sent:
    """The most recent request: what a reply must match (§3.6)."""

    path: Path
    low_identification: int
    lifetime: int
    """As asked for; 0 in a deregistration."""
    at: float
    flags: int
    udp_tunnel: int
    """The encapsulation asked for in UDP (RFC 3519 §3.1.4); 0: no tunnel in UDP is."""
    home_address: IPv4Address
    """As the request had it: zero, if it was not known (RFC 2794)."""
    drop: Path | None = None
    """Whose care-of address alone is given back; None: the request is about `path`."""

    @property
    def alternative(self) -> bool:
        """Whether another encapsulation than IP in IP was asked for."""
        return agreed(self.flags) != agreed(0)

    @property
    def encapsulating(self) -> bool:
        """Whether the Encapsulating Delivery Style was asked for."""
        return self.path.encapsulating and bool(self.flags & RequestFlag.REVERSE_TUNNEL)
