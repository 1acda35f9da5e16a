"""From what was seen to a verdict. Nothing here touches a lab.

A finding is one expectation and whether it held: yes, no, or undecidable (the observer saw nothing to decide
on). One that did not hold is *excused*, and decides nothing either, where the machine was so slow during the
run that this alone may be the reason (`health`). A run is *undecided* when a step could not be carried out or
a finding is undecidable, else *failed* when a finding did not hold and has no excuse, else *undecided* when
one has, else *held*. The verdict of a claim needs its control:

    run        control    verdict
    held       held       reproduced
    failed     held       refuted
    undecided  held       inconclusive
    any        failed     inconclusive
    any        undecided  inconclusive
    any        missing    inconclusive
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from testbed.claim.seen import PATIENCE
from testbed.evidence import verdicts as written
from testbed.evidence.health import Health, worst
from testbed.evidence.verdicts import KINDS, Kind, LabFacts, RunVerdict, Shows, Verdict, Verdicts, run_name
from testbed.experiment.claims.plan import Scenario


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation, and what was observed in its place."""

    expectation: str  # in words
    held: bool | None  # None: undecidable
    observed: str
    files: tuple[str, ...] = ()  # in the evidence folder
    number: int = 1  # of several runs, which one
    bound: float | None = (
        None  # ms that a slow machine exceeds where it is why it did not hold; None: it is not
    )
    excuse: str | None = None  # why it decides nothing although it did not hold
    matched: Mapping[str, Sequence[str]] = field(default_factory=dict)  # file → marks of packets that count

    def excused(self, health: Health) -> Finding:
        """The same, undecidable where it did not hold and only the machine may be why."""
        if self.held is not False or self.bound is None:
            return self
        excuse = health.trouble(self.bound)
        return replace(self, held=None, excuse=excuse) if excuse else self

    def __str__(self) -> str:
        text = f"{_which(self.number)}{self.expectation}: {self.observed}"
        return f"{text} ({self.excuse})" if self.excuse else text

    def record(self, kind: Kind) -> written.Finding:
        """As it stands in verdicts.json."""
        return written.Finding(
            run=run_name(kind, self.number),
            expectation=self.expectation,
            held=self.held,
            observed=self.observed,
            excuse=self.excuse,
            files=list(self.files),
            matched={file: list(marks) for file, marks in self.matched.items()},
        )


@dataclass(slots=True)
class RunResult:
    """What one run came to."""

    findings: list[Finding] = field(default_factory=list)
    error: str | None = None  # why a step or observer could not do its part
    lab: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)  # such as: what was emulated
    health: Health | None = None  # None: it did not come so far as to be known
    times: tuple[float, ...] = ()  # of each of several

    @property
    def verdict(self) -> RunVerdict:
        """Held, failed or undecided; a run without findings decides nothing."""
        if self.error is not None or not self.findings or self._blind:
            return "undecided"
        if self._wanting(False):
            return "failed"
        return "undecided" if self._wanting(None) else "held"

    @property
    def reason(self) -> str:
        """Why it did not hold; empty if it did."""
        if self.error is not None:
            trouble = self.health.trouble(PATIENCE) if self.health else None
            return f"{self.error} ({trouble})" if trouble else self.error
        if not self.findings:
            return "nothing was expected"
        return "; ".join(map(str, self._blind or self._wanting(False) or self._wanting(None)))

    @property
    def _blind(self) -> list[Finding]:
        return [one for one in self.findings if one.held is None and one.excuse is None]

    def _wanting(self, held: bool | None) -> list[Finding]:
        return [one for one in self.findings if one.held is held]


def _which(number: int) -> str:
    return f"run {number}: " if number > 1 else ""


def together(results: Sequence[RunResult | None]) -> RunResult | None:
    """Several runs as one that holds when all of them do; None where one of them did not take place."""
    done = [one for one in results if one is not None]
    if not done or len(done) < len(results):
        return None
    numbered = list(enumerate(done, 1))
    errors = [f"{_which(number)}{one.error}" for number, one in numbered if one.error is not None]
    return RunResult(
        [replace(finding, number=number) for number, one in numbered for finding in one.findings],
        "; ".join(errors) or None,
        ", ".join(dict.fromkeys(one.lab for one in done)),
        sum(one.seconds for one in done),
        list(dict.fromkeys(note for one in done for note in one.notes)),
        worst([one.health for one in done if one.health]),
        tuple(one.seconds for one in done),
    )


