"""Timestamps as identifications: the mobile node's side and the home agent's (RFC 5944 §5.7.1)."""

from __future__ import annotations

from random import Random

from testbed.mobileip.wire.identification import FIELD, LOW, SECOND, from_unix, unwrap

_RANDOM_BITS = 10  # low bits of a count of 2**-32 s that a clock in floating point seconds leaves 0


class Stamper:
    """Makes identifications, each greater than the one before, from a clock that a home agent may correct."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._offset = 0
        self._last: int | None = None

    @property
    def offset(self) -> float:
        """Seconds by which the home agent's clock is ahead of ours, as far as it has reported."""
        return self._offset / SECOND

    def next(self, unix_time: float) -> int:
        """A new identification field."""
        stamp = from_unix(unix_time) + self._offset
        stamp = (stamp >> _RANDOM_BITS << _RANDOM_BITS) | self._rng.getrandbits(_RANDOM_BITS)
        if self._last is not None and stamp <= self._last:
            stamp = self._last + 1 + self._rng.getrandbits(_RANDOM_BITS)
        self._last = stamp
        return stamp % FIELD

    def resynchronise(self, field: int, unix_time: float) -> None:
        """Adopt the home agent's clock from the upper half of the field of its reply with code 133."""
        ours = from_unix(unix_time)
        # The upper half is whole seconds, truncated: half a second more is the best guess.
        theirs = unwrap((field & ~LOW) + SECOND // 2, ours)
        self._offset = theirs - ours
        self._last = None  # they were refused: a clock that was ahead may go back behind them


class ReplayGuard:
    """Tells fresh identifications from old ones, for any number of mobile nodes."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = int(tolerance * SECOND)
        self._accepted: dict[object, int] = {}

    def fresh(self, node: object, field: int, unix_time: float) -> bool:
        """Whether `field` is close enough to the clock and later than all accepted of `node`."""
        ours = from_unix(unix_time)
        stamp = unwrap(field, ours)
        if abs(stamp - ours) > self._tolerance:
            return False
        last = self._accepted.get(node)
        return last is None or stamp > last

    def accept(self, node: object, field: int, unix_time: float) -> None:
        """Remember `field`, found fresh, as the latest of `node`."""
        self._accepted[node] = unwrap(field, from_unix(unix_time))

    def last(self, node: object) -> int | None:
        """The latest accepted of `node`, as `restore` takes it."""
        return self._accepted.get(node)

    def restore(self, node: object, last: int) -> None:
        """Take up what `last` gave before a restart."""
        self._accepted[node] = last

    @staticmethod
    def correction(field: int, unix_time: float) -> int:
        """The identification of a reply with code 133: our time above, the request's lower half below."""
        return (from_unix(unix_time) % FIELD & ~LOW) | (field & LOW)
