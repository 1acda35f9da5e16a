"""Walking a mobile node, or a crowd, about."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final

from testbed.agreed import ROAM, SETTLED, Op
from testbed.document.functions import Function
from testbed.document.values import PartOfCrowd, crowd_request
from testbed.engine.api import Engine
from testbed.errors import TestbedError, UsageError, did_you_mean
from testbed.lab.daemons import converse
from testbed.lab.reason import reason
from testbed.lab.state import ActualLab, node_facts
from testbed.lab.status import lab_status


def attachments(lab: ActualLab, node: str) -> tuple[str, ...]:
    """The networks that a mobile node, or a crowd of them, can attach to.

    Raises `UsageError` for a node that does not move.
    """
    known = node_facts(lab.node(node)).attachable
    if not known:
        mobile = [name for name, container in lab.nodes.items() if node_facts(container).attachable]
        hint = f"mobile nodes of lab {lab.name}: {', '.join(mobile)}" if mobile else None
        raise UsageError(f"{node} is not a mobile node", hint=hint)
    return known


def move(
    engine: Engine,
    lab: ActualLab,
    node: str,
    network: str,
    part: PartOfCrowd | None = None,
    within: float = 0.0,
) -> Generator[dict[str, Any]]:
    """Attach a mobile node to another network; yield events, the last of which is `settled`.

    Of a crowd all nodes move or a `part`, one after the other `within` so many seconds. Raises `UsageError`
    for a node that does not move or a network it cannot attach to, `TestbedError` when its manager refuses.
    """
    container, known = lab.running_node(node), attachments(lab, node)
    if network not in known:
        raise UsageError(f"{node} has no network {network} to attach to", hint=did_you_mean(network, known))
    crowd = node_facts(container).is_crowd
    if not crowd and (part is not None or within):
        raise UsageError(f"{node} is a single mobile node: only of a crowd a part moves, or within some time")
    service = Function.BULK_NODES if crowd else ROAM
    request = {"op": Op.MOVE, "network": network, **(crowd_request(part, within) if crowd else {})}
    settled = False
    for message in converse(engine, container, service, request):
        if "event" in message:
            yield message
            settled = message["event"] == SETTLED
            if settled:
                return
    raise went_away(lab, node)


def went_away(lab: ActualLab, node: str) -> TestbedError:
    """The error of a connection manager that ended during a move."""
    return TestbedError(
        f"the connection manager of {node} went away during the move",
        hint=f"testbed logs {lab.name} {node}",
    )


_RESULT: Final = ("network", "stack", "state", "detail", "ms", "timeline")
_OF_CROWD: Final = ("homes", "nodes", "registered", "requests", "replies")


def result(lab: str, node: str, settled: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a move, by its event `settled`, for JSON."""
    of_crowd = {key: settled[key] for key in _OF_CROWD if key in settled}
    return {"lab": lab, "node": node, **{key: settled.get(key) for key in _RESULT}, **of_crowd}


def in_words(engine: Engine, lab: ActualLab, node: str, settled: Mapping[str, Any]) -> str:
    """The same in a line for people; where no data came through it says why."""
    detail, who = str(settled.get("detail")), node
    if homes := settled.get("homes"):
        who = f"{node} {'-'.join(dict.fromkeys(homes))}"
    elif (settled.get("timeline") or {}).get("data") is None:
        detail = reason(lab_status(engine, lab, ask=[node]), node, detail)
    return f"{who}: {settled.get('state')} on {settled.get('network')}: {detail}"