def decide(run: RunResult | None, control: RunResult | None) -> tuple[Verdict, str]:
    """The verdict of a claim, and why it is not `reproduced` (empty if it is)."""
    if control is None:
        return "inconclusive", "the control did not take place"
    if control.verdict != "held":
        return "inconclusive", f"the control {_came_out(control)}: {control.reason}"
    if run is None:
        return "inconclusive", "the run did not take place"
    match run.verdict:
        case "held":
            return "reproduced", ""
        case "failed":
            return "refuted", run.reason
        case _:
            return "inconclusive", f"the run {_came_out(run)}: {run.reason}"


def _came_out(result: RunResult) -> str:
    return "failed" if result.verdict == "failed" else "could not decide"


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim with its two runs."""

    id: str
    says: str
    source: str
    configuration: dict[str, str]
    run: RunResult | None
    control: RunResult | None
    scenario: str = ""
    shows: Shows | None = None  # what of the configuration, where reproduced: works, fails or costs
    problem: str | None = None
    drawback: str | None = None
    guideline: tuple[str, ...] = ()
    name: str = ""  # in the topology, where the id has more
    attempts: tuple[written.Attempt, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Reproduced, refuted or inconclusive."""
        return decide(self.run, self.control)[0]

    @property
    def reason(self) -> str:
        """Why it is not reproduced; empty if it is."""
        return decide(self.run, self.control)[1]

    def record(self) -> written.Claim:
        """As it stands in verdicts.json."""
        runs: list[tuple[Kind, RunResult | None]] = [("run", self.run), ("control", self.control)]
        return written.Claim(
            id=self.id,
            scenario=self.scenario,
            verdict=self.verdict,
            source=self.source,
            says=self.says,
            configuration=dict(self.configuration),
            shows=self.shows,
            problem=self.problem,
            drawback=self.drawback,
            guideline=list(self.guideline),
            name=self.name,
            run=_facts(self.run),
            control=_facts(self.control),
            evidence=[one.record(kind) for kind, result in runs if result for one in result.findings],
            reason=self.reason,
            attempts=list(self.attempts),
        )


def _facts(result: RunResult | None) -> written.RunFacts:
    if result is None:
        return written.RunFacts(verdict="undecided", error="it did not take place")
    return written.RunFacts(
        verdict=result.verdict,
        lab=result.lab,
        seconds=round(result.seconds, 3),
        times=[round(one, 3) for one in result.times],
        notes=result.notes,
        error=result.error,
        health=result.health,
    )


RunKey = tuple[str, Kind, int]
"""Which claim, its run or its control, and which of several."""


def claim_results(
    scenarios: Iterable[Scenario], results: Mapping[RunKey, RunResult]
) -> Iterator[ClaimResult]:
    """Every claim with the results of its run and control, each of which may be several."""
    for scenario in scenarios:
        for name, claim in scenario.claims.items():
            spoken = claim.configuration
            came = {
                kind: together(
                    [
                        results.get((scenario.id(name), kind, number))
                        for number, _ in enumerate(claim.experiments(kind), 1)
                    ]
                )
                for kind in KINDS
            }
            yield ClaimResult(
                scenario.id(name),
                claim.says,
                claim.source,
                spoken.model_dump(exclude_none=True) if spoken else {},
                came["run"],
                came["control"],
                scenario.loaded.name,
                claim.shows,
                claim.problem,
                claim.drawback,
                tuple(claim.guideline),
                name if scenario.id(name) != name else "",
            )


def verdicts_of(scenario: str, backends: Mapping[str, LabFacts], claims: Sequence[ClaimResult]) -> Verdicts:
    """The whole of verdicts.json, which is also what `-o json` prints; scenario "": those of the claims."""
    return Verdicts(scenario=scenario, backends=dict(backends), claims=[one.record() for one in claims])
