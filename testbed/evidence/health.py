"""How healthy the machine was during a run: whether its slowness alone may be why something was not seen.

What a run waits for takes about ten wake-ups of processes, one after the other: a lease, IKE, a registration,
an answer. So a machine whose timers were late by a tenth of a bound may have exceeded the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from testbed.evidence.record import Record

WAKE_UPS: Final = 10
"""How many processes have to wake up one after the other for what is waited for."""


class Health(Record):
    """What the machine was like during a run."""

    late_ms: float
    """How late a timer was, at most, in ms."""
    cpu_pressure_percent: float | None = None
    """Share of the time in which something waited for a processor; null where the kernel does not say."""
    clock_step_ms: float = 0.0
    """By how much the time of day was set, at most, in ms."""
    dropped: int = 0
    """Packets that the captures lost."""

    def trouble(self, bound: float) -> str | None:
        """Why something with a bound of so many ms may have exceeded it on a machine like this, if it may."""
        least = bound / WAKE_UPS
        words = []
        if self.late_ms >= least:
            words.append(f"the machine was busy: timers up to {self.late_ms:.0f} ms late")
        if abs(self.clock_step_ms) >= least:
            words.append(f"the time of day was set by {self.clock_step_ms:+.0f} ms")
        return "; ".join(words) or None


def worst(several: Sequence[Health]) -> Health | None:
    """The worst of several runs, taken together; None of none."""
    if not several:
        return None
    pressures = [one.cpu_pressure_percent for one in several if one.cpu_pressure_percent is not None]
    return Health(
        late_ms=max(one.late_ms for one in several),
        cpu_pressure_percent=max(pressures, default=None),
        clock_step_ms=max((one.clock_step_ms for one in several), key=abs),
        dropped=sum(one.dropped for one in several),
    )
