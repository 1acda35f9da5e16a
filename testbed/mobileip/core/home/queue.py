"""Requests that wait at a home agent, and what becomes of them when there are more than it can answer.

A mobile node without an answer asks again after a second, and then takes no notice of an answer to what it
asked before (RFC 5944 §3.6.2.1, §3.6.3). An agent that answered every request in turn would soon answer none
in time: the queue would only hold what has been asked again since. So a request that has waited too long is
shed, and the time goes to those whose mobile nodes still listen.
"""

from __future__ import annotations

from collections import Counter, deque

from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.replay import Timestamps
from testbed.mobileip.wire.registration_request import identification_of

LATE = 0.5
"""Seconds that a request may wait in a long queue: half of the least time-out of mobile nodes (§3.6.3)."""
SHORT = 64
"""Requests in a queue that is no overload, however long they have waited: they take a few milliseconds."""
DENIALS = 0.25
"""Denials for each request that is answered in time: to deny takes nearly as long as to grant."""
MOST_DENIALS = 64.0
"""Denials at once, when an overload begins."""


class RequestQueue:
    """Datagrams with registration requests, the oldest first.

    Of a queue that is not `SHORT` the old end is taken out as soon as it has waited for `LATE`: some are
    denied by code 130 as long as that is not too late, the others are dropped unprocessed. What waiting alone
    would have answered by code 133 is always dropped (§5.7.1).
    """

    def __init__(self, tolerance: float, clock: Clock, counters: Counter[str]) -> None:
        """`tolerance` is that of timestamps, in seconds."""
        self._tolerance = tolerance
        # Nothing is accepted here, so that it compares timestamps with the clock alone.
        self._timestamps = Timestamps(tolerance)
        self._clock = clock
        self._counters = counters
        self._waiting: deque[tuple[float, Datagram]] = deque()
        self._denials = MOST_DENIALS

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, datagram: Datagram, arrived: float) -> None:
        """Let a request wait that has come at `arrived`, no earlier than those before it."""
        self._waiting.append((arrived, datagram))

    def take(self, now: float) -> tuple[Datagram, bool] | None:
        """The next request, and whether it is to be denied because there are too many; None: no more."""
        while self._waiting:
            crowded = len(self._waiting) > SHORT
            arrived, datagram = self._waiting.popleft()
            waited = now - arrived
            if waited >= min(LATE, self._tolerance) and self._is_outdated(datagram, arrived, now):
                self._shed()
            elif not crowded or waited < LATE:
                self._denials = min(self._denials + DENIALS, MOST_DENIALS)
                return datagram, False
            elif waited < 2 * LATE and self._denials >= 1:
                self._denials -= 1
                return datagram, True
            else:
                self._shed()
        return None

    def _is_outdated(self, datagram: Datagram, arrived: float, now: float) -> bool:
        """Whether its timestamp was close to the clock when it came, and no longer is."""
        field = identification_of(datagram.payload)
        node = datagram.source  # of whom nothing was accepted: any will do
        was_close = self._timestamps.fresh(node, field, self._clock(arrived))
        return was_close and not self._timestamps.fresh(node, field, self._clock(now))

    def _shed(self) -> None:
        self._counters["requests-received"] += 1
        self._counters["requests-shed"] += 1
