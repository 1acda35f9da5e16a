"""What a foreign agent remembers of requests and visitors (RFC 5944 §3.7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Datagram, Record, TunnelEnd
from testbed.mobileip.core.delivery import Delivery, is_encapsulating
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.parameters import INFINITE_LIFETIME
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.timers import lifetime_left
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

PendingKey = tuple[IPv4Address, str | None, int]
"""Home address, NAI if there is one, and the lower half of the identification."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request relayed to its home agent: the request as it came and the datagram that brought it."""

    request: RegistrationRequest
    datagram: Datagram
    link_address: bytes
    expires: float
    timestamp: int | None = None
    """Of the Revocation Support Extension; None: the request went without."""
    nai: str | None = None
    """The mobile node's, if it gave one (RFC 2794)."""
    overtaken: bool = False
    """Whether a later request of the mobile node was granted meanwhile: what this one asked for is over."""

    @property
    def key(self) -> PendingKey:
        """What a reply is matched by (§3.7.3.1, RFC 2794 §3)."""
        return self.request.home_address, self.nai, self.request.low_identification

    def picture(self, now: float) -> dict[str, object]:
        """What `state` reports of it."""
        return {
            "home_address": str(self.request.home_address),
            "nai": self.nai,
            "home_agent": str(self.request.home_agent),
            "lifetime": self.request.lifetime,
            "time_left": lifetime_left(self.expires, now),
        }


def awaiting(
    requests: Mapping[PendingKey, Pending], reply: RegistrationReply, nai: str | None
) -> Pending | None:
    """The request that a reply with `nai` answers.

    The home address of the reply was not known where the request had zero (RFC 2794 §3). A reply that lacks
    what it must have, home address or NAI, is matched by the rest.
    """
    low = reply.low_identification
    if (exact := requests.get((reply.home_address, nai, low))) is not None:
        return exact
    for each in requests.values():
        asked = each.request.home_address
        same = asked in (reply.home_address, UNSPECIFIED) or reply.home_address == UNSPECIFIED
        if each.request.low_identification == low and same and (nai is None or each.nai in (nai, None)):
            return each
    return None


def overtake(requests: dict[PendingKey, Pending], granted: Pending) -> None:
    """Note, among `requests` in the order they came, those of its mobile node that `granted` has overtaken.

    The network may reorder replies: when the reply to a registration comes after the reply to the
    deregistration that followed it, the mobile node is no visitor any more.
    """
    for key, each in tuple(requests.items()):
        if each is granted:
            return
        same = (each.request.home_address, each.nai) == (granted.request.home_address, granted.nai)
        # A request that came before may be later all the same: the network reorders requests, too.
        if same and each.request.identification < granted.request.identification:
            requests[key] = replace(each, overtaken=True)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A registered mobile node."""

    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    interface: str
    """The link it is on."""
    link_address: bytes
    flags: int
    lifetime: int
    """As granted."""
    since: float
    keepalive: int | None = None
    """Seconds between keepalives, 0 for the default, of a tunnel in UDP; None: the tunnel is not in UDP."""
    revocation: Terms | None = None
    """None: neither end may revoke it by a message."""
    nai: str | None = None
    """The mobile node's, if it gave one (RFC 2794)."""
    delivers_to: IPv4Address | None = None
    """Our address, to which it tunnels what is to be reverse-tunnelled (RFC 3024 §5.2); None: it does not."""

    @classmethod
    def granted(
        cls,
        pending: Pending,
        interface: str,
        lifetime: int,
        keepalive: int | None,
        terms: Terms | None,
        answered_from: IPv4Address,
        now: float,
    ) -> Visitor:
        """What an accepted request makes of its sender; `answered_from` is our address in the answer."""
        request = pending.request
        encapsulating = is_encapsulating(request) and not request.flags & RequestFlag.DECAPSULATION
        return cls(
            request.home_address,
            request.home_agent,
            request.care_of_address,
            interface,
            pending.link_address,
            request.flags,
            lifetime,
            now,
            keepalive,
            terms,
            pending.nai,
            answered_from if encapsulating else None,
        )

    @property
    def expires(self) -> float | None:
        """When its registration ends; None: never."""
        return None if self.lifetime == INFINITE_LIFETIME else self.since + self.lifetime

    @property
    def reverse_tunnel(self) -> bool:
        """Whether its packets are to be tunnelled to its home agent (RFC 3024 §4.2.2)."""
        return bool(self.flags & RequestFlag.REVERSE_TUNNEL)

    @property
    def end(self) -> TunnelEnd:
        """The home agent as the end of its tunnel, with the encapsulations that were agreed on."""
        in_udp = self.keepalive is not None
        return TunnelEnd(self.home_agent, (Encapsulation.UDP,) if in_udp else agreed(self.flags))

    @property
    def delivery(self) -> TunnelEnd | None:
        """Our end of its tunnel to us, with what was agreed on for the forward tunnel (RFC 3024 §3.3)."""
        return TunnelEnd(self.delivers_to, agreed(self.flags)) if self.delivers_to is not None else None

    @property
    def co_located(self) -> bool:
        """Whether the mobile node itself is the end of the tunnel."""
        return bool(self.flags & RequestFlag.DECAPSULATION)

    def picture(self, now: float) -> dict[str, object]:
        """What `state` reports of it; a `lifetime_left` of null never ends."""
        return {
            "home_address": str(self.home_address),
            "nai": self.nai,
            "home_agent": str(self.home_agent),
            "care_of": str(self.care_of_address),
            "interface": self.interface,
            "link_address": self.link_address.hex(":"),
            "reverse_tunnel": self.reverse_tunnel,
            "delivery": (Delivery.ENCAPSULATING if self.delivers_to else Delivery.DIRECT).value,
            "encapsulation": self.end.encapsulations[0].value,
            "revocable": self.revocation is not None,
            "lifetime": self.lifetime,
            "lifetime_left": lifetime_left(self.expires, now),
        }

    def record(self, clock: Clock) -> Record:
        """What `from_record` makes the same of, in another process."""
        return {
            "home_agent": str(self.home_agent),
            "care_of": str(self.care_of_address),
            "interface": self.interface,
            "link_address": self.link_address.hex(":"),
            "flags": self.flags,
            "lifetime": self.lifetime,
            "since": clock(self.since),
            "keepalive": self.keepalive,
            "revocation": self.revocation and self.revocation.record(),
            "nai": self.nai,
            "delivers_to": str(self.delivers_to) if self.delivers_to else None,
        }

    @classmethod
    def from_record(cls, home_address: IPv4Address, record: Record, clock: Clock, now: float) -> Visitor:
        """A visitor of a process that has ended; raises ValueError, KeyError or TypeError for nonsense."""
        return cls(
            home_address,
            IPv4Address(record["home_agent"]),
            IPv4Address(record["care_of"]),
            str(record["interface"]),
            bytes.fromhex(record["link_address"].replace(":", "")),
            int(record["flags"]),
            int(record["lifetime"]),
            now - max(0.0, clock(now) - float(record["since"])),
            None if record.get("keepalive") is None else int(record["keepalive"]),
            Terms.from_record(record.get("revocation")),
            record.get("nai"),
            None if record.get("delivers_to") is None else IPv4Address(record["delivers_to"]),
        )
