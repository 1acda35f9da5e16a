"""When a mobile node may send a request, and when it sends the next (RFC 5944 §3.6.3)."""

from __future__ import annotations

from random import Random

MINIMUM_INTERVAL = 1.0
"""Seconds between two requests at least (§3.6.3); also the first time-out, until the round trip is known."""
HELD_BACK = 3.0
"""Seconds a request may wait for its next hop before it is taken for lost: three ARP requests long."""
MAXIMUM_INTERVAL = 60.0
"""Time-outs double up to this, or to the lifetime asked for if that is shorter."""
JITTER = 1.25
"""The greatest factor by which a wait is lengthened: nodes that failed together come back one by one.

§3.6.3 has lower bounds for waits, so that the factor is never below 1.
"""


class Repetition:
    """Counts requests without a reply, and spaces them ever further apart."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.unanswered = 0
        """Requests since the last reply or `begin`."""
        self._last_sent: float | None = None
        self._interval = MINIMUM_INTERVAL
        self._first_timeout = self._timeout = MINIMUM_INTERVAL

    def begin(self) -> None:
        """There is something new to ask for."""
        self.unanswered = 0
        self._timeout = self._first_timeout

    def moved(self) -> None:
        """The link layer reports a move: the next request may be sent at once, its round trip is unknown."""
        self._last_sent = None
        self._first_timeout = MINIMUM_INTERVAL

    def earliest(self, now: float) -> float:
        """When the next request may be sent; without a move not within a second of the last (§3.6.3)."""
        return now if self._last_sent is None else max(now, self._last_sent + MINIMUM_INTERVAL)

    def sent(self, lifetime: int, now: float) -> float:
        """A request for `lifetime` seconds is sent; returns when to send the next if no reply comes."""
        self._last_sent = now
        self.unanswered += 1
        self._interval = self._timeout
        limit = float(min(MAXIMUM_INTERVAL, lifetime) if lifetime else MAXIMUM_INTERVAL)
        # Lengthened once, as all that follow double what it is: they lie as far apart as they are long.
        doubled = self.spread(self._timeout * 2) if self.unanswered == 1 else self._timeout * 2
        self._timeout = max(MINIMUM_INTERVAL, min(doubled, limit))
        return now + self._interval

    def spread(self, delay: float) -> float:
        """`delay` in seconds, lengthened at random by up to `JITTER`."""
        return delay * self._rng.uniform(1.0, JITTER)

    def departed(self, now: float) -> float | None:
        """The last request left this node at `now`, and the link may have made it wait until then.

        Returns when to send the next if no reply comes; None when no request since a move has been sent.
        """
        if self._last_sent is None:
            return None
        self._last_sent = max(self._last_sent, now)
        return self._last_sent + self._interval

    def held_back(self) -> float | None:
        """The last request waits for its next hop: another would leave together with it.

        Returns when to send the next all the same; None as for `departed`.
        """
        return None if self._last_sent is None else self._last_sent + max(HELD_BACK, self._interval)

    def answered(self, round_trip: float) -> None:
        """A reply has come `round_trip` seconds after its request."""
        self.unanswered = 0
        # "at least an additional 100 milliseconds" above twice the round trip (§3.6.3)
        self._first_timeout = max(MINIMUM_INTERVAL, min(2 * round_trip + 0.1, MAXIMUM_INTERVAL))
        self._timeout = self._first_timeout
