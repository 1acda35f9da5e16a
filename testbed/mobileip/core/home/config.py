"""What a home agent must know (RFC 5944 §3.8.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testbed.mobileip.core.links import broadcast_addresses, edges
from testbed.mobileip.core.parameters import (
    ALTERNATIVES,
    Advertising,
    ReverseTunnel,
    require,
    require_lifetime,
)
from testbed.mobileip.core.security import Credential, SecurityAssociation
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value


@value
class UdpTunnelling:
    """How a home agent tunnels in UDP (RFC 3519)."""

    keepalive: int = 0
    """Seconds between keepalives, as replies ask for (§3.2); 0 leaves them to the mobile node."""
    forced: bool = True
    """Whether a mobile node may have it where there is no NAT (§3.1.1); else: code 129."""
    lifetime: int = 60
    """The longest lifetime granted: nothing proves the address that packets go to (§5.2, §6)."""

    def __post_init__(self) -> None:
        require(0 <= self.keepalive <= 0xFFFF, f"keepalive must be 0 to 65535 seconds, not {self.keepalive}")
        require_lifetime("the lifetime of a tunnel in UDP", self.lifetime)


@value
class HomeAgentConfig:
    """A home agent (RFC 5944 §3.8.1)."""

    address: IPv4Address
    """Where it is registered with, and one end of its tunnels."""
    home_prefix: IPv4Network
    home_interface: str | None = None
    """The home link; None for a virtual home network: neither advertisements nor ARP."""
    advertising: Advertising | None = None
    """How to advertise on the home link; None not to."""
    advertised_address: IPv4Address | None = None
    """Its address on the home link where that is not `address`."""
    own_addresses: frozenset[IPv4Interface] = frozenset()
    """All its addresses, with the prefixes of their links: none may be a care-of address (code 134)."""
    foreign_agents_here: frozenset[IPv4Address] = frozenset()
    """But these: the care-of addresses of foreign agents in the same node."""
    lifetime: int = 600
    """The longest lifetime granted."""
    bindings: int = 10_000
    """Mobile nodes that may have bindings at once; beyond: code 130."""
    simultaneous: int = 4
    """Care-of addresses of one mobile node; beyond: code 135; 1: none supported, code 1."""
    replay_tolerance: float = 7.0
    """How far an identification's timestamp may be from the clock (RFC 5944 §5.7.1)."""
    reverse_tunnel: ReverseTunnel = ReverseTunnel.OFFERED
    encapsulations: tuple[Encapsulation, ...] = ALTERNATIVES
    """Supported beside IP in IP; any other that is asked for: code 139."""
    udp_tunnel: UdpTunnelling | None = UdpTunnelling()
    """None: behind a NAT nobody who asks for a tunnel in UDP is registered (code 129)."""
    inform_revoked: bool = True
    """Whether mobile nodes are to be informed of revocations, where that is left to it (RFC 3543 §3.2)."""
    trusted: tuple[IPv4Network, ...] | None = None
    """Where requests may come from; all others are discarded silently, and replies say so (RFC 5265 §4.3).

    None: a request may come from anywhere, and a reply says nothing.
    """
    pool: tuple[IPv4Network, ...] = ()
    """What home addresses are assigned from to those known by their NAI (RFC 2794), within `home_prefix`."""
    mobile_nodes: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home address, or the NAI."""
    foreign_agents: tuple[SecurityAssociation, ...] = ()
    """`peer` is the source address of the requests a foreign agent relays: its care-of address."""
    aaa: tuple[Credential, ...] = ()
    """Of the mobile nodes whose Mobile-AAA authentication is verified here; code 144."""

    def __post_init__(self) -> None:
        require_lifetime("the home agent's lifetime", self.lifetime)
        require(self.bindings >= 1, f"bindings must be at least 1, not {self.bindings}")
        require(self.simultaneous >= 1, f"simultaneous must be at least 1, not {self.simultaneous}")
        require(
            self.replay_tolerance > 0, f"the replay tolerance must be positive, not {self.replay_tolerance}"
        )
        require(
            self.advertising is None or self.home_interface is not None,
            "a virtual home network has no link to advertise on",
        )
        outside = ", ".join(str(each) for each in self.pool if not each.subnet_of(self.home_prefix))
        require(not outside, f"of the pool {outside} is not within the home prefix {self.home_prefix}")
        named = any(isinstance(each.peer, str) for each in self.mobile_nodes)
        require(bool(self.pool) or not named, "mobile nodes known by their NAI need a pool")

    def hears(self, source: IPv4Address) -> bool:
        """Whether a request from this address is looked at."""
        return self.trusted is None or any(source in prefix for prefix in self.trusted)

    def serves(self, address: IPv4Address) -> bool:
        """Whether a mobile node may have this home address."""
        prefix = self.home_prefix
        return address in prefix and address != self.address and address not in edges(prefix)

    @property
    def never_care_of(self) -> frozenset[IPv4Address]:
        """The addresses that, as far as this node knows its links, no other node can have."""
        ours = {self.address, *edges(self.home_prefix)}
        for each in self.own_addresses:
            ours |= {each.ip, *edges(each.network)}
        return frozenset(ours - self.foreign_agents_here)

    @property
    def broadcasts(self) -> frozenset[IPv4Address]:
        """The broadcast addresses of the home link."""
        return frozenset(broadcast_addresses(self.home_prefix))
