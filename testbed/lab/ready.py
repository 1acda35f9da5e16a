"""Waiting for nodes: every node's standard output is followed until all that has to report has.

A mobile node's connection manager reports when its first attachment has come to an end, good or bad.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from testbed.agreed import LACKING, READY
from testbed.engine import names
from testbed.engine.api import Engine, LogStream, NotFoundError
from testbed.errors import MachineError, NotReadyError, TestbedError
from testbed.lab.events import NodeEvent, parse_event
from testbed.lab.interrupt import Stopping, never
from testbed.lab.progress import Progress

_GLANCE: Final = 0.1  # seconds without news after which it is looked whether to stop
_LAST_WORDS: Final = 12  # lines of standard error shown of a node that fails


@dataclass
class _Watched:
    id: str
    waits: set[str]
    since: float  # by the engine's clock; what happened before does not concern this watch
    restarted: frozenset[str]  # services that were started just now: their word has to come yet
    begun: bool = False  # something was read


@dataclass
class NodeWatch:
    """Follows nodes and says when all are ready. One thread calls `wait`; `follow` may come from any."""

    engine: Engine
    lab: str
    progress: Progress

    def __post_init__(self) -> None:
        self._nodes: dict[str, _Watched] = {}
        self._streams: list[LogStream] = []
        self._news: SimpleQueue[tuple[str, NodeEvent | None]] = SimpleQueue()
        self._lock = Lock()
        self._closed = False

    def follow(
        self, node: str, id: str, ready: Iterable[str], *, since: float | None, restarted: Iterable[str] = ()
    ) -> None:
        """Begin to follow a started container; `ready` are the names that have to report.

        `since` is None for a container that was made just now. Of another it says when the watch begins, in
        seconds since the epoch by the engine's clock, which stamps the log. What `restarted` services
        reported before does not count, nor does a service that ended before, or that ends without an error
        before its word has come.
        """
        began = -math.inf if since is None else since
        with self._lock:
            self._nodes[node] = _Watched(id, set(ready), began, frozenset(restarted))
        Thread(target=self._read, args=(node, id), name=f"follow-{node}", daemon=True).start()

    def _read(self, node: str, id: str) -> None:
        try:
            stream = self.engine.logs(id, follow=True, stderr=False)
        except TestbedError:
            self._news.put((node, None))
            return
        with self._lock:
            self._streams.append(stream)
            closed = self._closed
        if closed:
            stream.close()
        for line in stream:
            if event := parse_event(line.text, line.time):
                self._news.put((node, event))
        self._news.put((node, None))

    def wait(self, deadline: float, stopping: Stopping = never) -> None:
        """Return when all followed nodes are ready; `KeyboardInterrupt` where `stopping`.

        Raises `NotReadyError` after `deadline` (of `time.monotonic`), saying which services have not started,
        `MachineError` where a node lacks what it was told to use, and `TestbedError` with the last words of a
        node that stopped or whose service did.
        """
        while waiting := self._waiting():
            if stopping():
                raise KeyboardInterrupt
            self.progress.show(f"waiting for {_listed(waiting)}")
            left = deadline - time.monotonic()
            try:
                node, event = self._news.get(timeout=min(_GLANCE, max(0.0, left)))
            except Empty:
                if left > 0:
                    continue
                raise self._late(waiting) from None
            if event is None:
                raise self._stopped(node)
            self._take(node, self._nodes[node], event)

    def close(self) -> None:
        """Stop following."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.close()

    def _waiting(self) -> dict[str, list[str]]:
        return {name: sorted(node.waits) for name, node in self._nodes.items() if node.waits}

    def _take(self, name: str, node: _Watched, event: NodeEvent) -> None:
        if not node.begun and event.source != "init":
            # The beginning of its log was dropped since: it has been up for long.
            node.waits &= node.restarted
        node.begun = True
        if event.name == "configured" and event.source == "init":
            node.waits.discard("init")
        elif event.name == READY:
            if event.source not in node.restarted or event.time >= node.since:
                node.waits.discard(event.source)
        elif event.name == LACKING and event.time >= node.since:
            raise MachineError(f"node {name}: {event.fields.get('what')}", hint=event.fields.get("hint"))
        elif event.name == "exit" and event.time >= node.since:
            code = event.fields.get("code")
            if code == 0 and event.source in node.restarted and event.source in node.waits:
                return  # somebody had stopped it, and it took its time
            how = f"status {event.fields.get('status')}" if code == -1 else f"exit code {code}"
            raise self._failed(name, f"service {event.source} of node {name} ended ({how})")

    def _stopped(self, name: str) -> TestbedError:
        found = self.engine.containers({names.LAB: self.lab, names.NODE: name})
        if not found:
            return TestbedError(
                f"node {name} was removed while the lab came up", hint=f"testbed down {self.lab}"
            )
        how = "stopped" if found[0].state != "running" else "says nothing more"
        return self._failed(name, f"node {name} {how} ({found[0].status})")

    def _failed(self, name: str, message: str) -> TestbedError:
        words = last_words(self.engine, self._nodes[name].id)
        return TestbedError("\n  ".join([message, *words]), hint=self._hint(name))

    def _late(self, waiting: dict[str, list[str]]) -> NotReadyError:
        lines = [f"{name} is not ready: {', '.join(what)} not started" for name, what in waiting.items()]
        message = f"lab {self.lab} is not ready in time"
        return NotReadyError("\n  ".join([message, *lines]), hint=self._hint(next(iter(waiting))))

    def _hint(self, name: str) -> str:
        return f"it is left for you to look at: testbed logs {self.lab} {name}; then testbed down {self.lab}"


def last_words(engine: Engine, id: str) -> Sequence[str]:
    """Return the last lines of a container's standard error; none if it is gone."""
    try:
        return [line.text for line in engine.logs(id, tail=_LAST_WORDS * 4, stdout=False)][-_LAST_WORDS:]
    except NotFoundError:
        return []


def _listed(waiting: dict[str, list[str]]) -> str:
    texts = [f"{name} ({', '.join(what)})" for name, what in waiting.items()]
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")
