"""Ways through the lab: whether packets get through, and which routers they pass."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.echo import Answers, Path, answers, ping, source_address
from testbed.claim.names import NodeNames
from testbed.claim.seen import Seen
from testbed.claim.sight import Decision, Looker, Sight
from testbed.errors import StepError

REQUESTS = 3
"""Echo requests that are sent; one answer is enough."""


class Reachable(Path, Seen):
    """Echo requests from a node to another are answered."""

    word = "reachable"
    title = "Echo requests are answered"
    order = 170
    SEEN: ClassVar[Any] = Answers

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"{self.to} is reached from {self.from_}{_source(self)}"

    def look(self, lab: Looker) -> Any:
        """Send them."""
        return ping(lab, self, count=REQUESTS)

    def judge(self, sight: Sight) -> Decision:
        """At least one was answered."""
        return Decision(sight.seen["answered"] > 0, answers(sight.seen))


class Unreachable(Path, Seen):
    """No echo request from a node to another is answered."""

    word = "unreachable"
    title = "Echo requests are not answered"
    order = 180
    SEEN: ClassVar[Any] = Answers

    @property
    def takes_long(self) -> bool:
        """It waits for answers in vain."""
        return True

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"{self.to} is not reached from {self.from_}{_source(self)}"

    def look(self, lab: Looker) -> Any:
        """Send them."""
        return ping(lab, self, count=REQUESTS)

    def judge(self, sight: Sight) -> Decision:
        """Not one was answered."""
        answered = sight.seen["answered"]
        return Decision(answered == 0, answers(sight.seen), answered > 0)


def _source(path: Path) -> str:
    return f" (from {path.source})" if path.source else ""


class _Hops(TypedDict):
    hops: list[str]


class Hops(Path, Seen):
    """The routers that a packet from a node to another passes, known by their answers to growing TTLs."""

    word = "hops"
    title = "Routers on the way"
    order = 190
    SEEN: ClassVar[Any] = _Hops

    through: NodeNames = Field(default_factory=list, description="Nodes that must be on the way")
    not_through: NodeNames = Field(
        default_factory=list, alias="not-through", description="Nodes that must not be on the way"
    )

    def phrase(self) -> str:
        """What is expected, as a line."""
        through = f" through {', '.join(self.through)}" if self.through else ""
        past = f" not through {', '.join(self.not_through)}" if self.not_through else ""
        return f"the way from {self.from_} to {self.to} goes{through}{past}"

    def look(self, lab: Looker) -> Any:
        """Run traceroute; a router that does not answer is `*`."""
        target = lab.facts.primary_address(self.to)
        source = ["-s", source_address(lab, self.from_, self.source)] if self.source else []
        command = ["traceroute", "-n", "-q", "1", "-w", "1", "-m", "16", *source, str(target)]
        done = lab.execute(self.from_, command, within=30)
        if done.code:
            raise StepError(f"{self.from_}: {done.complaint}")
        return {"hops": re.findall(r"^ *\d+ +(\S+)", done.text, re.MULTILINE)}

    def judge(self, sight: Sight) -> Decision:
        """Find the nodes by the addresses that answered."""
        owners = {
            str(address): name for name, node in sight.facts.nodes.items() for address in node.links.values()
        }
        hops = [owners.get(address, address) for address in sight.seen["hops"]]
        if not hops or set(hops) == {"*"}:
            return Decision(None, "no router answered")
        text = f"{' → '.join(hops)}: {len(hops)} hops"
        if set(self.not_through) & set(hops):
            return Decision(False, text, too_much=True)
        if set(self.through) <= set(hops) and not self.not_through:
            return Decision(True, text)
        # The node that is looked for may be silent, or beyond the last that answered.
        if "*" in hops or hops[-1] not in (self.to, str(sight.facts.primary_address(self.to))):
            return Decision(None, f"{text}, not all of which are known")
        return Decision(set(self.through) <= set(hops), text)
