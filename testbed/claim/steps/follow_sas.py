"""IKE SAs and CHILD SAs, as charon comes to have them."""

from __future__ import annotations

from pydantic import Field

from testbed.claim import background
from testbed.claim.action import Action, Actor
from testbed.claim.names import NodeNames, Short


class FollowSas(Short, Action):
    """Nodes report how many IKE SAs and CHILD SAs their charon has, now and whenever that changes.

    They do so until the end of the run. What was replaced and is kept for some seconds does not count.
    `growth` decides by them.
    """

    word = "follow-sas"
    title = "Nodes report how many SAs they have"
    order = 98

    SHORT = "nodes"
    nodes: NodeNames = Field(min_length=1, description="The nodes")

    def act(self, lab: Actor) -> str:
        """Start a program that asks charon."""
        for node in self.nodes:
            background.start(
                lab, node, f"follow-sas {node}", ["python3", "-m", "testbed.node.ike_sas", "--follow"]
            )
        return ""
