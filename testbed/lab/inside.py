"""Commands inside nodes whose output is wanted, not shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from testbed.engine.api import Container, Engine, ExecSession
from testbed.lab.tasks import WORKERS

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command in a node ended with."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line of standard error, for messages."""
        lines = self.err.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


def collect(session: ExecSession, stdin: bytes | None = None) -> Done:
    """Feed a command its input, if it has one, and read its output to the end. Raises `EngineError`."""
    if stdin is not None:
        session.send(stdin)
        session.end_input()
    out, err = bytearray(), bytearray()
    for stream, data in session:
        (out if stream == "stdout" else err).extend(data)
    return Done(session.exit_code(), bytes(out), bytes(err))


@contextmanager
def cut_after(session: ExecSession, seconds: float) -> Iterator[None]:
    """Close a session that is still open after so many seconds: its output then ends."""
    timer = threading.Timer(seconds, session.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run_inside(
    engine: Engine, container: Container, command: Sequence[str], stdin: str | None = None
) -> Done:
    """Run a command in a running node to its end. Raises `EngineError`."""
    with engine.execute(container.id, command, stdin=stdin is not None) as session:
        return collect(session, None if stdin is None else stdin.encode())


def in_each(
    nodes: Mapping[str, Container], action: Callable[[str, Container], _Result]
) -> dict[str, _Result]:
    """Do the same in several nodes at once; return node → result. Raises what the first of them raises."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="inside") as threads:
        return dict(zip(nodes, threads.map(action, nodes, nodes.values()), strict=True))
