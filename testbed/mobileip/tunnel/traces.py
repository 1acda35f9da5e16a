"""What the tunnel process discards silently leaves a trace (RFC 5944 §1.7, RFC 3024 §4.3.2)."""

from __future__ import annotations

import socket
import time

from testbed.mobileip.core.limits import TokenBucket

PER_SECOND, AT_ONCE = 5, 10
"""So that a flood of nonsense fills no log."""
MOST = 1600
"""Bytes of a packet that are shown."""


class Traces:
    """The packets that were discarded, at a bounded rate, until somebody takes them."""

    def __init__(self) -> None:
        self._rate = TokenBucket(PER_SECOND, AT_ONCE)
        self._traces: list[dict[str, str | int]] = []
        self._more = 0

    def note(self, reason: str, packet: memoryview | bytes) -> None:
        """Remember `packet`, from its IP header on, and why it was discarded."""
        if len(packet) < 20 or len(self._traces) >= AT_ONCE or not self._rate.allow(time.monotonic()):
            self._more += 1
            return
        self._traces.append(
            {
                "reason": reason,
                "sender": socket.inet_ntoa(packet[12:16]),
                "destination": socket.inet_ntoa(packet[16:20]),
                "ttl": packet[8],
                "length": len(packet),
                "content": bytes(packet[:MOST]).hex(),
            }
        )

    def take(self) -> tuple[list[dict[str, str | int]], int]:
        """What was remembered since the last call, and how many packets more were discarded."""
        taken = self._traces, self._more
        self._traces, self._more = [], 0
        return taken
