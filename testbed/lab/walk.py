"""Walking a mobile node, or a crowd, about by a schedule.

The times are those of the schedule from its beginning on: a move that takes long makes the next one late, and
not all that follow. Moves of a crowd wait for no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from testbed.agreed import MOVE_STARTED, SETTLED, Op
from testbed.document.functions import Function
from testbed.document.values import crowd_request
from testbed.engine.api import Engine
from testbed.lab.daemons import Dialogue, asking
from testbed.lab.move import move, went_away
from testbed.lab.state import ActualLab
from testbed.lab.trace import Step

LATE: Final = 0.1
"""Seconds from which on a move counts as late."""
_AHEAD: Final = 64
"""Moves that a crowd knows of before they are due."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was made: `began` in seconds after the beginning, and its last event."""

    step: Step
    began: float
    settled: dict[str, Any]

    @property
    def late(self) -> float:
        """By how many seconds it began too late."""
        return max(0.0, self.began - self.step.at)


def walk(
    engine: Engine,
    lab: ActualLab,
    node: str,
    steps: Iterable[Step],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    due: Callable[[Step], None] = lambda step: None,
) -> Generator[Moved]:
    """Make the moves, each when it is due or, where the one before took longer, as soon as that has ended.

    `due` is called as each begins. Raises as `move`.
    """
    began = clock()
    for step in steps:
        if (left := began + step.at - clock()) > 0:
            sleep(left)
        due(step)
        now = clock() - began
        with closing(move(engine, lab, node, step.network)) as events:
            for event in events:
                if event["event"] == SETTLED:
                    yield Moved(step, now, event)


def walk_crowd(
    engine: Engine,
    lab: ActualLab,
    node: str,
    steps: Iterable[Step],
    *,
    due: Callable[[Step], None] = lambda step: None,
) -> Generator[Moved]:
    """Have a crowd make the moves, each when it is due by its own clock; yield them as they end.

    `due` is called as each begins. What has not begun when the iterator is closed never does. Raises
    `TestbedError` when the crowd refuses a move.
    """
    left = enumerate(steps)
    planned: dict[int, Step] = {}
    began: dict[int, float] = {}
    with engine.execute(lab.running_node(node).id, asking(Function.BULK_NODES), stdin=True) as session:
        crowd = Dialogue(session, node, Function.BULK_NODES)
        beginning = next(crowd.ask({"op": Op.STATE}))["monotonic"]

        def plan(most: int) -> None:
            for _, (number, step) in zip(range(most), left, strict=False):
                planned[number] = step
                of_crowd = crowd_request(step.part, step.within)
                at = {"id": number, "at": beginning + step.at}
                crowd.send({"op": Op.MOVE, "network": step.network, **at, **of_crowd})

        plan(_AHEAD)
        messages = crowd.listen()
        while planned:
            if (message := next(messages, None)) is None:
                raise went_away(lab, node)
            number = message["id"]
            if message.get("ok") is False:
                raise crowd.refused({"op": Op.MOVE}, message)
            if message.get("event") == MOVE_STARTED:
                began[number] = message["monotonic"] - beginning
                due(planned[number])
                plan(1)
            elif message.get("event") == SETTLED:
                yield Moved(planned.pop(number), began.pop(number), message)
