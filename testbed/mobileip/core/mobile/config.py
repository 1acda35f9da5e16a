"""What a mobile node must know (RFC 5944 §3.6)."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.parameters import require, require_keepalive, require_lifetime, require_port
from testbed.mobileip.core.security import Credential, SecurityAssociation
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.nai import check as check_nai
from testbed.mobileip.wire.value import value


class UdpTunnel(Enum):
    """Whether a mobile node asks for a tunnel in UDP (RFC 3519 §3.1)."""

    OFF = "off"
    NAT = "nat"  # where the home agent sees a NAT
    FORCED = "forced"  # the F bit: in any case


@value
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
        require_lifetime("the mobile node's lifetime", self.lifetime)
        require(
            self.home_address is not None or self.nai is not None,
            "a mobile node needs a home address, or an NAI to be assigned one",
        )
        if self.nai is not None:
            check_nai(self.nai, realm=True)
        require(
            self.home_address is None or self.home_address in self.home_prefix,
            f"the home address {self.home_address} is not in the home prefix {self.home_prefix}",
        )
        require(
            self.reverse_tunnel or self.delivery is Delivery.DIRECT,
            "encapsulating delivery is to a reverse tunnel, which is not asked for",  # RFC 3024 §3.3
        )
        require_port(self.port)
        require(0 <= self.overlap <= 3600, f"simultaneous must be 0 to 3600 seconds, not {self.overlap:g}")
        peers = [self.home_agent, *(association.peer for association in self.other_home_agents)]
        require(len({*peers}) == len(peers), "a home agent is there twice")
        require_keepalive(self.keepalive)
