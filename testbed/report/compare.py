"""Two pieces of evidence side by side: verdicts, findings, hand-offs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

from testbed.errors import UsageError
from testbed.evidence.folder import EvidenceFolder
from testbed.evidence.handoff import Fit, HandOffRun
from testbed.evidence.verdicts import Claim, Finding, Verdict

T = TypeVar("T")
Pair = tuple[T | None, T | None]
"""What the first and the second evidence have; None: nothing."""


@dataclass(frozen=True, slots=True)
class FindingPair:
    """One expectation of one run."""

    run: str
    expectation: str
    held: Pair[bool]
    observed: Pair[str]
    only: int | None  # 0 or 1 where only the first or second evidence has it

    @property
    def decided_alike(self) -> bool:
        """Whether both have it and it held in both or in neither."""
        return self.only is None and self.held[0] is self.held[1]

    @property
    def observed_alike(self) -> bool:
        """Whether both observed the very same."""
        return self.only is None and self.observed[0] == self.observed[1]


@dataclass(frozen=True, slots=True)
class ClaimPair:
    """One claim."""

    id: str
    scenario: str
    verdicts: Pair[Verdict]
    reasons: Pair[str]
    findings: tuple[FindingPair, ...]

    @property
    def only(self) -> int | None:
        """0 or 1 where only the first or second evidence has the claim."""
        return next((1 - number for number, verdict in enumerate(self.verdicts) if verdict is None), None)

    @property
    def differs(self) -> bool:
        """Whether both have a verdict and it is not the same."""
        return self.only is None and self.verdicts[0] != self.verdicts[1]


@dataclass(frozen=True, slots=True)
class LinePair:
    """The line of one stack: outage = k × RTT + constant."""

    stack: str
    k: Pair[float]
    constant_ms: Pair[float]


@dataclass(frozen=True, slots=True)
class MedianPair:
    """The moves of one stack between the same networks at one round-trip time."""

    stack: str
    topology: str
    between: str
    rtt_ms: float
    median_ms: Pair[float]
    """The median outage; None also where no outage ended."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found."""

    claims: tuple[ClaimPair, ...]
    lines: tuple[LinePair, ...]
    medians: tuple[MedianPair, ...]

    @property
    def differs(self) -> bool:
        """Whether a verdict differs."""
        return any(claim.differs for claim in self.claims)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        claims = [
            {**asdict(claim), "same": not claim.differs and claim.only is None}
            | {"findings": [{**asdict(one), "same": one.decided_alike} for one in claim.findings]}
            for claim in self.claims
        ]
        handoff = {"lines": [*map(asdict, self.lines)], "medians": [*map(asdict, self.medians)]}
        return {"differs": self.differs, "claims": claims, "handoff": handoff}


def compare(first: EvidenceFolder, second: EvidenceFolder) -> Comparison:
    """Compare two pieces of evidence. Raises `UsageError` where they have nothing in common."""
    both = first, second
    claims = [{claim.id: claim for claim in one.verdicts.claims} if one.verdicts else {} for one in both]
    runs = [one.handoffs.by_setting if one.handoffs else {} for one in both]
    fits = [one.handoffs.fit if one.handoffs else {} for one in both]
    if not claims[0].keys() & claims[1].keys() and not runs[0].keys() & runs[1].keys():
        raise UsageError(
            f"{first.folder} and {second.folder} have no claim and no measurement in common",
            hint="compare evidence of the same topology",
        )
    return Comparison(
        tuple(_claim(name, *pair) for name, pair in _pairs(*claims)),
        tuple(_line(stack, *pair) for stack, pair in _pairs(*fits)),
        tuple(_median(*pair) for _, pair in _pairs(*runs)),
    )


K = TypeVar("K", bound=Hashable)


def _pairs(first: Mapping[K, T], second: Mapping[K, T]) -> Iterator[tuple[K, Pair[T]]]:
    """In the order of the first, then what only the second has."""
    for key in dict.fromkeys([*first, *second]):
        yield key, (first.get(key), second.get(key))


def _claim(name: str, first: Claim | None, second: Claim | None) -> ClaimPair:
    some = first or second
    assert some is not None
    findings = [one.numbered if one else {} for one in (first, second)]
    return ClaimPair(
        name,
        some.scenario,
        (first.verdict if first else None, second.verdict if second else None),
        (first.reason if first else None, second.reason if second else None),
        tuple(_finding(key[0], key[1], *pair) for key, pair in _pairs(*findings)),
    )


def _finding(run: str, expectation: str, first: Finding | None, second: Finding | None) -> FindingPair:
    return FindingPair(
        run,
        expectation,
        (first.held if first else None, second.held if second else None),
        (first.observed if first else None, second.observed if second else None),
        None if first and second else 0 if first else 1,
    )


def _line(stack: str, first: Fit | None, second: Fit | None) -> LinePair:
    return LinePair(
        stack,
        (first.k if first else None, second.k if second else None),
        (first.constant_ms if first else None, second.constant_ms if second else None),
    )


def _median(first: HandOffRun | None, second: HandOffRun | None) -> MedianPair:
    some = first or second
    assert some is not None
    medians = [median(run.outages) if run and run.outages else None for run in (first, second)]
    return MedianPair(some.stack, some.topology, some.places, some.rtt_ms, (medians[0], medians[1]))
