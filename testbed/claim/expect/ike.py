"""IKE exchanges and ESP security associations, as captures show them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.claim.capture import AtTaps, decide_count, marks
from testbed.claim.seen import GIVING_UP
from testbed.claim.sight import Decision, Sight
from testbed.packet import ike

IkeExchange = Literal["IKE_SA_INIT", "IKE_AUTH", "CREATE_CHILD_SA", "INFORMATIONAL"]


class Ike(AtTaps):
    """IKE exchanges, counted by the requests captured at the taps; retransmissions count once."""

    word = "ike"
    title = "IKE exchanges captured at taps"
    order = 30

    exchange: IkeExchange = Field(description="The exchange type of RFC 7296")

    def bound(self, too_much: bool) -> float | None:
        """As of all that is counted; and an association that charon gave up on is negotiated anew."""
        return super().bound(too_much) or (GIVING_UP if too_much else None)

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"{self.exchange} exchanges at {', '.join(self.at)}: {self.wanted}"

    def judge(self, sight: Sight) -> Decision:
        """Count the different requests of the exchange."""
        matches = sight.wires.match_all(self.at, ike.IKE_FILTER)
        found = ike.requests(frame for match in matches for frame in match.frames)
        wanted = ike.EXCHANGES[self.exchange]
        counted = marks(matches, lambda frame: any(one.exchange == wanted for one in ike.requests([frame])))
        return decide_count(self, matches, [sum(one.exchange == wanted for one in found)], counted)


class EspSas(AtTaps):
    """ESP security associations seen in use at the taps: different SPIs.

    An association is one-way, so a tunnel with traffic both ways shows two. An association whose ends MOBIKE
    moves keeps its SPI and counts once.
    """

    word = "esp-sas"
    title = "ESP security associations"
    order = 40

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"ESP security associations in use at {', '.join(self.at)}: {self.wanted}"

    def judge(self, sight: Sight) -> Decision:
        """Count the different associations."""
        matches = sight.wires.match_all(self.at, ike.ESP_FILTER)
        found = ike.associations(frame for match in matches for frame in match.frames)
        # Its ends may change (RFC 4555 §3.5), and the SPI alone suffices (RFC 4301 §4.1).
        return decide_count(self, matches, [len({spi for _, spi in found})], marks(matches))
