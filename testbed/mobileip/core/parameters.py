"""What the state machines must know before they start; the shell reads it from the node's TOML file.

All durations are seconds, all lifetimes whole seconds of 1 to 65535, where 65535 means for ever (RFC 5944
§3.3). A value that cannot work raises ValueError with a message that names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.links import VisitedLink, broadcast_addresses, edges
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.algorithm import Algorithm
from testbed.mobileip.wire.authentication import CHAP_SPI
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.nai import check as check_nai

INFINITE_LIFETIME = 0xFFFF
MOST_CARE_OF = 62
"""Care-of addresses that the Length of the Mobility Agent Advertisement Extension has room for (§2.1.1)."""
ALTERNATIVES = (Encapsulation.GRE, Encapsulation.MINIMAL)
"""What agents support beside IP in IP, unless their configuration says otherwise."""
Peer = IPv4Address | str
"""Who shares a security association: an address, or a mobile node's NAI (RFC 2794)."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_lifetime(name: str, value: int) -> None:
    _require(1 <= value <= INFINITE_LIFETIME, f"{name} must be 1 to 65535 seconds, not {value}")


def _require_port(value: int) -> None:
    _require(1 <= value <= 0xFFFF, f"port must be 1 to 65535, not {value}")


def _require_keepalive(value: int) -> None:
    _require(10 <= value <= 0xFFFF, f"keepalive must be 10 to 65535 seconds, not {value}")  # RFC 3519 §4.10


class ReverseTunnel(Enum):
    """How an agent treats the T bit of a request (RFC 3024 §4.2, §4.3)."""

    REFUSED = "refused"  # codes 74, 137
    OFFERED = "offered"
    REQUIRED = "required"  # codes 75, 138


class Inform(Enum):
    """Who decides whether a foreign agent informs a mobile node of a revocation (RFC 3543 §3.2)."""

    HOME_AGENT = "home-agent"  # the I bit; always, where the home agent leaves it to the foreign agent
    ALWAYS = "always"
    NEVER = "never"


class ReplayProtection(Enum):
    """How a home agent sees that a request is fresh (RFC 5944 §5.7)."""

    TIMESTAMPS = "timestamps"
    NONCES = "nonces"


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """One security context shared with `peer` (RFC 5944 §1.6): found by the peer and the SPI.

    A peer may have several contexts; the first one listed signs what is not the answer to a known SPI.
    """

    peer: Peer
    spi: int
    key: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.HMAC_MD5
    replay: ReplayProtection = ReplayProtection.TIMESTAMPS
    """Of no consequence where a foreign agent is one of the two."""

    def __post_init__(self) -> None:
        _require(256 <= self.spi <= 0xFFFFFFFF, f"SPI must be 256 to 4294967295, not {self.spi}")
        if isinstance(self.peer, str):
            check_nai(self.peer, realm=True)
        _require(len(self.key) > 0, "the key of a security association must not be empty")
        size = self.algorithm.key_size
        _require(
            size in (None, len(self.key)),
            f"the key for {self.algorithm.value} must have {size} bytes, not {len(self.key)}",
        )


@dataclass(frozen=True, slots=True)
class Credential:
    """What a mobile node and AAA share (RFC 4721 §6); an agent that has it verifies in the place of AAA."""

    node: Peer
    spi: int
    """Any from 256 on for HMAC-MD5, or that of CHAP (§8), which is weaker (§12)."""
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _require(
            self.spi == CHAP_SPI or 256 <= self.spi <= 0xFFFFFFFF,
            f"the SPI of an AAA key must be {CHAP_SPI} for CHAP, or 256 to 4294967295, not {self.spi}",
        )
        _require(len(self.key) > 0, "an AAA key must not be empty")


@dataclass(frozen=True, slots=True)
class Advertising:
    """How agent advertisements are sent on one link (RFC 5944 §2.3, RFC 1256 §4.1)."""

    interval: float = 1.0
    """At most this long between two multicast advertisements (three quarters of it at least)."""
    lifetime: int = 3
    """How long an advertisement is valid; at least three times the interval is advised."""

    def __post_init__(self) -> None:
        _require(
            self.interval >= 0.05, f"the advertisement interval must be at least 0.05 s, not {self.interval}"
        )
        _require_lifetime("the advertisement lifetime", self.lifetime)
        _require(
            self.lifetime >= self.interval, "the advertisement lifetime must not be shorter than the interval"
        )


