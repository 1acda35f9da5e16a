"""The grid of solutions: for each solution and guideline what the claims that decide it come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from testbed.claim.claims import Claim as ClaimMade
from testbed.claim.claims import Guideline
from testbed.evidence.verdicts import Claim, Verdicts
from testbed.topology.model import Topology

State = Literal["fails", "undecided", "not-applicable", "costs", "works"]
SIGNS: Final[Mapping[State, str]] = {
    "fails": "✗",
    "undecided": "?",
    "not-applicable": "–",
    "costs": "~",
    "works": "✓",
}
"""In the order in which cells are listed."""
_STRONG: Final = ("MUST", "MUST NOT")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a solution does about one guideline."""

    guideline: str
    about: Guideline
    state: State
    why: str
    """Why it is no more than this, and what was not tried; empty where all of it works."""
    claims: tuple[str, ...]
    """The claims that decided it, as the evidence calls them."""

    @property
    def sign(self) -> str:
        """One character."""
        return SIGNS[self.state]

    @property
    def broken(self) -> bool:
        """Whether it is a MUST that fails."""
        return self.state == "fails" and self.about.level in _STRONG

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "guideline": self.guideline,
            "title": self.about.title,
            "level": self.about.level,
            "state": self.state,
            "why": self.why,
            "claims": list(self.claims),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One solution."""

    name: str
    title: str
    cells: tuple[Cell, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The guidelines that it must follow and does not."""
        return tuple(cell.guideline for cell in self.cells if cell.broken)

    @property
    def listed(self) -> list[Cell]:
        """The cells, what it must do and does not do first."""
        order = list(SIGNS)
        return sorted(self.cells, key=lambda cell: (not cell.broken, order.index(cell.state)))

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "title": self.title,
            "broken": list(self.broken),
            "cells": [cell.to_json() for cell in self.cells],
        }


def rows(verdicts: Verdicts, topologies: Mapping[str, Topology], wanted: Sequence[str] = ()) -> list[Row]:
    """A row for each topology of the verdicts that has guidelines; with `wanted` only these guidelines.

    A guideline has a cell where all of its claims were tried of one of the solutions: some may belong to
    another guideline, too. Where that holds of none, each has a cell that a claim was tried of.
    """
    decided = verdicts.by_scenario
    judged = {name: one for name in decided if (one := topologies.get(name)) and one.guidelines}
    numbers = list(wanted) or _tried(judged, decided)
    return [
        Row(
            name,
            topology.title,
            tuple(
                _cell(number, about, topology, decided[name], decided.get(about.beside or ""))
                for number, about in sorted(topology.guidelines.items(), key=_in_order)
                if number in numbers
            ),
        )
        for name, topology in judged.items()
    ]


def _tried(judged: Mapping[str, Topology], decided: Mapping[str, Sequence[Claim]]) -> set[str]:
    """The guidelines that solutions were judged by, as far as verdicts show; those without claims, too."""
    without = {number for topology in judged.values() for number in topology.guidelines}
    partly, whole = set[str](), set[str]()
    for name, topology in judged.items():
        tried = {one.name or one.id for one in decided[name]}
        for number in topology.guidelines:
            claims = {claim: one for claim, one in topology.claims.items() if number in one.guideline}
            without -= {number} if claims else set()
            partly |= {number} if tried & set(claims) else set()
            due = {claim for claim, one in claims.items() if not one.needs}
            whole |= {number} if tried & set(claims) and due <= tried else set()
    return (whole or partly) | without


def _in_order(one: tuple[str, Guideline]) -> tuple[int, ...]:
    return tuple(map(int, one[0].split(".")))


