"""Putting nodes back to what was rendered, by the same way as `up` mends a lab."""

from __future__ import annotations

from collections.abc import Collection

from testbed.engine.api import Engine
from testbed.lab.addresses import choose_pool
from testbed.lab.interrupt import Stopping, never
from testbed.lab.original import original_files, original_image, original_topology
from testbed.lab.progress import Progress
from testbed.lab.state import check_mine, find_lab
from testbed.lab.up import BroughtUp, bring_up


def reset_lab(
    engine: Engine,
    lab: str,
    nodes: Collection[str] = (),
    *,
    progress: Progress | None = None,
    stopping: Stopping = never,
) -> BroughtUp:
    """Replace the nodes that differ from what was rendered, all or those named, and start stopped services.

    A node that has no difference stays as it is, with what its daemons know, and so does the network where a
    mobile node is. Returns when all is ready. Raises `UsageError` (no such lab or node, another user's lab,
    a topology file that is gone or has changed since), and as `bring_up`.
    """
    actual = find_lab(engine, lab)
    check_mine(engine, lab)
    for name in nodes:
        actual.node(name)
    topology = original_topology(engine, actual)
    rendered = original_files(engine, actual, topology)
    return bring_up(
        engine,
        topology,
        lab=lab,
        image=original_image(actual, rendered),
        pool=choose_pool(None),
        keep=True,
        reset=nodes or tuple(actual.nodes),
        progress=progress,
        stopping=stopping,
    )
