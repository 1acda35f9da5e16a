"""Solutions side by side, beyond their grid: each claim of a guideline, and the messages of one move."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from testbed.agreed import MOVE_STARTED, ROAM, SETTLED
from testbed.evidence.folder import RunFolder
from testbed.evidence.verdicts import Claim, Verdicts
from testbed.report.evidence import Evidence
from testbed.report.ladder import Header, Row, build_ladder
from testbed.report.solutions import Row as Solution

HAND_OFFS = "5.6"
"""The guideline whose run shows what messages a move costs."""
_CONTROL = ("ike", "mobileip", "dhcp")
"""Kinds of messages that make a move, as ladders have them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One claim on a guideline, and what it came to for each solution."""

    name: str
    says: str
    claims: Mapping[str, Claim]
    """Solution → the claim, decided."""


@dataclass(frozen=True, slots=True)
class Group:
    """The claims on one guideline."""

    guideline: str
    title: str
    level: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a move: when (ms since the move began), from whom to whom, and what it is."""

    after: float
    sender: str
    receiver: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Move:
    """The messages of one move of a solution."""

    solution: str
    network: str
    claim: str
    messages: tuple[Message, ...]
    settled: float
    """After how many ms the move was over."""

    def number(self, kind: str) -> int:
        """How many messages are of a kind."""
        return sum(one.kind == kind for one in self.messages)


def groups(verdicts: Verdicts, solutions: Sequence[Solution]) -> list[Group]:
    """Every guideline with its claims, in the order of the first solution."""
    about = {cell.guideline: cell.about for row in solutions for cell in row.cells}
    found: dict[str, dict[str, dict[str, Claim]]] = {number: {} for number in about}
    for claim in verdicts.claims:
        for number in claim.guideline:
            if number in found:
                found[number].setdefault(claim.name or claim.id, {})[claim.scenario] = claim
    return [
        Group(
            number,
            about[number].title,
            about[number].level,
            tuple(
                Comparison(name, next(iter(of.values())).says, of)
                for name, of in sorted(found[number].items(), key=lambda one: _number(one[0]))
            ),
        )
        for number in about
        if found[number]
    ]


def _number(name: str) -> int:
    """The number of an attack in a claim's name; 0 for others, which keep their order."""
    attack = re.search(r"-a(\d+)(?:-|$)", name)
    return int(attack[1]) if attack else 0


def moves(evidence: Evidence, verdicts: Verdicts, solutions: Sequence[Solution]) -> list[Move]:
    """The last move of each solution in the run of its first claim on hand-offs."""
    found = []
    for row in solutions:
        claims = (one for one in verdicts.claims if one.scenario == row.name and HAND_OFFS in one.guideline)
        claim = next(claims, None)
        if claim is not None and (move := _last_move(evidence, row.name, claim)):
            found.append(move)
    return found


def _last_move(evidence: Evidence, solution: str, claim: Claim) -> Move | None:
    run = evidence.run(claim.id, "main")
    times = _times(run)
    if times is None:
        return None
    began, ended, network = times
    ladder = build_ladder(run, evidence.topology_of_run(run, ""), None, evidence.roles)
    messages = tuple(
        Message((ladder.begin + row.time - began) * 1000, row.sender, row.receiver or "all", row.kind, text)
        for row in ladder.rows
        if row.what == "message" and row.kind in _CONTROL and began <= ladder.begin + row.time <= ended
        for text in [_innermost(row)]
    )
    return Move(solution, network, claim.id, messages, (ended - began) * 1000)


def _times(run: RunFolder) -> tuple[float, float, str] | None:
    """When the last move began and ended, in s since the epoch, and where it led.

    As in `claim.clocks`: the event that arrived soonest after it happened says when the nodes' clock
    began.
    """
    stamped = [
        (one.monotonic, one)
        for one in run.arrived
        if one.source == ROAM and one.name in (MOVE_STARTED, SETTLED) and one.monotonic is not None
    ]
    if not stamped:
        return None
    offset = min(one.wall - monotonic for monotonic, one in stamped)
    starts = [monotonic for monotonic, one in stamped if one.name == MOVE_STARTED]
    ends = [(monotonic, one) for monotonic, one in stamped if one.name == SETTLED]
    if not starts or not ends or ends[-1][0] < starts[-1]:
        return None
    return offset + starts[-1], offset + ends[-1][0], str(ends[-1][1].fields.get("network", ""))


def _innermost(row: Row) -> str:
    return [header.text for header in _headers(row.headers)][-1] if row.headers else row.text


def _headers(header: Header | None) -> Iterator[Header]:
    while header is not None:
        yield header
        header = header.inside
