"""One hand-off under way: its clock, what it has reached, and what it ended in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from testbed.agreed import SETTLED, STEPS
from testbed.mobileip.io.control import Connection

State = Literal["registered", "at-home", "connected", "unregistered"]
"""`connected`: by a VPN that follows moves by itself, without Mobile IP."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a move settled in."""

    state: State
    detail: str
    complete: bool = False
    """All that the stack demands on this network is in place."""


class Move:
    """Marks the steps of a hand-off in milliseconds since it began, and reports each."""

    def __init__(self, network: str, stack: str, tell: Callable[[str, dict[str, object]], None]) -> None:
        self.network = network
        self.followers: list[Connection] = []
        self.timeline: dict[str, float | None] = dict.fromkeys(STEPS)
        self.outcome: Outcome | None = None
        self._stack = stack
        self._tell = tell
        self._began = time.monotonic()

    def reached(self, step: str, **fields: object) -> None:
        """Mark a step, and report it as its event."""
        self.timeline[step] = self._now()
        self.tell(STEPS[step], ms=self.timeline[step], **fields)

    def tell(self, name: str, **fields: object) -> None:
        """Tell of something that is no step of the timeline."""
        self._tell(name, {"network": self.network, **fields})

    def settle(self, outcome: Outcome) -> None:
        """End: the last thing the followers hear."""
        self.outcome = outcome
        self.tell(
            SETTLED,
            stack=self._stack,
            state=outcome.state,
            detail=outcome.detail,
            ms=self._now(),
            timeline=self.timeline,
        )

    def _now(self) -> float:
        return round((time.monotonic() - self._began) * 1000, 3)
