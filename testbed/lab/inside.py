"""Commands inside nodes whose output is wanted, not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from testbed.engine.api import Container, Engine
from testbed.lab.tasks import WORKERS

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
    nodes: Mapping[str, Container], action: Callable[[str, Container], _Result]
) -> dict[str, _Result]:
    """Do the same in several nodes at once; return node → result. Raises what the first of them raises."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="inside") as threads:
        return dict(zip(nodes, threads.map(action, nodes, nodes.values()), strict=True))
