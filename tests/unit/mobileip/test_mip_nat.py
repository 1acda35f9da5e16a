"""Mobile IP through NATs (RFC 3519): home agent, foreign agent and mobile node, with a NAT between them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from mip_world import (
    CARE_OF,
    EPOCH,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    World,
    association,
    clock,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
    sent,
)

from testbed.mobileip.core.api import AgentMessage, Datagram, TunnelEnd
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.bindings import Binding
from testbed.mobileip.core.home.config import UdpTunnelling
from testbed.mobileip.core.home.effects import SetBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.mobile.config import UdpTunnel
from testbed.mobileip.core.mobile.effects import UseCoLocated
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag, MobilityAgentExtension
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.echo import REPLY, REQUEST, Echo
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import (
    GRE,
    IP_IN_IP,
    MINIMAL,
    TunnelData,
    UdpTunnelReply,
    UdpTunnelRequest,
)

PRIVATE, PUBLIC, OTHER_PUBLIC = A("192.168.1.100"), A("203.0.113.50"), A("203.0.113.60")
D, T, S = RequestFlag.DECAPSULATION, RequestFlag.REVERSE_TUNNEL, RequestFlag.SIMULTANEOUS
IN_UDP = (Encapsulation.UDP,)
ASKS = UdpTunnelRequest()


def end(port: int, address=PUBLIC) -> TunnelEnd:
    return TunnelEnd(address, IN_UDP, remote_port=port)


class Home:
    """A home agent, asked by hand."""

    def __init__(self, **changes) -> None:
        self.ha = HomeAgent(home_agent_config(**{"lifetime": 600, **changes}), clock, Random(1))
        self.at = 0.0
        self.effects = []

    def ask(
        self,
        asks: UdpTunnelRequest | Extension | None = ASKS,
        by_agent: Extension | None = None,
        flags: int = D | T,
        care_of=PRIVATE,
        source=PUBLIC,
        port: int = 40001,
        lifetime: int = 300,
    ) -> RegistrationReply:
        self.at += 1.0
        own = asks.encode() if isinstance(asks, UdpTunnelRequest) else asks
        request = RegistrationRequest(
            int(flags),
            lifetime,
            HOME_ADDRESS,
            HOME_AGENT,
            care_of,
            from_unix(EPOCH + self.at),
            (own,) if own else (),
        )
        payload = sign(request.encode(), MOBILE_HOME, association(HOME_ADDRESS))
        payload += by_agent.encode() if by_agent else b""
        self.ha.receive(Datagram(payload, source, port, HOME_AGENT, 434), self.at)
        self.effects = self.ha.effects()
        (self.answer,) = sent(self.effects)
        assert (self.answer.destination, self.answer.destination_port) == (source, port)
        return RegistrationReply.decode(self.answer.payload)

    @property
    def ends(self) -> tuple[TunnelEnd, ...] | None:
        """What the shell is told, by the last request; None: nothing."""
        told = [effect.ends for effect in self.effects if isinstance(effect, SetBinding)]
        return told[-1] if told else None

    def keepalive(
        self, source=PUBLIC, port: int = 40009, inner=HOME_ADDRESS, to=HOME_AGENT, kind: int = REQUEST
    ):
        self.tunnel_data(TunnelData(IP_IN_IP, Echo(kind, 7, 1).datagram(inner, to)), source, port)

    def tunnel_data(self, message: TunnelData, source=PUBLIC, port: int = 40009):
        payload = message.encode()
        self.at += 1.0
        self.ha.receive(Datagram(payload, source, port, HOME_AGENT, 434), self.at)
        self.effects = self.ha.effects()


def answer_of(reply: RegistrationReply) -> UdpTunnelReply | None:
    found = [extension for extension in reply.extensions if extension.type == 44]
    return UdpTunnelReply.decode(found[0].data) if found else None


# The home agent (§4.6).


def test_a_source_that_is_not_the_care_of_address_shows_a_nat():
    home = Home()
    reply = home.ask()
    assert (reply.code, reply.lifetime) == (0, 60)  # §5.2
    assert answer_of(reply) == UdpTunnelReply(0, forced=False, keepalive=0)
    assert [extension.type for extension in reply.extensions] == [44, 32]  # covered by the proof
    assert home.ends == (end(40001),)
    (picture,) = home.ha.state(home.at)["bindings"]
    assert picture["care_of_addresses"] == [str(PUBLIC)]
    (binding,) = picture["bindings"]
    assert [binding[key] for key in ("encapsulation", "port", "asked")] == ["udp", 40001, str(PRIVATE)]


def test_without_a_nat_it_declines_and_tunnels_as_ever():
    home = Home()
    reply = home.ask(care_of=CARE_OF, source=CARE_OF)
    assert (reply.code, reply.lifetime) == (0, 300)
    assert answer_of(reply) == UdpTunnelReply(64)
    assert home.ends == (TunnelEnd(CARE_OF),)


def test_without_the_extension_nothing_is_different():
    home = Home()
    reply = home.ask(None)
    assert (reply.code, answer_of(reply)) == (0, None)
    assert home.ends == (TunnelEnd(PRIVATE),)


def test_a_tunnel_is_forced_where_that_is_permitted():
    home = Home()
    forced = UdpTunnelRequest(force=True)
    assert answer_of(home.ask(forced, care_of=CARE_OF, source=CARE_OF)) == UdpTunnelReply(0, forced=True)
    assert home.ends == (end(40001, CARE_OF),)
    home = Home(udp_tunnel=UdpTunnelling(forced=False))
    assert home.ask(forced, care_of=CARE_OF, source=CARE_OF).code == Code.HA_PROHIBITED
    assert home.ask(forced).code == 0  # behind a NAT it needs no force


def test_the_keepalive_and_the_lifetime_are_configured():
    home = Home(udp_tunnel=UdpTunnelling(keepalive=20, lifetime=120))
    reply = home.ask()
    assert (reply.lifetime, answer_of(reply)) == (120, UdpTunnelReply(0, keepalive=20))


def test_where_it_is_not_permitted_a_nat_means_129():
    home = Home(udp_tunnel=None)
    assert home.ask().code == Code.HA_PROHIBITED
    reply = home.ask(care_of=CARE_OF, source=CARE_OF)
    assert (reply.code, answer_of(reply)) == (0, None)
    assert home.ask(UdpTunnelRequest(force=True), care_of=CARE_OF, source=CARE_OF).code == Code.HA_PROHIBITED


G, M = RequestFlag.GRE, RequestFlag.MINIMAL
ALL, ONLY_GRE = (Encapsulation.GRE, Encapsulation.MINIMAL), (Encapsulation.GRE,)


@pytest.mark.parametrize(
    ("encapsulation", "flags", "used"),
    [
        (0, 0, IN_UDP),
        (IP_IN_IP, 0, IN_UDP),
        (IP_IN_IP, G, IN_UDP),  # §3.1.4: what the extension says goes before the bits
        (GRE, 0, (Encapsulation.GRE_IN_UDP,)),
        (0, G, (Encapsulation.GRE_IN_UDP,)),
        (MINIMAL, 0, (Encapsulation.MINIMAL_IN_UDP, Encapsulation.UDP)),
        (0, M, (Encapsulation.MINIMAL_IN_UDP, Encapsulation.UDP)),
        (MINIMAL, G, (Encapsulation.MINIMAL_IN_UDP, Encapsulation.UDP)),
    ],
)
def test_the_encapsulation_in_udp_is_the_one_that_is_asked_for(encapsulation, flags, used):
    home = Home()
    reply = home.ask(UdpTunnelRequest(encapsulation=encapsulation), flags=D | T | flags)
    assert (reply.code, home.ends) == (0, (TunnelEnd(PUBLIC, used, remote_port=40001),))
    (binding,) = home.ha.state(home.at)["bindings"][0]["bindings"]
    assert binding["encapsulation"] == used[0].value
    known = home.ha._bindings.of(HOME_ADDRESS)
    assert Binding.from_record(known[0].record(clock), clock, home.at) == known[0]


@pytest.mark.parametrize(
    ("encapsulation", "offered", "code"), [(99, ALL, 142), (MINIMAL, ONLY_GRE, 142), (GRE, ONLY_GRE, 0)]
)
def test_another_encapsulation_in_udp_is_unavailable(encapsulation, offered, code):
    home = Home(encapsulations=offered)
    assert home.ask(UdpTunnelRequest(encapsulation=encapsulation)).code == code


def test_who_asks_must_be_the_end_of_the_tunnel():
    """§4.6.1: a mobile node that does not decapsulate, and an agent where the mobile node does."""
    home = Home()
    agents = UdpTunnelRequest().encode()
    assert home.ask(flags=T).code == Code.HA_POORLY_FORMED_REQUEST
    assert home.ask(None, by_agent=agents, flags=D | T).code == Code.HA_POORLY_FORMED_REQUEST
    reply = home.ask(None, by_agent=agents, flags=T)
    assert reply.code == 0
    assert [extension.type for extension in reply.extensions] == [
        32,
        44,
    ]  # for the agent, not the mobile node
    assert home.ends == (end(40001),)


def test_a_request_that_is_not_understood_is_skipped():
    """§3.1.3: Reserved 3 is not zero."""
    home = Home()
    reply = home.ask(Extension(144, bytes((0, 0, 0, 4, 0, 1))))
    assert (reply.code, answer_of(reply)) == (0, None)
    assert home.ends == (TunnelEnd(PRIVATE),)


def test_a_known_care_of_address_that_comes_from_a_new_port_moves_the_tunnel():
    home = Home()
    home.ask(port=40001)
    home.ask(port=40001)
    assert home.ends is None  # a renewal
    home.ask(port=40002)
    assert home.ends == (end(40002),)
    home.ask(source=OTHER_PUBLIC, port=40002)  # the same private address behind another NAT (§5.1)
    assert home.ends == (end(40002, OTHER_PUBLIC),)
    (picture,) = home.ha.state(home.at)["bindings"]
    assert picture["care_of_addresses"] == [str(OTHER_PUBLIC)]


def test_bindings_may_differ_in_their_tunnels():
    """§4.7: with simultaneous bindings."""
    home = Home()
    home.ask(None, care_of=CARE_OF, source=CARE_OF)
    home.ask(flags=D | T | S)
    assert home.ends == (TunnelEnd(CARE_OF), end(40001))


def test_a_binding_ends_by_the_address_that_the_mobile_node_knows():
    home = Home()
    home.ask()
    home.ask(None, lifetime=0)
    assert home.ha.state(home.at)["bindings"] == []


def test_its_end_is_no_home_address():
    assert Home().ask(source=HOME_ADDRESS).code == Code.HA_PROHIBITED


def test_only_registrations_move_a_tunnel():
    """§4.3, §5.2: keepalives from elsewhere are data that the data plane refuses."""
    home = Home()
    home.ask()
    home.keepalive(port=40002)
    assert home.effects == []


def test_the_keepalive_stays_as_configured_however_often_a_mapping_is_lost():
    """§4.10: the home agent does not try to compensate."""
    home = Home(udp_tunnel=UdpTunnelling(keepalive=90))
    answers = [answer_of(home.ask(port=port)) for port in range(40001, 40009)]
    assert answers == [UdpTunnelReply(0, keepalive=90)] * 8


def test_through_an_agent_the_first_keepalive_says_where_the_mobile_node_is():
    """§4.6, §6.1.2: the port may differ, the address may not."""
    home = Home()
    reply = home.ask(UdpTunnelRequest(through_agent=True), port=5000)
    assert answer_of(reply) == UdpTunnelReply(0)
    assert home.ends == ()  # nothing is sent yet
    for bogus in (
        {"source": OTHER_PUBLIC},
        {"inner": A("10.0.1.101")},
        {"to": A("10.0.1.3")},
        {"kind": REPLY},
    ):
        home.keepalive(**bogus)
        assert home.effects == [], bogus
    home.keepalive()
    assert home.ends == (end(40009),)
    (answer,) = sent(home.effects)
    assert (answer.destination, answer.destination_port) == (PUBLIC, 40009)
    inner = TunnelData.decode(answer.payload).payload
    assert Echo.from_datagram(inner) == (HOME_AGENT, HOME_ADDRESS, Echo(REPLY, 7, 1))
    home.keepalive(port=40010)
    assert home.effects == []  # it is not half bound any more
    home.ask(UdpTunnelRequest(through_agent=True), port=5000)
    assert home.ends is None  # a renewal, until the next keepalive says otherwise
    home.keepalive(port=40010)
    assert home.ends == (end(40010),)


def test_a_restart_keeps_the_tunnel():
    home = Home()
    home.ask(UdpTunnelRequest(through_agent=True), port=5000)
    home.keepalive()
    record = [effect.record for effect in home.effects if hasattr(effect, "record")][-1]
    again = HomeAgent(home.ha.config, clock, Random(1))
    again.restore({HOME_ADDRESS: record}, home.at)
    assert [effect.ends for effect in again.effects() if isinstance(effect, SetBinding)] == [(end(40009),)]


# The mobile node (§4.4, §4.9, §4.10), behind a NAT.


class Nat(World):
    """A mobile node behind a NAT whose mappings live for `lifetime` seconds after the last packet out."""

    def __init__(
        self, udp_tunnel: UdpTunnel = UdpTunnel.NAT, keepalive: int = 0, home=None, **changes
    ) -> None:
        mn = MobileNode(
            mobile_node_config(udp_tunnel=udp_tunnel, reverse_tunnel=True, **changes), clock, Random(1)
        )
        tunnelling = UdpTunnelling(keepalive=keepalive, lifetime=600)
        config = home_agent_config(udp_tunnel=tunnelling, **(home or {}))
        super().__init__(mn, HomeAgent(config, clock, Random(2)), [])
        self.public, self.lifetime = PUBLIC, 1e9
        self.port, self.used = 40000, -1e9
        self.ends: tuple[TunnelEnd, ...] = ()

    def _carry_out(self, core, effect) -> None:
        if isinstance(effect, SetBinding):
            self.ends = effect.ends
        super()._carry_out(core, effect)

    def _deliver(self, sender, datagram) -> None:
        alive = self.now - self.used < self.lifetime
        if sender is self.mn:
            if not alive:
                self.port += 1
            self.used = self.now
            datagram = replace(datagram, source=self.public, source_port=self.port)
            if datagram.payload[0] == 4:
                self._data_plane(datagram)
        elif datagram.destination == self.public:
            if not alive or datagram.destination_port != self.port:
                return
            datagram = replace(datagram, destination=self.care_of, destination_port=434)
        super()._deliver(sender, replace(datagram, interface=self.where) if sender is self.mn else datagram)

    def _data_plane(self, datagram: Datagram) -> None:
        """The home agent's kernel answers echo requests that come out of the tunnel."""
        if not any((e.address, e.remote_port) == (datagram.source, datagram.source_port) for e in self.ends):
            return
        message = TunnelData.decode(datagram.payload)
        inner = message.datagram(datagram.source, datagram.destination)
        source, destination, echo = Echo.from_datagram(inner)
        inner = replace(echo, type=REPLY).datagram(destination, source)
        answer = TunnelData.around(message.next_header, inner).encode()
        back = Datagram(answer, HOME_AGENT, 434, datagram.source, datagram.source_port)
        self._post(lambda: self._deliver(self.ha, back))

    def works(self) -> bool:
        """Whether both ends have the same tunnel, and the NAT's mapping for it is there."""
        assert isinstance(self.use, UseCoLocated)
        alive = self.now - self.used < self.lifetime
        return (
            alive
            and self.ends == (end(self.port, self.public),)
            and self.use.home_agent == end(434, HOME_AGENT)
        )

    def keepalives(self) -> list[float]:
        return [
            round(at)
            for at, core, effect in self.log
            if core is self.mn and hasattr(effect, "datagram") and effect.datagram.payload[0] == 4
        ]


