"""A running lab as an experiment sees it: commands in nodes, control sockets, and what the nodes report."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from testbed.agreed import Op
from testbed.engine.api import Engine, EngineError, ExecSession, LogStream, NotFoundError
from testbed.errors import StepError, TestbedError
from testbed.lab.daemons import Dialogue, asking
from testbed.lab.events import NodeEvent, parse_event
from testbed.lab.inside import Done, collect, cut_after
from testbed.topology.loaded import LoadedTopology

GRACE: Final = 2.0
"""Seconds a command may take longer than its bound before its connection is cut."""


class Stopped(TestbedError):
    """The experiment has to stop."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of one node."""

    node: str
    event: NodeEvent

    @property
    def name(self) -> str:
        """What happened."""
        return self.event.name

    @property
    def source(self) -> str:
        """`init`, or the service that it comes from."""
        return self.event.source

    @property
    def fields(self) -> Mapping[str, Any]:
        """The rest of the line."""
        return self.event.fields

    @property
    def wall(self) -> float:
        """When it arrived, in s since the epoch."""
        return self.event.time

    @property
    def monotonic(self) -> float | None:
        """When it happened, in s of a clock that the nodes of one host share."""
        return self.event.fields.get("monotonic")


class EventLog:
    """All events of all nodes since the log was opened; several threads may read it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._news = threading.Condition()
        self._streams: list[LogStream] = []
        self._stopped = False
        self.ended: set[str] = set()
        """Nodes whose log ended: what they reported afterwards, if anything, is not known."""

    def follow(self, engine: Engine, containers: Mapping[str, str]) -> None:
        """Begin to read the nodes' standard output (node → container id), from now on."""
        for node, container in containers.items():
            stream = engine.logs(container, follow=True, tail=0, stderr=False)
            self._streams.append(stream)
            threading.Thread(target=self._read, args=(node, stream), daemon=True).start()

    def _read(self, node: str, stream: LogStream) -> None:
        try:
            for line in stream:
                if event := parse_event(line.text, line.time):
                    self.add(Entry(node, event))
        finally:
            self.ended.add(node)

    def add(self, entry: Entry) -> None:
        """Add an event and wake up whoever waits for one."""
        with self._news:
            self._entries.append(entry)
            self._news.notify_all()

    def mark(self) -> int:
        """A place in the log: now."""
        with self._news:
            return len(self._entries)

    def since(self, mark: int) -> list[Entry]:
        """What was reported after a place."""
        with self._news:
            return self._entries[mark:]

    def wait(self, mark: int, wanted: Callable[[Entry], bool], seconds: float) -> Entry | None:
        """The first event after a place that is wanted; None if there is none in time. Raises `Stopped`."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for entry in self._entries[mark:]:
                    if wanted(entry):
                        return entry
                mark = len(self._entries)
                self._sleep(deadline)
                if time.monotonic() >= deadline:
                    return next((entry for entry in self._entries[mark:] if wanted(entry)), None)

    def pause(self, seconds: float) -> None:
        """Return with the next event, at the latest after so many seconds. Raises `Stopped`."""
        with self._news:
            self._sleep(time.monotonic() + seconds)

    def _sleep(self, deadline: float) -> None:
        if self._stopped:
            raise Stopped("stopped")
        self._news.wait(max(deadline - time.monotonic(), 0))
        if self._stopped:
            raise Stopped("stopped")

    def stop(self) -> None:
        """Wake up everybody with `Stopped` and end the streams."""
        with self._news:
            self._stopped = True
            self._news.notify_all()
        for stream in self._streams:
            stream.close()


class LabAccess:
    """Commands and control sockets of one running lab. Threads may share it; `stop` ends whatever it does."""

    def __init__(
        self, engine: Engine, name: str, topology: LoadedTopology, containers: Mapping[str, str]
    ) -> None:
        self.engine = engine
        self.name = name
        self.topology = topology
        self.log = EventLog()
        self._containers = dict(containers)
        self._sessions: set[ExecSession] = set()
        self._kept: dict[tuple[str, str], Dialogue] = {}  # by node and service
        self._lock = threading.Lock()
        self._stopped = False

    def open(self) -> None:
        """Begin to follow the nodes' events."""
        self.log.follow(self.engine, self._containers)

    @property
    def mobile_node(self) -> str:
        """The lab's mobile node (that there is one was checked with the claims)."""
        return self.topology.mobile_nodes[0]

    def container(self, node: str) -> str:
        """The id of a node's container."""
        return self._containers[node]

    @contextmanager
    def session(self, node: str, command: Sequence[str], *, stdin: bool = False) -> Iterator[ExecSession]:
        """A command in a node with its streams; closed at the end, or when the experiment is stopped."""
        session = self._begin(node, command, stdin=stdin)
        try:
            yield session
        finally:
            self._end(session)

    def _begin(self, node: str, command: Sequence[str], *, stdin: bool) -> ExecSession:
        if self._stopped:
            raise Stopped("stopped")
        try:
            session = self.engine.execute(self._containers[node], command, stdin=stdin)
        except NotFoundError as error:
            raise StepError(f"node {node} of lab {self.name} is not running") from error
        except EngineError as error:
            raise StepError(f"{node}: {error.message}") from error
        with self._lock:
            self._sessions.add(session)
        if self._stopped:  # meanwhile: whoever did that may not have seen the session
            self._end(session)
            raise Stopped("stopped")
        return session

    def _end(self, session: ExecSession) -> None:
        with self._lock:
            self._sessions.discard(session)
        session.close()

    def execute(self, node: str, command: Sequence[str], *, within: float = 10.0) -> Done:
        """Run a command in a node to its end. Raises `StepError` if it takes longer than `within` seconds."""
        bounded = ["timeout", "--kill-after=1", f"{within:g}", *command]
        with self.session(node, bounded) as session, cut_after(session, within + GRACE):
            try:
                done = collect(session)
            except EngineError as error:
                raise StepError(f"{node}: {shlex.join(command)}: {error.message}") from error
        if self._stopped:
            raise Stopped("stopped")
        if done.code == 124:
            raise StepError(f"{node}: {shlex.join(command)[:120]} took longer than {within:g} s")
        return done

    def shell(self, node: str, script: str, *, within: float = 10.0) -> Done:
        """Run a shell script in a node; raises `StepError` unless it exits 0."""
        done = self.execute(node, ["sh", "-ec", script], within=within)
        if done.code != 0:
            raise StepError(f"{node}: {done.complaint}")
        return done

    def control(
        self, node: str, service: str, request: Mapping[str, Any], *, within: float = 5.0
    ) -> dict[str, Any]:
        """Ask a daemon over its control socket; returns its answer. Raises `StepError` for a refusal too."""
        with self.session(node, asking(service, within), stdin=True) as session:
            return self._answer(Dialogue(session, node, service), request, within)

    def state(self, node: str, service: str, *, within: float = 5.0) -> dict[str, Any]:
        """What a daemon says of itself: the answer to `state`. Raises `StepError`.

        The connection is kept for the next question, because to connect costs more than to ask.
        """
        with self._lock:
            kept = self._kept.pop((node, service), None)
        if kept is not None:
            began = time.monotonic()
            try:
                return self._look(kept, within)
            except StepError:  # the daemon was restarted, and another connection leads to its successor
                if time.monotonic() - began > within:
                    raise
        return self._look(Dialogue(self._begin(node, asking(service), stdin=True), node, service), within)

    def _look(self, dialogue: Dialogue, within: float) -> dict[str, Any]:
        """Ask for the state, and keep the connection if there is an answer."""
        try:
            answer = self._answer(dialogue, {"op": Op.STATE}, within)
        except BaseException:
            self._end(dialogue.session)
            raise
        place = (dialogue.node, dialogue.service)
        with self._lock:
            other, self._kept[place] = self._kept.get(place), dialogue
        if other is not None:  # of a thread that asked at the same time
            self._end(other.session)
        return answer

    def _answer(self, dialogue: Dialogue, request: Mapping[str, Any], within: float) -> dict[str, Any]:
        try:
            with cut_after(dialogue.session, within + GRACE):
                return next(dialogue.ask(request, within))
        except TestbedError as error:
            if self._stopped:
                raise Stopped("stopped") from error
            raise StepError(error.message) from error

    def stop(self) -> None:
        """End every command and wait; whoever is in one gets `Stopped`."""
        self._stopped = True
        self.log.stop()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
