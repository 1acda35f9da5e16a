"""What the mobile node's Mobile IP daemon says of itself, and what it heard."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import Fail, Known, NodeName, Short
from testbed.claim.seen import LOGGED, SETTLING, Seen
from testbed.claim.sight import Decision, Looker, Sight
from testbed.document.functions import Function
from testbed.document.marks import Path
from testbed.errors import did_you_mean


class _State(TypedDict):
    state: str | None
    registered: bool | None
    mode: str | None


class MobileNodeState(Short, Seen):
    """Where the mobile node's Mobile IP daemon says it is."""

    word = "mobile-node"
    title = "The mobile node's own view"
    order = 80
    SEEN: ClassVar[Any] = _State
    TOO_LITTLE: ClassVar[float | None] = SETTLING

    SHORT = "state"
    state: Literal["registered", "home", "not-registered"] = Field(
        description="Away with a binding, at home and deregistered, or without either"
    )
    attachment: Literal["co-located", "foreign-agent"] | None = Field(
        default=None, description="How it is registered"
    )
    node: NodeName | None = Field(default=None, description="The mobile node (default: the topology's first)")

    @property
    def takes_long(self) -> bool:
        """Not to be registered is the end of an attempt in vain."""
        return self.state == "not-registered"

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """The node it names is a mobile one."""
        mobile = [name for name, node in known.nodes.items() if node.attaches]
        if self.node in known.nodes and self.node not in mobile:
            fail((*where, "node"), f"{self.node} is no mobile node", did_you_mean(self.node, mobile))

    def phrase(self) -> str:
        """What is expected, as a line."""
        who = self.node or "the mobile node"
        return f"{who} is {self.state}" + (f", {self.attachment}" if self.attachment else "")

    def look(self, lab: Looker) -> Any:
        """Ask the daemon."""
        state = lab.state(self.node or lab.facts.mobile_nodes[0], Function.MOBILE_NODE)
        return {key: state.get(key) for key in ("state", "registered", "mode")}

    def judge(self, sight: Sight) -> Decision:
        """Compare with what it said."""
        registered, mode = bool(sight.seen["registered"]), sight.seen["mode"]
        where = (
            "home" if sight.seen["state"] == "at-home" else "registered" if registered else "not-registered"
        )
        text = f"{where}, {mode}" if mode and where == "registered" else where
        held = where == self.state and self.attachment in (None, mode)
        return Decision(held, text, self.state == "not-registered")


class Heard(Short, Seen):
    """Whether the mobile node's daemon heard an advertisement of this foreign agent during the run."""

    word = "heard"
    title = "Agent advertisements that the mobile node heard"
    order = 90
    ON_ITS_WAY: ClassVar[float] = LOGGED

    SHORT = "agent"
    agent: NodeName = Field(description="The foreign agent")
    present: bool = Field(default=True, description="Whether it was heard")

    @property
    def quiet(self) -> float:
        """The event may be on its way through the log."""
        return 0.0 if self.present else self.ON_ITS_WAY

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"advertisements of {self.agent} are {'heard' if self.present else 'not heard'}"

    def judge(self, sight: Sight) -> Decision:
        """Find an advertisement from one of the agent's addresses among the events."""
        addresses = {str(address) for address in sight.facts.nodes[self.agent].links.values()}
        times = sum(
            one.node == sight.mobile_node
            and one.name == "agent-advertisement"
            and str(one.fields.get("agent")) in addresses
            for one in sight.events
        )
        if not times and sight.mobile_node in sight.ended:
            return Decision(None, f"the log of {sight.mobile_node} ended before the run did")
        return Decision(bool(times) == self.present, "heard" if times else "not heard", bool(times))