def test_behind_a_nat_the_mobile_node_uses_the_tunnel_that_it_is_granted():
    world = Nat()
    world.attach("cafe", PRIVATE)
    world.run(1)
    assert world.works()
    assert world.mn.state(world.now)["keepalive"] == 110
    request = RegistrationRequest.decode(world.wire[0])
    assert request.flags == D | T
    assert [extension.type for extension in request.extensions] == [144, 32]


def test_it_asks_for_the_tunnel_with_t_and_uses_that_whatever_else_it_does():
    """§3.1.5: T SHOULD be set."""
    world = Nat()
    world.mn = MobileNode(mobile_node_config(udp_tunnel=UdpTunnel.NAT), clock, Random(1))
    world.attach("cafe", PRIVATE)
    world.run(1)
    assert RegistrationRequest.decode(world.wire[0]).flags == D | T
    assert world.use == UseCoLocated("cafe", PRIVATE, end(434, HOME_AGENT), True)


def test_without_an_answer_there_is_no_tunnel_in_udp(monkeypatch):
    """§3.1.1: a home agent that does not know the extension."""
    from testbed.mobileip.core.home import requests

    monkeypatch.setattr(requests, "decide", lambda *_: None)
    world = Nat(UdpTunnel.FORCED)
    world.attach("cafe", PRIVATE)
    world.run(1)
    assert world.use == UseCoLocated("cafe", PRIVATE, TunnelEnd(HOME_AGENT), True)
    assert world.mn.state(world.now)["keepalive"] is None
    world.run(300)
    assert world.keepalives() == []


