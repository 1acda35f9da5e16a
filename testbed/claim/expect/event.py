"""Events that nodes write to their logs."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from pydantic import Field

from testbed.claim.names import NodeName
from testbed.claim.seen import LOGGED, Counted
from testbed.claim.sight import Decision, Sight

_REGISTRATIONS: Final = {"request-sent", "reply", "registered", "registration-failed", "denied"}
"""Events of Mobile IP daemons that report registration messages."""


class Event(Counted):
    """Events that a node wrote to its log during the run."""

    word = "event"
    title = "Events of a node"
    order = 100
    ON_ITS_WAY: ClassVar[float] = LOGGED

    node: NodeName = Field(description="The node")
    name: str = Field(min_length=1, description="The event's name, such as registered or reply-relayed")
    source: str | None = Field(default=None, description="The service it comes from (default: any)")
    having: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Fields the event must have with these values"
    )

    @property
    def of_registrations(self) -> bool:
        """Some events report registration messages."""
        return self.name in _REGISTRATIONS

    @property
    def quiet(self) -> float:
        """One too many may be on its way through the log."""
        return 0.0 if self.highest == inf else self.ON_ITS_WAY

    def phrase(self) -> str:
        """What is expected, as a line."""
        having = "".join(f", {key} {value}" for key, value in self.having.items())
        source = f"/{self.source}" if self.source else ""
        return f"events {self.name} of {self.node}{source}{having}: {self.wanted}"

    def judge(self, sight: Sight) -> Decision:
        """Count them; a log that ended may lack some."""
        number = sum(
            one.node == self.node
            and one.name == self.name
            and self.source in (None, one.source)
            and all(one.fields.get(key) == value for key, value in self.having.items())
            for one in sight.events
        )
        if self.source and self.lowest > number == 0 and self.source not in sight.facts.services(self.node):
            return Decision(False, f"0 seen, as {self.node} has no service {self.source}", certain=True)
        ended = self.node in sight.ended
        held = self.decides(number, inf if ended else number)
        text = f"{number} seen" + (f", but the log of {self.node} ended before the run did" if ended else "")
        return Decision(held, text, number > self.highest)
