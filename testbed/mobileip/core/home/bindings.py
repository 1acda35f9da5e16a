"""The home agent's mobility binding list (RFC 5944 §3.8.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any

from testbed.mobileip.core.api import Clock, Record, TunnelEnd
from testbed.mobileip.core.encapsulations import IN_UDP, agreed
from testbed.mobileip.core.parameters import INFINITE_LIFETIME
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.registration_request import RequestFlag
from testbed.mobileip.wire.udp_tunnel import IP_IN_IP
from testbed.mobileip.wire.value import value


@value
class UdpEnd:
    """The other end of a tunnel in UDP (RFC 3519)."""

    asked: IPv4Address
    """The care-of address of the request, behind the NAT."""
    port: int | None
    """As the NAT shows it; None: nothing may be sent before the first keepalive has come (§4.6)."""
    half_bound: bool = False
    """Whether the next keepalive may come from another port (§4.3, §4.11)."""
    encapsulation: int = IP_IN_IP
    """What the messages carry, numbered as in the UDP Tunnel Request (§3.1.4)."""

    def record(self) -> Record:
        """What `from_record` makes the same of."""
        return {
            "asked": str(self.asked),
            "port": self.port,
            "half_bound": self.half_bound,
            "encapsulation": self.encapsulation,
        }

    @classmethod
    def from_record(cls, record: Record) -> UdpEnd:
        """Raises ValueError, KeyError or TypeError for nonsense."""
        port, encapsulation = record["port"], int(record.get("encapsulation", IP_IN_IP))
        if encapsulation not in IN_UDP:
            raise ValueError(f"{encapsulation} is no encapsulation in UDP")
        return cls(
            IPv4Address(record["asked"]),
            None if port is None else int(port),
            bool(record["half_bound"]),
            encapsulation,
        )


@value
class Binding:
    """One care-of address of one mobile node."""

    care_of_address: IPv4Address
    """With a tunnel in UDP the address that the request came from (RFC 3519 §4.6)."""
    identification: int
    flags: int
    lifetime: int
    """As granted."""
    since: float
    udp: UdpEnd | None = None
    """None: the tunnel is not in UDP."""
    revocation: Terms | None = None
    """None: neither end may revoke it by a message."""

    @property
    def way(self) -> tuple[IPv4Address, int, UdpEnd | None]:
        """What decides about its tunnel: bindings that are alike in this have the same."""
        return self.care_of_address, self.flags, self.udp

    @property
    def expires(self) -> float | None:
        """When the home agent deletes it; None: never."""
        return None if self.lifetime == INFINITE_LIFETIME else self.since + self.lifetime

    @property
    def reverse_tunnel(self) -> bool:
        """Whether a reverse tunnel from the care-of address was granted."""
        return bool(self.flags & RequestFlag.REVERSE_TUNNEL)

    @property
    def broadcasts(self) -> bool:
        """Whether broadcasts of the home link are wanted."""
        return bool(self.flags & RequestFlag.BROADCAST)

    @property
    def co_located(self) -> bool:
        """Whether the mobile node itself is the end of the tunnel."""
        return bool(self.flags & RequestFlag.DECAPSULATION)

    @property
    def end(self) -> TunnelEnd | None:
        """The end of the tunnel, with what was agreed on; None while it is not known."""
        if self.udp is None:
            return _end(self.care_of_address, self.flags)
        if self.udp.port is None:
            return None
        return TunnelEnd(self.care_of_address, IN_UDP[self.udp.encapsulation], remote_port=self.udp.port)

    def picture(self, now: float) -> dict[str, object]:
        """What `state` reports of it; a `lifetime_left` of null never ends."""
        return {
            "care_of_address": str(self.care_of_address),
            "lifetime": self.lifetime,
            "lifetime_left": lifetime_left(self.expires, now),
            "co_located": self.co_located,
            "reverse_tunnel": self.reverse_tunnel,
            "encapsulation": (IN_UDP[self.udp.encapsulation] if self.udp else agreed(self.flags))[0].value,
            "port": self.udp and self.udp.port,
            "asked": str(self.udp.asked) if self.udp else None,
            "revocable": self.revocation is not None,
        }

    def record(self, clock: Clock) -> Record:
        """What `from_record` makes the same of, in another process.

        It is written at every renewal: numbers are whole, as fractions take several times as long to write.
        """
        record: dict[str, Any] = {
            "care_of": str(self.care_of_address),
            "identification": self.identification,
            "flags": self.flags,
            "lifetime": self.lifetime,
            "since_ms": int(clock(self.since) * 1000),
        }
        if self.udp is not None:
            record["udp"] = self.udp.record()
        if self.revocation is not None:
            record["revocation"] = self.revocation.record()
        return record

    @classmethod
    def from_record(cls, record: Record, clock: Clock, now: float) -> Binding:
        """A binding of a process that has ended; raises ValueError, KeyError or TypeError for nonsense."""
        return cls(
            IPv4Address(record["care_of"]),
            int(record["identification"]),
            int(record["flags"]),
            int(record["lifetime"]),
            now - max(0.0, clock(now) - int(record["since_ms"]) / 1000),
            UdpEnd.from_record(record["udp"]) if record.get("udp") else None,
            Terms.from_record(record.get("revocation")),
        )


@lru_cache(maxsize=0x400)
def _end(care_of_address: IPv4Address, flags: int) -> TunnelEnd:
    """The same object for the mobile nodes at the same care-of address."""
    return TunnelEnd(care_of_address, agreed(flags))


def tunnels(bindings: Iterable[Binding]) -> tuple[tuple[TunnelEnd, ...], bool]:
    """Where the tunnels of a mobile node go, and whether any of its bindings has a reverse tunnel."""
    ends = [end for binding in bindings if (end := binding.end) is not None]
    return tuple(ends), True in [binding.reverse_tunnel for binding in bindings]


class BindingTable:
    """Bindings by home address and care-of address, and when they expire."""

    def __init__(self) -> None:
        self._nodes: dict[IPv4Address, tuple[Binding, ...]] = {}
        self._timers: Timers[tuple[IPv4Address, IPv4Address]] = Timers()
        self._broadcasts: dict[IPv4Address, None] = {}  # to whom broadcasts go

    def __len__(self) -> int:
        """How many mobile nodes have bindings."""
        return len(self._nodes)

    def __contains__(self, home_address: object) -> bool:
        return home_address in self._nodes

    def __iter__(self) -> Iterator[IPv4Address]:
        return iter(self._nodes)

    def of(self, home_address: IPv4Address) -> tuple[Binding, ...]:
        """The bindings of a mobile node, the oldest first."""
        return self._nodes.get(home_address, ())

    def with_broadcasts(self) -> Iterator[tuple[IPv4Address, tuple[Binding, ...]]]:
        """The mobile nodes with a binding that wants broadcasts, and all their bindings."""
        return ((home_address, self.of(home_address)) for home_address in self._broadcasts)

    def care_of_addresses(self, home_address: IPv4Address) -> tuple[IPv4Address, ...]:
        """The care-of addresses of a mobile node."""
        return tuple(binding.care_of_address for binding in self.of(home_address))

    def picture(self, home_address: IPv4Address, now: float) -> dict[str, object]:
        """What `state` reports of a mobile node; a `lifetime_left` of null never ends."""
        bindings = self.of(home_address)
        left = [lifetime_left(binding.expires, now) for binding in bindings]
        return {
            "home_address": str(home_address),
            "care_of_addresses": [str(binding.care_of_address) for binding in bindings],
            "lifetime_left": None if None in left else max((each or 0.0 for each in left), default=None),
            "bindings": [binding.picture(now) for binding in bindings],
        }

    def replace(self, home_address: IPv4Address, bindings: Iterable[Binding]) -> None:
        """Let a mobile node have these bindings and no others."""
        self.remove(home_address)
        for binding in bindings:
            self.add(home_address, binding, retain=True)

    def add(self, home_address: IPv4Address, binding: Binding, retain: bool) -> None:
        """Add or renew a binding; delete all others of the mobile node unless they are to be retained."""
        before, care_of = self.of(home_address), binding.care_of_address
        others = [each.care_of_address for each in before if each.care_of_address != care_of]
        if retain and others:
            renewed = [binding if each.care_of_address == care_of else each for each in before]
            self._keep(home_address, renewed if binding in renewed else [*renewed, binding])
        else:
            for each in others:
                self._timers.cancel((home_address, each))
            self._keep(home_address, (binding,))
        if (expires := binding.expires) is None:
            self._timers.cancel((home_address, care_of))
        else:
            self._timers.set((home_address, care_of), expires)

    def remove(self, home_address: IPv4Address, care_of: IPv4Address | None = None) -> None:
        """Delete one binding of the mobile node, or all; those that do not exist are not missed.

        Behind a NAT a mobile node knows the address that it asked for, and no other.
        """
        for each in self.of(home_address):
            if care_of in (None, each.care_of_address, each.udp and each.udp.asked):
                self._forget(home_address, each.care_of_address)

    def expire(self, now: float) -> list[tuple[IPv4Address, IPv4Address]]:
        """Delete and return what has expired: home address and care-of address."""
        expired = self._timers.pop_due(now)
        for home_address, care_of in expired:
            self._forget(home_address, care_of)
        return expired

    def next_expiry(self) -> float | None:
        """When the next binding expires."""
        return self._timers.next()

    def _forget(self, home_address: IPv4Address, care_of: IPv4Address) -> None:
        self._keep(home_address, [each for each in self.of(home_address) if each.care_of_address != care_of])
        self._timers.cancel((home_address, care_of))

    def _keep(self, home_address: IPv4Address, bindings: Iterable[Binding]) -> None:
        self._nodes[home_address] = kept = tuple(bindings)
        if True in [binding.broadcasts for binding in kept]:
            self._broadcasts[home_address] = None
        elif self._broadcasts:
            self._broadcasts.pop(home_address, None)
        if not kept:
            del self._nodes[home_address]
