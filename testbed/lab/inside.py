"""Commands inside nodes whose output is wanted, not shown."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, TypeVar

from testbed.engine import names
from testbed.engine.api import Container, Engine, EngineError, ExecSession
from testbed.engine.done import Done as Done
from testbed.engine.done import collect as collect
from testbed.errors import NotReadyError
from testbed.lab.interrupt import Stopping, never
from testbed.lab.tasks import WORKERS

WITHIN: Final = 30.0
"""Seconds that a command may take unless it says; most take a fraction of one."""
_GLANCE: Final = 0.1  # seconds between two looks whether to stop
_Result = TypeVar("_Result")


@contextmanager
def cut_after(session: ExecSession, seconds: float) -> Iterator[threading.Event]:
    """Close a session still open after so many seconds: its output then ends, and the event is set."""
    cut = threading.Event()

    def close() -> None:
        cut.set()
        session.close()

    timer = threading.Timer(seconds, close)
    timer.start()
    try:
        yield cut
    finally:
        timer.cancel()


def run_inside(
    engine: Engine,
    container: Container,
    command: Sequence[str],
    stdin: str | None = None,
    *,
    within: float = WITHIN,
) -> Done:
    """Run a command in a running node to its end.

    Raises `EngineError`, and `NotReadyError` where the command has not ended `within` so many seconds.
    """
    with engine.execute(container.id, command, stdin=stdin is not None) as session:
        with cut_after(session, within) as cut:
            try:
                done = collect(session, None if stdin is None else stdin.encode())
            except EngineError:
                if not cut.is_set():
                    raise
        if not cut.is_set():
            return done
    node, lab = container.labels.get(names.NODE, container.name), container.labels.get(names.LAB, "")
    raise NotReadyError(
        f"{node}: {shlex.join(command)[:80]} has not ended after {within:g} s",
        hint=f"testbed logs {lab} {node}".rstrip() if lab else None,
    )


def in_each(
    nodes: Mapping[str, Container],
    action: Callable[[str, Container], _Result],
    stopping: Stopping = never,
) -> dict[str, _Result]:
    """Do the same in several nodes at once; return node → result. Raises what the first of them raises.

    Raises `KeyboardInterrupt` at once when interrupted or `stopping`. An action that is under way then goes
    on in its thread, which does not keep the process from ending; its result is lost.
    """
    results: dict[str, Future[_Result]] = {name: Future() for name in nodes}
    jobs: SimpleQueue[str] = SimpleQueue()
    for name in nodes:
        jobs.put(name)

    def work() -> None:
        while True:
            try:
                name = jobs.get_nowait()
            except Empty:
                return
            result = results[name]
            if not result.set_running_or_notify_cancel():
                continue
            try:
                result.set_result(action(name, nodes[name]))
            except BaseException as error:
                result.set_exception(error)

    try:
        # Not a ThreadPoolExecutor, which waits for its threads whatever happens: a move takes half a minute.
        for number in range(min(WORKERS, len(nodes))):
            Thread(target=work, name=f"inside-{number}", daemon=True).start()
        while wait(results.values(), _GLANCE).not_done:
            if stopping():
                raise KeyboardInterrupt
    except BaseException:
        for result in results.values():
            result.cancel()
        raise
    return {name: result.result() for name, result in results.items()}
