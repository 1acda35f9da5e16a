"""Counters of the Mobile IP daemons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from testbed.claim.names import NodeName
from testbed.claim.seen import Counted
from testbed.claim.sight import Decision, Facts, Looker, Sight
from testbed.errors import StepError


class Counter(Counted):
    """By how much a counter of a Mobile IP daemon grew during the run.

    Counters of single reasons and codes, such as denied-78, appear after their first increment.
    """

    word = "counter"
    title = "A daemon's counter"
    order = 70
    SEEN: ClassVar[Any] = dict[str, float]

    node: NodeName = Field(description="The node whose daemon counts")
    name: str = Field(
        min_length=1,
        description="The counter's name, as the daemon's state has it, such as requests-received",
    )

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"counter {self.name} of {self.node} grew by: {self.wanted}"

    def begin(self, lab: Looker) -> Any:
        """Take down what the daemon has counted before."""
        return self._counters(lab)

    def look(self, lab: Looker) -> Any:
        """Ask the daemon."""
        return self._counters(lab)

    def _counters(self, lab: Looker) -> Mapping[str, Any]:
        daemon = next(iter(_daemons(lab.facts, self.node)), None)
        if daemon is None:
            raise StepError(f"{self.node} has no Mobile IP daemon to count")
        counters = lab.state(self.node, daemon).get("counters")
        if not isinstance(counters, dict):
            raise StepError(f"{daemon} of {self.node} reports no counters")
        return counters

    def judge(self, sight: Sight) -> Decision:
        """Compare with the beginning, unless the daemon has begun anew in between."""
        if self.name not in sight.seen:
            raise StepError(f"{self.node} has counted no {self.name}; it reports {', '.join(sight.seen)}")
        if sight.began is None:
            raise StepError(f"what {self.node} had counted before is not recorded")
        daemons = _daemons(sight.facts, self.node)
        if any(
            one.node == self.node and one.name == "ready" and one.source in daemons for one in sight.events
        ):
            raise StepError(f"a daemon of {self.node} was started anew, and counts from zero again")
        grown = sight.seen[self.name] - sight.began.get(self.name, 0)
        return Decision(self.allows(grown), f"grew by {grown}", grown > self.highest)


def _daemons(facts: Facts, node: str) -> list[str]:
    """The daemons of a node that count, by their control sockets."""
    return [str(service.control) for service in facts.reporting(node, "counters")]
