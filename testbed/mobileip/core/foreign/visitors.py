"""A foreign agent's visitor list (RFC 5944 §3.7.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Record, Records, Remember, TunnelEnd
from testbed.mobileip.core.delivery import Delivery, is_encapsulating
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.foreign.pending import Pending
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.parameters import INFINITE_LIFETIME
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_request import RequestFlag
from testbed.mobileip.wire.value import value


@value
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


class VisitorList:
    """Registered mobile nodes; asks the shell to forward for them, and keeps their tunnels alive."""

    def __init__(self, config: ForeignAgentConfig, clock: Clock, out: Outbox, counters: Counter[str]) -> None:
        self.keepalives = Keepalives(config.keepalive, counters, config.port)
        self._config = config
        self._clock = clock
        self._out = out
        self._counters = counters
        self._visitors: dict[IPv4Address, Visitor] = {}
        self._timers: Timers[IPv4Address] = Timers()

    def __contains__(self, home_address: object) -> bool:
        return home_address in self._visitors

    def __iter__(self) -> Iterator[Visitor]:
        return iter(self._visitors.values())

    def get(self, home_address: IPv4Address) -> Visitor | None:
        """The visitor with this home address."""
        return self._visitors.get(home_address)

    @property
    def full(self) -> bool:
        """Whether there is room for no more."""
        return len(self._visitors) >= self._config.visitors

    def grant(self, visitor: Visitor, now: float) -> None:
        """A home agent has granted, or renewed, a registration."""
        self._set(visitor, now)
        self._out.add(Remember(visitor.home_address, visitor.record(self._clock)))
        self._out.event("visitor", home_address=str(visitor.home_address), lifetime=visitor.lifetime)

    def withdraw(self, home_address: IPv4Address, before: Visitor | None, now: float, undo: bool) -> None:
        """A grant has failed: the list is what it was `before`; `undo` what the kernel did for it."""
        if before is not None:
            (self._set(before, now) if undo else self._note(before))
        elif self._visitors.pop(home_address, None):
            self._timers.cancel(home_address)
            self.keepalives.cease(home_address)
            if undo:
                self._out.add(ClearVisitor(home_address))
        self._out.add(Remember(home_address, before.record(self._clock) if before else None))

    def clear(self, home_address: IPv4Address, event: str) -> None:
        """A registration has ended; `event` reports why."""
        del self._visitors[home_address]
        self._timers.cancel(home_address)
        self.keepalives.cease(home_address)
        self._out.add(ClearVisitor(home_address), Remember(home_address, None))
        self._out.event(event, home_address=str(home_address))

    def restore(self, records: Records, now: float) -> None:
        """Take up what a predecessor asked to remember; see `ForeignAgent.restore`."""
        for home_address, record in records.items():
            if not isinstance(home_address, IPv4Address):
                raise ValueError(f"{home_address} is no home address")
            visitor = Visitor.from_record(home_address, record, self._clock, now)
            over = visitor.expires is not None and visitor.expires <= now
            offered = visitor.care_of_address in self._config.care_of_addresses
            if over or not (visitor.co_located or offered):
                self._out.add(Remember(home_address, None))
                continue
            self._set(visitor, now)
            self._out.event("visitor-restored", home_address=str(home_address))

    def tick(self, now: float) -> None:
        """Expire registrations, send keepalives."""
        for home_address in self._timers.pop_due(now):
            self._counters["visitors-expired"] += 1
            self.clear(home_address, "visitor-expired")
        keepalives, lost = self.keepalives.tick(now)
        self._out.add(*keepalives)
        for home_address in lost:  # only its own next registration helps the visitor (RFC 3519 §4.10)
            self._out.event("mapping-lost", home_address=str(home_address))

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        due = (self._timers.next(), self.keepalives.deadline())
        return min((when for when in due if when is not None), default=None)

    def _note(self, visitor: Visitor) -> None:
        self._visitors[visitor.home_address] = visitor
        if visitor.expires is None:
            self._timers.cancel(visitor.home_address)
        else:
            self._timers.set(visitor.home_address, visitor.expires)

    def _set(self, visitor: Visitor, now: float) -> None:
        self._note(visitor)
        if visitor.keepalive is None:
            self.keepalives.cease(visitor.home_address)
        else:
            ends = (visitor.care_of_address, visitor.home_agent, None)
            self.keepalives.keep(visitor.home_address, ends, visitor.keepalive, now)
        self._out.add(
            SetVisitor(
                visitor.home_address,
                replace(visitor.end, local_port=self._config.port),
                visitor.care_of_address,
                visitor.interface,
                visitor.link_address,
                visitor.reverse_tunnel,
                visitor.delivery,
            )
        )
