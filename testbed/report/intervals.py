"""How far numbers from few trials may be off: intervals that hold the true value in 95 of 100 studies."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from random import Random
from statistics import NormalDist, median, quantiles
from typing import Final

CONFIDENCE: Final = 0.95
SAMPLES: Final = 1000
"""How often values are drawn anew for an interval."""
LEAST_VALUES: Final = 5
"""Fewer values drawn anew are always the same few, and their interval is too narrow."""


def wilson(good: int, many: int) -> tuple[float, float]:
    """The interval of a share of which `good` of `many` were seen, after Wilson (1927), from 0 to 1."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, shrunk = good / many, 1 + z * z / many
    middle = (share + z * z / (2 * many)) / shrunk
    reach = z / shrunk * sqrt(share * (1 - share) / many + z * z / (4 * many * many))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def of_median(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The interval of the median of values that were measured in groups, by the bootstrap; None of too few.

    Groups are drawn, and values within each: values of a group may be alike because of what the group had in
    common, as the lab and the moment.
    """
    given = [group for group in groups if group]
    if sum(map(len, given)) < LEAST_VALUES:
        return None
    random = Random(1)  # the same page of the same results
    medians = [
        median([value for group in random.choices(given, k=len(given)) for value in _anew(random, group)])
        for _ in range(SAMPLES)
    ]
    cuts = quantiles(medians, n=round(2 / (1 - CONFIDENCE)), method="inclusive")
    return cuts[0], cuts[-1]


def _anew(random: Random, values: Sequence[float]) -> list[float]:
    return random.choices(values, k=len(values))
