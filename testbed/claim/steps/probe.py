"""The numbered packets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.ends import ends
from testbed.claim.names import NodeName, Short
from testbed.document.values import Duration
from testbed.errors import StepError


class Probe(Short, Action):
    """A stream of numbered UDP packets that the correspondent sends back; sending and receiving are
    time-stamped.

    It runs from the mobile node's home address. `start` waits until both ends run.
    """

    word = "probe"
    title = "Start or stop the numbered packet stream"
    order = 50

    SHORT = "action"
    action: Literal["start", "stop"] = Field(description="What to do with it")
    to: NodeName | None = Field(
        default=None, description="The correspondent node (default: the mobile node's `probe`)"
    )
    every: Duration = Field(default=5.0, description="Time between packets (default 5ms)")

    def act(self, lab: Actor) -> str:
        """Start both ends, or stop them and say what they saw."""
        if self.action == "stop":
            report = lab.stop_probe()
            if report is None:
                raise StepError("no probe was started")
            return str(report)
        between = ends(lab.facts, self.to)
        lab.start_probe(between.source, between.correspondent, between.address, self.every)
        return f"every {self.every:g} ms from {between.source} to {between.address}"
