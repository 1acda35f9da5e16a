"""Sending agent advertisements on one link (RFC 5944 §2.3, RFC 1256 §4.1): home and foreign agents alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random
from typing import Protocol

from testbed.mobileip.core.api import AgentMessage, SendAgentMessage
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.limits import TokenBucket
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.parameters import Advertising
from testbed.mobileip.wire import agent_solicitation
from testbed.mobileip.wire.agent_advertisement import (
    AgentAdvertisement,
    AgentFlag,
)
from testbed.mobileip.wire.error import WireError

ALL_SYSTEMS = IPv4Address("224.0.0.1")
FIRST_AFTER_ROLLOVER = 256

_MULTICAST_GAP = 0.05  # seconds between two multicast advertisements, however many solicit
_MULTICAST_DELAY = 0.02  # at most, so that neighbouring solicitations share an answer (RFC 1256 §4.1)
_ANSWERS_PER_SECOND = 1000
"""To single mobile nodes: what a thousand that arrive within a second need, and less than a link notices."""


def next_sequence(sequence: int) -> int:
    """The sequence number after `sequence` (§2.3.2): 0xffff is followed by 256."""
    return sequence + 1 if sequence < 0xFFFF else FIRST_AFTER_ROLLOVER


class ChallengeSource(Protocol):
    """Where the challenges come from that a foreign agent advertises (RFC 4721 §2)."""

    def for_all(self, interface: str, solicited: bool) -> bytes | None:
        """The challenge of a multicast advertisement."""

    def for_one(self, interface: str, destination: IPv4Address) -> bytes | None:
        """That of an advertisement to one node."""


class Advertiser:
    """Decides when to advertise and to whom; `build` makes the advertisement for a sequence number."""

    def __init__(
        self,
        interface: str,
        source: IPv4Address,
        advertising: Advertising,
        build: Callable[[int], AgentAdvertisement],
        counters: Counter[str],
        discards: Discards,
        rng: Random,
        challenges: ChallengeSource | None = None,
    ) -> None:
        self.interface = interface
        self.due = 0.0
        """When the next multicast advertisement is due; the first one at once."""
        self.sequence = 0
        """The number the next advertisement gets."""
        self._source = source
        self._advertising = advertising
        self._build = build
        self._counters = counters
        self._discards = discards
        self._rng = rng
        self._challenges = challenges
        self._solicited = False
        self._last_multicast: float | None = None
        self._answers = TokenBucket(_ANSWERS_PER_SECOND, _ANSWERS_PER_SECOND)

    def tick(self, now: float) -> list[SendAgentMessage]:
        """The multicast advertisement, if it is due."""
        if now < self.due:
            return []
        self._last_multicast = now
        self.due = now + self._advertising.interval * self._rng.uniform(0.75, 1.0)
        self._counters["advertisements-sent"] += 1
        challenge = self._challenges.for_all(self.interface, self._solicited) if self._challenges else None
        self._solicited = False
        return [self._message(ALL_SYSTEMS, None, challenge)]

    def receive(self, message: AgentMessage, now: float) -> list[SendAgentMessage]:
        """Answer a solicitation: to its sender alone where it can be reached, else to all, soon."""
        try:
            agent_solicitation.check(message.payload)
        except WireError as error:
            self._discards.agent_message("solicitations-discarded", error.reason, message, now)
            return []
        if message.interface != self.interface or message.ttl != 1:  # §2.2: it comes from the link
            self._discards.agent_message("solicitations-discarded", "not-from-link", message, now)
            return []
        self._counters["solicitations-received"] += 1
        if message.link_address is None or not is_unicast(message.source):
            earliest = now + self._rng.uniform(0, _MULTICAST_DELAY)
            if self._last_multicast is not None:
                earliest = max(earliest, self._last_multicast + _MULTICAST_GAP)
            self._solicited = self._solicited or earliest < self.due
            self.due = min(self.due, earliest)
            return []
        if not self._answers.allow(now):
            self._counters["solicitations-not-answered-rate"] += 1
            return []
        self._counters["advertisements-sent-unicast"] += 1
        return [self._message(message.source, message.link_address, self._for_one(message.source))]

    def reset(self, destination: IPv4Address, link_address: bytes, busy: bool) -> SendAgentMessage:
        """Number 0, as after a reboot, for one mobile node whose registration has ended (RFC 3543 §4.1).

        With `busy` it shall not register here again.
        """
        advertisement = replace(self._build(0), challenge=self._for_one(destination))
        if busy and advertisement.mobility is not None:
            flags = advertisement.mobility.flags | AgentFlag.BUSY
            advertisement = replace(advertisement, mobility=replace(advertisement.mobility, flags=flags))
        self._counters["advertisements-sent-unicast"] += 1
        return self._to(destination, link_address, advertisement)

    def _for_one(self, destination: IPv4Address) -> bytes | None:
        return self._challenges.for_one(self.interface, destination) if self._challenges else None

    def _message(
        self, destination: IPv4Address, link_address: bytes | None, challenge: bytes | None
    ) -> SendAgentMessage:
        advertisement = replace(self._build(self.sequence), challenge=challenge)
        self.sequence = next_sequence(self.sequence)
        return self._to(destination, link_address, advertisement)

    def _to(
        self, destination: IPv4Address, link_address: bytes | None, advertisement: AgentAdvertisement
    ) -> SendAgentMessage:
        payload = advertisement.encode()
        return SendAgentMessage(
            AgentMessage(payload, self._source, destination, self.interface, 1, link_address)
        )
