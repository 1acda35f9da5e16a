"""Decides a run from its folder in the evidence. `verify` and `judge` both decide here, and touch no lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address
from typing import Any

from testbed.claim.claims import Experiment, place
from testbed.claim.expect import Expectation
from testbed.claim.sight import Decision, Facts, Reported, Sight
from testbed.errors import StepError
from testbed.evidence.folder import RunFolder, capture_path
from testbed.evidence.run import Observation, RunRecord
from testbed.experiment.claims.verdict import Finding, RunResult
from testbed.packet.pcap import CaptureError, Frame
from testbed.packet.taps import Matched, TapFrames, match_taps

Tap = Callable[[str], TapFrames]
"""The capture of a tap NODE/NETWORK; raises `StepError` where there is none."""


@dataclass(frozen=True)
class Recording:
    """What was recorded of a run: all that decides it."""

    folder: RunFolder
    record: RunRecord
    """Its run.json."""
    path: str
    """That folder, relative to the evidence folder, with a slash at its end."""
    facts: Facts
    """The topology of the run's lab."""
    hosts: Mapping[str, IPv4Address]
    """The addresses of the hosts that filters name."""

    @cached_property
    def looks(self) -> dict[str, Observation]:
        """Place → the look that counts there: the last one."""
        return {look.place: look for look in self.folder.observations}

    @cached_property
    def _taps(self) -> dict[str, TapFrames]:
        return {}

    def tap(self, name: str) -> TapFrames:
        """The whole capture of a tap NODE/NETWORK; read once. Raises `StepError` where there is none."""
        if name not in self._taps:
            went = self.folder.captured.taps.get(name) if self.folder.captured else None
            if went is None:
                raise StepError(f"there is no capture at {name}")
            try:
                frames = tuple(self.folder.frames(went.file))
                linktype = self.folder.linktype(went.file)
            except CaptureError as error:
                raise StepError(f"the capture at {name} cannot be read: {error.message}") from error
            if went.frames is not None and len(frames) != went.frames:
                raise StepError(_missing(went.frames, name, frames))
            self._taps[name] = TapFrames(name, frames, went.alive, went.dropped, linktype)
        return self._taps[name]


@dataclass(frozen=True)
class _Wires:
    """The captures as they were when the lab was looked at."""

    tap: Tap
    hosts: Mapping[str, IPv4Address]
    captured: Mapping[str, int]

    def match_all(self, taps: Sequence[str], expression: str) -> list[Matched]:
        """The packets of each tap that a pcap filter matches. Raises `StepError`."""
        return match_taps(map(self._by_then, taps), expression, self.hosts)

    def _by_then(self, name: str) -> TapFrames:
        """What a tap had captured when the lab was looked at."""
        tap = self.tap(name)
        if self.captured:
            # A capture that had died has no number; all that it captured is what it had by then.
            number = self.captured.get(name)
            if number is not None and number > len(tap.frames):
                raise StepError(_missing(number, name, tap.frames))
            tap = replace(tap, frames=tap.frames[:number], alive=number is not None)
        return tap


def _missing(number: int, tap: str, left: Sequence[Frame]) -> str:
    return f"{number} packets were captured at {tap}, of which {len(left)} are left"


def decide_look(
    expectation: Expectation,
    look: Observation,
    began: Any,
    *,
    facts: Facts,
    hosts: Mapping[str, IPv4Address],
    events: Sequence[Reported],
    tap: Tap,
) -> Decision:
    """Whether an expectation holds by one look at the lab; `began` is what was seen at the beginning."""
    if look.error is not None:
        return Decision(None, look.error)
    if look.events > len(events):
        return Decision(None, f"{look.events} events had arrived, of which {len(events)} are left")
    sight = Sight(
        facts=facts,
        wires=_Wires(tap, hosts, look.captured),
        seen=look.seen,
        events=events[: look.events],
        ended=look.logs_ended,
        began=began,
        marked=look.marked,
    )
    try:
        return expectation.part.judge(sight)
    except StepError as error:
        return Decision(None, error.message)


def judge_run(experiment: Experiment, recording: Recording) -> RunResult:
    """What a run came to."""
    record = recording.record
    findings = _findings(experiment, recording)
    error = record.error
    hard = any(one.held is False and one.bound is None for one in findings)
    if record.health is None and not hard:  # what no slowness explains needs no measure of it
        error = error or record.health_error or "the health of the machine is not known"
    if record.health is not None:
        findings = [finding.excused(record.health) for finding in findings]
    return RunResult(
        findings, error, record.lab, record.ended - record.began, list(record.notes), record.health
    )


def _findings(experiment: Experiment, recording: Recording) -> list[Finding]:
    """As far as the run came: a step's expectation that does not hold ends it."""
    findings = []
    for where, expectation in experiment.expectations():
        if where[-1] == "wait-until":
            continue  # a condition of what follows; in vain, it is the run's error
        finding = _finding(place(where), expectation, recording)
        if finding is None:
            continue
        findings.append(finding)
        if where[0] == "steps" and finding.held is not True:
            break
    return findings


def _finding(where: str, expectation: Expectation, recording: Recording) -> Finding | None:
    """None where the run ended before, with an error."""
    look, begin = recording.looks.get(where), recording.looks.get(begin_of(where))
    looked = [one for one in (look, begin) if one is not None and one.error is None]
    if not all(expectation.part.is_sight(one.seen) for one in looked):
        decision = Decision(None, f"what was recorded at {where} is no sight of {expectation.word}")
    elif look is not None:
        decision = decide_look(
            expectation,
            look,
            begin.seen if begin else None,
            facts=recording.facts,
            hosts=recording.hosts,
            events=recording.folder.arrived,
            tap=recording.tap,
        )
    elif recording.record.error is None:
        decision = Decision(None, "what was seen is not recorded")
    else:
        return None
    return Finding(
        expectation.phrase(),
        decision.held,
        decision.observed,
        tuple(recording.path + capture_path(tap) for tap in expectation.part.taps(recording.facts)),
        bound=None if decision.certain else expectation.bound(decision.too_much),
        matched={recording.path + capture_path(tap): marks for tap, marks in decision.counted.items()},
    )


def begin_of(where: str) -> str:
    """The place of what was seen at the beginning of the run."""
    return f"{where}/begin"
