"""verdicts.json: every claim with its verdict and what decided it."""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

from pydantic import ConfigDict, Field

from testbed.evidence.health import Health
from testbed.evidence.record import Record, Versioned

Shows = Literal["works", "fails", "costs"]
Kind = Literal["run", "control"]
Side = Literal["main", "control"]
RunVerdict = Literal["held", "failed", "undecided"]
Verdict = Literal["reproduced", "refuted", "inconclusive"]

KINDS: Final[tuple[Kind, ...]] = ("run", "control")
SIDES: Final[tuple[Side, ...]] = ("main", "control")
"""What evidence calls the kinds, in the same order."""


def run_name(kind: Kind, number: int = 1) -> str:
    """What evidence calls a run: main, control, and main-2 for the second of several."""
    return SIDES[KINDS.index(kind)] + (f"-{number}" if number > 1 else "")


class Finding(Record):
    """One expectation, and what was observed."""

    run: str = Field(pattern=r"^(main|control)(-\d+)?$")
    """Which run it belongs to; main-2 is the second of several."""
    expectation: str
    """The expectation in words."""
    held: bool | None
    """Whether it held; null: undecidable."""
    observed: str = ""
    """What was observed, in words."""
    excuse: str | None = None
    """Why it decides nothing although it did not hold: the machine alone may be the reason."""
    files: list[str] = Field(default_factory=list)
    """The captures it was decided from, relative to the folder."""
    matched: dict[str, list[str]] = Field(default_factory=dict)
    """Capture file → marks (`packet.pcap.packet_mark`) of the first packets that it counted there."""

    @property
    def side(self) -> str:
        """Whether the run or the control found it."""
        return self.run.partition("-")[0]


class RunFacts(Record):
    """What the run or the control of a claim came to; several runs are taken together."""

    verdict: RunVerdict
    """held: all expectations held; failed: at least one did not; undecided: it could not be decided."""
    lab: str = ""
    """The lab it took place in; of several runs, their labs."""
    seconds: float = 0.0
    """How long it took, in s; several runs together."""
    times: list[float] = Field(default_factory=list)
    """How long each of its runs took, in s, in the order of the file."""
    notes: list[str] = Field(default_factory=list)
    """What a reader has to know, such as what was emulated."""
    error: str | None = None
    """Why a step or an observation could not be carried out."""
    health: Health | None = None
    """What the machine was like; null where that is not known."""


class Attempt(Record):
    """An attempt at a claim that did not reproduce it, after which it was tried again."""

    verdict: Verdict
    """What it came to."""
    reason: str = ""
    """Why it is not reproduced."""
    folder: str
    """Where its runs are, by the same names as in the folder itself: `attempts/1`."""


class Claim(Record):
    """One claim with its verdict and what decided it."""

    id: str
    """The claim's name; with several solutions that make the same claims, `SOLUTION.NAME`."""
    name: str = ""
    """The claim's name in the topology, where `id` has more."""
    scenario: str = ""
    """The topology that makes the claim."""
    verdict: Verdict
    """reproduced: its run and its control held; refuted: the run failed beside a control that held."""
    source: str = ""
    """Where the document says it."""
    says: str = ""
    """The claim in a sentence."""
    configuration: dict[str, str | None] | None = None
    """The stack and the attachment it speaks of."""
    shows: Shows | None = None
    """What it shows of its configuration where it is reproduced."""
    problem: str | None = None
    """The RFC's name of the problem it shows."""
    guideline: list[str] = Field(default_factory=list)
    """The guidelines that it helps to decide, by their sections."""
    drawback: str | None = None
    """A cost that the RFC mentions but does not call a problem."""
    run: RunFacts | None = None
    """What its run came to."""
    control: RunFacts | None = None
    """What its control came to."""
    evidence: list[Finding] = Field(default_factory=list)
    """Every finding, those of the run first."""
    reason: str | None = None
    """Why it is not reproduced; empty if it is."""
    attempts: list[Attempt] = Field(default_factory=list)
    """Earlier attempts, in their order (`--retries`)."""

    @property
    def flaky(self) -> bool:
        """Whether it was reproduced, but not at the first attempt."""
        return self.verdict == "reproduced" and bool(self.attempts)

    def facts(self, side: Side) -> RunFacts | None:
        """What the run or the control came to."""
        return self.run if side == "main" else self.control

    def findings(self, side: Side) -> list[Finding]:
        """The findings of the run or the control."""
        return [finding for finding in self.evidence if finding.side == side]

    @property
    def numbered(self) -> dict[tuple[str, str, int], Finding]:
        """Every finding by run and expectation, and which it is where a run has several of an expectation."""
        times: Counter[tuple[str, str]] = Counter()
        found = {}
        for one in self.evidence:
            key = one.run, one.expectation
            times[key] += 1
            found[*key, times[key]] = one
        return found


class LabFacts(Record):
    """A lab: where it came from, and (every further key, NODE/SERVICE) what carries packets there."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    topology: str = ""
    """The name of the topology it was brought up from."""
    sets: str = ""
    """The `--set` texts that were applied to it."""
    file: str = ""
    """The topology's file in the folder; empty in version 1."""

    @property
    def carriers(self) -> dict[str, str]:
        """NODE/SERVICE → what carries its packets."""
        return dict(self.__pydantic_extra__)


class Verdicts(Versioned):
    """verdicts.json; that of a matrix has no scenario of its own, but each claim has one."""

    scenario: str = ""
    """The topology whose claims these are; empty: each claim names its own."""
    backends: dict[str, LabFacts] = Field(default_factory=dict)
    """Lab → where it came from and what carried packets in it."""
    claims: list[Claim]
    """The claims, in the order of the topology."""

    @property
    def by_scenario(self) -> dict[str, list[Claim]]:
        """The claims of each scenario, in their order."""
        found: dict[str, list[Claim]] = {}
        for claim in self.claims:
            found.setdefault(claim.scenario or self.scenario, []).append(claim)
        return found
