"""Broadcasts of the home link, forwarded to mobile nodes that asked for them (RFC 5944 §4.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import count

from testbed.mobileip.core.api import TunnelDatagram
from testbed.mobileip.core.bindings import Binding
from testbed.mobileip.core.limits import TokenBucket
from testbed.mobileip.wire.ipv4 import ip_in_ip

PER_SECOND, AT_ONCE = 200, 200
"""Datagrams forwarded, whatever the number of mobile nodes: a storm on the home link stays there."""


class Broadcasts:
    """Decides what is sent to whom; `address` is the home agent's end of the tunnels.

    The TTL stays as it was: a node that is away gets what it would get on the link.
    """

    def __init__(self, address: IPv4Address, counters: Counter[str]) -> None:
        self._address = address
        self._counters = counters
        self._rate = TokenBucket(PER_SECOND, AT_ONCE)
        self._identification = count()

    def forward(
        self, datagram: bytes, nodes: Iterable[tuple[IPv4Address, tuple[Binding, ...]]], now: float
    ) -> list[TunnelDatagram]:
        """Send a broadcast into the tunnels of `nodes`, home addresses with their bindings.

        With the D bit it goes to the care-of address as it is. Without, it is first put into a datagram to
        the home address, by which the foreign agent knows whom it is for.
        """
        chosen = [
            (home_address, [binding for binding in bindings if binding.broadcasts])
            for home_address, bindings in nodes
        ]
        if not chosen:
            return []
        if not self._rate.allow(now):
            self._counters["broadcasts-not-forwarded-rate"] += 1
            return []
        self._counters["broadcasts-forwarded"] += 1
        effects = []
        for home_address, bindings in chosen:
            ends = tuple(binding.care_of_address for binding in bindings if binding.co_located)
            if ends:
                effects.append(TunnelDatagram(home_address, ends, datagram))
            ends = tuple(binding.care_of_address for binding in bindings if not binding.co_located)
            if ends:
                number = next(self._identification) & 0xFFFF
                nested = ip_in_ip(datagram, self._address, home_address, number)
                effects.append(TunnelDatagram(home_address, ends, nested))
        return effects
