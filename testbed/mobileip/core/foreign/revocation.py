"""What a foreign agent does about registration revocation (RFC 3543 §4.1, §4.2.2.2, §4.2.3.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.foreign.config import ForeignAgentConfig, Inform
from testbed.mobileip.core.foreign.pending import Pending
from testbed.mobileip.core.foreign.visitors import VisitorList
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.revocation import (
    BindingId,
    RevocationEnd,
    Terms,
    acknowledge,
    prove,
    support,
)
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import FOREIGN_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.revocation import ACKNOWLEDGMENT, SUPPORT, Revocation, RevocationSupport


class ForeignRevocation(RevocationEnd):
    """Negotiates revocation, revokes visitors, and lets home agents revoke them."""

    def __init__(
        self,
        config: ForeignAgentConfig,
        clock: Clock,
        visitors: VisitorList,
        home_agents: Associations,
        out: Outbox,
        counters: Counter[str],
        inform: Callable[[IPv4Address, bytes, bool], None],
    ) -> None:
        """`inform` sends a visitor an advertisement, as of a busy agent."""
        super().__init__(clock, out, counters)
        self._config = config
        self._visitors = visitors
        self._home_agents = home_agents
        self._inform = inform

    def check(self, request: RegistrationRequest) -> None:
        """Whether the request may be relayed. Raises Deny and Discard."""
        co_located = request.flags & RequestFlag.DECAPSULATION
        if not co_located and any(extension.type == SUPPORT for extension in request.extensions):
            raise Discard("revocation-support-of-mobile-node")  # §4.2.1
        if co_located and self._config.revocation and request.lifetime:
            raise Deny(Code.FA_PROHIBITED, "a co-located registration could not be revoked")  # §4.3.1

    def relaying(self, request: RegistrationRequest, until: float, now: float) -> int | None:
        """The timestamp of the extension for the home agent of `request`, which may be answered `until` then.

        None: there is none, as nothing would prove it, or nothing would have to be revoked.
        """
        if not self._config.revocation or not request.lifetime or request.home_agent not in self._home_agents:
            return None
        if request.care_of_address not in self._config.care_of_addresses:
            return None
        self._revoker.hold(_binding(request), until)
        self._revoker.spoke(request.home_address, now)
        return self._stamps.next(now)

    def extension(self, timestamp: int) -> bytes:
        """What is appended to a request with the `timestamp` of `relaying`."""
        return RevocationSupport(timestamp, self._config.inform is Inform.HOME_AGENT).encode().encode()

    def accepted(self, pending: Pending, reply: RegistrationReply, now: float) -> Terms | None:
        """What the reply to an accepted request has negotiated. Raises Discard and WireError."""
        request = pending.request
        if pending.timestamp is None or reply.lifetime == 0:
            return None
        one = _binding(request)
        answer = support(reply.extensions, by_agent=True)
        if answer is not None and self._ended.after(one, answer.timestamp):
            raise Discard("revoked-since")  # the reply was overtaken by what ends its registration
        self._revoker.cancel(one)
        self._revoker.spoke(request.home_address, now)
        if answer is None:
            return None
        inform = answer.inform and self._config.inform is Inform.HOME_AGENT
        return Terms(request.home_agent, inform, pending.timestamp, answer.timestamp)

    def revoke(self, home_address: IPv4Address, busy: bool, now: float) -> None:
        """End the registration of a visitor; send a message to its home agent where that is agreed.

        With `busy` the mobile node, if it is informed at once, learns not to register here again (§4.1).
        Raises ValueError for who is no visitor.
        """
        visitor = self._visitors.get(home_address)
        if visitor is None:
            raise ValueError(f"{home_address} is no visitor")
        terms = visitor.revocation
        self._visitors.clear(home_address, "visitor-revoked")
        asks = terms is not None and terms.inform
        if terms is not None:
            one = BindingId(home_address, visitor.home_agent, visitor.care_of_address)
            self._ended.note(one, terms.theirs)  # the other end may revoke at the same time
            message = Revocation(
                False, asks, home_address, visitor.home_agent, visitor.care_of_address, terms.ours
            )
            ends = (visitor.care_of_address, visitor.home_agent, PORT)
            self._revoker.begin(
                message,
                ends,
                self._home_agents,
                (FOREIGN_HOME, visitor.home_agent),
                visitor.expires,
                now,
                visitor.link_address,
            )
        if not asks and self._config.inform is not Inform.NEVER:
            self._inform(home_address, visitor.link_address, busy)

    def receive(self, datagram: Datagram) -> None:
        """Take a revocation, or an acknowledgment. Raises Discard and WireError."""
        if datagram.payload[0] == ACKNOWLEDGMENT:
            message, inform, link_address = self._revoker.acknowledged(datagram)
            if inform and link_address is not None:
                self._inform(message.home_address, link_address, False)
            return
        self._counters["revocations-received"] += 1
        message = Revocation.decode(datagram.payload)
        if message.home_domain == UNSPECIFIED:
            raise Discard("revocation-of-any-home-agent")  # Appendix B
        prove(datagram.payload, message.extensions, FOREIGN_HOME, self._home_agents, message.home_domain)
        if not message.by_home_agent:
            raise Discard("revocation-reflected")
        visitor = self._visitors.get(message.home_address)
        if visitor is not None and BindingId.of(message) != BindingId(
            visitor.home_address, visitor.home_agent, visitor.care_of_address
        ):
            visitor = None
        terms = visitor.revocation if visitor is not None else None
        ends = self._ended.take(message, terms, visitor is not None)
        inform = self._config.inform is not Inform.NEVER
        if terms.inform if terms is not None else self._config.inform is Inform.HOME_AGENT:
            inform = message.inform
        self._out.add(
            acknowledge(datagram, message, inform, FOREIGN_HOME, self._home_agents, message.home_domain)
        )
        if visitor is not None and ends:
            self._visitors.clear(message.home_address, "visitor-revoked")
            if inform:
                self._inform(message.home_address, visitor.link_address, False)


def _binding(request: RegistrationRequest) -> BindingId:
    return BindingId(request.home_address, request.home_agent, request.care_of_address)
