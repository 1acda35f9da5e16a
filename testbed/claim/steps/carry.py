"""Another link for a mobile node that keeps everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from pydantic import Field

from testbed.agreed import ROAM
from testbed.claim.action import Actor, OfMobileNode
from testbed.claim.names import Fail
from testbed.claim.sight import Facts
from testbed.document.marks import Path
from testbed.document.values import Name
from testbed.errors import StepError, did_you_mean

# The interface of the old link stays up until the new one has its address: the address never ceases to exist.
_CARRY: Final = """\
ip link set {new} up
ip address replace {address}/32 dev {new}
ip route replace default via {router} dev {new} onlink table 100
ip link set {old} down
"""
_PUT_DOWN: Final = "ip address del {address}/32 dev {new} || :; ip link set {new} down"
_PLUG_IN: Final = """ip link set {old} up
ip route replace {subnet} dev {old} scope link table 100
ip route replace default via {router} dev {old} onlink table 100
"""
"""The kernel dropped these routes with the link; the connection manager saw nothing and relies on them."""


def carried(node: str) -> str:
    """What the change is called that this step makes to a node."""
    return f"carry {node}"


class Carry(OfMobileNode):
    """The mobile node gets another link and keeps everything else: address, IPsec session and registration.

    It is then on the network with its old address and its old security associations, as when a running IPsec
    session is carried to a new link; packets go to the router or agent of that link.
    """

    word = "carry"
    title = "Another link under the same address and IPsec session"
    order = 20

    SHORT = "to"
    to: Name = Field(description="The network of the new link")

    def check_attachable(self, who: str, networks: Sequence[str], where: Path, fail: Fail) -> None:
        """The mobile node attaches to the new link."""
        if self.to not in networks:
            fail((*where, "to"), f"{who} does not attach to {self.to}", did_you_mean(self.to, networks))

    def taps(self, facts: Facts) -> list[str]:
        """The new link."""
        return [f"{self.who(facts)}/{self.to}"]

    def act(self, lab: Actor) -> str:
        """Give the node the new link behind the back of its connection manager."""
        node = self.who(lab.facts)
        state = lab.state(node, ROAM)
        old, address = state.get("network"), state.get("address")
        if not old or not address:
            raise StepError(f"{node} has no address of its own to carry to {self.to}")
        router, address = _router(lab.facts, self.to), str(address).partition("/")[0]
        back = {"new": self.to, "old": old, "address": address}
        lab.at_end(
            carried(node),
            lambda: _carry_back(lab, node, back),
            lambda: lab.shell(node, _PUT_DOWN.format(**back)),
        )
        lab.shell(node, _CARRY.format(**back, router=router))
        return f"{address} is now on {self.to}, with {router} for a router"


def _router(facts: Facts, network: str) -> IPv4Address:
    for name, node in facts.nodes.items():
        if network in node.links and facts.forwards(name):
            return node.links[network]
    raise StepError(f"nobody on {network} forwards")


def _carry_back(lab: Actor, node: str, was: Mapping[str, str]) -> None:
    """Leave the node as it was, unless its connection manager has found out and gone on by itself."""
    script, old = _PUT_DOWN.format(**was), was["old"]
    network = lab.state(node, ROAM).get("network")
    if network == old:
        subnet = lab.facts.networks[old].subnet
        script += "\n" + _PLUG_IN.format(old=old, subnet=subnet, router=_router(lab.facts, old))
    lab.shell(node, script.partition(";")[0] if network == was["new"] else script)
