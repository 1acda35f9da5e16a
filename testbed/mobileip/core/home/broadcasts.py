"""Sending into the tunnels of mobile nodes what is not to their home addresses (RFC 5944 §4.3, §4.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from itertools import count

from testbed.mobileip.core.home.bindings import Binding
from testbed.mobileip.core.home.effects import TunnelDatagram
from testbed.mobileip.core.limits import TokenBucket
from testbed.mobileip.wire.ipv4 import ip_in_ip

PER_SECOND, AT_ONCE = 200, 200
"""Broadcasts forwarded, whatever the number of mobile nodes: a storm on the home link stays there."""
TO_GROUPS = 1000
"""The same of multicast, which is sent to who asked for the very group."""


class Broadcasts:
    """Sends datagrams at a bounded rate; `address` is the home agent's end of the tunnels.

    The TTL stays as it was: a node that is away gets what it would get on the link.
    """

    def __init__(self, address: IPv4Address, counters: Counter[str]) -> None:
        self._address = address
        self._counters = counters
        self._rate = TokenBucket(PER_SECOND, AT_ONCE)
        self._groups = TokenBucket(TO_GROUPS, AT_ONCE)
        self._identification = count()

    def forward(
        self, datagram: bytes, nodes: Iterable[tuple[IPv4Address, list[Binding]]], now: float
    ) -> list[TunnelDatagram] | None:
        """Send a datagram to `nodes`, home addresses with the bindings that want it; None: too many."""
        rate = self._groups if datagram[16] >> 4 == 14 else self._rate
        if not rate.allow(now):
            self._counters["broadcasts-not-forwarded-rate"] += 1
            return None
        self._counters["broadcasts-forwarded"] += 1
        return [effect for node in nodes for effect in self.send(datagram, *node)]

    def send(
        self, datagram: bytes, home_address: IPv4Address, bindings: list[Binding]
    ) -> Iterator[TunnelDatagram]:
        """Send a datagram into the tunnels of `bindings`.

        With the D bit it goes to the care-of address as it is. Without, it is first put into a datagram to
        the home address, by which the foreign agent knows whom it is for.
        """
        ends = tuple(binding.care_of_address for binding in bindings if binding.co_located)
        if ends:
            yield TunnelDatagram(home_address, ends, datagram)
        ends = tuple(binding.care_of_address for binding in bindings if not binding.co_located)
        if ends:
            number = next(self._identification) & 0xFFFF
            nested = ip_in_ip(datagram, self._address, home_address, number)
            yield TunnelDatagram(home_address, ends, nested)