def test_what_it_did_not_ask_for_it_does_not_use(monkeypatch):
    from testbed.mobileip.core.home import requests

    monkeypatch.setattr(requests, "decide", lambda *_: UdpTunnelReply())
    world = Nat(UdpTunnel.OFF)
    world.attach("cafe", PRIVATE)
    world.run(1)
    assert world.use == UseCoLocated("cafe", PRIVATE, TunnelEnd(HOME_AGENT), True)


def test_a_reply_without_an_answer_ends_the_tunnel_in_udp(monkeypatch):
    """§4.6: that a home agent once knew the extension says nothing of the next reply."""
    from testbed.mobileip.core.home import requests

    world = Nat()
    world.attach("cafe", PRIVATE)
    world.run(1)
    assert world.works()
    monkeypatch.setattr(requests, "decide", lambda *_: None)
    world.mn.renew(world.now)
    world.run(1)
    assert world.use == UseCoLocated("cafe", PRIVATE, TunnelEnd(HOME_AGENT), True)


def test_requests_renewals_and_keepalives_leave_from_one_port_as_they_are():
    """§4.4, §4.9; §4.2: registration messages are never tunnelled."""
    world = Nat(keepalive=30, lifetime=300, port=5000)
    world.attach("cafe", PRIVATE)
    world.run(500)
    said = [
        effect.datagram for _, core, effect in world.log if core is world.mn and hasattr(effect, "datagram")
    ]
    assert {each.source_port for each in said} == {5000}
    kinds = [each.payload[0] for each in said]
    assert kinds.count(1) == 2 and kinds.count(4) > 10
    assert all(each.destination == HOME_AGENT for each in said)
    carried = [TunnelData.decode(each.payload).payload for each in said if each.payload[0] == 4]
    assert all(Echo.from_datagram(each) for each in carried)


