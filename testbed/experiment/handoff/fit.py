"""What many hand-offs come to: their distribution, and the line outage = k × RTT + constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean, median


@dataclass(frozen=True, slots=True)
class Line:
    """outage = k × RTT + constant: `k` in round trips, `constant` in ms.

    `r2` is the share of the outages' variation that the line has (the coefficient of determination).
    """

    k: float
    constant: float
    r2: float = 1.0

    def at(self, rtt: float) -> float:
        """The outage in ms that the line gives for a round-trip time in ms."""
        return self.k * rtt + self.constant


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution; every value but the median was measured."""

    median: float
    p95: float
    least: float
    most: float


def fit_line(points: Sequence[tuple[float, float]]) -> Line | None:
    """The line of least squares through (RTT, outage); None with less than two different RTTs."""
    if len({x for x, _ in points}) < 2:
        return None
    middle_x, middle_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / sum(
        (x - middle_x) ** 2 for x, _ in points
    )
    line = Line(slope, middle_y - slope * middle_x)
    all_of_it = sum((y - middle_y) ** 2 for _, y in points)
    beside = sum((y - line.at(x)) ** 2 for x, y in points)
    return replace(line, r2=1 - beside / all_of_it) if all_of_it else line


def spread(values: Sequence[float]) -> Spread | None:
    """The distribution of values, its 95th percentile by nearest rank; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    p95 = ordered[max(0, ceil(0.95 * len(ordered)) - 1)]
    return Spread(median(ordered), p95, ordered[0], ordered[-1])
