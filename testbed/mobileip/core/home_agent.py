"""The home agent (RFC 5944 §3.8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from ipaddress import IPv4Address
from random import Random, SystemRandom

from testbed.mobileip.core.advertiser import Advertiser, home_agent_advertisement, is_unicast
from testbed.mobileip.core.api import (
    AgentMessage,
    ClearBinding,
    Clock,
    Datagram,
    Effect,
    GratuitousArp,
    ProxyArp,
    Record,
    Remember,
    SendDatagram,
    SetBinding,
)
from testbed.mobileip.core.association import Associations, AuthenticationError, sign, spi_of
from testbed.mobileip.core.bindings import Binding, BindingTable
from testbed.mobileip.core.counters import HOME_AGENT
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.gratuitous_arp import GratuitousArps
from testbed.mobileip.core.home_admission import check_request
from testbed.mobileip.core.home_multicast import HomeMulticast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.parameters import HomeAgentConfig, SecurityAssociation
from testbed.mobileip.core.replay import ReplayGuard
from testbed.mobileip.core.udp_tunnel import decide, take_keepalive, udp_end
from testbed.mobileip.wire import registration_request, udp_tunnel
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply


class HomeAgent:
    """Keeps bindings by registration requests; asks its shell for tunnels and ARP.

    Raises ValueError for a configuration with two associations of one peer and SPI.
    """

    def __init__(self, config: HomeAgentConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self.counters = Counter(dict.fromkeys(HOME_AGENT, 0))
        self._clock = clock
        self._out = Outbox()
        self.refused = self._out.withdraw
        self._discards = Discards(self._out, self.counters)
        self._nodes = Associations(config.mobile_nodes)
        self._agents = Associations(config.foreign_agents)
        self._bindings = BindingTable()
        self._replay = ReplayGuard(config.replay_tolerance)
        self._multicast = HomeMulticast(config, self._bindings, self._out, self.counters)
        self.receive_broadcast = self._multicast.heard
        self._arps = GratuitousArps(self._out)
        self._advertiser: Advertiser | None = None
        if config.advertising is not None and config.home_interface is not None:
            self._advertiser = Advertiser(
                config.home_interface,
                config.advertised_address or config.address,
                config.advertising,
                partial(home_agent_advertisement, config),
                self.counters,
                self._discards,
                rng or SystemRandom(),
            )

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a UDP datagram that arrived at port 434."""
        if datagram.payload[:1] == bytes((udp_tunnel.DATA,)):
            if (node := take_keepalive(self.config.address, datagram, self._bindings, self._out)) is not None:
                self._bindings_changed(node)
                self._remember(node)
            return
        self.counters["requests-received"] += 1
        try:
            self._receive_request(datagram, now)
        except WireError as error:
            self._discards.datagram(error.reason, datagram, now)
        except Discard as discard:
            self._discards.datagram(str(discard), datagram, now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Answer a solicitation on the home link; anything else is no business of a home agent."""
        if self._advertiser is None or message.payload[:1] != b"\x0a":
            self.counters["agent-messages-ignored"] += 1
            return
        self._out.add(*self._advertiser.receive(message, now))

    def receive_tunnelled(self, datagram: bytes, now: float) -> None:
        """Take what a mobile node has tunnelled to everybody or to a group (§4.4, RFC 3024 §5.3)."""
        if (node := self._multicast.tunnelled(datagram, now)) is not None:
            self._remember(node)

    def tick(self, now: float) -> None:
        """Expire bindings, repeat gratuitous ARPs, advertise."""
        for home_address, care_of in self._bindings.expire(now):
            self.counters["bindings-expired"] += 1
            self._out.event("binding-expired", home_address=str(home_address), care_of=str(care_of))
            self._bindings_changed(home_address)
            self._remember(home_address)
        for home_address in self._multicast.tick(now):
            self._remember(home_address)
        self._arps.tick(now)
        if self._advertiser is not None:
            self._out.add(*self._advertiser.tick(now))

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        due = [self._bindings.next_expiry(), self._arps.next(), self._multicast.deadline()]
        if self._advertiser is not None:
            due.append(self._advertiser.due)
        return min((when for when in due if when is not None), default=None)

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        return self._out.drain()

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null never ends."""
        return {
            "role": "home-agent",
            "address": str(self.config.address),
            "home_prefix": str(self.config.home_prefix),
            "home_interface": self.config.home_interface,
            "bindings": [self._bindings.picture(home_address, now) for home_address in self._bindings],
            "groups": self._multicast.picture(),
            "counters": dict(sorted(self.counters.items())),
        }

    # What outlives this process.

    def restore(self, records: Mapping[IPv4Address, Record], now: float) -> None:
        """Take up what a predecessor asked to remember: what it accepted last, and the bindings that hold.

        Raises ValueError, KeyError or TypeError for records that no home agent has made.
        """
        for home_address, record in records.items():
            if home_address not in self._nodes:  # the configuration has changed
                self._out.add(Remember(home_address, None))
                continue
            if record["identification"] is not None:
                self._replay.restore(home_address, int(record["identification"]))
            bindings = [Binding.from_record(each, self._clock, now) for each in record["bindings"]]
            for binding in bindings:
                if binding.expires is None or binding.expires > now:
                    self._bindings.add(home_address, binding, retain=True)
            if home_address in self._bindings:
                self._bindings_changed(home_address)
                self._multicast.restore(home_address, record, now)
                self._stand_in(home_address, now)
                care_of = ", ".join(map(str, self._bindings.care_of_addresses(home_address)))
                self._out.event("binding-restored", home_address=str(home_address), care_of=care_of)

    def _remember(self, home_address: IPv4Address) -> None:
        bindings = [binding.record(self._clock) for binding in self._bindings.of(home_address)]
        record = {"identification": self._replay.last(home_address), "bindings": bindings}
        self._out.add(Remember(home_address, {**record, **self._multicast.record(home_address)}))

    # A request, from arrival to reply.

    def _receive_request(self, datagram: Datagram, now: float) -> None:
        if datagram.payload[:1] != bytes((registration_request.TYPE,)):
            raise Discard("type")
        if not is_unicast(datagram.source) or datagram.source_port == 0:
            raise Discard("unanswerable")
        request = RegistrationRequest.decode(datagram.payload)
        unix_time = self._clock(now)
        association = self._nodes.choose(request.home_address, spi_of(request.extensions, MOBILE_HOME))
        if association is None:
            raise Discard("no-security-association")
        identification = request.identification
        fresh, start, before = False, len(self._out), self._bindings.of(request.home_address)
        answer: UdpTunnelReply | None = None
        try:
            self._authenticate(datagram, request)
            if not self._replay.fresh(request.home_address, identification, unix_time):
                identification = self._replay.correction(identification, unix_time)
                raise Deny(Code.HA_IDENTIFICATION_MISMATCH)
            self._authenticate_foreign_agent(datagram, request)
            # Also what is denied below must not be accepted later on, when a binding has become free, say.
            self._replay.accept(request.home_address, identification, unix_time)
            fresh = True
            check_request(self.config, datagram, request, self._nodes)
            answer = decide(self.config, datagram, request, self._nodes)
            code, lifetime = self._accept(datagram, request, answer, now)
        except Deny as denial:
            code, lifetime, answer = denial.code, min(request.lifetime, self.config.lifetime), None
            self._tell_denial(request, code, denial.why)
        else:
            self.counters["requests-accepted"] += 1
        if fresh:
            self._remember(request.home_address)
        self._reply(datagram, request, association, code, lifetime, identification, answer)
        if accepted(code):
            after = self._bindings.of(request.home_address)
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
            self._bindings.replace(home_address, before)
            self._arps.cancel(home_address)
            if undo:
                self._bindings_changed(home_address)
                if before and self.config.home_interface is not None:
                    self._out.add(ProxyArp(home_address, True))
        self.counters["requests-accepted"] -= 1
        self._tell_denial(request, code, why)
        self._remember(home_address)
        lifetime = min(request.lifetime, self.config.lifetime)
        self._reply(datagram, request, association, code, lifetime, request.identification)

    def _tell_denial(self, request: RegistrationRequest, code: Code, why: str) -> None:
        self.counters[f"denied-{code}"] += 1
        self._out.event(
            "denied",
            home_address=str(request.home_address),
            care_of=str(request.care_of_address),
            code=int(code),
            reason=why or describe(code),
        )

    def _authenticate(self, datagram: Datagram, request: RegistrationRequest) -> None:
        """§3.8.2.1 a and d."""
        agent_known = datagram.source in self._agents
        if not agent_known and any(extension.type == FOREIGN_HOME for extension in request.extensions):
            raise Discard("foreign-home-without-association")
        try:
            self._nodes.authenticate(datagram.payload, request.extensions, MOBILE_HOME, request.home_address)
        except AuthenticationError as error:
            if error.reason == "missing-authentication":
                raise Discard("missing-authentication") from error
            self.counters[f"mobile-node-{error.reason}"] += 1
            if agent_known:
                # An agent that shares an association must authenticate to get a denial; others always get it.
                try:
                    self._agents.authenticate(
                        datagram.payload, request.extensions, FOREIGN_HOME, datagram.source
                    )
                except AuthenticationError:
                    raise Discard("failed-authentication") from error
            raise Deny(Code.HA_MOBILE_NODE_FAILED_AUTHENTICATION, error.reason) from error

    def _authenticate_foreign_agent(self, datagram: Datagram, request: RegistrationRequest) -> None:
        """§3.8.2.1 c; a deregistration carries no such extension."""
        if datagram.source not in self._agents or request.lifetime == 0:
            return
        try:
            self._agents.authenticate(datagram.payload, request.extensions, FOREIGN_HOME, datagram.source)
        except AuthenticationError as error:
            self.counters[f"foreign-agent-{error.reason}"] += 1
            raise Deny(Code.HA_FOREIGN_AGENT_FAILED_AUTHENTICATION, error.reason) from error

    def _accept(
        self, datagram: Datagram, request: RegistrationRequest, answer: UdpTunnelReply | None, now: float
    ) -> tuple[Code, int]:
        """§3.8.2.2: update the bindings. A duplicate never comes here: its timestamp is not fresh."""
        home_address, care_of = request.home_address, request.care_of_address
        code = Code.ACCEPTED if self.config.simultaneous > 1 else Code.ACCEPTED_NO_SIMULTANEOUS
        had_bindings = home_address in self._bindings
        if request.lifetime == 0:
            self._bindings.remove(home_address, None if care_of == home_address else care_of)
            if had_bindings:
                self._out.event("binding-removed", home_address=str(home_address), care_of=str(care_of))
                self._bindings_changed(home_address)
            if self._returned_home(datagram, request) and self.config.home_interface is not None:
                self._announce_return(datagram, home_address, now)
            return code, 0
        retain = bool(request.flags & RequestFlag.SIMULTANEOUS) and self.config.simultaneous > 1
        if not had_bindings and len(self._bindings) >= self.config.bindings:
            raise Deny(Code.HA_INSUFFICIENT_RESOURCES)
        lifetime, udp = min(request.lifetime, self.config.lifetime), None
        if answer is not None and answer.assents and self.config.udp_tunnel is not None:
            care_of, udp = datagram.source, udp_end(datagram, request, self._bindings.of(home_address))
            lifetime = min(lifetime, self.config.udp_tunnel.lifetime)
        others = {*self._bindings.care_of_addresses(home_address)} - {care_of}
        if retain and len(others) >= self.config.simultaneous:
            raise Deny(Code.HA_TOO_MANY_BINDINGS)
        before = self._bindings.ends(home_address)
        reverse_before = self._reverse_tunnel(home_address)
        binding = Binding(care_of, request.identification, request.flags, lifetime, now, udp)
        self._bindings.add(home_address, binding, retain)
        also = {"port": udp.port} if udp is not None else {}
        self._out.event(
            "binding", home_address=str(home_address), care_of=str(care_of), lifetime=lifetime, **also
        )
        after = self._bindings.ends(home_address)
        if after != before or reverse_before != self._reverse_tunnel(home_address):
            self._bindings_changed(home_address)
        if not had_bindings:
            self._stand_in(home_address, now)
        return code, lifetime

    def _reply(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        association: SecurityAssociation,
        code: Code,
        lifetime: int,
        identification: int,
        answer: UdpTunnelReply | None = None,
    ) -> None:
        """§3.8.3; whoever is the end of a tunnel in UDP has the answer in what proves the reply to him."""
        reply = RegistrationReply(code, lifetime, request.home_address, self.config.address, identification)
        extension = answer.encode().encode() if answer is not None else b""
        if request.flags & RequestFlag.DECAPSULATION:
            payload = sign(reply.encode() + extension, MOBILE_HOME, association)
        else:
            payload = sign(reply.encode(), MOBILE_HOME, association) + extension
        agent = self._agents.choose(datagram.source, spi_of(request.extensions, FOREIGN_HOME))
        if agent is not None and request.lifetime != 0:  # §3.5.4: never on deregistrations
            payload = sign(payload, FOREIGN_HOME, agent)
        source = datagram.destination
        if not is_unicast(source) or self.config.is_broadcast(source):
            source = self.config.address
        # A node that asks from its home address is at home, whatever binding still exists (§3.8.3.1).
        at_home = self._returned_home(datagram, request)
        self._out.add(
            SendDatagram(
                Datagram(
                    payload,
                    source,
                    datagram.destination_port,
                    datagram.source,
                    datagram.source_port,
                    self.config.home_interface if at_home else None,
                    link_address=datagram.link_address if at_home else None,
                )
            )
        )

    # What follows from a change of bindings.

    def flush(self) -> None:
        """Forget every binding, without a message to anybody."""
        for home_address in tuple(self._bindings):
            care_of_addresses = self._bindings.care_of_addresses(home_address)
            self._bindings.remove(home_address)
            for care_of in care_of_addresses:
                self._out.event("binding-removed", home_address=str(home_address), care_of=str(care_of))
            self._bindings_changed(home_address)
            self._remember(home_address)

    def _bindings_changed(self, home_address: IPv4Address) -> None:
        self._multicast.changed(home_address)
        if home_address in self._bindings:
            ends = self._bindings.ends(home_address)
            self._out.add(SetBinding(home_address, ends, self._reverse_tunnel(home_address)))
            return
        self._out.add(ClearBinding(home_address))
        if self.config.home_interface is not None:
            self._out.add(ProxyArp(home_address, False))
        self._arps.cancel(home_address)

    def _stand_in(self, home_address: IPv4Address, now: float) -> None:
        """Receive on the home link what is for a mobile node that is away (§4.6)."""
        if self.config.home_interface is not None:
            self._out.add(ProxyArp(home_address, True))
            self._arps.announce(GratuitousArp(home_address, self.config.home_interface), now)

    def _announce_return(self, datagram: Datagram, home_address: IPv4Address, now: float) -> None:
        """The home agent's own gratuitous ARP with the mobile node's link address (§4.6)."""
        if datagram.link_address is None:
            self.counters["gratuitous-arps-omitted"] += 1  # the mobile node has sent its own
            return
        arp = GratuitousArp(home_address, self.config.home_interface, datagram.link_address)
        self._arps.announce(arp, now)

    def _reverse_tunnel(self, home_address: IPv4Address) -> bool:
        return any(binding.reverse_tunnel for binding in self._bindings.of(home_address))

    @staticmethod
    def _returned_home(datagram: Datagram, request: RegistrationRequest) -> bool:
        return request.lifetime == 0 and request.care_of_address == request.home_address == datagram.source
