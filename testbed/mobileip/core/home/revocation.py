"""What a home agent does about registration revocation (RFC 3543 §4.2.2.1, §4.2.3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.disposition import Discard
from testbed.mobileip.core.home.bindings import Binding, BindingTable
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.udp_tunnel import through_agent
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.revocation import (
    BindingId,
    RevocationEnd,
    Terms,
    acknowledge,
    prove,
    support,
)
from testbed.mobileip.core.security import Peer
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.revocation import ACKNOWLEDGMENT, SUPPORT, Revocation
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply


class HomeRevocation(RevocationEnd):
    """Negotiates revocation, revokes bindings of the table, and lets foreign agents revoke them."""

    def __init__(
        self,
        config: HomeAgentConfig,
        clock: Clock,
        bindings: BindingTable,
        associations: tuple[Associations, Associations],
        owner: Callable[[IPv4Address], Peer],
        out: Outbox,
        counters: Counter[str],
        changed: Callable[[IPv4Address], None],
    ) -> None:
        """`associations` are those with mobile nodes and those with foreign agents.

        `owner` gives what the mobile node with a home address is known by there.

        `changed` is called with a home address whose bindings have changed.
        """
        super().__init__(clock, out, counters)
        self._config = config
        self._bindings = bindings
        self._nodes, self._agents = associations
        self._owner = owner
        self._changed = changed

    def terms(
        self, datagram: Datagram, request: RegistrationRequest, answer: UdpTunnelReply | None, now: float
    ) -> Terms | None:
        """What an acceptable request negotiates; None where nobody asks who may (§4.2.1). Raises WireError.

        A foreign agent needs an association with us, and its care-of address; of others only the mobile node
        itself may ask, that registers its own care-of address without any agent (§4.3.2).
        """
        if request.lifetime == 0:
            return None
        if request.flags & RequestFlag.DECAPSULATION:
            in_udp = answer is not None and answer.assents
            direct = datagram.source == request.care_of_address or (in_udp and not through_agent(request))
            asked = support(request.extensions, by_agent=False) if direct else None
        else:
            asked = support(request.extensions, by_agent=True) if datagram.source in self._agents else None
        if asked is None:
            return None
        return Terms(datagram.source, asked.inform, self._stamps.next(now), asked.timestamp)

    def replied(self, request: RegistrationRequest, now: float) -> None:
        """A reply leaves; revocations of this mobile node keep their distance (§3.3)."""
        if SUPPORT in [extension.type for extension in request.extensions]:
            self._revoker.spoke(request.home_address, now)

    def accepted(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        before: Iterable[Binding],
        after: Iterable[Binding],
        now: float,
    ) -> None:
        """A request has changed the bindings of a mobile node from `before` to `after`.

        What is registered anew must not be revoked any more; the agents that the mobile node has left are
        informed, but need not inform it (§1, §4.2.2.1).
        """
        revocable = [binding for binding in before if binding.revocation is not None]
        if not revocable and not self._revoker.revokes(request.home_address):
            return
        remaining = {self._id(request.home_address, binding) for binding in after}
        for one in remaining:
            self._revoker.cancel(one)
        for binding in revocable:
            terms = binding.revocation
            if terms is None or binding.co_located or terms.peer == datagram.source:
                continue  # whoever relays the request learns from the reply
            if self._id(request.home_address, binding) not in remaining:
                self._begin(request.home_address, binding, terms, False, now)

    def restored(self, bindings: Iterable[Binding], home_address: IPv4Address) -> None:
        """Withdraw what was begun about bindings that exist again."""
        for binding in bindings:
            self._revoker.cancel(self._id(home_address, binding))

    def revoke(
        self, home_address: IPv4Address, care_of: IPv4Address | None, inform: bool | None, now: float
    ) -> None:
        """End the bindings of a mobile node, or the one with `care_of`; send a message where that is agreed.

        `inform` is whether the mobile node shall be informed; None: as configured. Raises ValueError where
        there is no such binding.
        """
        chosen = [
            each
            for each in self._bindings.of(home_address)
            if care_of in (None, each.care_of_address, each.udp and each.udp.asked)
        ]
        if not chosen:
            raise ValueError(f"{home_address} has no binding" + (f" with {care_of}" if care_of else ""))
        inform = self._config.inform_revoked if inform is None else inform
        for binding in chosen:
            self._end(home_address, binding, by="home-agent", notified=binding.revocation is not None)
            if binding.revocation is not None:
                self._begin(home_address, binding, binding.revocation, inform, now)
        self._changed(home_address)

    def receive(self, datagram: Datagram) -> None:
        """Take a revocation, or an acknowledgment. Raises Discard and WireError."""
        if datagram.payload[0] == ACKNOWLEDGMENT:
            self._revoker.acknowledged(datagram)
            return
        self._counters["revocations-received"] += 1
        message = Revocation.decode(datagram.payload)
        prove(datagram.payload, message.extensions, FOREIGN_HOME, self._agents, datagram.source)
        if message.by_home_agent:
            raise Discard("revocation-reflected")
        binding = self._named(message, datagram.source)
        terms = binding.revocation if binding is not None else None
        ends = self._ended.take(message, terms, binding is not None)
        inform = self._config.inform_revoked and (terms is None or terms.inform)
        self._out.add(acknowledge(datagram, message, inform, FOREIGN_HOME, self._agents, datagram.source))
        if binding is not None and ends:
            self._end(message.home_address, binding, by="foreign-agent", notified=False)
            self._changed(message.home_address)

    def _named(self, message: Revocation, source: IPv4Address) -> Binding | None:
        """The binding that a foreign agent at `source` names, and may."""
        for binding in self._bindings.of(message.home_address):
            peers = (binding.care_of_address, binding.revocation and binding.revocation.peer)
            if self._id(message.home_address, binding) == BindingId.of(message) and source in peers:
                return binding
        return None

    def _id(self, home_address: IPv4Address, binding: Binding) -> BindingId:
        """By the care-of address of the request, also where a NAT shows another."""
        care_of = binding.udp.asked if binding.udp is not None else binding.care_of_address
        return BindingId(home_address, self._config.address, care_of)

    def _begin(
        self, home_address: IPv4Address, binding: Binding, terms: Terms, inform: bool, now: float
    ) -> None:
        one = self._id(home_address, binding)
        self._ended.note(one, terms.theirs)  # the other end may revoke at the same time
        inform = inform and (terms.inform or binding.co_located)  # §3.3: irrelevant there, but SHOULD be set
        message = Revocation(True, inform, home_address, self._config.address, one.care_of, terms.ours)
        proof: tuple[int, Peer] = (FOREIGN_HOME, terms.peer)
        associations = self._agents
        if binding.co_located:
            associations, proof = self._nodes, (MOBILE_HOME, self._owner(home_address))
        port = (binding.udp and binding.udp.port) or PORT  # through a NAT there is no other way
        ends = (self._config.address, terms.peer, port)
        self._revoker.begin(message, ends, associations, proof, binding.expires, now)

    def _end(self, home_address: IPv4Address, binding: Binding, by: str, notified: bool) -> None:
        self._bindings.remove(home_address, binding.care_of_address)
        care_of = str(binding.care_of_address)
        self._out.event(
            "binding-revoked", home_address=str(home_address), care_of=care_of, by=by, notified=notified
        )
