"""The TCP session."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.ends import ends
from testbed.claim.names import NodeName, Short


class Session(Short, Action):
    """A real TCP session with continuous data: lines go to the echo service of a correspondent node and come
    back.

    It runs from the mobile node's home address. `start` waits until the first line has come back.
    """

    word = "session"
    title = "Start or stop a TCP session"
    order = 40

    SHORT = "action"
    action: Literal["start", "stop"] = Field(description="What to do with it")
    to: NodeName | None = Field(
        default=None, description="The correspondent node (default: the mobile node's `probe`)"
    )

    def act(self, lab: Actor) -> str:
        """Start or stop it; of two that are started the second takes the place of the first."""
        if self.action == "stop":
            lab.stop_session()
            return "closed"
        between = ends(lab.facts, self.to)
        lab.start_session(between.source, between.address)
        return f"connected from {between.source} to {between.address}"
