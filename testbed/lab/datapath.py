"""Whether mobile nodes reach their correspondents: seen on a packet, and repaired where it is broken."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Any, Final

from testbed.agreed import ROAM, SETTLED, Op
from testbed.engine.api import Container, Engine
from testbed.errors import TestbedError
from testbed.lab.daemons import ask, converse
from testbed.lab.inside import in_each, run_inside
from testbed.lab.interrupt import Stopping, never
from testbed.lab.progress import Progress
from testbed.lab.state import ActualLab
from testbed.topology.loaded import LoadedTopology

_ATTEMPTS: Final = 3  # echo requests until the path counts as broken
_SETTLES: Final = 20.0  # seconds that a move takes at most, by the bounds of its steps
_PAUSE: Final = 0.2
_QUIET: Final = 30.0  # seconds without an event after which a repair counts as lost
_ATTACHED: Final = ("registered", "at-home", "connected")


def see_data(
    engine: Engine,
    lab: ActualLab,
    topology: LoadedTopology,
    *,
    fresh: Collection[str],
    changed: bool,
    progress: Progress,
    stopping: Stopping = never,
) -> dict[str, str | None]:
    """Let each mobile node reach its correspondent (`probe`), if it has one.

    A `fresh` one has just tried. Another that counts as attached and yet reaches nobody registers anew on the
    network it is on; where the lab has `changed`, so does one that is not attached. Raises
    `KeyboardInterrupt` at once where `stopping`.
    """
    nodes = {name: lab.running_node(name) for name in topology.mobile_nodes if topology.correspondent(name)}

    def see(name: str, container: Container) -> str | None:
        state = _settled(engine, container)
        if state.get("moving"):
            return f"it is still on its way to {state.get('network')}"
        if name in fresh:
            return None if _saw_data(state) else str(state.get("detail"))
        attached = state.get("state") in _ATTACHED
        if attached and _reaches(engine, container, topology, name):
            return None
        if not attached and not changed:
            return str(state.get("detail"))
        progress.show(f"{name} registers anew")
        settled = _repair(engine, container)
        return None if _saw_data(settled) else str(settled.get("detail"))

    return in_each(nodes, see, stopping)


def _settled(engine: Engine, container: Container) -> dict[str, Any]:
    """The state of a mobile node, if possible one in which no move is under way."""
    deadline = time.monotonic() + _SETTLES
    while True:
        state = ask(engine, container, ROAM, {"op": Op.STATE})
        if not state.get("moving") or time.monotonic() > deadline:
            return state
        time.sleep(_PAUSE)


def _saw_data(state: Mapping[str, Any]) -> bool:
    """Whether the last step of a move, the correspondent's first answer, was reached."""
    return (state.get("timeline") or {}).get("data") is not None


def _reaches(engine: Engine, container: Container, topology: LoadedTopology, name: str) -> bool:
    source = topology.home_address(name)
    target = next(iter(topology.node(str(topology.correspondent(name))).links.values()))
    ping = ["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", str(source), str(target)]
    return any(run_inside(engine, container, ping).code == 0 for _ in range(_ATTEMPTS))


def _repair(engine: Engine, container: Container) -> dict[str, Any]:
    """Have a mobile node attach again where it is; return what that settled in."""
    with closing(converse(engine, container, ROAM, {"op": Op.REPAIR}, quiet=_QUIET)) as messages:
        for message in messages:
            if message.get("event") == SETTLED:
                return message
    raise TestbedError(f"the connection manager of {container.name} went away while it registered anew")
