"""The state that every run begins from: nobody is registered, agents know of nobody, and no IPsec is up."""

from __future__ import annotations

from typing import Final

from testbed.agreed import ROAM, Op
from testbed.document.functions import Function
from testbed.errors import StepError
from testbed.lab.access import LabAccess

RESTART_WITHIN: Final = 10.0
"""Seconds until a daemon that was asked for something has begun with it."""


def flush(lab: LabAccess, agents: list[str]) -> str:
    """Make agents forget their bindings and visitors. Raises `StepError`."""
    flushed = []
    for node in agents:
        for service in lab.topology.daemons(node):
            if service.control is None or not service.flush:
                continue
            state = lab.state(node, service.control)
            if any(state.get(one) for one in service.flush):
                lab.control(node, service.control, {"op": "flush"})
                flushed.append(node)
    return f"flushed: {', '.join(flushed)}" if flushed else "nothing to forget"


def reset(lab: LabAccess) -> None:
    """The defined state a run begins from: the mobile node registered nowhere, its agents' lists empty.

    No IKE SA either: charon would count how long the gateway was silent while nobody was registered, and
    could give it up in the middle of the run.
    """
    node = lab.mobile_node
    mark = lab.log.mark()
    lab.control(node, ROAM, {"op": Op.FORGET})
    # What the log has yet to bring of the run before must not count as seen in this one.
    if not lab.log.wait(mark, lambda one: (one.node, one.event.name) == (node, "detached"), RESTART_WITHIN):
        raise StepError(f"the log of {node} does not say that it is detached")
    agents = [lab.topology.home_agent(node), *lab.topology.with_role(Function.FOREIGN_AGENT)]
    flush(lab, [agent for agent in dict.fromkeys(agents) if agent is not None])
