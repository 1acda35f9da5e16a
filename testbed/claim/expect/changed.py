"""What a node has beyond another topology's: configuration, services, software; and which nodes do more."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from pydantic import Field

from testbed.claim.names import NodeName, Patterns, Several
from testbed.claim.seen import Counted
from testbed.claim.sight import Decision, Looker, Sight
from testbed.document.values import Name


class Changed(Counted):
    """What of a node is not as in another topology: lines of its files, services, or software.

    Compared are the files as they were rendered, apart from the names of hosts and the node's own name; the
    services that it runs; its image, and every file of its packages that is not as its package has it.
    """

    word = "changed"
    title = "A node compared with another topology's"
    order = 145
    TOO_LITTLE: ClassVar[float | None] = None
    TOO_MUCH: ClassVar[float | None] = None
    SEEN: ClassVar[Any] = dict[str, str | list[str]]

    node: NodeName = Field(description="The node")
    what: Literal["configuration", "services", "software"] = Field(
        description="What is counted: lines of files, services, or images and files of packages"
    )
    than: str = Field(min_length=1, description="The other topology, a built-in one")
    as_: Name | None = Field(
        default=None, alias="as", description="The node there (default: of the same name)"
    )
    only: Patterns = Field(
        default_factory=lambda: ["*"],
        min_length=1,
        description="Only files or services whose names match: shell patterns, one or a list",
    )

    def phrase(self) -> str:
        """What is expected, as a line."""
        only = f" in {', '.join(self.only)}" if self.only != ["*"] else ""
        other = f"{self.as_ or self.node} in {self.than}"
        return f"{self.what} of {self.node}{only} not as of {other}: {self.wanted}"

    def look(self, lab: Looker) -> Any:
        """Compare them."""
        return lab.differences(self.node, self.than, self.as_ or self.node, self.what)

    def judge(self, sight: Sight) -> Decision:
        """Count what is meant."""
        found: Mapping[str, Any] = {
            name: how
            for name, how in sight.seen.items()
            if any(fnmatchcase(name, pattern) for pattern in self.only)
        }
        if self.what == "configuration":
            lines = {name: len(changes) for name, changes in found.items()}
            number = sum(lines.values())
            text = f"{number} lines" + "".join(f"; {name} {count}" for name, count in lines.items())
        else:
            number = len(found)
            text = "; ".join(f"{name} {how}" for name, how in found.items()) or "none"
        return Decision(self.allows(number), text, number > self.highest)


class Added(Counted):
    """Nodes that have roles which the node of this name does not have in another topology."""

    word = "added"
    title = "Nodes with more roles than in another topology"
    order = 146
    TOO_LITTLE: ClassVar[float | None] = None
    TOO_MUCH: ClassVar[float | None] = None
    SEEN: ClassVar[Any] = dict[str, list[str]]

    than: str = Field(min_length=1, description="The other topology, a built-in one")
    besides: Several = Field(
        default_factory=list,
        description="Nodes that have one of these roles, or one that acts as it, do not count",
    )

    def phrase(self) -> str:
        """What is expected, as a line."""
        besides = f", besides {', '.join(self.besides)}" if self.besides else ""
        return f"nodes with more roles than in {self.than}{besides}: {self.wanted}"

    def look(self, lab: Looker) -> Any:
        """Compare the roles of all nodes."""
        there = lab.other(self.than).nodes
        apart = {name for role in self.besides for name in lab.facts.with_role(role)}
        more = {
            name: [role for role in node.roles if name not in there or role not in there[name].roles]
            for name, node in lab.facts.nodes.items()
            if name not in apart
        }
        return {name: roles for name, roles in more.items() if roles}

    def judge(self, sight: Sight) -> Decision:
        """Count them."""
        text = "; ".join(f"{name}: {', '.join(roles)}" for name, roles in sight.seen.items()) or "none"
        return Decision(self.allows(len(sight.seen)), text, len(sight.seen) > self.highest)
