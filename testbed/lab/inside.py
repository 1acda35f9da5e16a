"""Commands inside nodes whose output is wanted, not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, TypeVar

from testbed.engine.api import Container, Engine
from testbed.lab.interrupt import Stopping, never
from testbed.lab.tasks import WORKERS

_GLANCE: Final = 0.1  # seconds between two looks whether to stop
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command ended with."""

    code: int
    out: str
    err: str


def run_inside(
    engine: Engine, container: Container, command: Sequence[str], stdin: str | None = None
) -> Ended:
    """Run a command in a running node to its end. Raises `EngineError`."""
    out, err = bytearray(), bytearray()
    with engine.execute(container.id, command, stdin=stdin is not None) as session:
        if stdin is not None:
            session.send(stdin.encode())
            session.end_input()
        for stream, data in session:
            (out if stream == "stdout" else err).extend(data)
        return Ended(session.exit_code(), out.decode(errors="replace"), err.decode(errors="replace").strip())


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
