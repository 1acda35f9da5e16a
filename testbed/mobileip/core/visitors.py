"""What a foreign agent remembers of requests and visitors (RFC 5944 §3.7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag


@dataclass(frozen=True, slots=True)
class Pending:
    """A request relayed to its home agent: the request as it came and the datagram that brought it."""

    request: RegistrationRequest
    datagram: Datagram
    link_address: bytes
    expires: float

    @property
    def key(self) -> tuple[IPv4Address, int]:
        """What a reply is matched by (§3.7.3.1)."""
        return self.request.home_address, self.request.low_identification


@dataclass(frozen=True, slots=True)
class Visitor:
    """A registered mobile node."""

    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    link_address: bytes
    flags: int
    lifetime: int
    """As granted."""
    expires: float | None
    """None: never."""

    @property
    def reverse_tunnel(self) -> bool:
        """Whether its packets are to be tunnelled to its home agent (RFC 3024 §4.2.2)."""
        return bool(self.flags & RequestFlag.REVERSE_TUNNEL)
