"""The grid: for every scenario and configuration what works, what does not, what it costs, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from testbed.evidence.verdicts import Claim, Verdicts
from testbed.topology.model import Topology

State = Literal["refuted", "inconclusive", "works", "costs", "fails", "holds"]
SIGNS: Final[Mapping[State, str]] = {
    "refuted": "!",
    "inconclusive": "?",
    "works": "✓",
    "costs": "~",
    "fails": "✗",
    "holds": "·",  # a claim that says neither of its configuration
}
"""What is seen first in a cell, in this order: what went wrong with the testing itself leads."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that claims decided of a configuration, or could not."""

    state: State
    why: str  # the problem or drawback; empty where it has no name
    claims: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sign, and a word: the name of a problem says enough."""
        return f"{SIGNS[self.state]} {self.why or self.state}"


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration of one scenario; stack and attachment are empty where claims speak of none."""

    scenario: str
    stack: str
    attachment: str
    networks: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def good(self) -> bool:
        """Whether every claim on it is reproduced; one that no claim speaks of is not."""
        return bool(self.entries) and all(
            one.state not in ("refuted", "inconclusive") for one in self.entries
        )


def grid(verdicts: Verdicts, topologies: Mapping[str, Topology]) -> list[Row]:
    """The rows, in the order of the scenarios and of their configurations.

    What was left out of a verification has no row; a configuration that no claim at all speaks of has one.
    """
    return [
        row
        for scenario, claims in verdicts.by_scenario.items()
        for row in _rows(scenario, claims, topologies.get(scenario))
    ]


def _rows(scenario: str, claims: list[Claim], topology: Topology | None) -> Iterator[Row]:
    left = {claim.id: claim for claim in claims}
    for one in topology.configurations if topology else ():
        here = [claim for claim in claims if _speaks(_spoken(claim), one.stack, one.attachment)]
        assert topology is not None
        claimed = any(
            each.configuration
            and _speaks(
                (each.configuration.stack, each.configuration.attachment or ""), one.stack, one.attachment
            )
            for each in topology.claims.values()
        )
        for claim in here:
            left.pop(claim.id, None)
        if here or not claimed:
            yield Row(scenario, one.stack, one.attachment, tuple(one.networks), tuple(entries(here)))
    others: dict[tuple[str, str], list[Claim]] = {}
    for claim in left.values():
        others.setdefault(_spoken(claim), []).append(claim)
    for (stack, attachment), these in others.items():
        yield Row(scenario, stack, attachment, (), tuple(entries(these)))


def _spoken(claim: Claim) -> tuple[str, str]:
    configuration = claim.configuration or {}
    return configuration.get("stack") or "", configuration.get("attachment") or ""


def _speaks(spoken: tuple[str, str], stack: str, attachment: str) -> bool:
    """A claim without attachment speaks of every attachment of its stack."""
    return spoken[0] == stack and spoken[1] in ("", attachment)


def entries(claims: Iterable[Claim]) -> Iterator[Entry]:
    """What claims say of a configuration, like statements together; only what is reproduced counts."""
    found: dict[tuple[State, str], list[str]] = {}
    for claim in claims:
        if claim.verdict == "reproduced":
            key: tuple[State, str] = (claim.shows or "holds", claim.problem or claim.drawback or "")
        else:
            key = (claim.verdict, "")
        found.setdefault(key, []).append(claim.id)
    for state in SIGNS:
        for (of, why), ids in found.items():
            if of == state:
                yield Entry(state, why, tuple(ids))