def test_keepalives_come_after_silence_and_are_answered():
    world = Nat(keepalive=30, lifetime=300)
    world.attach("cafe", PRIVATE)
    world.run(100)
    assert world.keepalives() == [30, 60, 90]
    assert world.mn.counters["keepalives-answered"] == 3
    assert world.mn.counters["mappings-lost"] == 0
    world.run(185)
    assert world.mn.counters["requests-sent"] == 2  # the renewal at 270
    assert world.keepalives()[-1] == 270 or world.keepalives()[-1] == 240
    world.where = None
    world.mn.detach(world.now)
    count = len(world.keepalives())
    world.run(200)
    assert len(world.keepalives()) == count


def test_keepalives_keep_a_mapping_that_lives_longer():
    world = Nat(keepalive=30)
    world.lifetime = 35
    world.attach("cafe", PRIVATE)
    world.run(500)
    assert world.works()
    assert world.port == 40001


def test_a_lost_mapping_is_noticed_and_repaired_with_shorter_keepalives():
    """§4.10; 110 s, then 55, then 27.5: a mapping of 30 s is kept alive in the end."""
    world = Nat()
    world.lifetime = 30
    world.attach("cafe", PRIVATE)
    world.run(100)
    assert not world.works()  # and nobody can know
    world.run(20)  # the keepalive of 110 s and its repetitions
    assert world.works()
    assert world.mn.counters["mappings-lost"] == 1
    world.run(400)
    assert world.mn.counters["mappings-lost"] == 2
    assert world.mn.state(world.now)["keepalive"] == 27.5
    assert world.works()
    world.public = OTHER_PUBLIC
    world.attach("cafe-2", PRIVATE)  # §5.1, §4.10: the same address, another NAT and the original interval
    world.run(1)
    assert world.works()
    assert world.mn.state(world.now)["keepalive"] == 110


