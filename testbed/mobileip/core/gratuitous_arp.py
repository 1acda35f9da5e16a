"""Gratuitous ARPs, each repeated a small number of times (RFC 5944 §4.6)."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import GratuitousArp
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers

REPEATS = 2
INTERVAL = 1.0
"""Seconds; "SHOULD be retransmitted a small number of times" (§4.6)."""


class GratuitousArps:
    """Announces addresses on a link; at most one announcement an address is under way."""

    def __init__(self, out: Outbox) -> None:
        self._out = out
        self._left: dict[IPv4Address, tuple[GratuitousArp, int]] = {}
        self._timers: Timers[IPv4Address] = Timers()

    def announce(self, arp: GratuitousArp, now: float) -> None:
        """Send `arp` now and a few times more, in place of what was announced of this address."""
        self._send(arp, REPEATS, now)

    def cancel(self, address: IPv4Address) -> None:
        """Repeat nothing about `address` any more."""
        self._left.pop(address, None)
        self._timers.cancel(address)

    def tick(self, now: float) -> None:
        """Repeat what is due."""
        for address in self._timers.pop_due(now):
            arp, left = self._left.pop(address)
            self._send(arp, left, now)

    def next(self) -> float | None:
        """When the next repetition is due; None if none is."""
        return self._timers.next()

    def _send(self, arp: GratuitousArp, left: int, now: float) -> None:
        self._out.add(arp)
        if left:
            self._left[arp.address] = arp, left - 1
            self._timers.set(arp.address, now + INTERVAL)
