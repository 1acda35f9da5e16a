"""Looks at a lab while a run goes on, until an expectation holds or its time is over."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.claim.expect import Expectation
from testbed.claim.probe import ProbeReport
from testbed.claim.sight import Decision, Facts
from testbed.engine.api import EngineError
from testbed.errors import ErrorGroup, StepError, TopologyError
from testbed.evidence.run import Observation
from testbed.experiment.claims.differences import node_differences, other_topology
from testbed.experiment.claims.judge import begin_of, decide_look
from testbed.experiment.traffic import Probe, TcpSession
from testbed.lab.access import EventLog, LabAccess
from testbed.lab.captures import Captures
from testbed.lab.inside import Done
from testbed.packet.taps import TapFrames, match_taps
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import host_addresses

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
    since: float = 0.0
    """When the run began, in s since the epoch."""

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

    def printed(self, node: str) -> list[str]:
        """What the daemons of a node wrote to standard error since the run began. Raises `StepError`."""
        try:
            with closing(self.lab.engine.logs(self.lab.container(node), stdout=False)) as stream:
                return [line.text for line in stream if line.time >= self.since]
        except EngineError as error:
            raise StepError(f"the log of {node} cannot be read: {error.message}") from error

    def other(self, topology: str) -> LoadedTopology:
        """Another topology with this one's options. Raises `StepError`."""
        return other_topology(self.lab.topology, topology)

    def differences(self, node: str, topology: str, other: str, what: str) -> Mapping[str, Any]:
        """What of a node is not as of a node of another topology. Raises `StepError`."""
        return node_differences(self.lab, node, self.other(topology), other, what)

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
    """Looks at one run in one lab, and takes down every look that counts."""

    lab: LabAccess
    captures: Captures
    mark: int  # where the run began in the event log
    traffic: Traffic = field(default_factory=Traffic)
    began: float = field(default_factory=time.time)
    observations: dict[str, Observation] = field(default_factory=dict)  # by place: the last one counts

    @property
    def log(self) -> EventLog:
        """The lab's events."""
        return self.lab.log

    def begin(self, where: str, expectation: Expectation) -> None:
        """Take down what an expectation needs to know of the beginning of the run. Raises `StepError`."""
        began = time.time()
        seen = expectation.part.begin(LabLooker(self.lab, self.traffic, since=self.began))
        if seen is not None:
            self._keep(self._observation(begin_of(where), expectation, began, {}, seen=_plain(seen)))

    def observe(
        self, where: str, expectation: Expectation, within: float | None = None, since: float | None = None
    ) -> Decision:
        """Look until it holds, at most its own `within` or the one given (ms); the last look counts.

        That something is absent holds only once it had the time to show: since the monotonic time `since`,
        or since now. Raises `Stopped`.
        """
        bound = expectation.within if expectation.within is not None else within or 0.0
        bound = max(bound, expectation.part.ON_ITS_WAY)
        now = time.monotonic()
        deadline = now + bound / 1000
        settled = (now if since is None else since) + expectation.part.quiet / 1000
        while True:
            mark = self.log.mark()
            began = time.monotonic()
            look, decision = self._look(where, expectation, bound)
            left = settled - began if decision.held else deadline - time.monotonic()
            if left <= 0:
                self._keep(look)
                return decision
            if self.log.mark() == mark:
                self.log.pause(min(PAUSE, left))

    def note(self, where: str, expectation: Expectation) -> None:
        """Take down that the whole captures count, which have ended."""
        now = time.time()
        self._keep(self._observation(where, expectation, now, {}))

    def captured(self, tap: str, expression: str) -> Sequence[bytes]:
        """The packets at a tap that a pcap filter matches so far. Raises `StepError`."""
        hosts = host_addresses(self.lab.topology)
        (matched,) = match_taps(self.captures.look([tap]), expression, hosts)
        return matched.packets

    def _look(self, where: str, expectation: Expectation, bound: float) -> tuple[Observation, Decision]:
        part = expectation.part
        began = time.time()
        seen: Any = None
        error: str | None = None
        frames: dict[str, TapFrames] = {}
        try:
            seen = _plain(part.look(LabLooker(self.lab, self.traffic, bound, self.began)))
            frames = {tap.name: tap for tap in self.captures.look(part.taps(self.lab.topology))}
        except StepError as failed:
            error = failed.message
        captured = {name: len(tap.frames) for name, tap in frames.items() if tap.alive}
        look = self._observation(where, expectation, began, captured, seen=seen, error=error)
        begin = self.observations.get(begin_of(where))
        decision = decide_look(
            expectation,
            look,
            begin.seen if begin else None,
            facts=self.lab.topology,
            hosts=host_addresses(self.lab.topology),
            events=self.log.since(self.mark),
            tap=lambda name: _tap(frames, name),
        )
        return look, decision

    def _observation(
        self, where: str, expectation: Expectation, began: float, captured: dict[str, int], **more: Any
    ) -> Observation:
        return Observation(
            place=where,
            word=expectation.word,
            began=began,
            ended=time.time(),
            events=self.log.mark() - self.mark,
            captured=captured,
            logs_ended=sorted(self.log.ended),
            marked=self.traffic.marked,
            **more,
        )

    def _keep(self, look: Observation) -> None:
        self.observations.pop(look.place, None)  # so that they are in the order of time
        self.observations[look.place] = look


def _tap(frames: Mapping[str, TapFrames], name: str) -> TapFrames:
    if name not in frames:
        raise StepError(f"there is no capture at {name}")
    return frames[name]


def _plain(seen: Any) -> Any:
    """What was seen as JSON keeps it: what is judged now is what is read later."""
    return json.loads(json.dumps(seen, default=str))
