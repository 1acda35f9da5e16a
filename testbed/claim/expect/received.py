"""What an application got."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from testbed.agreed import MADE_UP, RECEIVED
from testbed.claim.names import NodeName
from testbed.claim.seen import LOGGED, Counted
from testbed.claim.sight import Decision, Looker, Sight
from testbed.errors import StepError


class Received(Counted):
    """How many made-up datagrams came to a node that listens (`listen`), past its firewall and IPsec policy.

    Captures show what came to a link; this is what an application got.
    """

    word = "received"
    title = "Made-up datagrams that an application got"
    order = 185
    SEEN: ClassVar[Any] = int
    TOO_MUCH: ClassVar[float | None] = None  # no slowness sends a datagram twice

    node: NodeName = Field(description="The node")

    @property
    def quiet(self) -> float:
        """One too many may be on its way."""
        return LOGGED

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"made-up datagrams received by {self.node}: {self.wanted}"

    def look(self, lab: Looker) -> Any:
        """Count them in what came."""
        done = lab.execute(self.node, ["cat", RECEIVED])
        if done.code != 0:
            raise StepError(f"nobody listens on {self.node}: the run needs the step `listen: {self.node}`")
        return done.text.count(MADE_UP)

    def judge(self, sight: Sight) -> Decision:
        """Compare the number."""
        return Decision(self.allows(sight.seen), f"{sight.seen} received", sight.seen > self.highest)
