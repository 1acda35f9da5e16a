"""IPsec of a mobile node, allowed or not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.agreed import ROAM, Op
from testbed.claim.action import Actor, OfMobileNode


class Ipsec(OfMobileNode):
    """Take the mobile node's IPsec down, so that it uses none from then on, or allow it again."""

    word = "ipsec"
    title = "IPsec of the mobile node up or down"
    order = 60

    SHORT = "state"
    state: Literal["up", "down"] = Field(description="Allowed, or taken down")

    def act(self, lab: Actor) -> str:
        """Ask the connection manager for it."""
        node = self.who(lab.facts)
        if self.state == "down":  # first: it may be down though it has not settled in time
            lab.at_end("ipsec up", lambda: _up_again(lab, node))
        settled = lab.settle(node, {"op": Op.IPSEC, "action": self.state})
        return f"{settled.get('state')} ({settled.get('detail')})"


def _up_again(lab: Actor, node: str) -> None:
    """Allow it again at home or inside, where that costs no negotiation; else it takes its time."""
    state = lab.state(node, ROAM).get("ipsec")
    if not isinstance(state, dict) or not state.get("enabled"):
        lab.settle(node, {"op": Op.IPSEC, "action": "up"})
