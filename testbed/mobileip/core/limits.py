"""Bounds on what strangers can make an agent send."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class OncePer:
    """Lets something through once per `period` seconds and key; remembers at most `capacity` keys.

    When more keys than that are active within one period, the rest is refused.
    """

    def __init__(self, period: float, capacity: int = 1024) -> None:
        self._period = period
        self._capacity = capacity
        self._last: OrderedDict[Hashable, float] = OrderedDict()

    def allow(self, key: Hashable, now: float) -> bool:
        """Whether `key` may pass at `now`; counts as having passed if so."""
        last = self._last
        while last and next(iter(last.values())) <= now - self._period:
            last.popitem(last=False)
        if key in last or len(last) >= self._capacity:
            return False
        last[key] = now
        return True


class TokenBucket:
    """Lets `rate` events per second through on average, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled: float | None = None

    def allow(self, now: float) -> bool:
        """Whether one more may pass at `now`; counts as having passed if so."""
        if self._filled is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
