"""The TOML files of the three daemons.

```toml
# any of them, where its node has several daemons: no two have the same name, device, protocol and table
name = "home-agent"                          # in its events; default: the role
device = "mip"                               # its tunnel devices are mip0, mip1 and so on
protocol = 143                               # `proto` of its routes and rules
table = 434                                  # mobile node: its routing table
                                             # foreign agent (435): its first; more for further kernel tunnels

# home agent
control = "/run/testbed/home-agent.sock"     # optional, as everything that has a default below
state = "/run/testbed/home-agent.state"      # bindings, replay protection; default: beside control
address = "10.0.1.2"                         # where mobile nodes register
reverse-tunnel = true                        # true | false | "required" (RFC 3024)
gre = true                                   # whether mobile nodes may ask for it (RFC 2784)
minimal = true                               # and for minimal encapsulation (RFC 2004)
share-port = false                           # true: port 434 at other addresses and links is others'
foreign-agents-here = []                     # care-of addresses of foreign agents in this node
ipsec-here = false                           # true: IPsec in this node may have routes for home addresses
inform-revoked = true                        # whether foreign agents shall inform mobile nodes (RFC 3543)
[home]
interface = "home"                           # absent: a virtual home network
prefix = "10.0.1.0/24"
advertise = true                             # agent advertisements on the home link
pool = ["10.0.1.192/26"]                     # assigned to mobile nodes known by their NAI (RFC 2794)
[advertisement]
interval = 1.0
lifetime = 3
[limits]
lifetime = 600                               # seconds; the longest registration granted
bindings = 10000
simultaneous = 4                             # care-of addresses of one mobile node
[udp-tunnel]                                 # through NATs (RFC 3519)
accept = true                                # false: behind a NAT nobody who asks for it is registered
forced = true                                # also where there is no NAT, when asked for
keepalive = 0                                # seconds that mobile nodes are asked for; 0: none
lifetime = 60                                # seconds; the longest registration granted with it
[trusted]                                    # absent: requests may come from anywhere (RFC 5265)
networks = ["10.0.0.0/8"]                    # from anywhere else they are discarded; default: none is trusted
[replay]
tolerance = 7                                # seconds that timestamps may be off
[[security]]
mobile-node = "10.0.1.100"                   # or its NAI, "mn@example.net"; or foreign-agent = "…"
spi = 256
algorithm = "hmac-md5"                       # or "hmac-sha-256", with a key of 32 bytes, or "keyed-md5"
key = "00112233445566778899aabbccddeeff"
replay = "timestamps"                        # or "nonces" (RFC 5944 §5.7); of mobile nodes only

# foreign agent
state = "/run/testbed/foreign-agent.state"   # visitors; default: beside control
interface = "hotspot"                        # the visited link
address = "198.51.100.1"                     # the agent's address there
care-of = "203.0.113.10"                     # or a list: all are advertised
link = []                                    # tables of interface and address: further visited links
share-port = false                           # true: port 434 at other addresses and links is others'
port = 434                                   # UDP port that requests are relayed from
home-agents-here = []                        # addresses of home agents in this node
behind-nat = false                           # true: the U bit, and tunnels in UDP are asked for (RFC 3519)
keepalive = 110                              # seconds, where the home agent asks for none
encapsulating-delivery = true                # the Encapsulating Delivery Style (RFC 3024); false: code 79
revocation = false                           # true: home agents with [[security]] are asked, X bit (RFC 3543)
challenge-window = 0                         # 2 or more: challenges, of which so many are valid (RFC 4721)
inform-revoked = "home-agent"                # "always" | "never": who decides if mobile nodes are informed
[advertisement]
interval = 1.0
lifetime = 3
registration-lifetime = 600
registration-required = true                 # the R bit
reverse-tunnel = true                        # true | false | "required"
gre = true                                   # the G bit
minimal = true                               # the M bit
[limits]
pending = 100
visitors = 1000
# [[security]] with mobile-node = "…" or home-agent = "…"
[[aaa]]                                      # what is verified in the place of AAA; also at home agents
mobile-node = "10.0.1.100"
spi = 700                                    # for HMAC-MD5; 2 for CHAP
key = "00112233445566778899aabbccddeeff"

# mobile node
home-address = "10.0.1.100"                  # absent: assigned by the home agent, to the NAI
nai = "mn@example.net"                       # absent: none (RFC 2794)
home-prefix = "10.0.1.0/24"
home-agent = "10.0.1.2"
home-router = "10.0.1.1"
lifetime = 600
reverse-tunnel = true
delivery = "direct"                          # to a foreign agent, or "encapsulating" (RFC 3024)
encapsulation = "ip-in-ip"                   # asked for, or "gre", "minimal"
udp-tunnel = "off"                           # "nat": asked for through NATs, or "forced" (RFC 3519)
keepalive = 110                              # seconds, where the home agent asks for none
revocation = false                           # true: the home agent may revoke what is registered directly
broadcasts = false                           # those of the home network, by the B bit
mip-rule-preference = 230                    # `ip rule` preference of the routes into the tunnel
mip-rule-from = "all"                        # or "home-address": only packets from there take them
port = 434                                   # UDP port that requests are sent from
simultaneous = 0                             # seconds that a care-of address is kept beside the next (S bit)
[security]                                   # shared with the home agent: algorithm and replay alike
spi = 256
key = "…"
# [[other-home-agent]] with address = "…", spi and key: asked in turn where one is silent or unwilling
[attachment]                                 # use this at the start; else wait for the control socket
interface = "eth0"
mode = "discover"                            # or "co-located", with care-of = "…"
# [[foreign-security]] with foreign-agent = "…"
# [aaa] with spi and key: by which challenges are answered
```
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Generic, TypeVar

from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.foreign.config import ForeignAgentConfig, Inform
from testbed.mobileip.core.home.config import HomeAgentConfig, UdpTunnelling
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.core.mobile.config import MobileNodeConfig, UdpTunnel
from testbed.mobileip.core.parameters import ALTERNATIVES, Advertising, ReverseTunnel
from testbed.mobileip.io.instance import FOREIGN_AGENT_TABLE, MOBILE_NODE_TABLE, Instance, read_instance
from testbed.mobileip.io.security_toml import (
    association,
    associations,
    build,
    credential,
    credentials,
)
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.encapsulation import Encapsulation

C = TypeVar("C")
DEFAULT_PREFERENCE = 230
_CHOICES = tuple(each.value for each in (Encapsulation.IP_IN_IP, *ALTERNATIVES))


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a mobile node on its own attaches to when it starts."""

    interface: str
    care_of: IPv4Address | None
    """None: look for an agent."""


