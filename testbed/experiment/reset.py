"""The state that every run begins from: nobody is registered, and agents know of nobody."""

from __future__ import annotations

from typing import Final

from testbed.errors import StepError
from testbed.lab.access import LabAccess

RESTART_WITHIN: Final = 10.0
"""Seconds until a daemon that was asked for something has begun with it."""


def flush(lab: LabAccess, agents: list[str]) -> str:
    """Make agents forget their bindings and visitors. Raises `StepError`."""
    flushed = []
    for node in agents:
        for role, lists in (("home-agent", ("bindings",)), ("foreign-agent", ("visitors", "pending"))):
            if role not in lab.topology.node(node).roles:
                continue
            state = lab.state(node, role)
            if any(state.get(one) for one in lists):
                lab.control(node, role, {"op": "flush"})
                flushed.append(node)
    return f"flushed: {', '.join(flushed)}" if flushed else "nothing to forget"


def reset(lab: LabAccess) -> None:
    """The defined state a run begins from: the mobile node registered nowhere, its agents' lists empty."""
    node = lab.mobile_node
    mark = lab.log.mark()
    lab.control(node, "mobile-node", {"op": "detach"})
    # What the log has yet to bring of the run before must not count as seen in this one.
    if not lab.log.wait(mark, lambda one: (one.node, one.event.name) == (node, "detached"), RESTART_WITHIN):
        raise StepError(f"the log of {node} does not say that it is detached")
    agents = [lab.topology.settings[node]["home-agent"], *lab.topology.with_role("foreign-agent")]
    flush(lab, list(dict.fromkeys(agents)))
