"""Looks at a lab while a run goes on, until an expectation holds or its time is over."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.claim.expect import Expectation
from testbed.claim.probe import ProbeReport
from testbed.claim.sight import Decision, Facts, Sight
from testbed.errors import ErrorGroup, TopologyError
from testbed.experiment.traffic import Probe, TcpSession
from testbed.experiment.verdict import Finding
from testbed.lab.access import Done, EventLog, LabAccess, StepError
from testbed.lab.captures import Captures
from testbed.topology.load import load_topology

PAUSE: Final = 0.25
"""Seconds between two looks while nothing is reported; an event brings the next look at once."""


@dataclass
class Traffic:
    """What runs through the lab during a run."""

    probe: Probe | None = None
    session: TcpSession | None = None
    marked: bool = False  # whether there has been any, so that its payload could be readable


@dataclass(frozen=True)
class LabLooker:
    """A running lab, as the words of the vocabulary look at it (`claim.sight.Looker`)."""

    lab: LabAccess
    traffic: Traffic = field(default_factory=Traffic)
    bound: float = 0.0

    @property
    def facts(self) -> Facts:
        """The topology of the lab."""
        return self.lab.topology

    def state(self, node: str, service: str) -> Mapping[str, Any]:
        """What a daemon says of itself. Raises `StepError`."""
        return self.lab.state(node, service)

    def execute(self, node: str, command: Sequence[str], *, within: float = 10.0) -> Done:
        """Run a command in a node to its end. Raises `StepError`."""
        return self.lab.execute(node, command, within=within)

    def container(self, node: str) -> str:
        """The id of a node's container."""
        return self.lab.container(node)

    def probe(self) -> ProbeReport | None:
        """End the running probe. Raises `StepError`."""
        return self.traffic.probe.stop() if self.traffic.probe else None

    def session(self, within: float) -> dict[str, Any] | None:
        """Whether data that the TCP session sends now comes back. Raises `StepError`."""
        return self.traffic.session.check(within) if self.traffic.session else None

    def refusal(self, changes: Sequence[str]) -> str:
        """Why the topology with these changes is refused; empty where it is accepted.

        Without hints: they name roles and nodes that have nothing to do with it.
        """
        topology = self.lab.topology
        try:
            load_topology(topology.file, sets=(*topology.sets, *changes), templates=topology.templates)
        except ErrorGroup as group:
            return "; ".join(error.message for error in group.errors)
        except TopologyError as error:
            return error.message
        return ""


@dataclass
class Observer:
    """Looks at one run in one lab."""

    lab: LabAccess
    captures: Captures
    mark: int  # where the run began in the event log
    folder: str = ""  # the run's folder in the evidence, for references
    traffic: Traffic = field(default_factory=Traffic)
    began: dict[str, Any] = field(default_factory=dict)  # place → what was seen at the beginning

    @property
    def log(self) -> EventLog:
        """The lab's events."""
        return self.lab.log

    def begin(self, place: str, expectation: Expectation) -> None:
        """Take down what an expectation needs to know of the beginning of the run. Raises `StepError`."""
        self.began[place] = expectation.part.begin(LabLooker(self.lab, self.traffic))

    def observe(
        self, place: str, expectation: Expectation, within: float | None = None, since: float | None = None
    ) -> Finding:
        """Look until it holds, at most its own `within` or the one given (ms), and say what was seen.

        That something is absent holds only once it had the time to show: since the monotonic time `since`,
        or since now.
        """
        bound = expectation.within if expectation.within is not None else within or 0.0
        bound = max(bound, expectation.part.ON_ITS_WAY)
        now = time.monotonic()
        deadline = now + bound / 1000
        settled = (since or now) + expectation.part.quiet / 1000
        while True:
            mark = self.log.mark()
            began = time.monotonic()
            decision = self._look(place, expectation, bound)
            left = settled - began if decision.held else deadline - time.monotonic()
            if left <= 0:
                return self._finding(expectation, decision)
            if self.log.mark() == mark:
                self.log.pause(min(PAUSE, left))

    def _look(self, place: str, expectation: Expectation, bound: float) -> Decision:
        try:
            seen = expectation.part.look(LabLooker(self.lab, self.traffic, bound))
            sight = Sight(
                facts=self.lab.topology,
                wires=self.captures,
                seen=seen,
                events=self.log.since(self.mark),
                ended=self.log.ended,
                began=self.began.get(place),
                marked=self.traffic.marked,
            )
            return expectation.part.judge(sight)
        except StepError as error:
            return Decision(None, error.message)

    def _file(self, tap: str) -> str:
        return f"{self.folder}captures/{tap.replace('/', '-')}.pcap"

    def _finding(self, expectation: Expectation, decision: Decision) -> Finding:
        return Finding(
            expectation.phrase(),
            decision.held,
            decision.observed,
            tuple(map(self._file, expectation.part.taps(self.lab.topology))),
            bound=expectation.bound(decision.too_much),
            matched={self._file(tap): marks for tap, marks in decision.counted.items()},
        )