@dataclass(frozen=True, slots=True)
class Settings(Generic[C]):
    """What a file says: to the core, and to the shell around it."""

    core: C
    control: Path | None
    instance: Instance
    rule_preference: int = DEFAULT_PREFERENCE
    rule_from_home_address: bool = False
    attachment: Attachment | None = None
    state: Path | None = None
    """Where an agent keeps what outlives its process; None: beside its control socket, if it has one."""
    ipsec_here: bool = False
    """Whether IPsec in the node may route packets for a home address elsewhere than into its tunnel."""


def _control(table: Table) -> Path | None:
    path = table.string("control", None)
    return Path(path) if path else None


def _state(table: Table) -> Path | None:
    path = table.string("state", None)
    return Path(path) if path else None


def _reverse_tunnel(table: Table) -> ReverseTunnel:
    value = table.boolean_or_choice("reverse-tunnel", ("required",), True)
    if value == "required":
        return ReverseTunnel.REQUIRED
    return ReverseTunnel.OFFERED if value else ReverseTunnel.REFUSED


def _encapsulations(table: Table) -> tuple[Encapsulation, ...]:
    return tuple(each for each in ALTERNATIVES if table.boolean(each.value, True))


def _advertising(table: Table) -> Advertising:
    interval, lifetime = table.number("interval", 1.0), table.integer("lifetime", 3)
    return build(table, lambda: Advertising(interval, lifetime))


def _udp_tunnel(table: Table) -> UdpTunnelling | None:
    keepalive, lifetime = table.integer("keepalive", 0), table.integer("lifetime", 60)
    forced = table.boolean("forced", True)
    offer = build(table, lambda: UdpTunnelling(keepalive, forced, lifetime))
    return offer if table.boolean("accept", True) else None


def home_agent(file: Path) -> Settings[HomeAgentConfig]:
    """Read a home agent's file; raises ConfigError."""
    table = Table.load(file)
    home, limits, replay = table.table("home"), table.table("limits"), table.table("replay")
    advertisement, udp_tunnel = table.table("advertisement"), table.table("udp-tunnel")
    mobile_nodes, foreign_agents = associations(
        table.tables("security"), "mobile-node", "foreign-agent", registers=True
    )
    interface = home.string("interface", None)
    advertising = _advertising(advertisement)
    trusted = table.table("trusted")
    core = build(
        table,
        lambda: HomeAgentConfig(
            address=table.address("address"),
            home_prefix=home.network("prefix"),
            pool=home.networks("pool", ()),
            home_interface=interface,
            advertising=advertising if home.boolean("advertise", interface is not None) else None,
            lifetime=limits.integer("lifetime", 600),
            bindings=limits.integer("bindings", 10_000),
            simultaneous=limits.integer("simultaneous", 4),
            replay_tolerance=replay.number("tolerance", 7.0),
            reverse_tunnel=_reverse_tunnel(table),
            udp_tunnel=_udp_tunnel(udp_tunnel),
            inform_revoked=table.boolean("inform-revoked", True),
            trusted=trusted.networks("networks", ()) if table.has("trusted") else None,
            encapsulations=_encapsulations(table),
            foreign_agents_here=frozenset(table.addresses("foreign-agents-here")),
            mobile_nodes=mobile_nodes,
            foreign_agents=foreign_agents,
            aaa=credentials(table),
        ),
    )
    instance, ipsec_here = read_instance(table, "home-agent"), table.boolean("ipsec-here", False)
    settings = Settings(core, _control(table), instance, state=_state(table), ipsec_here=ipsec_here)
    for part in (home, limits, trusted, replay, advertisement, udp_tunnel, table):
        part.finish()
    return settings


