"""How what a solution takes grows with the number of mobile nodes: guideline 5.7 over many more of them.

The exponent is that of `claim.expect.growth`, by which claims judge the guideline on labs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Final, Literal

from testbed.claim.expect.growth import exponent
from testbed.simulate.run import Outcome

AT_MOST: Final = 1.1
"""The exponent up to which a curve counts as linear, as in topologies/guidelines/5.7.yaml."""
_ENOUGH: Final = 200
"""Mobile nodes whose ways differ enough, in all simulations of a size together."""
_SIZES: Final = 3
"""How many points make a slope."""

Kind = Literal["messages", "bytes", "state", "recovery"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity of one solution, by the number of mobile nodes."""

    solution: str
    kind: Kind
    name: str
    """Where the messages are counted, what the entries are, or what was restarted."""
    points: tuple[tuple[int, float], ...]
    exponent: float | None
    """The slope in logarithms; None: less than three points above zero."""

    @property
    def too_steep(self) -> bool:
        """Whether it grows faster than the guideline allows; what takes time is not what it speaks of."""
        return self.kind != "recovery" and self.exponent is not None and self.exponent > AT_MOST


def curves(outcomes: Sequence[Outcome]) -> list[Curve]:
    """The curves of all quantities, by solution; of several outcomes for one size the mean counts."""
    values: dict[tuple[str, Kind, str], dict[int, list[float]]] = {}
    for outcome in outcomes:
        for kind, name, value in quantities(outcome):
            by_size = values.setdefault((outcome.solution, kind, name), {})
            by_size.setdefault(outcome.nodes, []).append(value)
    points = {key: [(size, fmean(each)) for size, each in sizes.items()] for key, sizes in values.items()}
    return [Curve(*key, tuple(found), _slope(found)) for key, found in points.items()]


def runs(nodes: int) -> int:
    """How many simulations of so many mobile nodes make a mean that hardly depends on the seed."""
    return ceil(_ENOUGH / nodes)


def quantities(outcome: Outcome) -> Iterator[tuple[Kind, str, float]]:
    """All numbers of an outcome, each with what it is."""
    for place, load in outcome.load.items():
        yield "messages", place, load.messages
    for place, load in outcome.load.items():
        yield "bytes", place, load.octets
    for entries, most in outcome.state.items():
        yield "state", entries, most
    for each in outcome.recovery:
        if each.lost and each.seconds is not None:
            yield "recovery", each.agent, each.seconds


def _slope(points: Iterable[tuple[int, float]]) -> float | None:
    """Points at zero have no logarithm and are left out."""
    above = [(size, value) for size, value in points if value > 0]
    return exponent(above) if len({size for size, _ in above}) >= _SIZES else None
