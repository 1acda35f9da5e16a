"""Deciding by captures: how many packets were counted, and whether that proves anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from pydantic import Field

from testbed.claim.names import Taps
from testbed.claim.seen import Count, Counted
from testbed.claim.sight import Decision, Facts
from testbed.packet.decode import above_link
from testbed.packet.pcap import Frame, packet_mark
from testbed.packet.taps import Matched

MARKED: Final = 100
"""Packets of a tap that evidence marks as counted by an expectation, at most."""


class AtTaps(Counted):
    """Something counted in the captures of taps, once they are whole."""

    BY_CAPTURES: ClassVar[bool] = True

    at: Taps = Field(min_length=1, description="Where they are captured: NODE/NETWORK, one or a list")

    def taps(self, facts: Facts) -> list[str]:
        """Where it counts."""
        return self.at


def marks(
    matches: Iterable[Matched], counts: Callable[[Frame], bool] = lambda _: True
) -> dict[str, list[str]]:
    """The first packets of each tap that an expectation counts, as the report finds them again."""
    return {
        match.tap: found
        for match in matches
        if (found := [packet_mark(above_link(one)) for one in match.frames if counts(one)][:MARKED])
    }


def decide_count(
    count: Count,
    matches: list[Matched],
    counts: list[int],
    counted: Mapping[str, list[str]] = MappingProxyType({}),
) -> Decision:
    """Whether counted packets are as expected; undecidable where nothing could have been seen.

    Silence proves something only while a capture was running; what it lost may have been what is counted, or
    not. Something expected but not found proves nothing where not one packet of any kind was captured.
    """
    number = sum(counts)
    text = f"{number} of {sum(match.total for match in matches)} captured"
    if len(matches) == len(counts) > 1:
        text += f" ({', '.join(f'{match.tap} {one}' for match, one in zip(matches, counts, strict=True))})"
    dead = [match.tap for match in matches if not match.alive]
    if dead:
        why = f"the capture at {', '.join(dead)} did not run to the end"
        return Decision(None, why, counted=counted)
    held = count.decides(number, number + sum(match.dropped for match in matches))
    if held is None:
        lossy = [match.tap for match in matches if match.dropped]
        why = f"{text}, but the capture at {', '.join(lossy)} lost packets"
        return Decision(None, why, counted=counted)
    if not held and number == 0 and not any(match.total for match in matches):
        return Decision(None, "not a single packet of any kind was captured there", counted=counted)
    return Decision(held, text, number > count.highest, counted)
