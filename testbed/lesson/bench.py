"""The learner's running lab, as starting states, solutions and checks work with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final, Protocol

from testbed.agreed import ROAM, RUN, Op
from testbed.claim.claims import place
from testbed.claim.expect import Expectation
from testbed.claim.sight import Decision
from testbed.claim.steps import Step
from testbed.document.marks import Path
from testbed.engine.api import Engine, EngineError
from testbed.errors import StepError, TestbedError, UsageError
from testbed.evidence.run import Observation
from testbed.experiment.claims.judge import begin_of, decide_look
from testbed.experiment.claims.observer import Observer
from testbed.experiment.claims.perform import Performer, settle
from testbed.experiment.claims.reset import reset
from testbed.lab.access import Entry, LabAccess
from testbed.lab.captures import Captures
from testbed.lab.events import parse_event
from testbed.lab.state import ActualLab, find_lab
from testbed.packet.pcap import Frame
from testbed.packet.taps import TapFrames
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import host_addresses

_FOLDER: Final = f"{RUN}/captures/lesson"


class Watcher(Protocol):
    """Somebody who looks on while steps are carried out, one after the other."""

    def before(self, index: int, step: Step) -> None:
        """A step comes next; it is carried out when this returns."""

    def after(self, said: str) -> None:
        """What came of it."""


class Bench:
    """A learner's lab, with what its nodes have reported since the task began."""

    def __init__(self, access: LabAccess, actual: ActualLab, began: float) -> None:
        """`began`: when the task began, in s since the epoch by the engine's clock."""
        self.access = access
        self.actual = actual
        self._began = began

    @property
    def facts(self) -> LoadedTopology:
        """The topology of the lab."""
        return self.access.topology

    def perform(self, steps: Sequence[Step], where: Path) -> None:
        """Carry out steps whose effect stays. Raises `StepError` with the step that could not be done."""
        performer = Performer(self.access, self._observer())
        for index, step in enumerate(steps):
            _perform(performer, step, (*where, index, step.word))

    def forget(self) -> None:
        """Register the mobile nodes nowhere, and empty the lists of their agents. Raises `StepError`."""
        actor = Performer(self.access, self._observer())
        for node in self._roaming():
            reset(actor, node)

    def began(self, where: Path, expectation: Expectation) -> Any:
        """What an expectation has to know of the beginning of its task, as JSON. Raises `StepError`."""
        observer = self._observer()
        observer.begin(place(where), expectation)
        kept = observer.observations.get(begin_of(place(where)))
        return kept.seen if kept else None

    def look(self, where: Path, expectation: Expectation, began: Any) -> Decision:
        """Whether an expectation holds now, with what happened since the task began."""
        observer = self._observer(mark=0)
        if began is not None:
            at = begin_of(place(where))
            observer.observations[at] = Observation(
                place=at, word=expectation.word, began=self._began, ended=self._began, events=0, seen=began
            )
        return observer.observe(place(where), expectation)

    def try_out(
        self,
        steps: Sequence[Step],
        expect: Sequence[Expectation],
        where: Path,
        watcher: Watcher | None = None,
    ) -> list[tuple[Expectation, Decision]]:
        """Carry out steps with captures running, and decide what must be seen. Raises `StepError`.

        What the steps changed is put right, and mobile nodes go back to the networks where they were.
        """
        taps = [tap for one in expect for tap in one.part.taps(self.facts)]
        places = {(*where, "expect", number): one for number, one in enumerate(expect)}
        with self._tried(taps) as (captures, observer, performer):
            for at, one in places.items():
                observer.begin(place(at), one)
            captures.start()
            for index, step in enumerate(steps):
                if watcher:
                    watcher.before(index, step)
                said = _perform(performer, step, (*where, "steps", index, step.word))
                if watcher:
                    watcher.after(said)
            now = {at: one for at, one in places.items() if not one.part.BY_CAPTURES or one.within}
            decided = {at: observer.observe(place(at), one) for at, one in now.items()}
            captures.stop()
            for at, one in places.items():
                if at not in decided:
                    observer.note(place(at), one)
                    decided[at] = _decide(one, place(at), observer, captures)
        return [(one, decided[at]) for at, one in places.items()]

    def captured(
        self, steps: Sequence[Step], tap: str, expression: str, where: Path
    ) -> tuple[list[Frame], int]:
        """The frames at a tap that a pcap filter matches while steps are done, and the capture's link type.

        Raises `StepError`. The lab is put right as by `try_out`.
        """
        with self._tried([tap]) as (captures, _, performer):
            captures.start()
            for index, step in enumerate(steps):
                _perform(performer, step, (*where, "steps", index, step.word))
            captures.stop()
            (seen,) = captures.look([tap])
        return list(seen.match(expression, host_addresses(self.facts)).frames), seen.linktype

    @contextmanager
    def after(self, steps: Sequence[Step], where: Path) -> Iterator[None]:
        """Carry out steps; at the end the lab is put right as by `try_out`. Raises `StepError`."""
        if not steps:
            yield
            return
        with self._tried(()) as (_, _, performer):
            for index, step in enumerate(steps):
                _perform(performer, step, (*where, "steps", index, step.word))
            yield

    @contextmanager
    def _tried(self, taps: Sequence[str]) -> Iterator[tuple[Captures, Observer, Performer]]:
        """Captures, and hands whose changes are put right at the end."""
        before = {node: self.access.state(node, ROAM).get("network") for node in self._roaming()}
        captures = Captures(self.access, taps, _FOLDER)
        observer = Observer(self.access, captures, self.access.log.mark())
        performer = Performer(self.access, observer)
        try:
            yield captures, observer, performer
        finally:
            with suppress(StepError):
                captures.stop()
            problems = performer.undo()
            for node, network in before.items():
                if self.access.state(node, ROAM).get("network") != network:
                    self._back(node, network)
            if problems:
                raise StepError(f"the lab could not be put right: {'; '.join(problems)}")

    def _back(self, node: str, network: str | None) -> None:
        if network is None:
            self.access.control(node, ROAM, {"op": Op.FORGET})
        else:
            settle(self.access, {"op": Op.MOVE, "network": network}, node)

    def _roaming(self) -> list[str]:
        """The mobile nodes that have a connection manager."""
        return [
            node
            for node in self.facts.mobile_nodes
            if any(one.control == ROAM for one in self.facts.daemons(node))
        ]

    def _observer(self, mark: int | None = None) -> Observer:
        log = self.access.log
        captures = Captures(self.access, ())
        return Observer(self.access, captures, log.mark() if mark is None else mark, began=self._began)


