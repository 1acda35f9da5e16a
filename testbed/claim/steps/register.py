"""A registration that a run asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from testbed.agreed import IPSEC_DEVICE, ROAM
from testbed.claim.action import Actor, OfMobileNode
from testbed.claim.names import Fail
from testbed.claim.sight import Facts
from testbed.document.functions import Function, Meaning
from testbed.document.marks import Path
from testbed.document.values import Duration, Name
from testbed.errors import StepError, did_you_mean


class Register(OfMobileNode):
    """The mobile node's Mobile IP daemon sends a registration request now.

    With a network: in clear on that link, through its foreign agent, whatever the stack says; outside, a VPN
    client has to let it pass (`passes: registrations`, split tunnelling). With `ipsec`: for the address that
    the VPN gateway lent, through the existing IPsec session. The step ends with the answer or when the
    daemon gives up, at the latest after `within`.
    """

    word = "register"
    title = "Send a registration request"
    order = 80

    SHORT = "through"
    through: Name = Field(description="A network with a foreign agent, or `ipsec`")
    within: Duration = Field(default=4000.0, description="How long to wait for an answer (default 4s)")

    def check_attachable(self, who: str, networks: Sequence[str], where: Path, fail: Fail) -> None:
        """The mobile node attaches to the network, if it is no IPsec session."""
        if self.through not in (*networks, "ipsec"):
            hint = did_you_mean(self.through, [*networks, "ipsec"])
            fail((*where, "through"), f"{who} does not attach to {self.through}", hint)

    def act(self, lab: Actor) -> str:
        """Ask the daemon for it, and wait for the answer."""
        node = self.who(lab.facts)
        request: dict[str, Any]
        if self.through == "ipsec":
            state = lab.state(node, ROAM).get("ipsec")
            inner = state.get("inner") if isinstance(state, dict) else None
            if not inner:
                raise StepError("there is no IPsec session to register through")
            request = {"op": "attach", "interface": IPSEC_DEVICE, "care_of": inner}
        else:
            _refuse_in_clear(lab.facts, node, self.through)
            request = {"op": "discover", "interface": self.through, "register": True}
        lab.control(node, Function.MOBILE_NODE, {"op": "detach"})
        mark = lab.mark()
        lab.control(node, Function.MOBILE_NODE, request)
        answer = lab.wait(
            mark,
            lambda one: (
                one.node == node
                and one.source == Function.MOBILE_NODE
                and one.name in ("registered", "registration-failed")
            ),
            self.within / 1000,
        )
        sent = sum(one.node == node and one.name == "request-sent" for one in lab.since(mark))
        if answer is None:
            return f"{sent} requests sent, no answer"
        reason = answer.fields.get("reason")
        return f"{sent} requests sent, {answer.name}" + (f": {reason}" if reason else "")


def _refuse_in_clear(facts: Facts, node: str, network: str) -> None:
    """Keep the IPsec policy: to an agent the daemon sends frames, which no rule of nftables sees."""
    outside = facts.networks[network].domain != "intranet"
    protects = facts.meant(node, Meaning.PASSES) == "ipsec"
    if outside and protects and facts.options.get("stack") == "mip-in-ipsec":
        raise StepError(
            f"the IPsec policy of {node} lets no registration past ({node}.passes=registrations would)"
        )
