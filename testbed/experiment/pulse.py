"""The pulse of a lab's mobile node: how late its timers are, run after run."""

from __future__ import annotations

from typing import Final

from testbed.agreed import READY
from testbed.errors import StepError
from testbed.evidence.health import Health
from testbed.experiment.traffic import Program
from testbed.lab.access import LabAccess

WITHIN: Final = 10.0
"""Seconds it takes to start or answer, at most."""


class Pulse:
    """One in a lab; it ends with the access to the lab."""

    def __init__(self, lab: LabAccess) -> None:
        self._lab = lab
        self._program: Program | None = None

    def begin(self) -> None:
        """A run begins: what was measured before does not count. Raises `StepError`."""
        if self._program is None:
            program = Program(self._lab, self._lab.mobile_node, ["python3", "-m", "testbed.node.pulse"])
            program.start(READY, WITHIN)
            self._program = program
        else:
            self._measure()

    def end(self) -> Health:
        """What the machine was like since it began. Raises `StepError` where that is not known."""
        return self._measure()

    def _measure(self) -> Health:
        if self._program is None:
            raise StepError("the health of the machine is not known: no run has begun")
        before = self._program.tell("report")
        answer = self._program.wait("health", WITHIN, after=before)
        if answer is None:
            raise StepError(f"the health of the machine is not known: {self._lab.mobile_node} has no pulse")
        pressure = answer["pressure"]
        return Health(
            late_ms=round(float(answer["late_ms"]), 3),
            cpu_pressure_percent=None if pressure is None else round(100 * pressure, 1),
            clock_step_ms=round(float(answer["clock_ms"]), 3),
        )
