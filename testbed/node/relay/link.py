"""The emulated link: decides what becomes of each packet and when, without a clock or a device of its own."""

from __future__ import annotations

import random
from collections import deque

from testbed.agreed import Impairment

LIMIT = 20_000
"""Packets held at most (0.2 s at 100,000 packets/s); later ones are dropped like at a full queue."""


class Link:
    """A FIFO of packets, each with the time it is due.

    A packet is due at max(last due, now + delay ± jitter) + size / rate: order is kept, as netem does when it
    has a rate.  Times are seconds of one monotonic clock.
    """

    def __init__(self, impairment: Impairment, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._last = 0.0
        self.lost = 0
        """Packets dropped by the loss percentage."""
        self.overflowed = 0
        """Packets dropped because LIMIT were held already."""
        self.impairment = impairment

    def submit(self, packet: bytes, now: float) -> None:
        """Take a packet in."""
        how = self.impairment
        if how.loss and self._chance.random() * 100 < how.loss:
            self.lost += 1
            return
        if len(self._queue) >= LIMIT:
            self.overflowed += 1
            return
        due = now + how.delay_ms / 1000
        if how.jitter_ms:
            due += self._chance.uniform(-how.jitter_ms, how.jitter_ms) / 1000
        due = max(due, self._last)
        if how.rate:
            due += len(packet) * 8 / how.rate
        self._last = due
        self._queue.append((due, packet))

    def due(self, now: float) -> list[bytes]:
        """Drain the packets due at `now`, in order."""
        queue, packets = self._queue, []
        while queue and queue[0][0] <= now:
            packets.append(queue.popleft()[1])
        return packets

    def deadline(self) -> float | None:
        """When the next packet is due; None while none is held."""
        return self._queue[0][0] if self._queue else None

    def __len__(self) -> int:
        return len(self._queue)