def _link(table: Table) -> VisitedLink:
    link = VisitedLink(table.string("interface"), table.address("address"))
    table.finish()
    return link


def foreign_agent(file: Path) -> Settings[ForeignAgentConfig]:
    """Read a foreign agent's file; raises ConfigError."""
    table = Table.load(file)
    advertisement, limits = table.table("advertisement"), table.table("limits")
    mobile_nodes, home_agents = associations(table.tables("security"), "mobile-node", "home-agent")
    care_of, *others = table.addresses("care-of") or [table.address("care-of")]
    links = [_link(each) for each in table.tables("link")]
    core = build(
        table,
        lambda: ForeignAgentConfig(
            interface=table.string("interface"),
            address=table.address("address"),
            care_of=care_of,
            other_care_of=tuple(others),
            other_links=tuple(links),
            advertising=_advertising(advertisement),
            registration_lifetime=advertisement.integer("registration-lifetime", 600),
            registration_required=advertisement.boolean("registration-required", True),
            reverse_tunnel=_reverse_tunnel(advertisement),
            port=table.integer("port", PORT),
            home_agents_here=frozenset(table.addresses("home-agents-here")),
            udp_tunnel=table.boolean("behind-nat", False),
            revocation=table.boolean("revocation", False),
            inform=table.member("inform-revoked", Inform, Inform.HOME_AGENT),
            keepalive=table.integer("keepalive", 110),
            encapsulations=_encapsulations(advertisement),
            encapsulating_delivery=table.boolean("encapsulating-delivery", True),
            pending=limits.integer("pending", 100),
            visitors=limits.integer("visitors", 1000),
            mobile_nodes=mobile_nodes,
            home_agents=home_agents,
            challenge_window=table.integer("challenge-window", 0),
            aaa=credentials(table),
        ),
    )
    instance = read_instance(table, "foreign-agent", FOREIGN_AGENT_TABLE)
    settings = Settings(core, _control(table), instance, state=_state(table))
    for part in (advertisement, limits, table):
        part.finish()
    return settings


def mobile_node(file: Path) -> Settings[MobileNodeConfig]:
    """Read a mobile node's file; raises ConfigError."""
    table = Table.load(file)
    agent = table.address("home-agent")
    security = association(table.table("security"), agent, registers=True)
    others = tuple(
        association(each, each.address("address"), registers=True)
        for each in table.tables("other-home-agent")
    )
    aaa = None
    if table.has("aaa"):
        node = table.string("nai") if table.has("nai") else table.address("home-address")
        aaa = credential(table.table("aaa"), node)
    foreign_agents = tuple(
        association(entry, entry.address("foreign-agent")) for entry in table.tables("foreign-security")
    )
    core = build(
        table,
        lambda: MobileNodeConfig(
            home_address=table.address("home-address", None),
            nai=table.string("nai", None),
            home_prefix=table.network("home-prefix"),
            home_agent=agent,
            security=security,
            home_router=table.address("home-router", None),
            lifetime=table.integer("lifetime", 600),
            port=table.integer("port", PORT),
            reverse_tunnel=table.boolean("reverse-tunnel", False),
            delivery=table.member("delivery", Delivery, Delivery.DIRECT),
            udp_tunnel=table.member("udp-tunnel", UdpTunnel, UdpTunnel.OFF),
            keepalive=table.integer("keepalive", 110),
            encapsulation=Encapsulation(table.choice("encapsulation", _CHOICES, _CHOICES[0])),
            revocation=table.boolean("revocation", False),
            broadcasts=table.boolean("broadcasts", False),
            other_home_agents=others,
            overlap=table.number("simultaneous", 0.0),
            foreign_agents=foreign_agents,
            aaa=aaa,
        ),
    )
    preference = table.integer("mip-rule-preference", DEFAULT_PREFERENCE)
    if not 1 <= preference <= 32765:  # between the rules of the tables local and main
        raise table.error("mip-rule-preference", f"expected 1 to 32765, not {preference}")
    attachment = _attachment(table.table("attachment")) if table.has("attachment") else None
    from_home = table.choice("mip-rule-from", ("all", "home-address"), "all") == "home-address"
    if from_home and core.home_address is None:
        raise table.error("mip-rule-from", "home-address is missing")
    instance = read_instance(table, "mobile-node", MOBILE_NODE_TABLE)
    settings = Settings(core, _control(table), instance, preference, from_home, attachment)
    table.finish()
    return settings


def _attachment(table: Table) -> Attachment:
    mode = table.choice("mode", ("discover", "co-located"), "discover")
    care_of = table.address("care-of") if mode == "co-located" else None
    attachment = Attachment(table.string("interface"), care_of)
    table.finish()
    return attachment
