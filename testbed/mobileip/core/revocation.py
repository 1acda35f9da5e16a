"""Registration revocation: what both ends of a binding have in common (RFC 3543 §3, §4.2)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Datagram, Record, SendDatagram
from testbed.mobileip.core.association import Associations, AuthenticationError, sign
from testbed.mobileip.core.disposition import Discard
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.security import Peer
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.identification import SECOND, from_unix
from testbed.mobileip.wire.revocation import (
    STAMPS,
    SUPPORT,
    Revocation,
    RevocationAcknowledgment,
    RevocationSupport,
    later,
)
from testbed.mobileip.wire.value import value

INTERVAL = 1.0
"""Seconds between two messages about one binding at least (§3.3); also the first time-out."""
_LONGEST = 16  # doublings of the time-out, of a binding that never ends
_REMEMBERED = 4096  # bindings that have ended


@value
class BindingId:
    """What a message is about (§3.3)."""

    home_address: IPv4Address
    home_agent: IPv4Address
    care_of: IPv4Address

    @classmethod
    def of(cls, message: Revocation) -> BindingId:
        """The binding that a revocation names."""
        return cls(message.home_address, message.home_domain, message.foreign_domain)


@value
class Terms:
    """What the last registration of a binding has negotiated (§4.2.1)."""

    peer: IPv4Address
    """Where the other end's registration messages come from."""
    inform: bool
    """Whether the home agent decides if the mobile node is informed: both have set the I bit (§3.2)."""
    ours: int
    theirs: int
    """The timestamps of both ends: a revocation has a later one (§4.2.2.2, §4.2.3.2)."""

    def encode(self) -> Extension:
        """Our own Revocation Support Extension."""
        return RevocationSupport(self.ours, self.inform).encode()

    def record(self) -> Record:
        """What `from_record` makes the same of."""
        return {"peer": str(self.peer), "inform": self.inform, "ours": self.ours, "theirs": self.theirs}

    @classmethod
    def from_record(cls, record: Record | None) -> Terms | None:
        """Raises ValueError, KeyError or TypeError for nonsense."""
        if record is None:
            return None
        stamps = int(record["ours"]), int(record["theirs"])
        return cls(IPv4Address(record["peer"]), bool(record["inform"]), *stamps)


class Stamps:
    """Timestamps for registrations and revocations: whole seconds of a clock that never goes back (§3.5)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self, now: float, after: int | None = None) -> int:
        """The timestamp of `now`; later than `after`, whatever the clock says."""
        self._last = max(self._last, from_unix(self._clock(now)) // SECOND)
        if after is not None and not later(self._last % STAMPS, after):
            self._last += (after - self._last) % STAMPS + 1
        return self._last % STAMPS


class Ended:
    """Which bindings have ended by a revocation: none is taken twice, each is acknowledged (§3.4, §3.5)."""

    def __init__(self) -> None:
        self._stamps: OrderedDict[BindingId, int] = OrderedDict()

    def note(self, binding: BindingId, stamp: int) -> None:
        """The other end's messages about `binding` up to its timestamp `stamp` are done with."""
        self._stamps.pop(binding, None)
        self._stamps[binding] = stamp
        if len(self._stamps) > _REMEMBERED:
            self._stamps.popitem(last=False)

    def after(self, binding: BindingId, stamp: int) -> bool:
        """Whether `binding` has ended after the other end's timestamp `stamp`."""
        ended = self._stamps.get(binding)
        return ended is not None and later(ended, stamp)

    def take(self, message: Revocation, terms: Terms | None, known: bool) -> bool:
        """Whether an authentic revocation ends a binding; false for one that has ended by then.

        `known` says whether there is such a binding, `terms` what was negotiated for it. Raises Discard.
        """
        binding = BindingId.of(message)
        last = self._stamps.get(binding)
        if last is not None and not later(message.identifier, last):
            raise Discard("revocation-replayed")
        if known and terms is None:
            raise Discard("revocation-not-negotiated")
        if terms is None:
            if last is None:
                raise Discard("revocation-of-no-binding")
        elif not later(message.identifier, terms.theirs):
            raise Discard("revocation-precedes-registration")
        self.note(binding, message.identifier)
        return known


@dataclass(slots=True)
class _Pending:
    """A revocation that is not acknowledged yet."""

    message: Revocation
    way: Datagram
    kind: int
    peer: Peer
    associations: Associations
    expires: float | None
    link_address: bytes | None
    interval: float = INTERVAL
    sent: list[int] = field(default_factory=list)


