"""Taps: what was captured at NODE/NETWORK, in a lab or in a file, and what of it a pcap filter matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from testbed.errors import StepError
from testbed.packet.decode import above_link
from testbed.packet.filters import FilterError
from testbed.packet.match import match
from testbed.packet.pcap import ETHERNET, Frame


@dataclass(frozen=True, slots=True)
class Matched:
    """The frames of one tap that a filter matches, and how many frames of any kind there are."""

    tap: str
    frames: tuple[Frame, ...]
    total: int
    """Frames captured at the tap, of any kind."""
    alive: bool
    """Whether the capture was running, to its end where it has ended."""
    dropped: int
    """Packets that the kernel could not hand over; known once the capture has ended."""

    @property
    def packets(self) -> tuple[bytes, ...]:
        """What the frames carry, from the IP header on."""
        return tuple(map(above_link, self.frames))

    @property
    def times(self) -> tuple[float, ...]:
        """When each was captured: seconds since the epoch, the clock of all nodes."""
        return tuple(frame.time / 10**9 for frame in self.frames)

    def after(self, moment: float) -> Matched:
        """Return the same with only those frames that were captured later than `moment` (seconds)."""
        later = zip(self.frames, self.times, strict=True)
        return replace(self, frames=tuple(frame for frame, time in later if time > moment))


@dataclass(frozen=True, slots=True)
class TapFrames:
    """The capture of one tap, whole or as far as it has come."""

    name: str
    """NODE/NETWORK."""
    frames: tuple[Frame, ...]
    alive: bool = True
    dropped: int = 0
    linktype: int = ETHERNET
    """The link type of the capture, which it has without frames too."""

    def match(self, expression: str, hosts: Mapping[str, IPv4Address]) -> Matched:
        """Return what a pcap filter matches, with addresses for the hosts it names. Raises `FilterError`."""
        frames = tuple(match(self.frames, expression, hosts, self.linktype))
        return Matched(self.name, frames, len(self.frames), self.alive, self.dropped)


def match_taps(taps: Iterable[TapFrames], expression: str, hosts: Mapping[str, IPv4Address]) -> list[Matched]:
    """What a pcap filter matches at each tap. Raises `StepError` with the tap's name for a bad filter."""
    found = []
    for tap in taps:
        try:
            found.append(tap.match(expression, hosts))
        except FilterError as error:
            raise StepError(f"{tap.name}: filter {expression!r}: {error}") from error
    return found
