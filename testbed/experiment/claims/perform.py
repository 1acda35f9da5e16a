"""Carries out the steps of a run. What a step changed on purpose is put right by `Performer.undo`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testbed.agreed import CROWD_PATIENCE, MOVE_STARTED, READY, ROAM, SETTLED
from testbed.claim.expect import Expectation
from testbed.claim.probe import ProbeReport
from testbed.claim.sight import Decision, Facts
from testbed.claim.steps import Step
from testbed.errors import StepError, TestbedError
from testbed.experiment.claims.observer import Observer
from testbed.experiment.traffic import Probe, TcpSession
from testbed.lab.access import Entry, LabAccess, Stopped
from testbed.lab.inside import Done

MOVE_WITHIN: Final = 25.0
"""Seconds after which a move that has not settled is an error; its own bounds are well below."""
CROWD_WITHIN: Final = CROWD_PATIENCE + 5.0
"""The same of a crowd, after the time in which its nodes begin to move."""
RESTART_WITHIN: Final = 10.0
"""Seconds until a daemon that was asked for something has begun with it."""
_ports = itertools.count(5005)


@dataclass(frozen=True, slots=True)
class _Change:
    """Something that a step changed on purpose."""

    what: str
    undo: Callable[[], object]
    left: Callable[[], object] | None


class Performer:
    """The hands of one run in one lab (`claim.action.Actor`)."""

    def __init__(self, lab: LabAccess, observer: Observer) -> None:
        self._lab = lab
        self._observer = observer
        self._place = ""
        self._changes: list[_Change] = []
        self.notes: list[str] = []
        self.decided = False
        """Whether a step has ended the run."""

    def perform(self, step: Step, place: str) -> str:
        """Do what a step says; returns what came of it. Raises `StepError`.

        `place` is where the run has it: `steps/3/wait-until`.
        """
        self._place = place
        return step.part.act(self)

    def undo(self) -> list[str]:
        """Put right what steps changed, the last first; returns what could not be put right."""
        problems = []
        while self._changes:
            change = self._changes.pop()
            try:
                change.undo()
            except Stopped:
                break
            except TestbedError as error:
                problems.append(f"{change.what}: {error.message}")
        return problems

    # What steps act through

    @property
    def facts(self) -> Facts:
        """The topology of the lab."""
        return self._lab.topology

    def state(self, node: str, service: str) -> Mapping[str, Any]:
        """What a daemon says of itself."""
        return self._lab.state(node, service)

    def execute(self, node: str, command: Sequence[str], *, within: float = 10.0) -> Done:
        """Run a command in a node to its end."""
        return self._lab.execute(node, command, within=within)

    def shell(self, node: str, script: str) -> Done:
        """Run a shell script in a node, which has to exit 0."""
        return self._lab.shell(node, script)

    def control(self, node: str, service: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a daemon over its control socket."""
        return self._lab.control(node, service, request)

    def settle(self, node: str, request: Mapping[str, Any], manager: str = ROAM) -> Mapping[str, Any]:
        """Ask a connection manager for a change and wait until it has settled."""
        return settle(self._lab, request, node, manager)[1]

    def set_service(self, node: str, name: str, state: str) -> None:
        """Stop a service, or start it and wait until it is ready."""
        set_service(self._lab, node, name, state)

    def mark(self) -> int:
        """A place in the log of all nodes: now."""
        return self._lab.log.mark()

    def since(self, mark: int) -> Sequence[Entry]:
        """What was reported after a place in the log."""
        return self._lab.log.since(mark)

    def wait(self, mark: int, wanted: Callable[[Entry], bool], seconds: float) -> Entry | None:
        """The first event after a place in the log that is wanted."""
        return self._lab.log.wait(mark, wanted, seconds)

    def observe(self, expectation: Expectation, within: float | None = None) -> Decision:
        """Look until an expectation holds, and take that down for the place of this step."""
        return self._observer.observe(self._place, expectation, within)

    def captured(self, tap: str, expression: str) -> Sequence[bytes]:
        """What a pcap filter matches of what has been captured at a tap."""
        return self._observer.captured(tap, expression)

    def start_session(self, source: str, address: str) -> None:
        """Start the TCP session from the mobile node, in the place of another."""
        self.stop_session()
        session, traffic = TcpSession(self._lab, source, address), self._observer.traffic
        session.start()
        traffic.session, traffic.marked = session, True
        self.at_end("session stop", session.stop)

    def stop_session(self) -> None:
        """End the TCP session, if there is one."""
        traffic = self._observer.traffic
        if traffic.session:
            traffic.session.stop()
        traffic.session = None

    def start_probe(self, source: str, correspondent: str, address: str, every: float) -> None:
        """Start the numbered packets."""
        probe, traffic = (
            Probe(self._lab, source, correspondent, address, next(_ports), every),
            self._observer.traffic,
        )
        self.at_end("probe stop", probe.discard)
        probe.start()
        traffic.probe, traffic.marked = probe, True

    def stop_probe(self) -> ProbeReport | None:
        """End the numbered packets."""
        probe = self._observer.traffic.probe
        return probe.stop() if probe else None

    def note(self, text: str) -> None:
        """Have something in the run's notes."""
        self.notes.append(text)

    def at_end(self, what: str, undo: Callable[[], object], left: Callable[[], object] | None = None) -> None:
        """Have a change put right by `undo`."""
        self._changes.append(_Change(what, undo, left))

    def is_changed(self, what: str) -> bool:
        """Whether there is such a change."""
        return any(change.what == what for change in self._changes)

    def leave(self, what: str) -> None:
        """Leave such changes behind."""
        for change in [one for one in self._changes if one.what == what]:
            if change.left:
                change.left()
            self._changes.remove(change)

    def decide(self) -> None:
        """End the run after this step."""
        self.decided = True


def settle(
    lab: LabAccess, request: Mapping[str, Any], node: str | None = None, manager: str = ROAM
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Ask a mobile node's connection manager for something that ends in `settled`, and wait for that.

    Without `node` the lab's first is asked. Returns the fields of its `move-started` and of its `settled`.
    Raises `StepError`.
    """
    node = node or lab.mobile_node
    mark = lab.log.mark()
    bound = MOVE_WITHIN if manager == ROAM else CROWD_WITHIN + request.get("within", 0.0)
    lab.control(node, manager, request)
    started = lab.log.wait(
        mark, lambda one: one.node == node and one.event.name == MOVE_STARTED, RESTART_WITHIN
    )
    if started is None:
        raise StepError(f"{node}: {request['op']} was accepted but did not begin")
    begun = started.event.fields["monotonic"]
    settled = lab.log.wait(
        mark,
        lambda one: (
            one.node == node
            and one.event.name == SETTLED
            and one.event.source == manager
            and one.event.fields["monotonic"] >= begun
        ),
        bound,
    )
    if settled is None:
        raise StepError(f"{node}: {request['op']} did not settle in {bound:g} s")
    return started.event.fields, settled.event.fields


def set_service(lab: LabAccess, node: str, name: str, state: str) -> None:
    """Stop a service, or start it and wait until it says that it is ready. Raises `StepError`."""
    mark = lab.log.mark()
    lab.shell(node, f"sv -w 8 {state} /etc/testbed/services/{name}", within=RESTART_WITHIN)
    if state == "up":
        ready = lab.log.wait(
            mark,
            lambda one: one.node == node and one.event.source == name and one.event.name == READY,
            RESTART_WITHIN,
        )
        facts = json.loads(lab.shell(node, "cat /etc/testbed/node.json").text)
        if ready is None and name in facts.get("ready", ()):
            raise StepError(f"{name} of {node} does not come up again")
