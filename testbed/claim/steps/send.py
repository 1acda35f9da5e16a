"""Packets that the testbed makes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.ends import ends
from testbed.claim.names import NodeName
from testbed.document.part import Part
from testbed.document.values import Name
from testbed.errors import StepError


class Send(Part, Action):
    """Packets that the testbed makes and sends from a node's own address, as a real peer would send them."""

    word = "send"
    title = "Send made-up packets"
    order = 90

    from_: NodeName = Field(alias="from", description="The node that sends")
    to: NodeName = Field(description="The node whose address they go to")
    network: Name | None = Field(default=None, description="Which of its addresses (default: its first link)")
    protocol: Literal["esp", "ipip"] = Field(
        description="ESP with a random SPI, or IP-in-IP with a UDP packet inside"
    )
    inner: NodeName | None = Field(default=None, description="For ipip: the node the inner packet is for")
    count: int = Field(default=3, ge=1, le=100, description="How many")

    def act(self, lab: Actor) -> str:
        """Send them with `testbed.node.inject`."""
        facts = lab.facts
        to = facts.nodes[self.to].links
        target = to.get(self.network) if self.network else facts.primary_address(self.to)
        if target is None:
            raise StepError(f"{self.to} has no address" + (f" on {self.network}" if self.network else ""))
        links = facts.nodes[self.from_].links
        source = links.get(self.network or "") or facts.primary_address(self.from_)
        command = ["python3", "-m", "testbed.node.inject", self.protocol, str(source), str(target)]
        if self.inner:
            command += ["--inner", ends(facts).address, str(facts.primary_address(self.inner))]
        done = lab.execute(self.from_, [*command, "--count", str(self.count)])
        if done.code != 0:
            raise StepError(f"{self.from_}: {done.complaint}")
        lab.note(f"made up: {self.count} {self.protocol} packets from {source} to {target}")
        return f"{self.count} packets from {source} to {target}"
