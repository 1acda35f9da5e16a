"""Echo requests."""

from __future__ import annotations

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.echo import Path, answers, ping


class Ping(Path, Action):
    """Send echo requests; whether they are answered is recorded, and judged by expectations only."""

    word = "ping"
    title = "Send echo requests"
    order = 30

    count: int = Field(default=3, ge=1, le=100, description="How many, 200 ms apart")

    def act(self, lab: Actor) -> str:
        """Send them, and wait for answers."""
        return answers(ping(lab, self, count=self.count))
