"""A request at the home agent, from arrival to reply (RFC 5944 §3.8.2, §3.8.3)."""

from __future__ import annotations

from collections import Counter
from functools import partial

from testbed.mobileip.core.aaa import Credentials
from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.association import Associations, spi_of
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.home.addresses import HomeAddresses
from testbed.mobileip.core.home.admission import Admission, verify_for_aaa
from testbed.mobileip.core.home.answers import Answers
from testbed.mobileip.core.home.authentication import HomeAuthentication
from testbed.mobileip.core.home.bindings import Binding, BindingTable
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.grants import Grants
from testbed.mobileip.core.home.revocation import HomeRevocation
from testbed.mobileip.core.home.udp_tunnel import decide
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.replay import ReplayGuard
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.wire import registration_request
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply

_TYPE = bytes((registration_request.TYPE,))


class Requests:
    """Authenticates requests, has them granted or denies them, and answers."""

    def __init__(
        self,
        config: HomeAgentConfig,
        clock: Clock,
        associations: tuple[Associations, Associations],
        bindings: BindingTable,
        homes: HomeAddresses,
        replay: ReplayGuard,
        grants: Grants,
        revocation: HomeRevocation,
        out: Outbox,
        counters: Counter[str],
    ) -> None:
        """`associations` are those with mobile nodes and those with foreign agents.

        Raises ValueError for two AAA keys of one node and SPI.
        """
        self._config = config
        self._clock = clock
        self._nodes, agents = associations
        self._authentication = HomeAuthentication(self._nodes, agents, counters)
        self._credentials = Credentials(config.aaa)
        self._admission = Admission(config, homes)
        self._bindings = bindings
        self._homes = homes
        self._replay = replay
        self._grants = grants
        self._revocation = revocation
        self._answers = Answers(config, agents, out)
        self._out = out
        self._counters = counters

    def receive(self, datagram: Datagram, now: float, overload: bool = False) -> None:
        """Take a registration request, and deny it where there is an `overload`.

        Raises WireError and Discard for what is discarded silently.
        """
        if datagram.payload[:1] != _TYPE:
            raise Discard("type")
        request = RegistrationRequest.decode(datagram.payload)
        if not self._config.hears(datagram.source):
            raise Discard("untrusted-source")
        node, datagram, request = self._homes.resolve(datagram, request)
        if not is_unicast(datagram.source) or datagram.source_port == 0:
            raise Discard("unanswerable")
        unix_time = self._clock(now)
        association = self._nodes.choose(node, spi_of(request.extensions, MOBILE_HOME))
        if association is None:
            raise Discard("no-security-association")
        guard = self._replay.by(association.replay)
        fresh, start, before = False, len(self._out), self._bindings.of(request.home_address)
        answer: UdpTunnelReply | None = None
        terms: Terms | None = None
        try:
            self._authentication.mobile_node(datagram, request, node)
            if not guard.fresh(node, request.identification, unix_time):
                raise Deny(Code.HA_IDENTIFICATION_MISMATCH)
            self._authentication.foreign_agent(datagram, request)
            verify_for_aaa(self._credentials, datagram, request)
            # Also what is denied below must not be accepted later on, when a binding has become free, say.
            guard.accept(node, request.identification, unix_time)
            fresh = True
            if overload:
                raise Deny(Code.HA_INSUFFICIENT_RESOURCES, "too many requests wait")
            self._homes.check(node, request.home_address)
            self._admission.check(datagram, request)
            answer = decide(self._config, datagram, request, self._homes)
            terms = self._revocation.terms(datagram, request, answer, now)
            code, lifetime = self._grants.grant(datagram, request, answer, terms, now)
        except Deny as denial:
            code, lifetime, answer = denial.code, min(request.lifetime, self._config.lifetime), None
            terms = None
            self._tell_denial(request, code, denial.why)
        else:
            self._counters["requests-accepted"] += 1
            if (before_it := self._homes.assign(node, request.home_address)) is not None:
                self._grants.remember(before_it)
        mismatch = code == Code.HA_IDENTIFICATION_MISMATCH
        identification = guard.reply(node, request.identification, unix_time, mismatch)
        if fresh:
            self._grants.remember(node)
        self._answers.reply(datagram, request, association, code, lifetime, identification, answer, terms)
        self._revocation.replied(request, now)
        if accepted(code):
            after = self._bindings.of(request.home_address)
            self._revocation.accepted(datagram, request, before, after, now)
            self._out.granted(start, partial(self._withdraw, datagram, request, association, before, after))

    def _withdraw(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        association: SecurityAssociation,
        before: tuple[Binding, ...],
        after: tuple[Binding, ...],
        why: str,
        undo: bool,
    ) -> None:
        """Deny what was accepted: "insufficient resources" (§3.4); nobody has heard of it yet."""
        home_address, code = request.home_address, Code.HA_INSUFFICIENT_RESOURCES
        if self._bindings.of(home_address) == after:
            self._grants.withdraw(home_address, before, undo)
            self._revocation.restored(before, home_address)
        self._counters["requests-accepted"] -= 1
        self._tell_denial(request, code, why)
        lifetime = min(request.lifetime, self._config.lifetime)
        guard = self._replay.by(association.replay)
        node = self._homes.owner(home_address)
        identification = guard.reply(node, request.identification, 0.0, mismatch=False)
        self._grants.remember(node)
        self._answers.reply(datagram, request, association, code, lifetime, identification)

    def _tell_denial(self, request: RegistrationRequest, code: Code, why: str) -> None:
        self._counters[f"denied-{code}"] += 1
        self._out.event(
            "denied",
            home_address=str(request.home_address),
            care_of=str(request.care_of_address),
            code=int(code),
            reason=why or describe(code),
        )
