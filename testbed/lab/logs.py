"""What nodes wrote: events on standard output, the daemons' own words on standard error."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

from testbed.engine.api import Container, Engine, Line, LogStream, NotFoundError, UnreachableError
from testbed.lab.events import NodeEvent, parse_event

_SETTLE: Final = 0.15  # seconds lines are held while following, so that nodes' lines come in order of time


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A line of a node's log."""

    node: str
    line: Line

    @property
    def event(self) -> NodeEvent | None:
        """The event it carries, if it does."""
        return parse_event(self.line.text, self.line.time) if self.line.stream == "stdout" else None


def read_logs(
    engine: Engine,
    nodes: Mapping[str, Container],
    *,
    follow: bool = False,
    tail: int | None = None,
    events: bool = False,
) -> Generator[NodeLine]:
    """Yield the lines of several nodes in order of time; `events` leaves standard error out.

    Following ends when every node has stopped, or when the iterator is closed. Raises `UnreachableError` as
    soon as an engine goes away.
    """
    streams = {
        node: engine.logs(container.id, follow=follow, tail=tail, stderr=not events)
        for node, container in nodes.items()
    }
    try:
        if follow:
            yield from _as_they_come(engine, nodes, streams)
        else:
            # Within a node too: the engine writes its two outputs down side by side, at times out of order.
            lines = chain.from_iterable(_lines(node, stream) for node, stream in streams.items())
            yield from sorted(lines, key=lambda each: each.line.time)
    finally:
        for stream in streams.values():
            stream.close()


def _lines(node: str, stream: LogStream) -> Iterator[NodeLine]:
    return (NodeLine(node, line) for line in stream)


def _as_they_come(
    engine: Engine, nodes: Mapping[str, Container], streams: Mapping[str, LogStream]
) -> Iterator[NodeLine]:
    queue: SimpleQueue[NodeLine | str] = SimpleQueue()  # a node's name: its log has ended

    def read(node: str, stream: LogStream) -> None:
        for line in _lines(node, stream):
            queue.put(line)
        queue.put(node)

    for node, stream in streams.items():
        Thread(target=read, args=(node, stream), daemon=True).start()
    open_streams = len(streams)
    lost: UnreachableError | None = None
    held: list[NodeLine] = []
    release = 0.0
    while open_streams or held:
        wait = release - time.monotonic() if held else None
        if wait is not None and (wait <= 0 or not open_streams):
            yield from sorted(held, key=lambda each: each.line.time)
            held = []
            continue
        try:
            news = queue.get(timeout=wait)
        except Empty:
            continue
        if isinstance(news, str):
            lost = _lost_engine(engine, nodes[news])
            open_streams = 0 if lost else open_streams - 1
            continue
        if not held:
            release = time.monotonic() + _SETTLE
        held.append(news)
    if lost:
        raise lost


def _lost_engine(engine: Engine, container: Container) -> UnreachableError | None:
    """Why the log of a node ended if its engine went away; a log ends in the same way when its node stops."""
    try:
        with suppress(NotFoundError):  # removed: the engine answers
            engine.logs(container.id, tail=0).close()
    except UnreachableError as error:
        if engine.members:
            return error  # it names the engine
        return UnreachableError(f"the engine at {engine.address} does not answer any more")
    return None
