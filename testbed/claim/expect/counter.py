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
    daemon: str | None = Field(
        default=None, description="The daemon, where several daemons of the node have such a counter"
    )

    @property
    def of_registrations(self) -> bool:
        """Mobile IP daemons count registration messages."""
        return True

    def phrase(self) -> str:
        """What is expected, as a line."""
        whose = f"{self.daemon} of {self.node}" if self.daemon else self.node
        return f"counter {self.name} of {whose} grew by: {self.wanted}"

    def begin(self, lab: Looker) -> Any:
        """Take down what the daemon has counted before."""
        return self._counters(lab)

    def look(self, lab: Looker) -> Any:
        """Ask the daemon."""
        return self._counters(lab)

    def _counters(self, lab: Looker) -> Mapping[str, Any]:
        """What the node's daemons have counted, each counter's name with its number.

        A counter that several daemons have is there only where `daemon` says whose is meant.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for daemon in self._daemons(lab.facts):
            counters = lab.state(self.node, daemon).get("counters")
            if not isinstance(counters, dict):
                raise StepError(f"{daemon} of {self.node} reports no counters")
            found[daemon] = counters
        having = [daemon for daemon, counters in found.items() if self.name in counters]
        if len(having) > 1:
            raise StepError(
                f"{' and '.join(having)} of {self.node} all count {self.name}: add `daemon: {having[0]}`"
            )
        return {name: number for counters in found.values() for name, number in counters.items()}

    def _daemons(self, facts: Facts) -> list[str]:
        """The daemons that may have the counter, by their control sockets."""
        known = [str(service.control) for service in facts.reporting(self.node, "counters")]
        if not known:
            raise StepError(f"{self.node} has no Mobile IP daemon to count")
        if self.daemon not in (None, *known):
            raise StepError(f"{self.node} has no daemon {self.daemon} that counts; it has {', '.join(known)}")
        return [self.daemon] if self.daemon else known

    def judge(self, sight: Sight) -> Decision:
        """Compare with the beginning, unless the daemon has begun anew in between."""
        if self.name not in sight.seen:
            raise StepError(f"{self.node} has counted no {self.name}; it reports {', '.join(sight.seen)}")
        if sight.began is None:
            raise StepError(f"what {self.node} had counted before is not recorded")
        daemons = self._daemons(sight.facts)
        if any(
            one.node == self.node and one.name == "ready" and one.source in daemons for one in sight.events
        ):
            raise StepError(f"a daemon of {self.node} was started anew, and counts from zero again")
        grown = sight.seen[self.name] - sight.began.get(self.name, 0)
        return Decision(self.allows(grown), f"grew by {grown}", grown > self.highest)