class UdpTunnel(Enum):
    """Whether a mobile node asks for a tunnel in UDP (RFC 3519 §3.1)."""

    OFF = "off"
    NAT = "nat"  # where the home agent sees a NAT
    FORCED = "forced"  # the F bit: in any case


@dataclass(frozen=True, slots=True)
class UdpTunnelling:
    """How a home agent tunnels in UDP (RFC 3519)."""

    keepalive: int = 0
    """Seconds between keepalives, as replies ask for (§3.2); 0 leaves them to the mobile node."""
    forced: bool = True
    """Whether a mobile node may have it where there is no NAT (§3.1.1); else: code 129."""
    lifetime: int = 60
    """The longest lifetime granted: nothing proves the address that packets go to (§5.2, §6)."""

    def __post_init__(self) -> None:
        _require(0 <= self.keepalive <= 0xFFFF, f"keepalive must be 0 to 65535 seconds, not {self.keepalive}")
        _require_lifetime("the lifetime of a tunnel in UDP", self.lifetime)


@dataclass(frozen=True, slots=True)
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
    pool: tuple[IPv4Network, ...] = ()
    """What home addresses are assigned from to those known by their NAI (RFC 2794), within `home_prefix`."""
    mobile_nodes: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home address, or the NAI."""
    foreign_agents: tuple[SecurityAssociation, ...] = ()
    """`peer` is the source address of the requests a foreign agent relays: its care-of address."""
    aaa: tuple[Credential, ...] = ()
    """Of the mobile nodes whose Mobile-AAA authentication is verified here; code 144."""

    def __post_init__(self) -> None:
        _require_lifetime("the home agent's lifetime", self.lifetime)
        _require(self.bindings >= 1, f"bindings must be at least 1, not {self.bindings}")
        _require(self.simultaneous >= 1, f"simultaneous must be at least 1, not {self.simultaneous}")
        _require(
            self.replay_tolerance > 0, f"the replay tolerance must be positive, not {self.replay_tolerance}"
        )
        _require(
            self.advertising is None or self.home_interface is not None,
            "a virtual home network has no link to advertise on",
        )
        outside = ", ".join(str(each) for each in self.pool if not each.subnet_of(self.home_prefix))
        _require(not outside, f"of the pool {outside} is not within the home prefix {self.home_prefix}")
        named = any(isinstance(each.peer, str) for each in self.mobile_nodes)
        _require(bool(self.pool) or not named, "mobile nodes known by their NAI need a pool")

    def serves(self, address: IPv4Address) -> bool:
        """Whether a mobile node may have this home address."""
        prefix = self.home_prefix
        return address in prefix and address != self.address and address not in edges(prefix)

    def is_never_care_of(self, address: IPv4Address) -> bool:
        """Whether, as far as this node knows its links, no other node can have this address."""
        own = self.own_addresses
        return address not in self.foreign_agents_here and (
            address == self.address
            or address in edges(self.home_prefix)
            or any(address == each.ip or address in edges(each.network) for each in own)
        )

    def is_broadcast(self, address: IPv4Address) -> bool:
        """Whether this is a broadcast address on the home link."""
        return address in broadcast_addresses(self.home_prefix)


@dataclass(frozen=True, slots=True)
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
    advertising: Advertising = Advertising()
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
    pending: int = 100
    """Requests awaiting a reply at once; beyond: code 66."""
    visitors: int = 1000
    """Registered mobile nodes at once; beyond: code 66, and the B bit is advertised."""
    mobile_nodes: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home address, or the NAI."""
    home_agents: tuple[SecurityAssociation, ...] = ()
    """`peer` is the home agent's address."""

    def __post_init__(self) -> None:
        _require_lifetime("the registration lifetime", self.registration_lifetime)
        _require(self.pending >= 1, f"pending must be at least 1, not {self.pending}")
        _require(self.visitors >= 1, f"visitors must be at least 1, not {self.visitors}")
        names = [link.interface for link in self.links]
        _require(len({*names}) == len(names), f"{', '.join(names)}: a link is there twice")
        offered = self.care_of_addresses
        _require(len({*offered}) == len(offered), "a care-of address is there twice")
        _require(len(offered) <= MOST_CARE_OF, f"more than {MOST_CARE_OF} care-of addresses")
        _require(
            not self.udp_tunnel or self.reverse_tunnel is not ReverseTunnel.REFUSED,
            "behind a NAT a foreign agent cannot do without reverse tunnels",
        )
        _require_port(self.port)
        _require(
            not self.revocation or self.registration_required,
            "revocation needs the R bit: registration must be required",  # RFC 3543 §4.3.1
        )
        _require(
            not self.revocation or self.port == PORT,
            f"revocation needs port {PORT}, not {self.port}: revocations are sent there",  # RFC 3543 §3.3
        )
        _require_keepalive(self.keepalive)
        _require(
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


@dataclass(frozen=True, slots=True)
class MobileNodeConfig:
    """A mobile node (RFC 5944 §3.6)."""

    home_address: IPv4Address | None
    """None: the home agent assigns it (RFC 2794)."""
    home_prefix: IPv4Network
    home_agent: IPv4Address
    """The broadcast address of `home_prefix` asks for dynamic home agent address resolution (§3.6.1.2)."""
    security: SecurityAssociation
    """Shared with the home agent; `peer` is not looked at."""
    nai: str | None = None
    """What it is known by to the home agent, if not by its home address alone."""
    home_router: IPv4Address | None = None
    """Default router at home; None takes what the advertisement says."""
    port: int = PORT
    """The UDP port that requests are sent from (§3.3)."""
    lifetime: int = 600
    """Asked for at each registration."""
    reverse_tunnel: bool = False
    """The T bit (RFC 3024); agents that do not offer it are passed over."""
    delivery: Delivery = Delivery.DIRECT
    """Asked for through a foreign agent; where the agent refuses it, delivery is direct."""
    encapsulation: Encapsulation = Encapsulation.IP_IN_IP
    """Asked for by the M or G bit where a foreign agent offers it, and always without a foreign agent."""
    udp_tunnel: UdpTunnel = UdpTunnel.OFF
    keepalive: int = 110
    """Seconds between keepalives of a tunnel in UDP, unless the home agent says others (RFC 3519 §4.9)."""
    other_home_agents: tuple[SecurityAssociation, ...] = ()
    """Asked in turn where `home_agent` does not answer or is not willing; `peer` is the address."""
    overlap: float = 0.0
    """Seconds that a care-of address stays registered beside the next, by the S bit (§3.6.1.2); 0: not."""
    revocation: bool = False
    """Whether the home agent may revoke what is registered without a foreign agent (RFC 3543 §4.2.2.3)."""
    broadcasts: bool = False
    """The B bit: the home network's broadcasts are wanted, too (RFC 5944 §4.3)."""
    foreign_agents: tuple[SecurityAssociation, ...] = ()
    """`peer` is the agent's address on the visited link."""
    aaa: Credential | None = None
    """By which it answers the challenges of foreign agents (RFC 4721 §3.1)."""

    def __post_init__(self) -> None:
        _require_lifetime("the mobile node's lifetime", self.lifetime)
        _require(
            self.home_address is not None or self.nai is not None,
            "a mobile node needs a home address, or an NAI to be assigned one",
        )
        if self.nai is not None:
            check_nai(self.nai, realm=True)
        _require(
            self.home_address is None or self.home_address in self.home_prefix,
            f"the home address {self.home_address} is not in the home prefix {self.home_prefix}",
        )
        _require(
            self.reverse_tunnel or self.delivery is Delivery.DIRECT,
            "encapsulating delivery is to a reverse tunnel, which is not asked for",  # RFC 3024 §3.3
        )
        _require_port(self.port)
        _require(0 <= self.overlap <= 3600, f"simultaneous must be 0 to 3600 seconds, not {self.overlap:g}")
        peers = [self.home_agent, *(association.peer for association in self.other_home_agents)]
        _require(len({*peers}) == len(peers), "a home agent is there twice")
        _require_keepalive(self.keepalive)
