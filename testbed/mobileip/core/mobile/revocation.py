"""How a mobile node lets its home agent revoke what no foreign agent has registered (RFC 3543 §4.2.2.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Datagram, SendDatagram
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.disposition import Discard
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.revocation import BindingId, Ended, Stamps, Terms, acknowledge, prove, support
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.revocation import Revocation, RevocationSupport


class NodeRevocation:
    """Asks for revocation with requests, and takes the revocations of the home agent; sends none (§4)."""

    def __init__(
        self,
        config: MobileNodeConfig,
        clock: Clock,
        out: Outbox,
        counters: Counter[str],
        discards: Discards,
    ) -> None:
        self._config = config
        self._home = Associations((config.security, *config.other_home_agents))
        self._others = {association.peer for association in config.other_home_agents}
        self._out = out
        self._counters = counters
        self._discards = discards
        self._stamps = Stamps(clock)
        self._ended = Ended()
        self._asked: int | None = None
        self._agreed: dict[BindingId, Terms] = {}
        """For what is registered, and for former care-of addresses beside it (RFC 5944 §3.6.1.2)."""

    def ask(self, direct: bool, now: float) -> tuple[Extension, ...]:
        """What the next request carries; nothing unless it goes `direct` to the home agent (§3.2)."""
        self._asked = self._stamps.next(now) if direct and self._config.revocation else None
        return () if self._asked is None else (RevocationSupport(self._asked, True).encode(),)

    def answered(
        self, reply: RegistrationReply, care_of: IPv4Address, former: Collection[IPv4Address]
    ) -> None:
        """The request was accepted, for `care_of`, beside `former` care-of addresses. Raises WireError."""
        answer = support(reply.extensions, by_agent=False)
        self._agreed = {one: terms for one, terms in self._agreed.items() if one.care_of in former}
        if answer is not None and self._asked is not None:
            binding = BindingId(reply.home_address, reply.home_agent, care_of)
            self._agreed[binding] = Terms(reply.home_agent, answer.inform, self._asked, answer.timestamp)

    def forget(self) -> None:
        """The registration has ended, and what was beside it: of that revocations may still be under way."""
        for binding, terms in self._agreed.items():
            self._ended.note(binding, terms.theirs)
        self._agreed.clear()

    def receive(self, datagram: Datagram, now: float) -> IPv4Address | None:
        """Take a revocation, and acknowledge it; the care-of address whose registration it ends."""
        self._counters["revocations-received"] += 1
        try:
            return self._receive(datagram)
        except WireError as error:
            self._discards.datagram(error.reason, datagram, now)
        except Discard as discard:
            self._discards.datagram(str(discard), datagram, now)
        return None

    def _receive(self, datagram: Datagram) -> IPv4Address | None:
        message = Revocation.decode(datagram.payload)
        peer = datagram.source if datagram.source in self._others else self._config.security.peer
        prove(datagram.payload, message.extensions, MOBILE_HOME, self._home, peer)
        if not message.by_home_agent:
            raise Discard("revocation-reflected")
        binding = BindingId.of(message)
        terms = self._agreed.get(binding)
        ends = self._ended.take(message, terms, terms is not None)
        self._agreed.pop(binding, None)
        answer = acknowledge(datagram, message, True, MOBILE_HOME, self._home, peer).datagram
        self._out.add(SendDatagram(replace(answer, interface=datagram.interface)))
        return binding.care_of if ends else None
