"""What a foreign agent must know (RFC 5944 §3.7.1)."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from ipaddress import IPv4Address

from testbed.mobileip.core.links import VisitedLink, edges
from testbed.mobileip.core.parameters import (
    ALTERNATIVES,
    Advertising,
    ReverseTunnel,
    require,
    require_keepalive,
    require_lifetime,
    require_port,
)
from testbed.mobileip.core.security import Credential, SecurityAssociation
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value

MOST_CARE_OF = 62
"""Care-of addresses that the Length of the Mobility Agent Advertisement Extension has room for (§2.1.1)."""


class Inform(Enum):
    """Who decides whether a foreign agent informs a mobile node of a revocation (RFC 3543 §3.2)."""

    HOME_AGENT = "home-agent"  # the I bit; always, where the home agent leaves it to the foreign agent
    ALWAYS = "always"
    NEVER = "never"


@value
class ForeignAgentConfig:
    """A foreign agent on one visited link, or on several (RFC 5944 §3.7.1)."""

    interface: str
    address: IPv4Address
    """Its address on the visited link."""
    care_of: IPv4Address
    """A care-of address it offers; requests are relayed from the one that they ask for."""
    other_links: tuple[VisitedLink, ...] = ()
    """Further links that it serves."""
    other_care_of: tuple[IPv4Address, ...] = ()
    """Further care-of addresses: all are advertised on every link (§2.1.1)."""
    own_addresses: frozenset[IPv4Address] = frozenset()
    """Further addresses of its own: none may be a home agent (code 194), a home address (code 65) or a
    co-located care-of address (code 77)."""
    home_agents_here: frozenset[IPv4Address] = frozenset()
    """But these may be home agents: of others in the same node."""
    port: int = PORT
    """The UDP port that requests are relayed from (§3.7.2.2)."""
    prefix_length: int | None = None
    """Of the first visited link."""
    advertising: Advertising = field(default_factory=Advertising)
    registration_lifetime: int = 600
    """The longest lifetime accepted; beyond: code 69."""
    registration_required: bool = True
    """The R bit: also with a co-located care-of address."""
    udp_tunnel: bool = False
    """Whether it is behind a NAT: the U bit, and a tunnel in UDP is asked for (RFC 3519 §3.4, §4.5)."""
    keepalive: int = 110
    """Seconds between the keepalives of such a tunnel, unless the home agent says others (RFC 3519 §4.9)."""
    reverse_tunnel: ReverseTunnel = ReverseTunnel.OFFERED
    revocation: bool = False
    """Whether home agents with an association are asked for revocation, and the X bit (RFC 3543 §3.1)."""
    inform: Inform = Inform.HOME_AGENT
    challenge_window: int = 0
    """How many of the challenges last advertised are accepted (RFC 4721 §9); 0: none are advertised."""
    aaa: tuple[Credential, ...] = ()
    """Of the mobile nodes whose Mobile-AAA authentication is verified here."""
    encapsulations: tuple[Encapsulation, ...] = ALTERNATIVES
    """Supported beside IP in IP, and advertised by the M and G bits; any other that is asked for: code 72."""
    encapsulating_delivery: bool = True
    """Whether the Encapsulating Delivery Style is supported (RFC 3024 §5.2), else: code 79."""
    pending: int = 1000
    """Requests awaiting a reply at once; beyond: code 66."""
    visitors: int = 1000
    """Registered mobile nodes at once; beyond: code 66, and the B bit is advertised."""
    mobile_nodes: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home address, or the NAI."""
    home_agents: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home agent's address."""

    def __post_init__(self) -> None:
        require_lifetime("the registration lifetime", self.registration_lifetime)
        require(self.pending >= 1, f"pending must be at least 1, not {self.pending}")
        require(self.visitors >= 1, f"visitors must be at least 1, not {self.visitors}")
        names = [link.interface for link in self.links]
        require(len({*names}) == len(names), f"{', '.join(names)}: a link is there twice")
        offered = self.care_of_addresses
        require(len({*offered}) == len(offered), "a care-of address is there twice")
        require(len(offered) <= MOST_CARE_OF, f"more than {MOST_CARE_OF} care-of addresses")
        require(
            not self.udp_tunnel or self.reverse_tunnel is not ReverseTunnel.REFUSED,
            "behind a NAT a foreign agent cannot do without reverse tunnels",
        )
        require_port(self.port)
        require(
            not self.revocation or self.registration_required,
            "revocation needs the R bit: registration must be required",  # RFC 3543 §4.3.1
        )
        require(
            not self.revocation or self.port == PORT,
            f"revocation needs port {PORT}, not {self.port}: revocations are sent there",  # RFC 3543 §3.3
        )
        require_keepalive(self.keepalive)
        require(
            self.challenge_window == 0 or 2 <= self.challenge_window <= 256,
            f"the window of challenges must be 0 or 2 to 256, not {self.challenge_window}",
        )

    @property
    def links(self) -> tuple[VisitedLink, ...]:
        """All links that it serves."""
        return (VisitedLink(self.interface, self.address, self.prefix_length), *self.other_links)

    def link(self, interface: str | None) -> VisitedLink:
        """The link of an interface; the first one where that is not known."""
        return next((each for each in self.links if each.interface == interface), self.links[0])

    @property
    def care_of_addresses(self) -> tuple[IPv4Address, ...]:
        """All care-of addresses that it offers."""
        return (self.care_of, *self.other_care_of)

    @property
    def addresses(self) -> frozenset[IPv4Address]:
        """All addresses that are its own."""
        return self.own_addresses | {*self.care_of_addresses, *(link.address for link in self.links)}

    def is_never_co_located(self, address: IPv4Address) -> bool:
        """Whether no mobile node can have this address of its own on a visited link."""
        prefixes = (link.prefix for link in self.links)
        return address in self.addresses or any(prefix and address in edges(prefix) for prefix in prefixes)
