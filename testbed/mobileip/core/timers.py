"""Deadlines by key: cheap to set, to move and to ask for the next one."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """At most one deadline per key.

    Moving a deadline back, what every renewal of a registration does, touches no heap: the old heap entry
    stays and is put right when it comes up.
    """

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._queued: dict[Key, float] = {}  # the earliest heap entry of a key
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()  # equal deadlines come in the order they were set; keys are never compared

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def get(self, key: Key) -> float | None:
        """When `key` is due; None if it is not set."""
        return self._due.get(key)

    def set(self, key: Key, when: float) -> None:
        """Make `key` due at `when`, whatever was set before."""
        self._due[key] = when
        queued = self._queued.get(key)
        if queued is None or when < queued:
            self._push(key, when)

    def cancel(self, key: Key) -> None:
        """Forget `key`, if it is set."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Forget all keys."""
        self._due.clear()
        self._queued.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """When the next key is due; None if none is set."""
        heap = self._heap
        while heap:
            when, _, key = heap[0]
            due = self._due.get(key)
            if due == when:
                return when
            if self._queued.get(key) != when:  # an entry that an earlier one has replaced
                heapq.heappop(heap)
            elif due is None:
                heapq.heappop(heap)
                del self._queued[key]
            else:
                heapq.heapreplace(heap, (due, next(self._order), key))
                self._queued[key] = due
        return None

    def pop_due(self, now: float, most: int | None = None) -> list[Key]:
        """Take out the keys due at `now` or before, `most` of them, in the order they are due."""
        keys: list[Key] = []
        while len(keys) != most and (when := self.next()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._due[key], self._queued[key]
            keys.append(key)
        return keys

    def _push(self, key: Key, when: float) -> None:
        self._queued[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))
        if len(self._heap) > 64 + 4 * len(self._due):  # mostly entries of forgotten keys
            self._heap = [(due, next(self._order), key) for key, due in self._due.items()]
            self._queued = dict(self._due)
            heapq.heapify(self._heap)


def lifetime_left(expires: float | None, now: float) -> float | None:
    """Seconds until `expires`, to the millisecond and never negative; None where there is no end."""
    return None if expires is None else round(max(0.0, expires - now), 3)
