"""The foreign agent (RFC 5944 §3.7)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from random import Random, SystemRandom

from testbed.mobileip.core.advertiser import Advertiser
from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Datagram,
    Effect,
    Records,
    SendDatagram,
)
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.counters import FOREIGN_AGENT
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.foreign.admission import check_form, check_proof, check_service
from testbed.mobileip.core.foreign.advertisement import foreign_agent_advertisement
from testbed.mobileip.core.foreign.answers import Answers
from testbed.mobileip.core.foreign.challenges import Challenges, wrong_challenge
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.pending import PENDING_TIME, Pending, PendingList
from testbed.mobileip.core.foreign.relaying import (
    authorized_end,
    check_reply,
    lacking,
    nai_in,
    relayed,
)
from testbed.mobileip.core.foreign.revocation import ForeignRevocation
from testbed.mobileip.core.foreign.visitors import Visitor, VisitorList
from testbed.mobileip.core.links import UNSPECIFIED, VisitedLink, is_unicast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.wire import registration_reply, registration_request, revocation, udp_tunnel
from testbed.mobileip.wire.challenge import foreign_agent_error
from testbed.mobileip.wire.code import Code, accepted, from_unreachable
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.nai import nai_of
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest

_BY_ANY_HOME_AGENT = (Code.HA_UNKNOWN_HOME_AGENT, Code.HA_IDENTIFICATION_MISMATCH)


class ForeignAgent:
    """Advertises itself, relays requests and replies, and keeps the list of its visitors.

    Raises ValueError for a configuration with two associations of one peer and SPI.
    """

    def __init__(self, config: ForeignAgentConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self._clock = clock
        self.counters = Counter(dict.fromkeys(FOREIGN_AGENT, 0))
        self._out = Outbox()
        self.refused = self._out.withdraw
        self._discards = Discards(self._out, self.counters)
        self._nodes = Associations(config.mobile_nodes)
        self._home_agents = Associations(config.home_agents)
        self._own = config.addresses
        self._pending = PendingList(config.pending)
        self._visitors = VisitorList(config, clock, self._out, self.counters)
        rng = rng or SystemRandom()
        self._challenges = Challenges(config, self._nodes, rng)
        self._answers = Answers(config, self._nodes, self._own, self._out, self.counters, self._challenges)
        self._advertisers = {link.interface: self._advertiser(link, rng) for link in config.links}
        self._revocation = ForeignRevocation(
            config,
            clock,
            self._visitors,
            self._home_agents,
            self._out,
            self.counters,
            lambda *node: self._out.add(*(each.reset(*node) for each in self._advertisers.values())),
        )
        self.revoke = self._revocation.revoke

    def _advertiser(self, link: VisitedLink, rng: Random) -> Advertiser:
        return Advertiser(
            link.interface,
            link.address,
            self.config.advertising,
            lambda sequence: foreign_agent_advertisement(self.config, link, sequence, self._visitors.full),
            self.counters,
            self._discards,
            rng,
            self._challenges,
        )

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a UDP datagram that arrived at port 434."""
        kind = datagram.payload[0] if datagram.payload else None
        if kind == udp_tunnel.DATA:
            self._visitors.keepalives.receive(datagram, now)
            return
        try:
            if kind == registration_request.TYPE:
                self.counters["requests-received"] += 1
                self._receive_request(datagram, now)
            elif kind == registration_reply.TYPE:
                self.counters["replies-received"] += 1
                self._receive_reply(datagram, now)
            elif kind in revocation.MESSAGES:
                self._revocation.receive(datagram)
            else:
                raise Discard("type")
        except WireError as error:
            self._discards.datagram(error.reason, datagram, now)
        except Discard as discard:
            self._discards.datagram(str(discard), datagram, now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Answer a solicitation; advertisements of other agents are no business of ours."""
        if message.payload[:1] != b"\x0a":
            self.counters["agent-messages-ignored"] += 1
            return
        first = self._advertisers[self.config.interface]
        self._out.add(*self._advertisers.get(message.interface, first).receive(message, now))

    def unreachable(self, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
        """ICMP Destination Unreachable with `icmp_code` came back for a request relayed to `home_agent`."""
        code = from_unreachable(icmp_code)
        for pending in [each for each in self._pending if each.request.home_agent == home_agent]:
            self._pending.remove(pending)
            self._answers.deny(pending.datagram, pending.request, code, now)

    def flush(self) -> None:
        """Forget every request and visitor, without a message to anybody."""
        self._pending.clear()
        for visitor in tuple(self._visitors):
            self._visitors.clear(visitor.home_address, "visitor-removed")
        self._revocation.clear()

    def restore(self, records: Records, now: float) -> None:
        """Take up the visitors that a predecessor asked to remember; requests that were pending are lost.

        Advertisements begin with sequence number 0 all the same (§2.3.2), so that mobile nodes register again
        (§2.4.4): what they have asked for meanwhile no agent has heard. Raises ValueError, KeyError or
        TypeError for records that no foreign agent has made.
        """
        self._visitors.restore(records, now)

    def tick(self, now: float) -> None:
        """Time out requests, expire visitors, advertise."""
        for pending in self._pending.time_out(now):
            self._answers.deny(pending.datagram, pending.request, Code.FA_REGISTRATION_TIMEOUT, now)
        self._visitors.tick(now)
        self._revocation.tick(now)
        for advertiser in self._advertisers.values():
            self._out.add(*advertiser.tick(now))

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        due = (self._pending.deadline(), self._visitors.deadline(), self._revocation.deadline())
        advertisements = (each.due for each in self._advertisers.values())
        return min(when for when in (*due, *advertisements) if when is not None)

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        return self._out.drain()

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null never ends."""
        return {
            "role": "foreign-agent",
            "interface": self.config.interface,
            "address": str(self.config.address),
            "care_of": str(self.config.care_of),
            "links": {link.interface: str(link.address) for link in self.config.links},
            "care_of_addresses": [str(address) for address in self.config.care_of_addresses],
            "busy": self._visitors.full,
            "visitors": [visitor.picture(now) for visitor in self._visitors],
            "pending": [pending.picture(now) for pending in self._pending],
            "counters": dict(sorted(self.counters.items())),
        }

    # Requests, from the mobile node to the home agent.

    def _receive_request(self, datagram: Datagram, now: float) -> None:
        if datagram.interface is not None and datagram.interface not in self._advertisers:
            raise Discard("not-from-link")
        if (
            datagram.source == UNSPECIFIED
            and is_unicast(datagram.destination)
            and datagram.destination not in self._own
        ):
            raise Discard("not-for-us")
        if datagram.link_address is None or datagram.source_port == 0:
            raise Discard("unanswerable")  # broadcasting ARP for a visitor is forbidden (§4.2.2)
        request, nai = RegistrationRequest.decode_fixed(datagram.payload), None
        try:
            try:
                decoded = RegistrationRequest.decode(datagram.payload)
                nai = nai_of(decoded.extensions)
                request = decoded
            except WireError as error:
                if error.reason == "unknown-extension":
                    raise
                raise Deny(Code.FA_POORLY_FORMED_REQUEST, str(error)) from error
            check_form(request, self._own, self.config.home_agents_here)
            check_proof(self._nodes, datagram, request, nai, self.counters)
            check_service(self.config, datagram, request)
            self._revocation.check(request)
            self._challenges.check(datagram, request, nai, self._pending)
            self._check_room(request, nai)
        except Deny as denial:
            self._answers.deny(datagram, request, denial.code, now, denial.why)
            return
        expires = now + PENDING_TIME
        if request.lifetime:
            expires = min(expires, now + request.lifetime)
        timestamp = self._revocation.relaying(request, expires, now)
        pending = Pending(request, datagram, datagram.link_address, expires, timestamp, nai)
        self._pending.add(pending)
        self._challenges.used(datagram, request, nai)
        self.counters["requests-relayed"] += 1
        extension = b"" if timestamp is None else self._revocation.extension(timestamp)
        self._out.add(SendDatagram(relayed(self.config, self._home_agents, datagram, request, extension)))

    def _check_room(self, request: RegistrationRequest, nai: str | None) -> None:
        if self._pending.has(request, nai):
            return  # a repetition takes no more room
        self._pending.check_room(request, nai)
        if request.lifetime and self._visitors.full and request.home_address not in self._visitors:
            raise Deny(Code.FA_INSUFFICIENT_RESOURCES, "visitor list full")

    # Replies, from the home agent to the mobile node.

    def _receive_reply(self, datagram: Datagram, now: float) -> None:
        reply = RegistrationReply.decode_fixed(datagram.payload)
        pending = self._pending.awaiting(reply, nai_in(datagram.payload))
        if pending is None:
            raise Discard("no-pending-request")
        request = pending.request
        # Whom dynamic resolution has asked by broadcast is known only by its refusal (§3.8.2.1): of a wrong
        # clock, which is looked at first, or of the broadcast.
        if datagram.source != request.home_agent and reply.code not in _BY_ANY_HOME_AGENT:
            raise Discard("not-from-home-agent")
        try:
            reply, answer = check_reply(self.config, self._home_agents, datagram, request, self.counters)
        except Deny as denial:
            self._pending.remove(pending)
            self._answers.deny(pending.datagram, request, denial.code, now)
            raise Discard(denial.why) from denial
        if (lack := lacking(request, reply)) is not None:
            self._pending.remove(pending)
            self._answers.recode(pending, reply, lack)
            return
        home = replace(pending, request=replace(request, home_address=reply.home_address))
        wrong = wrong_challenge(request, reply)
        granted = accepted(reply.code) and not wrong
        holds = granted and not pending.overtaken
        terms = self._revocation.accepted(home, reply, now) if holds else None
        if granted:
            self._pending.overtake(pending)
        self._pending.remove(pending)
        pending = home  # known from now on, if it was not
        start, before = len(self._out), self._visitors.get(reply.home_address)
        if holds:
            keepalive = answer.keepalive if answer is not None and answer.assents else None
            self._update_visitor(pending, reply, keepalive, terms, now)
        payload = datagram.payload[: authorized_end(reply)]
        if wrong:  # RFC 4721 §3.3: the home agent's own code stays
            payload += foreign_agent_error(Code.FA_HOME_AGENT_WRONG_CHALLENGE).encode()
        self._answers.send(pending.datagram, reply.home_address, pending.nai, payload, authentic=granted)
        self.counters["replies-relayed"] += 1
        self._out.event(
            "reply-relayed",
            home_address=str(reply.home_address),
            home_agent=str(request.home_agent),
            code=reply.code,
            lifetime=reply.lifetime,
        )
        if self._visitors.get(reply.home_address) not in (None, before):
            self._out.granted(start, partial(self._withdraw, pending, before, now))

    def _withdraw(self, pending: Pending, before: Visitor | None, now: float, why: str, undo: bool) -> None:
        """Deny what the home agent granted: "insufficient resources" (§3.4); nobody has heard of it yet."""
        self._visitors.withdraw(pending.request.home_address, before, now, undo)
        self.counters["replies-relayed"] -= 1
        self._answers.deny(pending.datagram, pending.request, Code.FA_INSUFFICIENT_RESOURCES, now, why)

    def _update_visitor(
        self,
        pending: Pending,
        reply: RegistrationReply,
        keepalive: int | None,
        terms: Terms | None,
        now: float,
    ) -> None:
        """§3.7.3.2; the lifetime counts from the reply on, so that the mobile node's ends first."""
        request = pending.request
        home_address = request.home_address
        lifetime = min(reply.lifetime, request.lifetime, self.config.registration_lifetime)
        if lifetime == 0:
            visitor = self._visitors.get(home_address)
            # The care-of address may be that of another agent, which the mobile node ends through us.
            if visitor and request.care_of_address in (home_address, visitor.care_of_address):
                self._visitors.clear(home_address, "visitor-deregistered")
            return
        interface = self.config.link(pending.datagram.interface).interface
        answered_from = self._answers.source(pending.datagram)
        visitor = Visitor.granted(pending, interface, lifetime, keepalive, terms, answered_from, now)
        self._visitors.grant(visitor, now)
