"""The home agent (RFC 5944 §3.8)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from ipaddress import IPv4Address
from random import Random, SystemRandom
from typing import Any

from testbed.mobileip.core.aaa import Credentials
from testbed.mobileip.core.advertiser import Advertiser
from testbed.mobileip.core.api import (
    AgentMessage,
    ClearBinding,
    Clock,
    Datagram,
    Effect,
    GratuitousArp,
    ProxyArp,
    Records,
    Remember,
    SetBinding,
)
from testbed.mobileip.core.association import Associations, sign, spi_of
from testbed.mobileip.core.counters import HOME_AGENT
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.disposition import Deny, Discard
from testbed.mobileip.core.gratuitous_arp import GratuitousArps
from testbed.mobileip.core.home.addresses import HomeAddresses
from testbed.mobileip.core.home.admission import check_request, verify_for_aaa
from testbed.mobileip.core.home.advertisement import home_agent_advertisement
from testbed.mobileip.core.home.answers import returned_home, to_sender
from testbed.mobileip.core.home.authentication import HomeAuthentication
from testbed.mobileip.core.home.bindings import Binding, BindingTable
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.multicast import HomeMulticast
from testbed.mobileip.core.home.revocation import HomeRevocation
from testbed.mobileip.core.home.udp_tunnel import decide, take_keepalive, udp_end
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.replay import ReplayGuard
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.security import Peer, SecurityAssociation
from testbed.mobileip.wire import registration_request, revocation, udp_tunnel
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.challenge import CHALLENGE, challenge
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension, encode_extensions
from testbed.mobileip.wire.nai import TYPE as NAI
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
        self._authentication = HomeAuthentication(self._nodes, self._agents, self.counters)
        self._bindings = BindingTable()
        self._homes = HomeAddresses(config, self._nodes, self._bindings)
        rng = rng or SystemRandom()
        self._credentials = Credentials(config.aaa)
        self._replay = ReplayGuard(config.replay_tolerance, rng)
        self._multicast = HomeMulticast(config, self._bindings, self._out, self.counters)
        self.receive_broadcast = self._multicast.heard
        self._arps = GratuitousArps(self._out)
        peers = self._nodes, self._agents
        self._revocation = HomeRevocation(
            config, clock, self._bindings, peers, self._homes.owner, self._out, self.counters, self._moved
        )
        self.revoke = self._revocation.revoke
        self._advertiser: Advertiser | None = None
        if config.advertising is not None and config.home_interface is not None:
            self._advertiser = Advertiser(
                config.home_interface,
                config.advertised_address or config.address,
                config.advertising,
                partial(home_agent_advertisement, config),
                self.counters,
                self._discards,
                rng,
            )

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a UDP datagram that arrived at port 434."""
        kind = datagram.payload[0] if datagram.payload else None
        if kind == udp_tunnel.DATA:
            if (node := take_keepalive(self.config.address, datagram, self._bindings, self._out)) is not None:
                self._moved(node)
            return
        try:
            if kind in revocation.MESSAGES:
                self._revocation.receive(datagram)
            else:
                self.counters["requests-received"] += 1
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
        if (home_address := self._multicast.tunnelled(datagram, now)) is not None:
            self._remember(self._homes.owner(home_address))

    def tick(self, now: float) -> None:
        """Expire bindings, repeat gratuitous ARPs, advertise."""
        for home_address, care_of in self._bindings.expire(now):
            self.counters["bindings-expired"] += 1
            self._out.event("binding-expired", home_address=str(home_address), care_of=str(care_of))
            self._moved(home_address)
        for home_address in self._multicast.tick(now):
            self._remember(self._homes.owner(home_address))
        self._revocation.tick(now)
        self._arps.tick(now)
        if self._advertiser is not None:
            self._out.add(*self._advertiser.tick(now))

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        due = [self._bindings.next_expiry(), self._arps.next(), self._multicast.deadline()]
        due.append(self._revocation.deadline())
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
            "bindings": [
                {**self._bindings.picture(home_address, now), "nai": self._homes.nai(home_address)}
                for home_address in self._bindings
            ],
            "groups": self._multicast.picture(),
            "counters": dict(sorted(self.counters.items())),
        }

    # What outlives this process.

    def restore(self, records: Records, now: float) -> None:
        """Take up what a predecessor asked to remember: what it accepted last, and the bindings that hold.

        Raises ValueError, KeyError or TypeError for records that no home agent has made.
        """
        for node, record in records.items():
            if node not in self._nodes:  # the configuration has changed
                self._out.add(Remember(node, None))
                continue
            bindings = [Binding.from_record(each, self._clock, now) for each in record["bindings"]]
            self._replay.restore(node, record)
            if (home_address := self._homes.restore(node, record.get("home_address"))) is None:
                continue
            for binding in bindings:
                if binding.expires is None or binding.expires > now:
                    self._bindings.add(home_address, binding, retain=True)
            if home_address in self._bindings:
                self._bindings_changed(home_address)
                self._multicast.restore(home_address, record, now)
                self._arps.stand_in(home_address, self.config.home_interface, now)
                care_of = ", ".join(map(str, self._bindings.care_of_addresses(home_address)))
                self._out.event("binding-restored", home_address=str(home_address), care_of=care_of)

    def _remember(self, node: Peer) -> None:
        home_address = self._homes.of(node)
        bindings = self._bindings.of(home_address) if home_address is not None else ()
        record: dict[str, Any] = {
            **self._replay.record(node),
            "bindings": [each.record(self._clock) for each in bindings],
        }
        if isinstance(node, str):
            record["home_address"] = None if home_address is None else str(home_address)
        more = self._multicast.record(home_address) if home_address is not None else {}
        self._out.add(Remember(node, {**record, **more}))

    # A request, from arrival to reply.

    def _receive_request(self, datagram: Datagram, now: float) -> None:
        if datagram.payload[:1] != bytes((registration_request.TYPE,)):
            raise Discard("type")
        request = RegistrationRequest.decode(datagram.payload)
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
            self._homes.check(node, request.home_address)
            check_request(self.config, datagram, request, self._homes)
            answer = decide(self.config, datagram, request, self._homes)
            terms = self._revocation.terms(datagram, request, answer, now)
            code, lifetime = self._accept(datagram, request, answer, terms, now)
        except Deny as denial:
            code, lifetime, answer = denial.code, min(request.lifetime, self.config.lifetime), None
            terms = None
            self._tell_denial(request, code, denial.why)
        else:
            self.counters["requests-accepted"] += 1
            if (before_it := self._homes.assign(node, request.home_address)) is not None:
                self._remember(before_it)
        mismatch = code == Code.HA_IDENTIFICATION_MISMATCH
        identification = guard.reply(node, request.identification, unix_time, mismatch)
        if fresh:
            self._remember(node)
        self._reply(datagram, request, association, code, lifetime, identification, answer, terms)
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
            self._bindings.replace(home_address, before)
            self._revocation.restored(before, home_address)
            self._arps.cancel(home_address)
            if undo:
                self._bindings_changed(home_address)
                if before and self.config.home_interface is not None:
                    self._out.add(ProxyArp(home_address, True))
        self.counters["requests-accepted"] -= 1
        self._tell_denial(request, code, why)
        lifetime = min(request.lifetime, self.config.lifetime)
        guard = self._replay.by(association.replay)
        node = self._homes.owner(home_address)
        identification = guard.reply(node, request.identification, 0.0, mismatch=False)
        self._remember(node)
        self._reply(datagram, request, association, code, lifetime, identification)

    def _tell_denial(self, request: RegistrationRequest, code: Code, why: str) -> None:
        self.counters[f"denied-{code}"] += 1
        self._out.event(
            "denied",
            home_address=str(request.home_address),
            care_of=str(request.care_of_address),
            code=int(code),
            reason=why or describe(code),
        )

    def _accept(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        answer: UdpTunnelReply | None,
        terms: Terms | None,
        now: float,
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
            interface = self.config.home_interface
            if returned_home(datagram, request) and interface is not None:
                if datagram.link_address is None:
                    self.counters["gratuitous-arps-omitted"] += 1  # the mobile node has sent its own
                else:  # §4.6: our own, with the mobile node's link address
                    arp = GratuitousArp(home_address, interface, datagram.link_address)
                    self._arps.announce(arp, now)
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
        binding = Binding(care_of, request.identification, request.flags, lifetime, now, udp, terms)
        self._bindings.add(home_address, binding, retain)
        also = {"port": udp.port} if udp is not None else {}
        self._out.event(
            "binding", home_address=str(home_address), care_of=str(care_of), lifetime=lifetime, **also
        )
        after = self._bindings.ends(home_address)
        if after != before or reverse_before != self._reverse_tunnel(home_address):
            self._bindings_changed(home_address)
        if not had_bindings:
            self._arps.stand_in(home_address, self.config.home_interface, now)
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
        terms: Terms | None = None,
    ) -> None:
        """§3.8.3; what is for the other end of the tunnel is in what proves the reply to that."""
        # RFC 2794 §3: whoever gives an NAI finds it in the reply.
        nai = tuple(each for each in request.extensions if each.type == NAI)[:1]
        fixed = (code, lifetime, request.home_address, self.config.address, identification)
        reply = RegistrationReply(*fixed, nai)
        extension = encode_extensions(each.encode() for each in (answer, terms) if each is not None)
        if request.flags & RequestFlag.DECAPSULATION:
            payload = sign(reply.encode() + extension, MOBILE_HOME, association)
        else:
            payload = sign(reply.encode(), MOBILE_HOME, association) + extension
        if (value := challenge(request.extensions)) is not None:  # RFC 4721 §3.4
            payload += Extension(CHALLENGE, value).encode()
        agent = self._agents.choose(datagram.source, spi_of(request.extensions, FOREIGN_HOME))
        if agent is not None and request.lifetime != 0:  # §3.5.4: never on deregistrations
            payload = sign(payload, FOREIGN_HOME, agent)
        self._out.add(to_sender(self.config, datagram, request, payload))

    # What follows from a change of bindings.

    def flush(self) -> None:
        """Forget every binding, without a message to anybody."""
        for home_address in tuple(self._bindings):
            care_of_addresses = self._bindings.care_of_addresses(home_address)
            self._bindings.remove(home_address)
            for care_of in care_of_addresses:
                self._out.event("binding-removed", home_address=str(home_address), care_of=str(care_of))
            self._moved(home_address)
        self._revocation.clear()

    def _moved(self, home_address: IPv4Address) -> None:
        self._bindings_changed(home_address)
        self._remember(self._homes.owner(home_address))

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

    def _reverse_tunnel(self, home_address: IPv4Address) -> bool:
        return any(binding.reverse_tunnel for binding in self._bindings.of(home_address))