class Revoker:
    """Sends revocations until acknowledged, or until the binding would have expired (§4.2.2.1, §4.2.3.1)."""

    def __init__(self, stamps: Stamps, out: Outbox, counters: Counter[str]) -> None:
        self._stamps = stamps
        self._out = out
        self._counters = counters
        self._pending: dict[IPv4Address, dict[BindingId, _Pending]] = {}
        self._timers: Timers[BindingId] = Timers()
        self._spoken: OrderedDict[IPv4Address, float] = OrderedDict()

    def spoke(self, home_address: IPv4Address, now: float) -> None:
        """A registration message about this mobile node has left: a revocation keeps its distance (§3.3)."""
        self._spoken.pop(home_address, None)
        self._spoken[home_address] = now
        while next(iter(self._spoken.values())) <= now - INTERVAL:
            self._spoken.popitem(last=False)

    def begin(
        self,
        message: Revocation,
        ends: tuple[IPv4Address, IPv4Address, int],
        associations: Associations,
        proof: tuple[int, Peer],
        expires: float | None,
        now: float,
        link_address: bytes | None = None,
    ) -> None:
        """Send `message`, whose identifier is the timestamp of the registration, from one end to the other.

        `ends` are our address, the other one and its port; `proof` is the kind of authentication and the peer
        that has an association. `link_address` is what `acknowledged` returns.
        """
        source, destination, port = ends
        way = Datagram(b"", source, PORT, destination, port)
        kind, peer = proof
        binding = BindingId.of(message)
        pending = _Pending(message, way, kind, peer, associations, expires, link_address)
        self._pending.setdefault(message.home_address, {})[binding] = pending
        spoken = self._spoken.get(message.home_address)
        self._timers.set(binding, now if spoken is None else max(now, spoken + INTERVAL))
        self.tick(now)

    def revokes(self, home_address: IPv4Address) -> bool:
        """Whether a message about this mobile node is not acknowledged yet."""
        return home_address in self._pending

    def cancel(self, binding: BindingId) -> None:
        """There is a new registration: a revocation would end that."""
        pending = self._pending.get(binding.home_address, {})
        if pending.pop(binding, None) is not None and not pending:
            del self._pending[binding.home_address]
        self._timers.cancel(binding)

    def hold(self, binding: BindingId, until: float) -> None:
        """Send nothing about a binding before `until`: it may be registered anew until then."""
        if (due := self._timers.get(binding)) is not None:
            self._timers.set(binding, max(due, until))

    def clear(self) -> None:
        """Forget all."""
        self._pending.clear()
        self._timers.clear()

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return self._timers.next()

    def tick(self, now: float) -> None:
        """Send what is due, with a new timestamp each time; give up what has expired."""
        for binding in self._timers.pop_due(now):
            pending = self._pending[binding.home_address][binding]
            if pending.expires is not None and pending.expires <= now:
                self._counters["revocations-unacknowledged"] += 1
                self._out.event("revocation-unacknowledged", **_words(binding))
                self.cancel(binding)
                continue
            stamp = self._stamps.next(now, pending.message.identifier)
            pending.message = replace(pending.message, identifier=stamp)
            pending.sent.append(stamp)
            self._counters["revocations-sent"] += 1
            payload = _signed(pending.message.encode(), pending.kind, pending.associations, pending.peer)
            self._out.add(SendDatagram(replace(pending.way, payload=payload)))
            repeat = now + pending.interval
            pending.interval = min(pending.interval * 2, INTERVAL * 2**_LONGEST)
            self._timers.set(binding, repeat if pending.expires is None else min(repeat, pending.expires))

    def acknowledged(self, datagram: Datagram) -> tuple[Revocation, bool, bytes | None]:
        """The revocation that `datagram` acknowledges, the I bit that counts, and its link address.

        Raises Discard and WireError.
        """
        acknowledgment = RevocationAcknowledgment.decode(datagram.payload)
        for binding, pending in self._pending.get(acknowledgment.home_address, {}).items():
            if acknowledgment.identifier in pending.sent and datagram.source == pending.way.destination:
                extensions = acknowledgment.extensions
                prove(datagram.payload, extensions, pending.kind, pending.associations, pending.peer)
                self._counters["revocations-acknowledged"] += 1
                self._out.event("revocation-acknowledged", **_words(binding))
                self.cancel(binding)
                inform = pending.message.inform and acknowledgment.inform  # §3.4
                return pending.message, inform, pending.link_address
        raise Discard("acknowledgment-of-nothing")


class RevocationEnd:
    """What both ends of bindings have for that: timestamps, messages sent, and what has ended."""

    def __init__(self, clock: Clock, out: Outbox, counters: Counter[str]) -> None:
        self._out = out
        self._counters = counters
        self._stamps = Stamps(clock)
        self._revoker = Revoker(self._stamps, out, counters)
        self._ended = Ended()
        self.deadline = self._revoker.deadline
        self.tick = self._revoker.tick
        self.clear = self._revoker.clear


def prove(
    payload: bytes,
    extensions: tuple[Extension, ...],
    kind: int,
    associations: Associations,
    peer: Peer,
) -> None:
    """Raise Discard for a message that is not proven to come from `peer` (§3.3, §3.4)."""
    try:
        associations.authenticate(payload, extensions, kind, peer)
    except AuthenticationError as error:
        raise Discard(f"revocation-{error.reason}") from error


def acknowledge(
    datagram: Datagram,
    message: Revocation,
    inform: bool,
    kind: int,
    associations: Associations,
    peer: Peer,
) -> SendDatagram:
    """The acknowledgment of the revocation that `datagram` brought; its I bit needs the message's (§3.4)."""
    fixed = RevocationAcknowledgment(inform and message.inform, message.home_address, message.identifier)
    return SendDatagram(
        Datagram(
            _signed(fixed.encode(), kind, associations, peer),
            datagram.destination,
            datagram.destination_port,
            datagram.source,
            datagram.source_port,
        )
    )


def support(extensions: tuple[Extension, ...], by_agent: bool) -> RevocationSupport | None:
    """The Revocation Support Extension of a registration message; None without, or where nothing proves it.

    That of an agent, or for one, is between both authentications, that of or for a mobile node before the
    first (§3.2). Raises WireError.
    """
    passed: set[int] = set()
    for extension in extensions:
        if extension.type in (MOBILE_HOME, FOREIGN_HOME):
            passed.add(extension.type)
        elif extension.type == SUPPORT and FOREIGN_HOME not in passed and (MOBILE_HOME in passed) is by_agent:
            return RevocationSupport.decode(extension.data)
    return None


def _signed(message: bytes, kind: int, associations: Associations, peer: Peer) -> bytes:
    association = associations.choose(peer)
    assert association is not None  # nothing is negotiated without
    return sign(message, kind, association)


def _words(binding: BindingId) -> dict[str, str]:
    return {
        "home_address": str(binding.home_address),
        "home_agent": str(binding.home_agent),
        "care_of": str(binding.care_of),
    }