def _perform(performer: Performer, step: Step, where: Path) -> str:
    try:
        return performer.perform(step, place(where))
    except StepError as error:
        raise StepError(f"{step.phrase()}: {error.message}") from error


def _decide(expectation: Expectation, where: str, observer: Observer, captures: Captures) -> Decision:
    """Whether an expectation of captures holds, once they are whole."""
    begin = observer.observations.get(begin_of(where))
    lab = observer.lab

    def tap(name: str) -> TapFrames:
        (found,) = captures.look([name])
        return found

    return decide_look(
        expectation,
        observer.observations[where],
        begin.seen if begin else None,
        facts=lab.topology,
        hosts=host_addresses(lab.topology),
        events=observer.log.since(observer.mark),
        tap=tap,
    )


@contextmanager
def opened(engine: Engine, lab: str, topology: LoadedTopology, began: float) -> Iterator[Bench]:
    """A running lab, with all that its nodes have reported since `began` (s since the epoch).

    Raises `UsageError` where there is no such lab, or a node of it does not run.
    """
    actual = find_lab(engine, lab)
    missing = [name for name in topology.nodes if name not in actual.nodes]
    missing += [name for name, each in actual.nodes.items() if each.state != "running"]
    if missing:
        raise UsageError(
            f"lab {lab} is not whole: {', '.join(missing)} does not run",
            hint="testbed lesson reset brings the lab back to where this task begins",
        )
    containers: Mapping[str, str] = {name: each.id for name, each in actual.nodes.items()}
    access = LabAccess(engine, lab, topology, containers)
    try:
        for entry in _reported(engine, containers, began):
            access.log.add(entry)
        access.open()
        yield Bench(access, actual, began)
    finally:
        access.stop()


def _reported(engine: Engine, containers: Mapping[str, str], since: float) -> list[Entry]:
    """What nodes have reported since then, in the order of time. Raises `TestbedError`."""
    entries = []
    for node, container in containers.items():
        try:
            with closing(engine.logs(container, stderr=False)) as stream:
                for line in stream:
                    if line.time >= since and (event := parse_event(line.text, line.time)):
                        entries.append(Entry(node, event))
        except EngineError as error:
            raise TestbedError(f"the log of {node} cannot be read: {error.message}") from error
    return sorted(entries, key=lambda one: one.wall)
