"""What the agents have in their lists for the mobile node."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, ClassVar, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import NodeName
from testbed.claim.seen import LOGGED, SETTLING, Seen
from testbed.claim.sight import Decision, Looker, Sight, rows
from testbed.document.functions import Function
from testbed.document.values import Prefix


class _Binding(TypedDict):
    home_address: NotRequired[str]
    care_of_addresses: NotRequired[list[IPv4Address]]


class _Bindings(TypedDict):
    bindings: list[_Binding]


class _Visitor(TypedDict):
    home_address: NotRequired[str]


class _Visitors(TypedDict):
    visitors: list[_Visitor]


class Binding(Seen):
    """What a home agent has in its binding list for the mobile node (RFC 5944 §1.6)."""

    word = "binding"
    title = "The home agent's binding list"
    order = 50
    SEEN: ClassVar[Any] = _Bindings
    TOO_LITTLE: ClassVar[float | None] = SETTLING
    TOO_MUCH: ClassVar[float | None] = SETTLING  # it stays until the deregistration gets through

    agent: NodeName | None = Field(
        default=None, description="The home agent (default: the mobile node's own)"
    )
    present: bool = Field(default=True, description="Whether there is a binding")
    care_of: Prefix | None = Field(
        default=None, alias="care-of", description="The prefix that its care-of address is in"
    )

    @property
    def of_registrations(self) -> bool:
        """A registration makes it."""
        return True

    @property
    def quiet(self) -> float:
        """A registration may be on its way to the agent."""
        return 0.0 if self.present else LOGGED

    def phrase(self) -> str:
        """What is expected, as a line."""
        where = f" with a care-of address in {self.care_of}" if self.care_of else ""
        return f"{'a' if self.present else 'no'} binding at {self.agent or 'the home agent'}{where}"

    def look(self, lab: Looker) -> Any:
        """Ask the agent for its list."""
        agent = self.agent or str(lab.facts.home_agent(lab.facts.mobile_nodes[0]))
        return {"bindings": rows(lab.state(agent, Function.HOME_AGENT), "bindings")}

    def judge(self, sight: Sight) -> Decision:
        """Find the mobile node's home address in it."""
        ours = [one for one in sight.seen["bindings"] if one.get("home_address") == sight.home_address]
        care_of = [str(address) for one in ours for address in one.get("care_of_addresses", ())]
        text = f"binding to {', '.join(care_of)}" if care_of else "no binding"
        prefix = self.care_of
        found = any(prefix is None or IPv4Address(address) in prefix for address in care_of)
        return Decision(found == self.present, text, found)


class Visitor(Seen):
    """What a foreign agent has in its visitor list for the mobile node (RFC 5944 §1.6)."""

    word = "visitor"
    title = "The foreign agent's visitor list"
    order = 60
    SEEN: ClassVar[Any] = _Visitors
    TOO_LITTLE: ClassVar[float | None] = SETTLING

    agent: NodeName = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it is there")

    @property
    def of_registrations(self) -> bool:
        """A registration makes it."""
        return True

    @property
    def quiet(self) -> float:
        """A registration may be on its way through the agent."""
        return 0.0 if self.present else LOGGED

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"{'a' if self.present else 'no'} visitor at {self.agent}"

    def look(self, lab: Looker) -> Any:
        """Ask the agent for its list."""
        return {"visitors": rows(lab.state(self.agent, Function.FOREIGN_AGENT), "visitors")}

    def judge(self, sight: Sight) -> Decision:
        """Find the mobile node's home address in it."""
        found = any(one.get("home_address") == sight.home_address for one in sight.seen["visitors"])
        text = "in the visitor list" if found else "not in the visitor list"
        return Decision(found == self.present, text, found)
