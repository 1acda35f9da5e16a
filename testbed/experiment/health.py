"""How healthy the machine was during a run: whether its slowness alone may be why something was not seen.

What a run waits for takes about ten wake-ups of processes, one after the other: a lease, IKE, a registration,
an answer. So a machine whose timers were late by a tenth of a bound may have exceeded the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

WAKE_UPS: Final = 10
"""How many processes have to wake up one after the other for what is waited for."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the machine was like during a run."""

    late_ms: float  # how late a timer was, at most
    pressure: float | None = (
        None  # share of the time in which something waited for a processor, if the kernel says
    )
    clock_ms: float = 0.0  # by how much the time of day was set, at most
    dropped: int = 0  # packets that captures lost

    def trouble(self, bound: float) -> str | None:
        """Why something with a bound of so many ms may have exceeded it on a machine like this, if it may."""
        least = bound / WAKE_UPS
        words = []
        if self.late_ms >= least:
            words.append(f"the machine was busy: timers up to {self.late_ms:.0f} ms late")
        if abs(self.clock_ms) >= least:
            words.append(f"the time of day was set by {self.clock_ms:+.0f} ms")
        return "; ".join(words) or None

    def to_json(self) -> dict[str, Any]:
        """As it stands in verdicts.json and handoff.json."""
        return {
            "late_ms": round(self.late_ms, 3),
            "cpu_pressure_percent": None if self.pressure is None else round(100 * self.pressure, 1),
            "clock_step_ms": round(self.clock_ms, 3),
            "dropped": self.dropped,
        }


def worst(several: Sequence[Health]) -> Health | None:
    """The worst of several runs, taken together; None of none."""
    pressures = [one.pressure for one in several if one.pressure is not None]
    return (
        Health(
            max(one.late_ms for one in several),
            max(pressures, default=None),
            max((one.clock_ms for one in several), key=abs),
            sum(one.dropped for one in several),
        )
        if several
        else None
    )
