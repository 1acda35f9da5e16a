"""How the cost of moves grows with the number of mobile nodes that move at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import ClassVar, Final, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from testbed.agreed import MOVE_STARTED, ROAM, SETTLED
from testbed.claim.clocks import by_time_of_day
from testbed.claim.names import PcapFilter, Taps
from testbed.claim.seen import PATIENCE, Seen
from testbed.claim.sight import Decision, Facts, Reported, Sight
from testbed.document.functions import Function
from testbed.document.values import Expected

LATER: Final = 0.5
"""Seconds after a move in which what is captured is still of it, unless the next node has left home."""
HURRIED: Final = 50.0
"""Milliseconds of lateness from which messages may be more than moves alone cost: charon, which gathers
changes of addresses for 100 ms, may take a move for two."""
_NOT_AWAY: Final = ("at-home", "unregistered")
_SIZES: Final = 3
"""How many different numbers of nodes make a slope."""


@dataclass(frozen=True, slots=True)
class _Phase:
    """A time in which the same nodes were away from home, and all of them moved; in s since the epoch."""

    nodes: frozenset[str] | range
    """Their names; of a crowd as many numbers."""
    began: float
    ended: float


class Growth(Seen):
    """The exponent with which packets grow with the number of mobile nodes that are away, and move.

    Packets are counted so long as the same mobile nodes are away from home, and each of them moves. The
    exponent is the slope of their number against the number of these nodes, both as logarithms: 1 is linear,
    2 quadratic. With `rounds` what a slow machine adds to one move does not count, where it spares another.
    Of a crowd packets are counted so long as the same part of it moves, whatever part has moved before.
    """

    word = "growth"
    title = "How the cost of moves grows with their number"
    order = 170
    BY_CAPTURES: ClassVar[bool] = True
    TOO_LITTLE: ClassVar[float | None] = PATIENCE
    TOO_MUCH: ClassVar[float | None] = HURRIED

    at: Taps = Field(min_length=1, description="Where packets are captured: NODE/NETWORK, one or a list")
    filter: PcapFilter = Field(min_length=1, description="Which packets: a pcap filter")
    rounds: bool = Field(
        default=False,
        description="Whether all that are away move several times, and the fewest packets count",
    )
    at_most: float | None = Field(
        default=None, alias="at-most", ge=0, description="The exponent is not above this"
    )
    over: float | None = Field(default=None, ge=0, description="The exponent is above this")

    @model_validator(mode="wrap")
    @classmethod
    def _one(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if (made.at_most is None) == (made.over is None):
            raise Expected("one of at-most and over", "for example at-most: 1.1")
        return made

    @property
    def _wanted(self) -> str:
        return f"at most {self.at_most:g}" if self.at_most is not None else f"over {self.over:g}"

    def phrase(self) -> str:
        """What is expected, as a line."""
        what = f"packets at {', '.join(self.at)} matching {self.filter!r}"
        if self.rounds:
            what = f"the fewest {what} of several moves"
        return f"{what} grow with the number of mobile nodes by an exponent of {self._wanted}"

    def taps(self, facts: Facts) -> list[str]:
        """Where it counts."""
        return self.at

    def judge(self, sight: Sight) -> Decision:
        """Count packets in each of the moves, and fit the exponent."""
        matches = sight.wires.match_all(self.at, self.filter)
        broken = [match.tap for match in matches if not match.alive or match.dropped]
        if broken:
            return Decision(None, f"the capture at {', '.join(broken)} is not whole")
        times = [time for match in matches for time in match.times]
        sizes: dict[int, list[_Phase]] = {}
        for phase in all_phases(sight.events, rounds=self.rounds):
            sizes.setdefault(len(phase.nodes), []).append(phase)
        if len(sizes) < _SIZES:
            numbers = ", ".join(map(str, sizes)) or "no"
            return Decision(None, f"all nodes that were away moved in numbers of {numbers} only")
        counts = {
            size: min(sum(one.began <= time <= one.ended for time in times) for one in found)
            for size, found in sorted(sizes.items())
        }
        text = ", ".join(f"{size}: {count}" for size, count in counts.items())
        if 0 in counts.values():
            return Decision(None, f"packets by number of nodes {text}: without any no slope is known")
        slope = exponent(list(counts.items()))
        high = slope > (self.at_most if self.at_most is not None else self.over or 0.0)
        held = high == (self.over is not None)
        return Decision(held, f"packets by number of nodes {text}: exponent {slope:.2f}", high)


def phases(events: Iterable[Reported], *, rounds: bool = False) -> list[_Phase]:
    """From when so many nodes are away from home until the next leaves it or one returns, if all moved in it.

    With `rounds` one ends, and the next begins, as soon as all have moved and one moves again.
    """
    moves = (one for one in events if one.source == ROAM and one.name in (MOVE_STARTED, SETTLED))
    away: set[str] = set()
    joining: set[str] = set()
    moved: set[str] = set()
    began = ended = 0.0
    found: list[_Phase] = []
    for time, one in by_time_of_day(moves):
        if one.name == MOVE_STARTED:
            if one.node in away:
                if rounds and moved == away:
                    found.append(_Phase(frozenset(away), began, min(ended + LATER, time)))
                    moved, began = set(), time
                moved.add(one.node)
                continue
            if away and moved == away:
                found.append(_Phase(frozenset(away), began, min(ended + LATER, time)))
            joining.add(one.node)
            moved = set()
            continue
        ended = time
        before = set(away)
        (away.discard if one.fields.get("state") in _NOT_AWAY else away.add)(one.node)
        joining.discard(one.node)
        if away != before:
            moved, began = set(), time
    if away and moved == away and not joining:
        found.append(_Phase(frozenset(away), began, ended + LATER))
    return found


def exponent(counts: Sequence[tuple[int, float]]) -> float:
    """The slope of the line through the logarithms of counts against those of sizes, by least squares."""
    points = [(log(size), log(count)) for size, count in counts]
    x = sum(a for a, _ in points) / len(points)
    y = sum(b for _, b in points) / len(points)
    return float(sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points))


def crowd_phases(events: Iterable[Reported], *, rounds: bool = False) -> list[_Phase]:
    """From when a part of a crowd moves until another does, or with `rounds` until the same moves again."""
    source = Function.BULK_NODES
    moves = (one for one in events if one.source == source and one.name in (MOVE_STARTED, SETTLED))
    found: list[_Phase] = []
    before: tuple[str, list[str]] | None = None
    for time, one in by_time_of_day(moves):
        if one.name == SETTLED:
            if found:
                found[-1] = replace(found[-1], ended=time + LATER)
            continue
        part = one.node, one.fields["homes"]
        if found:
            found[-1] = replace(found[-1], ended=min(found[-1].ended, time))
        if rounds or part != before:
            found.append(_Phase(range(one.fields["nodes"]), time, time))
        before = part
    return found


def all_phases(events: Sequence[Reported], *, rounds: bool) -> list[_Phase]:
    """Those of mobile nodes, and those of crowds."""
    return phases(events, rounds=rounds) + crowd_phases(events, rounds=rounds)