def test_keepalives_are_never_less_than_ten_seconds_apart():
    world = Nat(keepalive=3)
    world.lifetime = 5
    world.attach("cafe", PRIVATE)
    world.run(300)
    sent_at = world.keepalives()
    assert world.mn.state(world.now)["keepalive"] == 10
    assert world.mn.counters["mappings-lost"] > 3
    assert sent_at[0] == 10


def test_an_answer_from_elsewhere_does_not_count():
    kept = Keepalives(10, MobileNode(mobile_node_config(), clock).counters)
    kept.keep(HOME_ADDRESS, (PRIVATE, HOME_AGENT, "cafe"), 0, 0.0)
    (due,), _ = kept.tick(10.0)
    _, _, echo = Echo.from_datagram(TunnelData.decode(due.datagram.payload).payload)
    inner = replace(echo, type=REPLY).datagram(HOME_AGENT, HOME_ADDRESS)
    good = Datagram(TunnelData(4, inner).encode(), HOME_AGENT, 434, PRIVATE, 434)
    for wrong in (
        replace(good, source=OTHER_PUBLIC),
        replace(good, source_port=435),
        replace(good, payload=TunnelData(47, inner).encode()),
        replace(good, payload=TunnelData.around(47, inner).encode()),  # §3.3: not as was agreed on
        replace(good, payload=TunnelData(4, inner[:-1]).encode()),
        replace(good, payload=TunnelData(4, Echo(REPLY, 434, 9).datagram(HOME_AGENT, HOME_ADDRESS)).encode()),
    ):
        kept.receive(wrong, 10.5)
        assert kept.deadline() == 11.0
    kept.receive(good, 10.5)
    assert kept.deadline() == 20.5


