"""How late this machine is with what is due, and whether somebody set the time of day.

    python3 -m testbed.node.pulse

Prints JSON lines on stdout, and ends with its standard input. Asked with a line `report`, it says what was
since it began or was asked before:

    {"event": "ready", …}
    {"event": "health", "late_ms": 12.3, "pressure": 0.41, "clock_ms": 0.0}

`late_ms`: how late a timer of 10 ms was, at most. `pressure`: the share of the time in which something on
this machine waited for a processor (`/proc/pressure/cpu`), null where the kernel does not say. `clock_ms`:
the largest step of the time of day against the monotonic clock.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import time
from pathlib import Path

from testbed.agreed import READY
from testbed.mobileip.io.journal import Journal

EVERY = 0.01
SURE = 0.001
"""Seconds within which both clocks have to be read, or how they differ is not known well enough."""
PRESSURE = Path("/proc/pressure/cpu")


class Measured:
    """What was measured since a moment."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.late = 0.0
        self.step = 0.0
        self._waited = waited()
        self._offset = offset()

    def look(self, due: float) -> None:
        """Take down how late it is, and whether the time of day was set."""
        self.late = max(self.late, time.monotonic() - due)
        now = offset()
        if now is None:
            return
        if self._offset is not None and abs(now - self._offset) > abs(self.step):
            self.step = now - self._offset
        self._offset = now

    def fields(self) -> dict[str, object]:
        """What is reported."""
        before, now, seconds = self._waited, waited(), time.monotonic() - self.began
        pressure = None if before is None or now is None or not seconds else (now - before) / seconds
        step = self.step if abs(self.step) > SURE else 0.0
        return {"late_ms": self.late * 1000, "pressure": pressure, "clock_ms": step * 1000}


def waited() -> float | None:
    """Seconds since boot in which something waited for a processor; None where the kernel does not say."""
    try:
        total = re.search(r"^some .*\btotal=(\d+)", PRESSURE.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(total[1]) / 1e6 if total else None


def offset() -> float | None:
    """What the time of day is ahead of the monotonic clock, in seconds; None where that is not sure."""
    before = time.monotonic()
    wall = time.time()
    return wall - before if time.monotonic() - before <= SURE else None


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    argparse.ArgumentParser(prog="testbed.node.pulse").parse_args(arguments)
    journal = Journal("pulse")
    journal.tell(READY)
    measured, due = Measured(), time.monotonic() + EVERY
    while True:
        asked = bool(select.select([0], [], [], max(due - time.monotonic(), 0))[0])
        if time.monotonic() >= due:
            measured.look(due)
            due = time.monotonic() + EVERY
        if asked:
            if b"report" not in os.read(0, 4096):
                return  # its end, or `stop`
            journal.tell("health", measured.fields())
            measured = Measured()


if __name__ == "__main__":
    main()
