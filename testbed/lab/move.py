"""Walking a mobile node about."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final

from testbed.agreed import ROAM, SETTLED, Op
from testbed.document.functions import Function
from testbed.engine.api import Engine
from testbed.errors import TestbedError, UsageError, did_you_mean
from testbed.lab.daemons import converse
from testbed.lab.reason import reason
from testbed.lab.state import ActualLab, NodeFacts, node_facts
from testbed.lab.status import lab_status


def attachments(lab: ActualLab, node: str) -> tuple[str, ...]:
    """The networks that a mobile node can attach to, of many in one node the links of the node.

    Raises `UsageError` for a node that does not move.
    """
    facts = node_facts(lab.node(node))
    known = tuple(facts.links) if _is_crowd(facts) else facts.attaches
    if not known:
        mobile = lab.mobile_nodes
        hint = f"mobile nodes of lab {lab.name}: {', '.join(mobile)}" if mobile else None
        raise UsageError(f"{node} is not a mobile node", hint=hint)
    return known


def _is_crowd(facts: NodeFacts) -> bool:
    return Function.BULK_NODES in facts.functions


def move(engine: Engine, lab: ActualLab, node: str, network: str) -> Generator[dict[str, Any]]:
    """Attach a mobile node, or a crowd, to another network; yield events, the last of which is `settled`.

    Raises `UsageError` for a node that does not move or a network it cannot attach to, `TestbedError` when
    its manager refuses.
    """
    container, known = lab.running_node(node), attachments(lab, node)
    if network not in known:
        raise UsageError(f"{node} has no network {network} to attach to", hint=did_you_mean(network, known))
    settled = False
    service = Function.BULK_NODES if _is_crowd(node_facts(container)) else ROAM
    for message in converse(engine, container, service, {"op": Op.MOVE, "network": network}):
        if "event" in message:
            yield message
            settled = message["event"] == SETTLED
            if settled:
                return
    raise TestbedError(
        f"the connection manager of {node} went away during the move",
        hint=f"testbed logs {lab.name} {node}",
    )


_RESULT: Final = ("network", "stack", "state", "detail", "ms", "timeline")


def result(lab: str, node: str, settled: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a move, by its event `settled`, for JSON."""
    return {"lab": lab, "node": node, **{key: settled.get(key) for key in _RESULT}}


def in_words(engine: Engine, lab: ActualLab, node: str, settled: Mapping[str, Any]) -> str:
    """The same in a line for people; where no data came through it says why."""
    detail = str(settled.get("detail"))
    if (settled.get("timeline") or {}).get("data") is None:
        detail = reason(lab_status(engine, lab, ask=[node]), node, detail)
    return f"{node}: {settled.get('state')} on {settled.get('network')}: {detail}"