# Through a foreign agent.


def advertisement(flags: int) -> AgentMessage:
    payload = AgentAdvertisement(
        3, ((FA_ADDRESS, 0),), MobilityAgentExtension(9, 600, flags, (FA_CARE_OF,)), (24,)
    ).encode()
    return AgentMessage(payload, FA_ADDRESS, A("224.0.0.1"), "cafe", 1, MN_MAC)


@pytest.mark.parametrize("behind_nat", [False, True])
def test_a_co_located_address_through_an_agent_asks_only_where_that_is_behind_a_nat(behind_nat):
    """§4.4: with the R flag, and a keepalive at once."""
    mn = MobileNode(mobile_node_config(udp_tunnel=UdpTunnel.NAT), clock, Random(1))
    mn.attach("cafe", PRIVATE, 0.0)
    mn.effects()
    flags = AgentFlag.REGISTRATION_REQUIRED | AgentFlag.FOREIGN_AGENT | AgentFlag.REVERSE_TUNNEL
    mn.receive_agent_message(advertisement(flags | (AgentFlag.UDP_TUNNEL if behind_nat else 0)), 2.0)
    (request,) = sent(mn.effects())
    assert request.destination == FA_ADDRESS
    found = [e for e in RegistrationRequest.decode(request.payload).extensions if e.type == 144]
    assert [UdpTunnelRequest.decode(each.data) for each in found] == (
        [UdpTunnelRequest(through_agent=True, encapsulation=4)] if behind_nat else []
    )
    asked = RegistrationRequest.decode(request.payload)
    reply = RegistrationReply(0, 60, HOME_ADDRESS, HOME_AGENT, asked.identification)
    extension = UdpTunnelReply().encode().encode() if behind_nat else b""
    payload = sign(reply.encode() + extension, MOBILE_HOME, association(HOME_AGENT))
    mn.receive(Datagram(payload, FA_ADDRESS, 434, PRIVATE, 434, "cafe"), 2.1)
    mn.tick(2.1)
    keepalives = [each for each in sent(mn.effects()) if each.payload[0] == 4]
    assert [each.destination for each in keepalives] == ([HOME_AGENT] if behind_nat else [])


