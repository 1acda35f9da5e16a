"""Server parts that share a machine, so that one of them cannot be exchanged alone."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from testbed.claim.names import Several
from testbed.claim.seen import Counted
from testbed.claim.sight import Decision, Looker, Sight


class Combined(Counted):
    """Nodes that have several of these roles, or roles that act as them: one container with several parts."""

    word = "combined"
    title = "Nodes with several parts in one machine"
    order = 115
    TOO_LITTLE: ClassVar[float | None] = None
    TOO_MUCH: ClassVar[float | None] = None
    SEEN: ClassVar[Any] = dict[str, list[str]]

    of: Several = Field(min_length=2, description="The roles, such as vpn-gateway and home-agent")

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"nodes that have several of {', '.join(self.of)}: {self.wanted}"

    def look(self, lab: Looker) -> Any:
        """The parts in each container that has several."""
        having = {role: lab.facts.with_role(role) for role in self.of}
        parts = {node: [role for role in self.of if node in having[role]] for node in lab.facts.nodes}
        return {node: roles for node, roles in parts.items() if len(roles) > 1}

    def judge(self, sight: Sight) -> Decision:
        """Count them."""
        text = "; ".join(f"{node}: {' and '.join(roles)}" for node, roles in sight.seen.items()) or "none"
        return Decision(self.allows(len(sight.seen)), text, len(sight.seen) > self.highest)
