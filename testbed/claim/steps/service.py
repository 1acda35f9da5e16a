"""A node's daemons, stopped and started."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.names import NodeName
from testbed.document.part import Part


class Service(Part, Action):
    """Stop a daemon of a node, or start it again."""

    word = "service"
    title = "Stop or start a daemon"
    order = 100

    node: NodeName = Field(description="The node")
    name: str = Field(min_length=1, description="The service, as the role's manifest calls it")
    state: Literal["up", "down"] = Field(description="Started, or stopped")

    def act(self, lab: Actor) -> str:
        """Ask the node's supervisor for it."""
        change = f"{self.name} of {self.node} up"
        if self.state == "down":
            lab.at_end(change, lambda: lab.set_service(self.node, self.name, "up"))
        lab.set_service(self.node, self.name, self.state)
        if self.state == "up":
            lab.leave(change)  # a service that runs would not become ready a second time
        return self.state
