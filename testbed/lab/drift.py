"""What has changed inside running nodes since they were configured, by no doing of the testbed's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from testbed.engine.api import Container, Engine
from testbed.errors import TestbedError
from testbed.lab.inside import in_each, run_inside
from testbed.lab.interrupt import Stopping, never
from testbed.render import RenderedNode

_LOOK: Final = "/sbin/testbed-drift"
_CANNOT_RUN: Final = (126, 127)  # exit codes: no such program, or none that runs here
_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """How one node differs from the node that its init configured."""

    changes: tuple[str, ...] = ()
    """Links, addresses, routes, rules and nftables rules that are gone, addresses that were added, and files
    that were edited."""
    additions: tuple[str, ...] = ()
    """Routes, rules, nftables rules and files of them that no daemon of the node adds."""
    stopped: tuple[str, ...] = ()
    """Services that were stopped by a command to the supervisor."""
    paused: tuple[str, ...] = ()
    """Services that were paused by a command to it."""
    failed: tuple[str, ...] = ()
    """Networks to which its link was cut (`testbed fail`)."""
    unknown: str | None = None
    """Why the node cannot be compared, such as its own image without the program for it; None if it was."""
    looked: float = math.inf
    """When it was looked at: seconds since the epoch by the engine's clock, as in its log; `inf`: unknown."""

    @property
    def services(self) -> tuple[str, ...]:
        """Services that do not do their work."""
        return (*self.stopped, *self.paused)

    @property
    def reason(self) -> str:
        """The changes for people, cut after a few."""
        more = len(self.changes) - _MOST_NAMED
        return "; ".join(self.changes[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def find_drift(
    engine: Engine,
    nodes: Mapping[str, Container],
    rendered: Mapping[str, RenderedNode],
    stopping: Stopping = never,
) -> dict[str, Drift]:
    """Look into running nodes. One in which nothing runs any more has changed; one without the program stays.

    `rendered` says which files they were given; a node that is not in it has none to compare.

    Raises `KeyboardInterrupt` at once where `stopping`.
    """

    def look(name: str, container: Container) -> Drift:
        try:
            done = run_inside(engine, container, [_LOOK], stdin=_checksums(rendered.get(name)))
        except TestbedError as error:
            return Drift((f"nothing runs in it: {error.message}",))
        if done.code in _CANNOT_RUN:
            return Drift(unknown=f"{_LOOK} does not run in its image")
        if done.code:
            return Drift((f"its state cannot be read: {done.complaint}",))
        lines = [line.split(" ", 1) for line in done.text.splitlines()]
        return Drift(
            changes=tuple(f"{kind} {what}" for kind, what in lines if kind in ("lost", "added", "edited")),
            additions=tuple(f"added {what}" for kind, what in lines if kind == "more"),
            stopped=tuple(what for kind, what in lines if kind == "stopped"),
            paused=tuple(what for kind, what in lines if kind == "paused"),
            failed=tuple(what for kind, what in lines if kind == "failed"),
            looked=next((float(what) for kind, what in lines if kind == "now"), math.inf),
        )

    return in_each(nodes, look, stopping)


def _checksums(node: RenderedNode | None) -> str:
    """The files that stay as they were rendered, as `sha256sum --check` takes them."""
    return "".join(
        f"{hashlib.sha256(file.content.encode()).hexdigest()}  {path}\n"
        for path, file in (node.files if node else {}).items()
        if not file.live
    )


def start_services(engine: Engine, container: Container, drift: Drift) -> None:
    """Let a node's supervisor start what is stopped and continue what is paused. Raises `TestbedError`."""
    for action, services in (("up", drift.stopped), ("cont", drift.paused)):
        if services:
            folders = [f"/etc/testbed/services/{service}" for service in services]
            run_inside(engine, container, ["sv", action, *folders])
