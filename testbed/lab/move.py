"""Walking a mobile node about."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from testbed.agreed import ROAM, SETTLED, Op
from testbed.engine.api import Engine
from testbed.errors import TestbedError, UsageError, did_you_mean
from testbed.lab.daemons import converse
from testbed.lab.state import ActualLab, node_facts


def move(engine: Engine, lab: ActualLab, node: str, network: str) -> Generator[dict[str, Any]]:
    """Attach a mobile node to another network; yield its manager's events, the last of which is `settled`.

    Raises `UsageError` for a node that does not move or a network it cannot attach to, `TestbedError` when
    its manager refuses.
    """
    container = lab.running_node(node)
    known = node_facts(container).attaches
    if not known:
        mobile = lab.mobile_nodes
        hint = f"mobile nodes of lab {lab.name}: {', '.join(mobile)}" if mobile else None
        raise UsageError(f"{node} is not a mobile node", hint=hint)
    if network not in known:
        raise UsageError(f"{node} has no network {network} to attach to", hint=did_you_mean(network, known))
    settled = False
    for message in converse(engine, container, ROAM, {"op": Op.MOVE, "network": network}):
        if "event" in message:
            yield message
            settled = message["event"] == SETTLED
            if settled:
                return
    raise TestbedError(
        f"the connection manager of {node} went away during the move",
        hint=f"testbed logs {lab.name} {node}",
    )