def test_with_an_agents_care_of_address_the_mobile_node_never_asks():
    """§4.4."""
    mn = MobileNode(mobile_node_config(udp_tunnel=UdpTunnel.FORCED), clock, Random(1))
    mn.discover("cafe", 0.0)
    mn.effects()
    mn.receive_agent_message(advertisement(AgentFlag.FOREIGN_AGENT | AgentFlag.UDP_TUNNEL), 2.0)
    (request,) = sent(mn.effects())
    found = RegistrationRequest.decode(request.payload)
    assert found.care_of_address == FA_CARE_OF
    assert [extension.type for extension in found.extensions] == [32]


class Agent:
    """A foreign agent behind a NAT."""

    def __init__(self, **changes) -> None:
        self.fa = ForeignAgent(foreign_agent_config(udp_tunnel=True, **changes), clock, Random(1))

    def relay(self, flags: int = T, care_of=FA_CARE_OF, lifetime: int = 300) -> Datagram:
        request = RegistrationRequest(flags, lifetime, HOME_ADDRESS, HOME_AGENT, care_of, 77)
        payload = sign(request.encode(), MOBILE_HOME, association(HOME_AGENT))
        self.fa.receive(Datagram(payload, HOME_ADDRESS, 434, FA_ADDRESS, 434, "visited", 255, MN_MAC), 1.0)
        (relayed,) = sent(self.fa.effects())
        return relayed

    def reply(self, extension: bytes, association_=None) -> list:
        reply = RegistrationReply(0, 60, HOME_ADDRESS, HOME_AGENT, 77)
        payload = sign(reply.encode(), MOBILE_HOME, association(HOME_AGENT)) + extension
        if association_ is not None:
            payload = sign(payload, FOREIGN_HOME, association_)
        self.fa.receive(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434), 1.1)
        return self.fa.effects()


def test_an_agent_behind_a_nat_says_so_and_asks_for_the_tunnel():
    """§3.4, §4.5: between the two proofs, from the care-of address."""
    agent = Agent(home_agents=(association(HOME_AGENT),))
    agent.fa.tick(0.0)
    (advertised,) = (effect.message.payload for effect in agent.fa.effects() if hasattr(effect, "message"))
    assert AgentAdvertisement.decode(advertised).mobility.flags & AgentFlag.UDP_TUNNEL
    relayed = agent.relay()
    assert relayed.source == FA_CARE_OF
    kinds = [extension.type for extension in RegistrationRequest.decode(relayed.payload).extensions]
    assert kinds == [32, 144, 34]
    effects = agent.reply(UdpTunnelReply(keepalive=20).encode().encode(), association(HOME_AGENT))
    (visitor,) = (effect for effect in effects if isinstance(effect, SetVisitor))
    assert visitor.home_agent == TunnelEnd(HOME_AGENT, IN_UDP)
    (relayed,) = sent(effects)
    assert [extension.type for extension in RegistrationReply.decode(relayed.payload).extensions] == [32]
    agent.fa.tick(21.1)
    (keepalive,) = (each for each in sent(agent.fa.effects()) if each.payload[0] == 4)
    assert (keepalive.source, keepalive.destination) == (FA_CARE_OF, HOME_AGENT)
    agent.fa.flush()
    agent.fa.effects()
    agent.fa.tick(100.0)
    assert not [each for each in sent(agent.fa.effects()) if each.payload[0] == 4]


