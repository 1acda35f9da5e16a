"""What is discarded silently leaves a trace: a counter, and its content (RFC 5944 §1.7)."""

from __future__ import annotations

from collections import Counter

from testbed.mobileip.core.api import AgentMessage, Datagram
from testbed.mobileip.core.limits import TokenBucket
from testbed.mobileip.core.outbox import Outbox

REPORTS_PER_SECOND, REPORTS_AT_ONCE = 5, 20
"""So that a flood of nonsense fills no log."""


class Discards:
    """Counts messages that are discarded, and reports them with reason and content at a bounded rate."""

    def __init__(self, out: Outbox, counters: Counter[str]) -> None:
        self._out = out
        self._counters = counters
        self._reports = TokenBucket(REPORTS_PER_SECOND, REPORTS_AT_ONCE)

    def datagram(self, reason: str, datagram: Datagram, now: float) -> None:
        """Count `datagram` as `discarded-REASON` and report it."""
        self._report(f"discarded-{reason}", reason, datagram, now)

    def agent_message(self, counter: str, reason: str, message: AgentMessage, now: float) -> None:
        """Count `message` as `COUNTER-REASON` and report it."""
        self._report(f"{counter}-{reason}", reason, message, now)

    def _report(self, counter: str, reason: str, message: Datagram | AgentMessage, now: float) -> None:
        self._counters[counter] += 1
        if not self._reports.allow(now):
            self._counters["discards-not-reported"] += 1
            return
        self._out.event(
            "discarded",
            reason=reason,
            sender=str(message.source),  # `source` is the daemon, in every event
            destination=str(message.destination),
            interface=message.interface,
            ttl=message.ttl,
            content=message.payload.hex(),
        )