def _cell(
    number: str, about: Guideline, topology: Topology, claims: Iterable[Claim], beside: list[Claim] | None
) -> Cell:
    """✓ where all claims that it works are reproduced, else ~ where all that it costs are, else ✗ or ?.

    A claim that is refuted of the solution `beside` as well is not held against this solution. Where each
    that is refuted has a claim `instead`, those decide. – where none of the claims could be tried.
    """
    decided = {one.name or one.id: one for one in claims}
    excused = {one.name or one.id for one in beside or () if one.verdict == "refuted"} if beside else set()
    written = {name: claim for name, claim in topology.claims.items() if number in claim.guideline}
    if not written:
        return Cell(number, about, "undecided", "no claim decides it", ())
    if missing := [name for name, claim in written.items() if name not in decided and not claim.needs]:
        return Cell(number, about, "undecided", f"not tried: {', '.join(missing)}", ())
    lacking = _lacking(topology, {name: one for name, one in written.items() if name not in decided})
    tried = {name: claim for name, claim in written.items() if name in decided}
    if not tried:
        return Cell(number, about, "not-applicable", lacking, ())
    works = [decided[name] for name, claim in tried.items() if claim.shows == "works"]
    costs = [decided[name] for name, claim in tried.items() if claim.shows == "costs" and not claim.instead]
    instead = {claim.instead: decided[name] for name, claim in tried.items() if claim.instead}

    def stand(of: Sequence[Claim], verdict: str) -> list[Claim]:
        return [one for one in of if one.verdict == verdict and (one.name or one.id) not in excused]

    against, open_ = stand(works, "refuted"), stand(works, "inconclusive")
    if about.beside and against and beside is None:
        return Cell(number, about, "undecided", f"{about.beside} was not tried beside it", _ids(against))
    if not against and not open_:
        return Cell(number, about, "works", lacking, _ids(works))
    if not against:
        return Cell(number, about, "undecided", _why(open_), _ids(open_))
    residual = all((one.name or one.id) in instead for one in against)
    if residual:
        costs = [instead[one.name or one.id] for one in against]
    if not costs or stand(costs, "refuted"):
        return Cell(number, about, "fails", _why(against), _ids([*against, *stand(costs, "refuted")]))
    if doubts := stand(costs, "inconclusive"):
        return Cell(number, about, "undecided", _why(doubts), _ids(doubts))
    if residual and open_:
        return Cell(number, about, "undecided", _why(open_), _ids(open_))
    why = "; ".join([_why(against), *(one.says for one in costs if residual)])
    return Cell(number, about, "costs", why, _ids([*costs, *against]))


def _lacking(topology: Topology, claims: Mapping[str, ClaimMade]) -> str:
    """What claims were not tried, and for want of what."""
    found: dict[str, list[str]] = {}
    for name, claim in claims.items():
        if claim.needs and claim.shows == "works":
            roles = claim.needs.lacking(topology.nodes)
            found.setdefault(" and ".join(f"a {one}" for one in roles) or "ESP in the kernel", []).append(
                name
            )
    return "; ".join(f"not tried without {what}: {', '.join(names)}" for what, names in found.items())


def _ids(claims: Iterable[Claim]) -> tuple[str, ...]:
    return tuple(one.id for one in claims)


def _why(claims: Iterable[Claim]) -> str:
    return "; ".join(one.reason or one.verdict for one in claims)


def lines(made: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """The grid in lines: the name of a solution, a sign for each guideline, and the MUSTs that are broken."""
    for row in made:
        broken = ", ".join(row.broken)
        yield (row.name, *(cell.sign for cell in row.cells), f"✗ {broken}" if broken else "")


def markdown(made: Sequence[Row]) -> str:
    """The grid in Markdown, and below it what decided each cell that is not ✓."""
    numbers = [cell.guideline for cell in made[0].cells] if made else []
    text = [
        "| " + " | ".join(("Solution", *numbers, "MUST broken")) + " |",
        "|" + "---|" * (len(numbers) + 2),
        *("| " + " | ".join(line) + " |" for line in lines(made)),
        "",
        *(
            f"- {cell.sign} {row.name} {cell.guideline} ({cell.about.level}): {_plain(cell.why)} "
            f"({', '.join(f'`{claim}`' for claim in cell.claims) or '–'})"
            for row in made
            for cell in row.listed
            if cell.state != "works" or cell.why
        ),
    ]
    return "\n".join(text) + "\n"


def _plain(text: str) -> str:
    """Text that does not end a cell or begin markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
