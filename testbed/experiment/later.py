"""Packets of the last part of a run: those that came so long after the last one of a certain kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from testbed.claim.expectations import After
from testbed.lab.access import StepError
from testbed.lab.captures import Captures
from testbed.packet.taps import Matched


def later(captures: Captures, after: After, taps: Iterable[str], matches: Sequence[Matched]) -> list[Matched]:
    """Leave of what was matched at taps only what came later.

    Raises `StepError` where it is not known when that begins, or where not a packet of any kind came later.
    """
    moment = _moment(captures, after)
    left = [match.after(moment) for match in matches]
    if not any(match.packets for match in left) and not any(
        match.after(moment).packets for match in captures.match_all(taps, "ip")
    ):
        raise StepError("not a single packet of any kind was captured there later than that")
    return left


def _moment(captures: Captures, after: After) -> float:
    """When packets begin to count, in seconds since the epoch."""
    matches = captures.match_all(after.at, after.filter)
    for match in matches:
        if not match.alive or match.dropped:
            raise StepError(f"the capture at {match.tap} may lack the packet from which on is counted")
    times = [time for match in matches for time in match.times]
    if not times:
        raise StepError(f"no packet at {', '.join(after.at)} matches {after.filter!r}, to count from on")
    return max(times) + after.by / 1000