def test_an_agent_behind_no_nat_does_not_say_that_it_is():
    """§3.4."""
    fa = ForeignAgent(foreign_agent_config(), clock, Random(1))
    fa.tick(0.0)
    (advertised,) = (effect.message.payload for effect in fa.effects() if hasattr(effect, "message"))
    assert not AgentAdvertisement.decode(advertised).mobility.flags & AgentFlag.UDP_TUNNEL


def test_a_declined_tunnel_is_an_ordinary_one():
    for extension in (UdpTunnelReply(64).encode().encode(), b""):
        agent = Agent()
        agent.relay()
        (visitor,) = (effect for effect in agent.reply(extension) if isinstance(effect, SetVisitor))
        assert visitor.home_agent == TunnelEnd(HOME_AGENT)


def test_for_a_co_located_address_an_agent_never_asks():
    """§4.5."""
    agent = Agent()
    relayed = agent.relay(D | T, PRIVATE)
    assert [extension.type for extension in RegistrationRequest.decode(relayed.payload).extensions] == [32]


def test_behind_a_nat_reverse_tunnels_are_mandatory():
    """§4.5."""
    refused = RegistrationReply.decode(Agent().relay(0).payload)
    assert refused.code == Code.FA_REVERSE_TUNNEL_MANDATORY
    with pytest.raises(ValueError, match="reverse tunnels"):
        foreign_agent_config(udp_tunnel=True, reverse_tunnel=ReverseTunnel.REFUSED)


def test_a_poorly_formed_answer_makes_a_poorly_formed_reply():
    agent = Agent()
    agent.relay()
    (refused,) = sent(agent.reply(bytes((44, 1, 0))))
    assert RegistrationReply.decode(refused.payload).code == Code.FA_POORLY_FORMED_REPLY


def test_a_visitor_keeps_its_tunnel_over_a_restart():
    agent = Agent()
    agent.relay()
    effects = agent.reply(UdpTunnelReply(keepalive=20).encode().encode())
    (record,) = (effect.record for effect in effects if hasattr(effect, "record"))
    again = Agent()
    again.fa.restore({HOME_ADDRESS: record}, 2.0)
    (visitor,) = (effect for effect in again.fa.effects() if isinstance(effect, SetVisitor))
    assert visitor.home_agent == TunnelEnd(HOME_AGENT, IN_UDP)


@pytest.mark.parametrize("keepalive", [9, 0x10000])
def test_impossible_keepalives(keepalive):
    """§4.10."""
    for make in (mobile_node_config, foreign_agent_config):
        with pytest.raises(ValueError, match="keepalive"):
            make(keepalive=keepalive)


def test_an_echo_is_read_as_scapy_writes_it():
    from scapy.layers.inet import ICMP, IP

    packet = IP(src=str(HOME_ADDRESS), dst=str(HOME_AGENT)) / ICMP(id=434, seq=5) / b"data"
    assert Echo.from_datagram(bytes(packet)) == (HOME_ADDRESS, HOME_AGENT, Echo(REQUEST, 434, 5))
    ours = IP(Echo(REPLY, 434, 5).datagram(HOME_AGENT, HOME_ADDRESS))
    assert (ours[ICMP].type, ours[ICMP].id, ours[ICMP].seq) == (0, 434, 5)
    for at in (9, 12, 20, 24, 26):
        changed = bytearray(bytes(packet))
        changed[at] ^= 0x20
        with pytest.raises(WireError):
            Echo.from_datagram(bytes(changed))
