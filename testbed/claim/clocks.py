"""When it happened, by the time of day, what nodes have reported.

Nodes stamp events with the monotonic clock of their host, and engines with the time of day when they arrive.
The event that arrived soonest after it happened says what time of day a clock began at.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from testbed.claim.sight import Reported

_APART: Final = 2.0
"""Seconds from which the beginnings that two nodes show are those of two clocks: engines on several hosts."""


def by_time_of_day(events: Iterable[Reported]) -> list[tuple[float, Reported]]:
    """Events in their order, with the time in s since the epoch; without those that are not stamped."""
    stamped = [(float(one.monotonic), one) for one in events if one.monotonic is not None]
    least: dict[str, float] = {}
    for monotonic, one in stamped:
        least[one.node] = min(least.get(one.node, float("inf")), one.wall - monotonic)
    nodes = sorted(least, key=lambda node: least[node])
    began = {node: least[node] for node in nodes[:1]}
    for before, node in pairwise(nodes):
        began[node] = least[node] if least[node] - least[before] > _APART else began[before]
    return sorted(
        ((began[one.node] + monotonic, one) for monotonic, one in stamped), key=lambda each: each[0]
    )
