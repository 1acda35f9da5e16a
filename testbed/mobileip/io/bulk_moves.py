"""Moves that are asked of a crowd at its control socket: planned, begun, and reported at their end."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from typing import Any

from testbed.mobileip.core.mobile.crowd import Crowd, Move
from testbed.mobileip.io.control import Connection
from testbed.mobileip.io.journal import Journal

PATIENCE = 60.0
"""Seconds after the last node has moved in which all may register until the result is reported."""


@dataclass(frozen=True, slots=True)
class _Order:
    """A move that somebody asks for."""

    numbers: range
    network: str
    within: float
    client: Connection | None = None
    id: object = None
    """What the request was marked with, and its events are."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A move whose nodes are under way."""

    order: _Order
    move: Move
    began: float


class Moves:
    """The moves of a crowd. Each reports `move-started` and `settled`, to who has asked for it as well."""

    def __init__(self, crowd: Crowd, journal: Journal) -> None:
        self._crowd = crowd
        self._journal = journal
        self._planned: list[tuple[float, int, _Order]] = []  # a heap
        self._ranks = count()
        self._begun: list[_Begun] = []

    def attach(self, network: str, within: float, now: float) -> None:
        """Have all nodes attach to a network; raises ValueError for an unknown one."""
        self._plan(_Order(range(len(self._crowd.members)), network, within), now)

    def request(self, request: Mapping[str, Any], client: Connection, now: float) -> dict[str, Any]:
        """Plan what a request asks for; returns the fields of its answer. Raises ValueError.

        Of all nodes or of those that `part_of` says, to `network`, `within` so many seconds; `at` is the time
        of the monotonic clock when they begin, by default now. What is planned ends with the connection.
        """
        at, within = _seconds(request, "at", now), _seconds(request, "within", 0.0)
        numbers = part_of(self._crowd, request)
        self._plan(_Order(numbers, str(request.get("network")), within, client, request.get("id")), at)
        client.hold()
        return {"nodes": len(numbers)}

    def _plan(self, order: _Order, at: float) -> None:
        self._crowd.check_network(order.network)
        heapq.heappush(self._planned, (at, next(self._ranks), order))

    def deadline(self) -> float | None:
        """The next `now` at which `turn` has something to do, whatever the crowd does."""
        due = [each.began + each.order.within + PATIENCE for each in self._begun]
        return min(due + [at for at, _, _ in self._planned[:1]], default=None)

    def turn(self, now: float) -> None:
        """Begin the moves that are due, and report those that have ended."""
        while self._planned and self._planned[0][0] <= now:
            self._begin(heapq.heappop(self._planned)[2], now)
        for begun in list(self._begun):
            if not begun.move.waiting or begun.began + begun.order.within + PATIENCE <= now:
                self._begun.remove(begun)
                self._report("settled", begun.order, self._result(begun, now))
                if begun.order.client is not None:
                    begun.order.client.release()

    def _begin(self, order: _Order, now: float) -> None:
        if order.client is not None and not order.client.open:
            return  # the client that planned it has gone
        move = self._crowd.move(order.numbers, order.network, order.within, now)
        self._begun.append(_Begun(order, move, now))
        self._report("move-started", order, {})

    def _result(self, begun: _Begun, now: float) -> dict[str, object]:
        move, nodes = begun.move, len(begun.order.numbers)
        took = round((now - begun.began) * 1000, 3)
        whole = not move.waiting
        elsewhere = f", {move.diverted} were sent elsewhere before" if move.diverted else ""
        return {
            "stack": "mip-only",
            "state": "registered" if whole else "unregistered",
            "detail": f"{move.arrived} of {nodes} nodes registered{elsewhere}",
            "ms": took,
            "timeline": {"registration": took if whole else None},
            "registered": move.arrived,
            "requests": move.requests,
            "replies": move.replies,
        }

    def _report(self, event: str, order: _Order, fields: Mapping[str, object]) -> None:
        head: dict[str, object] = {} if order.id is None else {"id": order.id}
        head |= {"network": order.network, "nodes": len(order.numbers)}
        head |= {"homes": self._crowd.homes(order.numbers)}
        also = [order.client.send] if order.client is not None else []
        self._journal.tell(event, {**head, **fields}, also=also)


def part_of(crowd: Crowd, request: Mapping[str, Any]) -> range:
    """The nodes that a request is about.

    `homes` are the home addresses of the first and the last, `share` is a part of the whole from its first
    node on; without either all. Raises ValueError.
    """
    nodes, homes, share = len(crowd.members), request.get("homes"), request.get("share")
    if homes is not None and share is not None:
        raise ValueError("expected 'homes' or 'share', not both")
    if share is not None:
        if not _is_number(share) or not 0 < share <= 1:
            raise ValueError(f"'share' must be a number above 0, 1 at most, got {share!r}")
        return range(max(1, round(nodes * share)))
    if homes is None:
        return range(nodes)
    if not isinstance(homes, list) or len(homes) != 2:
        raise ValueError("'homes' must be the first and the last home address")
    first, last = (crowd.member(address(each)).number for each in homes)
    if last < first:
        raise ValueError(f"the home address {homes[0]} comes after {homes[1]}")
    return range(first, last + 1)


def address(text: object) -> IPv4Address:
    """An IPv4 address of a request; raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"expected an IPv4 address, got {text!r}")
    return IPv4Address(text)


def _seconds(request: Mapping[str, Any], key: str, default: float) -> float:
    value = request.get(key, default)
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(f"{key!r} must be a number of seconds, 0 or more, got {value!r}")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
