"""A node on the path of another."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from testbed.claim import background
from testbed.claim.action import Actor, OfMobileNode
from testbed.claim.ends import address_of
from testbed.claim.names import Fail, Known, NodeName
from testbed.document.marks import Path
from testbed.document.values import Name
from testbed.errors import StepError, did_you_mean

_CHANGE: Final = "rewrite"


class Rewrite(OfMobileNode):
    """A node on the mobile node's link gets on its path, and puts its own address into what it sends.

    By ARP it poses as the router of the link (RFC 3519 §6.1.1 names such a node). The UDP packets of the
    mobile node go on with the node's address for a source, and answers to them come back through the node.
    All else passes unchanged. `stop`, or the end of the run, takes the node off the path.
    """

    word = "rewrite"
    title = "Rewrite the source of what a mobile node sends, on its path"
    order = 94

    SHORT = "state"
    state: Literal["start", "stop"] = Field(description="On the path, or off it again")
    from_: NodeName | None = Field(default=None, alias="from", description="start: the node that does it")
    network: Name | None = Field(default=None, description="start: the network where both are")

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Both have an address there, and somebody is its router."""
        super().check(where, known, fail)
        if self.state == "stop":
            return
        for key, value in (("from", self.from_), ("network", self.network)):
            if value is None:
                fail(where, f"`start` needs `{key}`")
        if self.from_ in known.nodes and self.network is not None:
            links = known.nodes[self.from_].links
            if self.network not in links:
                fail(
                    (*where, "network"),
                    f"{self.from_} has no address on {self.network}",
                    did_you_mean(self.network, links),
                )

    def act(self, lab: Actor) -> str:
        """Start `testbed.node.rewrite`."""
        if self.state == "stop":
            if not lab.is_changed(_CHANGE):
                raise StepError("no node is on the path")
            lab.leave(_CHANGE)
            return "off the path"
        assert self.from_ is not None
        assert self.network is not None
        node, facts = self.who(lab.facts), lab.facts
        routers = [
            name for name, one in facts.nodes.items() if self.network in one.links and facts.forwards(name)
        ]
        if not routers:
            raise StepError(f"nobody on {self.network} forwards")
        victim = address_of(lab, f"{node}/{self.network}")
        router = str(facts.nodes[routers[0]].links[self.network])
        own = str(facts.nodes[self.from_].links[self.network])
        command = ["python3", "-m", "testbed.node.rewrite", "--device", self.network, "--own", own]
        command += ["--victim", victim, "--router", router]
        background.start(lab, self.from_, _CHANGE, command)
        said = f"{self.from_} poses as {router} to {victim}, and sends its UDP on as {own}"
        lab.note(said)
        return said
