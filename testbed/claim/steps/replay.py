"""Packets that were captured, sent once more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from pydantic import Field

from testbed.claim.action import Action, Actor
from testbed.claim.ends import address_of
from testbed.claim.names import End, Fail, Known, NodeName, PcapFilter, Tap
from testbed.claim.sight import Facts
from testbed.document.marks import Path
from testbed.document.part import Part
from testbed.document.values import Name
from testbed.errors import StepError

HEAR_WITHIN: Final = 1.0
"""Seconds until what a node has sent is in the capture."""
PAUSE: Final = 0.25
MOST: Final = 50
"""Packets that are sent once more, at most."""


class Replay(Part, Action):
    """A node sends once more what was captured in this run, to where it went, from where it came.

    The node need not be where it was captured: it has heard the packets there, as on a wireless link, or from
    somebody on the path. All that match are sent, the last 50 at most. Without a single one the run is
    inconclusive, unless `if-any` says that there may be none.
    """

    word = "replay"
    title = "Send captured packets once more"
    order = 92

    from_: NodeName = Field(alias="from", description="The node that sends")
    at: Tap = Field(description="Where they were captured: NODE/NETWORK")
    filter: PcapFilter = Field(min_length=1, description="Which packets: a pcap filter")
    as_: End | None = Field(
        default=None,
        alias="as",
        description="Another address that they come from: NODE or NODE/NETWORK (default: as before)",
    )
    to: End | None = Field(default=None, description="Another address that they go to (default: as before)")
    through: Name | None = Field(
        default=None, description="The network that they leave by (default: as routes have it)"
    )
    last: bool = Field(default=False, description="Only the last packet that matches")
    if_any: bool = Field(
        default=False, alias="if-any", description="`true`: there may be none, and then nothing is sent"
    )

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """The sender is on the network that they leave by."""
        if self.from_ in known.nodes and self.through not in (None, *known.nodes[self.from_].networks):
            fail((*where, "through"), f"{self.from_} is not on {self.through}")

    def taps(self, facts: Facts) -> list[str]:
        """Where they are heard."""
        return [self.at]

    def act(self, lab: Actor) -> str:
        """Send them with `testbed.node.replay`."""
        packets = self._heard(lab)
        if not packets:
            if self.if_any:
                return "nothing to replay"
            raise StepError(f"no packet at {self.at} matches {self.filter!r}")
        command = ["python3", "-m", "testbed.node.replay", *(packet.hex() for packet in packets)]
        source = address_of(lab, self.as_) if self.as_ else None
        command += ["--as", source] if source else []
        command += ["--to", address_of(lab, self.to)] if self.to else []
        command += ["--device", self.through] if self.through else []
        done = lab.execute(self.from_, command)
        if done.code != 0:
            raise StepError(f"{self.from_}: {done.complaint}")
        said = f"{len(packets)} packets captured at {self.at}" + (f", from {source}" if source else "")
        lab.note(f"replayed by {self.from_}: {said}")
        return said

    def _heard(self, lab: Actor) -> Sequence[bytes]:
        """What was captured, once nothing is added any more: the last packet may be under way to the file."""
        deadline, before = time.monotonic() + HEAR_WITHIN, 0
        while True:
            packets = lab.captured(self.at, self.filter)
            if len(packets) == before > 0 or time.monotonic() >= deadline:
                return packets[-1 if self.last else -MOST :]
            before = len(packets)
            time.sleep(PAUSE)
