"""What speaks against the numbers of a measurement: marks on its runs and on the lines through them."""

from __future__ import annotations

from statistics import median
from typing import Final

from testbed.evidence.health import WAKE_UPS, Health
from testbed.experiment.handoff.fit import Line

BUDGET_MS: Final = 30.0
"""What the mobile node's own reaction may add to the round trips of the protocols."""
LEAST_R2: Final = 0.98
"""Less of the outages' variation than this in the line, and they do not grow with the round-trip time."""
TRIPS: Final = 0.5
"""How far a line's slope may be from the round trips that were counted."""


def run_marks(reaction: float | None, health: Health | None) -> list[str]:
    """What speaks against one run; of a busy machine a timer that was late by the whole budget."""
    marks = [f"reaction {reaction:.0f} ms (budget {BUDGET_MS:.0f} ms) – EXCEEDED"] if over(reaction) else []
    trouble = health.trouble(BUDGET_MS * WAKE_UPS) if health else None
    return [*marks, *([trouble] if trouble else [])]


def over(reaction: float | None) -> bool:
    """Whether a reaction in ms is more than it may be."""
    return reaction is not None and reaction > BUDGET_MS


def line_marks(line: Line, round_trips: list[int], *, serial: bool) -> list[str]:
    """What speaks against a line through runs that exchanged so many round trips each.

    Unless each message waits for the one before (`serial`), the slope may be anything down to the one round
    trip of data.
    """
    marks = [f"R² {line.r2:.2f}, below {LEAST_R2:g}"] if line.r2 < LEAST_R2 else []
    trips = median(round_trips) if round_trips else line.k
    if not (trips if serial else 1) - TRIPS <= line.k <= trips + TRIPS:
        marks.append(f"slope {line.k:.2f}, but {trips:g} round trips were counted")
    return marks
