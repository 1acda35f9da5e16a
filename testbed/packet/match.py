"""What a filter finds in a capture."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Matched:
    """The packets of one tap that a filter matches, and how many there are to match."""

    tap: str
    packets: tuple[bytes, ...]  # from the IP header on
    times: tuple[float, ...]  # when each was captured: seconds since the epoch, the clock of all nodes
    total: int  # packets captured at the tap, of any kind
    alive: bool  # the capture was running
    dropped: int  # packets the kernel could not hand over

    def after(self, moment: float) -> Matched:
        """The same with those packets alone that were captured later."""
        later = [one for one in zip(self.packets, self.times, strict=True) if one[1] > moment]
        return replace(self, packets=tuple(one for one, _ in later), times=tuple(time for _, time in later))
