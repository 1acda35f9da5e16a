"""Any command in a node."""

from __future__ import annotations

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.names import NodeName
from testbed.document.part import Part
from testbed.document.values import Duration
from testbed.errors import StepError


class Run(Part, Action):
    """Run a command in a node; an exit code other than 0 makes the run inconclusive."""

    word = "run"
    title = "Run a command in a node"
    order = 110

    node: NodeName = Field(description="The node")
    command: str = Field(min_length=1, description="A line for its shell")
    within: Duration = Field(default=10000.0, description="How long it may take (default 10s)")

    def act(self, lab: Actor) -> str:
        """Run it; what came of it is the end of its output."""
        done = lab.execute(self.node, ["sh", "-c", self.command], within=self.within / 1000)
        if done.code != 0:
            raise StepError(f"{self.node}: {self.command!r}: {done.complaint}")
        return done.text.strip()[-400:]
