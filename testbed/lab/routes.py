"""Routers that stayed while others were replaced: they have to find their ways through the new ones."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from testbed.document.functions import STATIC
from testbed.engine.api import Container, Engine
from testbed.errors import NotReadyError
from testbed.lab.inside import in_each, run_inside
from testbed.lab.interrupt import Stopping, never
from testbed.lab.progress import Progress
from testbed.lab.state import ActualLab
from testbed.topology.loaded import LoadedTopology

_UNTIL: Final = "until {ready}; do sleep 0.05; done >/dev/null 2>&1"
_AT_LEAST: Final = 1.0  # seconds


def await_routes(
    engine: Engine,
    lab: ActualLab,
    topology: LoadedTopology,
    fresh: Collection[str],
    deadline: float,
    progress: Progress,
    stopping: Stopping = never,
) -> None:
    """Return when each router that learns routes, and is not `fresh`, is as it was when it became ready.

    There is nothing to wait for unless one of those that learn routes is `fresh`. A router that was replaced
    is ready when it has routes through its neighbours, who may have to calculate theirs yet. Raises
    `NotReadyError` after `deadline` (of `time.monotonic`), `KeyboardInterrupt` at once where `stopping`.
    """
    learning = {name: ready for name in topology.topology.nodes if (ready := _ready(topology, name))}
    kept = {name: lab.running_node(name) for name in learning if name not in fresh}
    if len(kept) == len(learning) or not kept:
        return
    progress.show("waiting for routes")

    def await_its(name: str, container: Container) -> None:
        left = max(_AT_LEAST, deadline - time.monotonic())
        script = " && ".join(_UNTIL.format(ready=one) for one in learning[name])
        if run_inside(engine, container, ["timeout", f"{left:g}", "sh", "-c", script], within=left + 5).code:
            raise NotReadyError(
                f"{name} does not find its ways through {', '.join(sorted(learning.keys() & fresh))}",
                hint=f"testbed logs {lab.name} {name}",
            )

    in_each(kept, await_its, stopping)


def _ready(topology: LoadedTopology, node: str) -> list[str]:
    """The commands that succeed when a node has learned its routes; none where it learns none."""
    return [
        service.ready
        for role in topology.node_roles(node)
        if role.routing not in (None, STATIC)
        for service in role.services.values()
        if service.ready not in (None, "self")
    ]
