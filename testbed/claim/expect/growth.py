"""How the cost of moves, and what agents keep, grow with the number of mobile nodes that move at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from testbed.agreed import ASSOCIATIONS, MOVE_STARTED, ROAM, SETTLED
from testbed.claim.clocks import by_time_of_day
from testbed.claim.names import PcapFilter, Taps
from testbed.claim.seen import PATIENCE, Seen
from testbed.claim.sight import Decision, Facts, Reported, Sight
from testbed.document.functions import Function
from testbed.document.values import Expected
from testbed.packet.taps import Matched

LATER: Final = 0.5
"""Seconds after a move in which what is captured is still of it, unless the next node has left home."""
HURRIED: Final = 50.0
"""Milliseconds of lateness from which messages may be more than moves alone cost: charon, which gathers
changes of addresses for 100 ms, may take a move for two."""
_NOT_AWAY: Final = ("at-home", "unregistered")
_BOUND: Final = ("binding", "binding-moved", "binding-restored")
_UNBOUND: Final = ("binding-removed", "binding-expired", "binding-revoked")
"""Events of home agents that begin or change a binding, and that end one."""
_STATE: Final = ("bindings", "associations")
"""What nodes report, and captures do not show."""
_Timed = Sequence[tuple[float, Reported]]
"""Events in their order, with the time in s since the epoch (`by_time_of_day`)."""
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
    """The exponent with which something grows with the number of mobile nodes that are away, and move.

    Packets and their octets are counted so long as the same mobile nodes are away from home, and each of them
    moves; bindings and associations, as nodes report them, at the end of that time. The exponent is the slope
    of the number against that of these nodes, both as logarithms: 1 is linear, 2 quadratic. With `rounds`
    what a slow machine adds to one move does not count, where it spares another. Of a crowd it is counted so
    long as the same part of it moves, whatever part has moved before.
    """

    word = "growth"
    title = "How the cost of moves grows with their number"
    order = 170
    BY_CAPTURES: ClassVar[bool] = True
    TOO_LITTLE: ClassVar[float | None] = PATIENCE
    TOO_MUCH: ClassVar[float | None] = HURRIED

    of: Literal["packets", "octets", "bindings", "associations"] = Field(
        default="packets",
        description="What grows: packets, their octets from the IP header on, the home addresses that home"
        " agents have bindings for, or the IKE SAs and CHILD SAs of the nodes that `follow-sas`"
        " names",
    )
    at: Taps = Field(
        default_factory=list, description="Where packets are captured: NODE/NETWORK, one or a list"
    )
    filter: PcapFilter = Field(default="", description="Which packets: a pcap filter")
    rounds: bool = Field(
        default=False,
        description="Whether all that are away move several times, and the lowest number counts",
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
        if made.of in _STATE and (made.at or made.filter):
            raise Expected(f"neither at nor filter with {made.of}", "nodes report them")
        if made.of not in _STATE and not (made.at and made.filter):
            raise Expected("at and filter", "for example at: ha/home, filter: udp port 434")
        return made

    @property
    def _wanted(self) -> str:
        return f"at most {self.at_most:g}" if self.at_most is not None else f"over {self.over:g}"

    def phrase(self) -> str:
        """What is expected, as a line."""
        where = f" at {', '.join(self.at)} matching {self.filter!r}" if self.at else ""
        what = f"the fewest {self.of}{where} of several moves" if self.rounds else f"{self.of}{where}"
        return f"{what} grow with the number of mobile nodes by an exponent of {self._wanted}"

    def taps(self, facts: Facts) -> list[str]:
        """Where it counts."""
        return self.at

    def judge(self, sight: Sight) -> Decision:
        """Count in each of the moves, and fit the exponent."""
        matches = sight.wires.match_all(self.at, self.filter) if self.at else []
        broken = [match.tap for match in matches if not match.alive or match.dropped]
        if broken:
            return Decision(None, f"the capture at {', '.join(broken)} is not whole")
        silent = self.of == "associations" and _silent(sight)
        if silent:
            return Decision(None, silent)
        sizes: dict[int, list[_Phase]] = {}
        for phase in all_phases(sight.events, rounds=self.rounds):
            sizes.setdefault(len(phase.nodes), []).append(phase)
        if len(sizes) < _SIZES:
            numbers = ", ".join(map(str, sizes)) or "no"
            return Decision(None, f"all nodes that were away moved in numbers of {numbers} only")
        timed = by_time_of_day(sight.events) if self.of in _STATE else []
        counts = {
            size: min(self._count(phase, matches, timed) for phase in some)
            for size, some in sorted(sizes.items())
        }
        text = ", ".join(f"{size}: {count}" for size, count in counts.items())
        if 0 in counts.values():
            return Decision(None, f"{self.of} by number of nodes {text}: without any no slope is known")
        slope = exponent(list(counts.items()))
        high = slope > (self.at_most if self.at_most is not None else self.over or 0.0)
        held = high == (self.over is not None)
        return Decision(held, f"{self.of} by number of nodes {text}: exponent {slope:.2f}", high)

    def _count(self, phase: _Phase, matches: Sequence[Matched], timed: _Timed) -> int:
        """How many of what is meant there are in a phase."""
        if self.of == "bindings":
            return bindings(timed, phase.ended)
        if self.of == "associations":
            return associations(timed, phase.ended)
        sizes = [
            len(packet)
            for match in matches
            for packet, time in zip(match.packets, match.times, strict=True)
            if phase.began <= time <= phase.ended
        ]
        return sum(sizes) if self.of == "octets" else len(sizes)


def bindings(timed: _Timed, until: float) -> int:
    """How many home addresses all home agents together have bindings for at a time (s since the epoch).

    Home agents report each binding of a run, and its end.
    """
    care_of: dict[tuple[str, str], object] = {}
    for time, one in timed:
        if time > until:
            break
        mobile_node = (one.node, str(one.fields.get("home_address")))
        if one.name in _BOUND:
            care_of[mobile_node] = one.fields.get("care_of")
        elif one.name in _UNBOUND and one.fields.get("care_of") in (care_of.get(mobile_node), mobile_node[1]):
            care_of.pop(mobile_node, None)
    return len(care_of)


def associations(timed: _Timed, until: float) -> int:
    """How many IKE SAs and CHILD SAs all nodes together have reported last at a time (s since the epoch)."""
    last = {
        one.node: int(one.fields["ike"]) + int(one.fields["child"])
        for time, one in timed
        if one.name == ASSOCIATIONS and time <= until
    }
    return sum(last.values())


def _silent(sight: Sight) -> str | None:
    """Why the associations of some node are not known."""
    nodes = {one.node for one in sight.events if one.name == ASSOCIATIONS}
    if not nodes:
        return "no node reports its associations: the run needs the step follow-sas"
    ended = sorted(nodes.intersection(sight.ended))
    return f"the log of {', '.join(ended)} had ended" if ended else None


def phases(events: Iterable[Reported], *, rounds: bool = False) -> list[_Phase]:
    """From when so many nodes are away from home until the next leaves it or one returns, if all moved in it.

    With `rounds` one ends, and the next begins, as soon as all have moved and one moves again.
    """
    away: set[str] = set()
    joining: set[str] = set()
    moved: set[str] = set()
    began = ended = 0.0
    found: list[_Phase] = []
    for time, one in _moves(events, ROAM):
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


def _moves(events: Iterable[Reported], source: str) -> list[tuple[float, Reported]]:
    """The beginnings and ends of moves that `source` has reported, in their order, with the time of day."""
    return by_time_of_day(
        one for one in events if one.source == source and one.name in (MOVE_STARTED, SETTLED)
    )


def exponent(counts: Sequence[tuple[int, float]]) -> float:
    """The slope of the line through the logarithms of counts against those of sizes, by least squares."""
    points = [(log(size), log(count)) for size, count in counts]
    x = sum(a for a, _ in points) / len(points)
    y = sum(b for _, b in points) / len(points)
    return float(sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points))


def crowd_phases(events: Iterable[Reported], *, rounds: bool = False) -> list[_Phase]:
    """From when a part of a crowd moves until another does, or with `rounds` until the same moves again."""
    found: list[_Phase] = []
    before: tuple[str, list[str]] | None = None
    for time, one in _moves(events, Function.BULK_NODES):
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
