"""Identifications by timestamps and by nonces: the mobile node's side, the home agent's (RFC 5944 §5.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from testbed.mobileip.core.security import Peer, ReplayProtection
from testbed.mobileip.wire.identification import FIELD, LOW, SECOND, from_unix, unwrap

_RANDOM_BITS = 10  # low bits of a count of 2**-32 s that a clock in floating point seconds leaves 0


class Identifier(Protocol):
    """Makes the identifications of one mobile node."""

    @property
    def repeats(self) -> bool:
        """Whether an unanswered request is sent again as it was (§3.6.3)."""

    @property
    def offset(self) -> float:
        """Seconds by which the home agent's clock is ahead of ours, as far as it has reported."""

    def next(self, unix_time: float) -> int:
        """A new identification field."""

    def replied(self, field: int, unix_time: float, mismatch: bool) -> None:
        """The home agent has answered with `field`; `mismatch`: by code 133."""


class Stamper:
    """Timestamps, each greater than the one before, of a clock that a home agent may correct (§5.7.1)."""

    repeats = False

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

    def replied(self, field: int, unix_time: float, mismatch: bool) -> None:
        """Adopt the home agent's clock from the upper half of the field of its reply with code 133."""
        if not mismatch:
            return
        ours = from_unix(unix_time)
        # The upper half is whole seconds, truncated: half a second more is the best guess.
        theirs = unwrap((field & ~LOW) + SECOND // 2, ours)
        self._offset = theirs - ours
        self._last = None  # they were refused: a clock that was ahead may go back behind them


class NonceReturner:
    """Nonces: the home agent's last above, a random number of ours below (§5.7.2).

    After a restart the home agent's is not known; the first request draws code 133, and with it a new one.
    """

    repeats = True
    offset = 0.0

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._theirs = rng.getrandbits(32)
        self._ours = 0

    def next(self, unix_time: float) -> int:
        """A new identification field."""
        self._ours = _other(self._rng, (self._ours,))
        return self._theirs << 32 | self._ours

    def replied(self, field: int, unix_time: float, mismatch: bool) -> None:
        """Keep the home agent's nonce for the next request."""
        self._theirs = field >> 32


def identifier(method: ReplayProtection, rng: Random) -> Identifier:
    """The mobile node's side of `method`."""
    return NonceReturner(rng) if method is ReplayProtection.NONCES else Stamper(rng)


class Guard(Protocol):
    """Distinguishes fresh identifications from old ones, for any number of mobile nodes."""

    def fresh(self, node: Peer, field: int, unix_time: float) -> bool:
        """Whether a request with `field` was made after all that were accepted of `node`."""

    def accept(self, node: Peer, field: int, unix_time: float) -> None:
        """Remember that `field`, found fresh, has been used."""

    def reply(self, node: Peer, field: int, unix_time: float, mismatch: bool) -> int:
        """The identification of the reply to a request with `field`; `mismatch`: that with code 133."""

    def record(self, node: Peer) -> int | None:
        """What `restore` takes after a restart of the home agent."""

    def restore(self, node: Peer, record: int) -> None:
        """Take up what `record` gave before a restart."""


class Timestamps:
    """Accepts what is close to the clock, and later than all accepted before (§5.7.1)."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = int(tolerance * SECOND)
        self._accepted: dict[Peer, int] = {}

    def fresh(self, node: Peer, field: int, unix_time: float) -> bool:
        """Whether `field` is close enough to the clock and later than all accepted of `node`."""
        ours = from_unix(unix_time)
        stamp = unwrap(field, ours)
        if abs(stamp - ours) > self._tolerance:
            return False
        last = self._accepted.get(node)
        return last is None or stamp > last

    def accept(self, node: Peer, field: int, unix_time: float) -> None:
        """Remember `field`, found fresh, as the latest of `node`."""
        self._accepted[node] = unwrap(field, from_unix(unix_time))

    def reply(self, node: Peer, field: int, unix_time: float, mismatch: bool) -> int:
        """With code 133 our time above, the request's lower half below; else the request's."""
        return (from_unix(unix_time) % FIELD & ~LOW) | (field & LOW) if mismatch else field

    def record(self, node: Peer) -> int | None:
        """The latest accepted of `node`."""
        return self._accepted.get(node)

    def restore(self, node: Peer, record: int) -> None:
        """Take up what `record` gave before a restart."""
        self._accepted[node] = record


@dataclass(slots=True)
class _Nonces:
    """What the next request of a mobile node may return."""

    answered: int | None = None
    """Of the reply to its last fresh request."""
    offered: int | None = None
    """Of the last reply since, to a request that was not."""


class Nonces:
    """Accepts what returns the nonce of an earlier reply, once (§5.7.2).

    Every reply has a new one. That of the reply to a fresh request holds until it is used: else anybody could
    make it worthless, by a replay.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._nodes: dict[Peer, _Nonces] = {}

    def fresh(self, node: Peer, field: int, unix_time: float) -> bool:
        """Whether `field` returns a nonce of ours that has not been used."""
        known = self._nodes.get(node)
        return known is not None and field >> 32 in (known.answered, known.offered)

    def accept(self, node: Peer, field: int, unix_time: float) -> None:
        """Let no nonce be used again that `node` got so far."""
        self._nodes[node] = _Nonces()

    def reply(self, node: Peer, field: int, unix_time: float, mismatch: bool) -> int:
        """A new nonce above, the request's lower half below."""
        known = self._nodes.setdefault(node, _Nonces())
        nonce = _other(self._rng, (field >> 32, known.answered, known.offered))
        if known.answered is None:
            known.answered = nonce
        else:
            known.offered = nonce
        return nonce << 32 | (field & LOW)

    def record(self, node: Peer) -> int | None:
        """The nonce of the reply to the last fresh request of `node`."""
        known = self._nodes.get(node)
        return None if known is None else known.answered

    def restore(self, node: Peer, record: int) -> None:
        """Take up what `record` gave before a restart."""
        self._nodes[node] = _Nonces(record)


class ReplayGuard:
    """Both methods: which of them a request is judged by, its security association says (§5.7)."""

    def __init__(self, tolerance: float, rng: Random) -> None:
        self._timestamps, self._nonces = Timestamps(tolerance), Nonces(rng)
        self._by_key: dict[str, Guard] = {"identification": self._timestamps, "nonce": self._nonces}

    def by(self, method: ReplayProtection) -> Guard:
        """The guard of a method."""
        return self._timestamps if method is ReplayProtection.TIMESTAMPS else self._nonces

    def record(self, node: Peer) -> dict[str, int]:
        """What `restore` takes after a restart of the home agent, in JSON's terms."""
        record = {}
        if (stamp := self._timestamps.record(node)) is not None:
            record["identification"] = stamp
        if (nonce := self._nonces.record(node)) is not None:
            record["nonce"] = nonce
        return record

    def restore(self, node: Peer, record: Mapping[str, Any]) -> None:
        """Take up what `record` gave before a restart; raises ValueError or TypeError for nonsense."""
        for key, guard in self._by_key.items():
            if (value := record.get(key)) is not None:
                guard.restore(node, int(value))


def _other(rng: Random, than: tuple[int | None, ...]) -> int:
    """A random half of a field that is none of these."""
    while (number := rng.getrandbits(32)) in than:
        pass
    return number
