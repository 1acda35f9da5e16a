"""Packets that were captured: those that a filter matches, and those whose payload anybody could read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from testbed.agreed import READABLE
from testbed.claim.capture import AtTaps, decide_count, marks
from testbed.claim.names import PcapFilter, Taps
from testbed.claim.sight import Decision, Facts, Sight, Wires
from testbed.document.part import Part
from testbed.document.values import Duration, format_duration
from testbed.errors import StepError
from testbed.packet.decode import above_link
from testbed.packet.taps import Matched


class After(Part):
    """A moment of a run: so long after the last packet that a pcap filter matches at one or more taps."""

    at: Taps = Field(min_length=1, description="Where that packet is captured: NODE/NETWORK, one or a list")
    filter: PcapFilter = Field(
        min_length=1, description="Which packet: a pcap filter; the last that it matches"
    )
    by: Duration = Field(default=0.0, description="How long after it (default: at once)")

    def phrase(self) -> str:
        """The moment in words."""
        later = f"more than {format_duration(self.by)} " if self.by else ""
        return f", {later}after the last at {', '.join(self.at)} matching {self.filter!r}"

    def later(self, wires: Wires, taps: Sequence[str], matches: Sequence[Matched]) -> list[Matched]:
        """Leave of what was matched at taps only what came later.

        Raises `StepError` where it is not known when that begins, or where not a packet of any kind came
        later.
        """
        moment = self._moment(wires)
        left = [match.after(moment) for match in matches]
        if not any(match.packets for match in left) and not any(
            match.after(moment).packets for match in wires.match_all(taps, "ip")
        ):
            raise StepError("not a single packet of any kind was captured there later than that")
        return left

    def _moment(self, wires: Wires) -> float:
        """When packets begin to count, in seconds since the epoch."""
        matches = wires.match_all(self.at, self.filter)
        for match in matches:
            if not match.alive or match.dropped:
                raise StepError(f"the capture at {match.tap} may lack the packet from which on is counted")
        times = [time for match in matches for time in match.times]
        if not times:
            raise StepError(f"no packet at {', '.join(self.at)} matches {self.filter!r}, to count from on")
        return max(times) + self.by / 1000


class Wire(AtTaps):
    """Packets captured at taps, all of them or those of the last part of a run."""

    after: After | None = Field(
        default=None,
        description="Only later packets count: with `{at: TAP, filter: FILTER, by: TIME}` those more "
        "than TIME after the last packet that FILTER matches at TAP",
    )

    def taps(self, facts: Facts) -> list[str]:
        """Where it counts, and where the moment is that it counts from."""
        return [*self.at, *(self.after.at if self.after else ())]

    def _decide(self, wires: Wires, expression: str, contains: bytes) -> Decision:
        matches = wires.match_all(self.at, expression)
        if self.after:
            matches = self.after.later(wires, self.at, matches)
        counts = [sum(contains in packet for packet in match.packets) for match in matches]
        counted = marks(matches, lambda frame: contains in above_link(frame))
        return decide_count(self, matches, counts, counted)


class Packets(Wire):
    """Packets that a pcap filter matches in the captures of one or more taps.

    With `contains` only those count whose bytes hold the text in clear. Only a capture that
    ran during the whole run decides `none: true`, and with `after` only if something was captured afterwards.
    """

    word = "packets"
    title = "Packets captured at taps"
    order = 10

    filter: PcapFilter = Field(
        default="ip", min_length=1, description="Which packets: a pcap filter as tcpdump takes it"
    )
    contains: str | None = Field(default=None, min_length=1, description="A text found in the packet's bytes")

    @property
    def of_registrations(self) -> bool:
        """They go to or come from the port of registrations (RFC 5944 §3)."""
        return re.search(r"\bport 434\b", self.filter) is not None

    def phrase(self) -> str:
        """What is expected, as a line."""
        contains = f" containing {self.contains!r}" if self.contains else ""
        after = self.after.phrase() if self.after else ""
        return f"packets at {', '.join(self.at)} matching {self.filter!r}{contains}{after}: {self.wanted}"

    def judge(self, sight: Sight) -> Decision:
        """Count them."""
        return self._decide(sight.wires, self.filter, (self.contains or "").encode())


class Clear(Wire):
    """Packets of the probe or session whose payload anybody at the tap can read."""

    word = "clear"
    title = "Payload readable at taps"
    order = 20
    TOO_MUCH: ClassVar[float | None] = None

    def phrase(self) -> str:
        """What is expected, as a line."""
        after = self.after.phrase() if self.after else ""
        return f"payload readable at {', '.join(self.at)}{after}: {self.wanted}"

    def judge(self, sight: Sight) -> Decision:
        """Count the packets that hold the text which the traffic is marked with."""
        if not sight.marked:
            return Decision(None, "no probe and no session was started whose payload could be read")
        return self._decide(sight.wires, "ip", READABLE.encode())
