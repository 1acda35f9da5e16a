"""Agents that forget."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.names import NodeNames, Short


class Flush(Short, Action):
    """Home agents forget all bindings and foreign agents all visitors, without a message to anybody."""

    word = "flush"
    title = "Agents forget bindings and visitors"
    order = 120

    SHORT = "agents"
    agents: NodeNames = Field(min_length=1, description="The agents")

    def act(self, lab: Actor) -> str:
        """Ask each daemon that has something to forget."""
        return flush(lab, self.agents)


def flush(lab: Actor, agents: Iterable[str]) -> str:
    """Make agents forget their bindings and visitors. Raises `StepError`."""
    flushed = []
    for node in agents:
        for service in lab.facts.daemons(node):
            if service.control is None or not service.flush:
                continue
            state = lab.state(node, service.control)
            if any(state.get(one) for one in service.flush):
                lab.control(node, service.control, {"op": "flush"})
                flushed.append(node)
    return f"flushed: {', '.join(flushed)}" if flushed else "nothing to forget"
