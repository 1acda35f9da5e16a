"""The home agent: RFC 5944 §3.8, one behaviour per test."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from mip_world import (
    CARE_OF,
    EPOCH,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    association,
    clock,
    events,
    home_agent_config,
    only_discarded,
    sent,
)

from testbed.mobileip.core.api import AgentMessage, Datagram, GratuitousArp, SendAgentMessage, TunnelEnd
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp, SetBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire import agent_solicitation
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag
from testbed.mobileip.wire.algorithm import Algorithm
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.extension import Extension, encode_extensions
from testbed.mobileip.wire.identification import LOW, SECOND, from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

SA = association(HOME_ADDRESS)
FA_SOURCE = A("203.0.113.10")
FA_SA = association(FA_SOURCE, 400, b"between agents")

GRE, MINIMAL, IP_IN_IP = Encapsulation.GRE, Encapsulation.MINIMAL, Encapsulation.IP_IN_IP


class Bench:
    """A home agent and a way to ask it."""

    def __init__(self, **changes) -> None:
        self.ha = HomeAgent(home_agent_config(advertising=None, **changes), clock)
        self.now = 0.0
        self.effects: list = []

    def ask(self, *, at=None, foreign=None, source=CARE_OF, destination=HOME_AGENT, skew=0.0, sa=SA,
            extra=b"", link_address=None, **fields):  # fmt: skip
        """Send a request; return the reply, None if there is none."""
        self.now = self.now + 1.0 if at is None else at
        fields = {
            "flags": RequestFlag.DECAPSULATION,
            "lifetime": 300,
            "home_address": HOME_ADDRESS,
            "home_agent": HOME_AGENT,
            "care_of_address": CARE_OF,
            "identification": from_unix(EPOCH + self.now + skew) % 2**64,
        } | fields
        self.request = RegistrationRequest(**fields)
        payload = self.request.encode() + extra
        if sa is not None:
            payload = sign(payload, 32, sa)
        if foreign is not None:
            payload = sign(payload, 34, foreign)
        return self.send(Datagram(payload, source, 5434, destination, 434, link_address=link_address))

    def send(self, datagram: Datagram):
        self.sent = datagram
        self.ha.receive(datagram, self.now)
        self.effects = self.ha.effects()
        datagrams = sent(self.effects)
        if not datagrams:
            return None
        assert len(datagrams) == 1
        self.reply_datagram = datagrams[0]
        reply = RegistrationReply.decode(datagrams[0].payload)
        assert (
            reply.identification & LOW
            == RegistrationRequest.decode_fixed(datagram.payload).low_identification
        )
        associations = Associations(self.ha.config.mobile_nodes)
        associations.authenticate(datagrams[0].payload, reply.extensions, 32, reply.home_address)
        return reply

    def of(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def counters(self):
        return self.ha.counters

    @property
    def care_of(self):
        return (
            self.ha.state(self.now)["bindings"]
            and self.ha.state(self.now)["bindings"][0]["care_of_addresses"]
        )


# Accepting


def test_a_registration_sets_the_binding_and_the_arp_and_then_is_answered():
    bench = Bench()
    reply = bench.ask(flags=RequestFlag.DECAPSULATION | RequestFlag.REVERSE_TUNNEL)
    assert (reply.code, reply.lifetime, reply.home_agent) == (0, 300, HOME_AGENT)
    assert reply.identification == bench.request.identification
    shown = [effect for effect in bench.effects if not hasattr(effect, "fields")]
    assert shown[:3] == [
        SetBinding(HOME_ADDRESS, (TunnelEnd(CARE_OF),), True),
        ProxyArp(HOME_ADDRESS, True),
        GratuitousArp(HOME_ADDRESS, "home"),
    ]
    out = bench.reply_datagram
    assert (out.source, out.source_port) == (HOME_AGENT, 434)
    assert (out.destination, out.destination_port, out.interface) == (CARE_OF, 5434, None)
    assert events(bench.effects, "binding") == [
        {"home_address": "10.0.1.100", "care_of": "198.51.100.70", "lifetime": 300}
    ]


def test_a_renewal_changes_nothing_for_the_data_plane():
    bench = Bench()
    bench.ask()
    reply = bench.ask(at=100)
    assert reply.code == 0
    assert not bench.of(SetBinding) and not bench.of(ProxyArp) and not bench.of(GratuitousArp)
    assert bench.ha.state(100)["bindings"][0]["lifetime_left"] == 300


def test_the_gratuitous_arp_is_repeated_a_few_times():
    bench = Bench()
    bench.ask(at=1.0)
    seen = 0
    while (when := bench.ha.deadline()) is not None and when < 100:
        bench.ha.tick(when)
        seen += sum(isinstance(effect, GratuitousArp) for effect in bench.ha.effects())
    assert seen == 2


@pytest.mark.parametrize(("asked", "granted"), [(1, 1), (600, 600), (601, 600), (0xFFFF, 600)])
def test_a_lifetime_is_never_longer_than_allowed_nor_than_asked(asked, granted):
    assert Bench().ask(lifetime=asked).lifetime == granted


def test_an_infinite_lifetime_does_not_expire():
    bench = Bench(lifetime=0xFFFF, home_interface=None)
    assert bench.ask(lifetime=0xFFFF).lifetime == 0xFFFF
    assert bench.ha.deadline() is None
    assert bench.ha.state(1e9)["bindings"][0]["lifetime_left"] is None


def test_a_binding_expires_without_a_word_to_the_mobile_node():
    bench = Bench()
    bench.ask(at=1.0, lifetime=50)
    bench.ha.tick(50.9)
    bench.ha.effects()
    assert bench.care_of
    assert bench.ha.deadline() == 51.0
    bench.ha.tick(51.0)
    bench.effects = bench.ha.effects()
    assert bench.of(ClearBinding) == [ClearBinding(HOME_ADDRESS)]
    assert bench.of(ProxyArp) == [ProxyArp(HOME_ADDRESS, False)]
    assert sent(bench.effects) == []  # §3.8
    assert bench.ha.state(51)["bindings"] == []


def test_without_s_a_new_care_of_address_replaces_the_old():
    bench = Bench()
    bench.ask()
    other = A("192.0.2.9")
    bench.ask(care_of_address=other)
    assert bench.of(SetBinding) == [SetBinding(HOME_ADDRESS, (TunnelEnd(other),), False)]
    assert not bench.of(ProxyArp)


def test_with_s_bindings_are_kept_and_expire_one_by_one():
    bench = Bench(simultaneous=2)
    other = A("192.0.2.9")
    bench.ask(at=1, lifetime=100)
    assert bench.ask(at=2, care_of_address=other, flags=RequestFlag.SIMULTANEOUS, lifetime=50).code == 0
    assert bench.of(SetBinding) == [SetBinding(HOME_ADDRESS, (TunnelEnd(CARE_OF), TunnelEnd(other)), False)]
    assert not bench.of(ProxyArp) and not bench.of(GratuitousArp)
    bench.ha.tick(52)
    bench.effects = bench.ha.effects()
    assert bench.of(SetBinding) == [SetBinding(HOME_ADDRESS, (TunnelEnd(CARE_OF),), False)]
    assert not bench.of(ClearBinding)


def test_without_support_for_simultaneous_bindings_the_code_is_1():
    bench = Bench(simultaneous=1)
    bench.ask()
    assert bench.ask(care_of_address=A("192.0.2.9"), flags=RequestFlag.SIMULTANEOUS).code == 1
    assert bench.care_of == ["192.0.2.9"]


# Deregistration


def test_a_node_at_home_deregisters_and_its_own_link_address_is_announced():
    bench = Bench()
    bench.ask()
    reply = bench.ask(lifetime=0, care_of_address=HOME_ADDRESS, source=HOME_ADDRESS, link_address=MN_MAC)
    assert (reply.code, reply.lifetime) == (0, 0)
    shown = [effect for effect in bench.effects if not hasattr(effect, "fields")]
    assert shown[:3] == [
        ClearBinding(HOME_ADDRESS),
        ProxyArp(HOME_ADDRESS, False),
        GratuitousArp(HOME_ADDRESS, "home", MN_MAC),
    ]
    assert bench.reply_datagram.interface == "home"  # §3.8.3.1: as if there were no binding
    assert bench.reply_datagram.link_address == MN_MAC


def test_where_its_link_address_is_unknown_none_is_announced():
    bench = Bench()
    bench.ask()
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS, source=HOME_ADDRESS)
    assert not bench.of(GratuitousArp) and bench.counters["gratuitous-arps-omitted"] == 1
    assert bench.ha.deadline() is None  # the announcement of its absence is not repeated either


def test_one_care_of_address_may_be_deregistered():
    bench = Bench()
    other = A("192.0.2.9")
    bench.ask()
    bench.ask(care_of_address=other, flags=RequestFlag.SIMULTANEOUS)
    assert bench.ask(lifetime=0).code == 0
    assert bench.care_of == [str(other)]
    assert bench.ask(lifetime=0, care_of_address=A("192.0.2.99")).code == 0  # none such: nothing happens
    assert bench.care_of == [str(other)]
    assert bench.ask(lifetime=0, care_of_address=HOME_ADDRESS).code == 0  # from away
    assert bench.of(ClearBinding) and not bench.of(GratuitousArp)
    assert bench.ask(lifetime=0, care_of_address=HOME_ADDRESS).code == 0  # and again
    assert not bench.of(ClearBinding) and not bench.of(ProxyArp)


def test_a_refused_deregistration_is_answered_at_home_and_changes_nothing():
    bench = Bench()
    bench.ask()
    reply = bench.ask(
        lifetime=0, care_of_address=HOME_ADDRESS, source=HOME_ADDRESS, skew=-60, link_address=MN_MAC
    )
    assert reply.code == 133
    assert bench.reply_datagram.interface == "home"
    assert bench.care_of and not bench.of(ProxyArp) and not bench.of(GratuitousArp)


def test_a_virtual_home_network_knows_no_arp():
    bench = Bench(home_interface=None)
    bench.ask()
    assert bench.of(SetBinding) and not bench.of(ProxyArp) and not bench.of(GratuitousArp)
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS, source=HOME_ADDRESS, link_address=MN_MAC)
    assert bench.of(ClearBinding) and not bench.of(ProxyArp) and not bench.of(GratuitousArp)


# Denying: one case per code


@pytest.mark.parametrize(
    ("code", "config", "fields"),
    [
        (129, {}, {"care_of_address": A("10.0.1.101")}),  # a home address: tunnels might loop
        (134, {}, {"flags": RequestFlag.X}),
        (134, {}, {"care_of_address": HOME_ADDRESS}),
        (134, {}, {"care_of_address": HOME_AGENT}),
        (134, {}, {"care_of_address": A("224.0.0.1")}),
        (134, {}, {"care_of_address": A("0.0.0.0")}),
        (134, {}, {"care_of_address": A("255.255.255.255")}),
        (134, {}, {"care_of_address": A("127.0.0.1")}),
        (136, {}, {"home_agent": A("10.0.1.3")}),
        (136, {}, {"home_agent": A("10.0.1.255"), "destination": A("10.0.1.255")}),
        (136, {}, {"destination": A("255.255.255.255")}),
        (137, {"reverse_tunnel": ReverseTunnel.REFUSED}, {"flags": RequestFlag.REVERSE_TUNNEL}),
        (138, {"reverse_tunnel": ReverseTunnel.REQUIRED}, {"flags": RequestFlag.DECAPSULATION}),
        (139, {"encapsulations": (GRE,)}, {"flags": RequestFlag.MINIMAL}),
        (139, {"encapsulations": (GRE,)}, {"flags": RequestFlag.GRE | RequestFlag.MINIMAL}),
        (139, {"encapsulations": (MINIMAL,)}, {"flags": RequestFlag.GRE}),
    ],
)
def test_denials(code, config, fields):
    bench = Bench(**config, mobile_nodes=(SA, association(A("10.0.1.101"))))
    reply = bench.ask(**fields)
    assert reply.code == code
    assert reply.home_agent == HOME_AGENT
    assert bench.reply_datagram.source == HOME_AGENT
    assert bench.counters[f"denied-{code}"] == 1
    assert not bench.of(SetBinding) and not bench.of(ProxyArp) and bench.ha.state(0)["bindings"] == []
    assert events(bench.effects, "denied")[0]["code"] == code


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.1.0", "10.0.1.255", str(HOME_AGENT)])
def test_129_for_a_home_address_that_cannot_be_served(address):
    bench = Bench(mobile_nodes=(association(A(address)),))
    assert bench.ask(home_address=A(address), sa=association(A(address))).code == 129


def test_130_beyond_the_limit_of_bindings_but_renewals_go_on():
    others = [A(f"10.0.1.{number}") for number in range(50, 53)]
    bench = Bench(bindings=2, mobile_nodes=tuple(association(each) for each in others))
    codes = [bench.ask(home_address=each, sa=association(each)).code for each in others]
    assert codes == [0, 0, 130]
    assert bench.ask(home_address=others[0], sa=association(others[0])).code == 0
    bench.ask(home_address=others[0], care_of_address=others[0], lifetime=0, sa=association(others[0]))
    assert bench.ask(home_address=others[2], sa=association(others[2])).code == 0


def test_what_was_denied_for_want_of_room_cannot_be_replayed_when_there_is_room():
    others = [A(f"10.0.1.{number}") for number in range(50, 52)]
    bench = Bench(bindings=1, mobile_nodes=tuple(association(each) for each in others))
    bench.ask(home_address=others[0], sa=association(others[0]))
    assert bench.ask(home_address=others[1], sa=association(others[1])).code == 130
    replayed = bench.sent
    bench.ask(home_address=others[0], care_of_address=others[0], lifetime=0, sa=association(others[0]))
    assert bench.send(replayed).code == 133


def test_131_for_a_wrong_authenticator_and_for_an_unknown_spi():
    bench = Bench()
    assert bench.ask(sa=association(HOME_ADDRESS, key=b"wrong")).code == 131
    assert events(bench.effects, "denied")[0]["code"] == 131
    assert bench.ask(sa=association(HOME_ADDRESS, spi=999)).code == 131
    assert bench.counters["mobile-node-bad-authenticator"] == 1
    assert bench.counters["mobile-node-unknown-spi"] == 1
    assert bench.ask().code == 0  # and nothing of it stays


def test_the_reply_uses_the_context_of_the_request():
    second = association(HOME_ADDRESS, 777, b"another key", Algorithm.KEYED_MD5)
    third = association(HOME_ADDRESS, 778, bytes(32), Algorithm.HMAC_SHA_256)
    bench = Bench(mobile_nodes=(SA, second, third))
    for used in (SA, second, third):
        reply = bench.ask(sa=used)
        assert reply.code == 0
        assert reply.extensions[0].data[:4] == used.spi.to_bytes(4, "big")


def test_132_when_the_foreign_agent_does_not_prove_itself():
    bench = Bench(foreign_agents=(FA_SA,))
    wrong = association(FA_SOURCE, 400, b"wrong")
    assert bench.ask(source=FA_SOURCE).code == 132
    assert bench.ask(source=FA_SOURCE, foreign=wrong).code == 132
    assert bench.ask(source=FA_SOURCE, foreign=FA_SA).code == 0
    reply = RegistrationReply.decode(bench.reply_datagram.payload)
    assert [each.type for each in reply.extensions] == [32, 34]  # §3.8.3.3
    Associations((FA_SA,)).authenticate(bench.reply_datagram.payload, reply.extensions, 34, FA_SOURCE)
    assert bench.ask(source=FA_SOURCE, lifetime=0).code == 0  # a deregistration needs none
    reply = RegistrationReply.decode(bench.reply_datagram.payload)
    assert [each.type for each in reply.extensions] == [32]


def test_132_for_two_proofs_of_the_foreign_agent():
    bench = Bench(foreign_agents=(FA_SA,))
    stamp = from_unix(EPOCH) % 2**64
    request = RegistrationRequest(0, 300, HOME_ADDRESS, HOME_AGENT, FA_SOURCE, stamp)
    payload = sign(sign(sign(request.encode(), 32, SA), 34, FA_SA), 34, FA_SA)
    assert bench.send(Datagram(payload, FA_SOURCE, 434, HOME_AGENT, 434)).code == 132


def test_a_bad_mobile_node_is_told_through_an_agent_only_if_the_agent_proves_itself():
    bench = Bench(foreign_agents=(FA_SA,))
    wrong = association(HOME_ADDRESS, key=b"wrong")
    assert bench.ask(source=FA_SOURCE, sa=wrong, foreign=FA_SA).code == 131
    assert bench.ask(source=FA_SOURCE, sa=wrong) is None
    assert bench.counters["discarded-failed-authentication"] == 1


@pytest.mark.parametrize("skew", [-3600, -7.5, 7.5, 3600, 10**8])
def test_133_gives_the_home_agents_time(skew):
    bench = Bench()
    reply = bench.ask(skew=skew)
    assert reply.code == 133
    assert reply.identification >> 32 == (from_unix(EPOCH + bench.now) // SECOND) % 2**32
    assert bench.ask(skew=0).code == 0


def test_133_for_a_replay_and_for_what_was_overtaken():
    bench = Bench()
    bench.ask()
    replayed = bench.sent
    assert bench.send(replayed).code == 133
    assert bench.ask(skew=-2).code == 133  # younger than the tolerance, older than the last accepted
    assert bench.care_of == [str(CARE_OF)]
    assert bench.ha.state(bench.now)["bindings"][0]["lifetime_left"] == 299


def test_135_beyond_the_limit_of_simultaneous_bindings():
    bench = Bench(simultaneous=2)
    flags = RequestFlag.SIMULTANEOUS
    codes = [bench.ask(care_of_address=A(f"192.0.2.{n}"), flags=flags).code for n in (1, 2, 3, 2)]
    assert codes == [0, 0, 135, 0]
    assert bench.ask(care_of_address=A("192.0.2.3")).code == 0  # without S: instead of the others


def test_ignored_flags_are_ignored():
    assert Bench().ask(flags=RequestFlag.BROADCAST | RequestFlag.R).code == 0


def test_a_deregistration_is_granted_whatever_tunnel_it_names():
    bench = Bench(reverse_tunnel=ReverseTunnel.REQUIRED)
    assert bench.ask(lifetime=0, care_of_address=HOME_ADDRESS, flags=RequestFlag.GRE).code == 0


# Silence


@pytest.mark.parametrize(
    ("counter", "arguments"),
    [
        ("discarded-missing-authentication", {"sa": None}),
        ("discarded-no-security-association", {"home_address": A("10.0.1.77")}),
        ("discarded-no-security-association", {"home_address": A("0.0.0.0")}),
        ("discarded-foreign-home-without-association", {"foreign": FA_SA}),
        ("discarded-unknown-extension", {"extra": encode_extensions([Extension(100, b"?")])}),
        ("discarded-truncated", {"sa": None, "extra": b"\x20\xff\x00"}),
        ("discarded-unanswerable", {"source": A("0.0.0.0")}),
        ("discarded-unanswerable", {"source": A("224.0.0.1")}),
    ],
)
def test_discarded_silently(counter, arguments):
    bench = Bench()
    assert bench.ask(**arguments) is None
    assert only_discarded(bench.effects)
    assert bench.counters[counter] == 1


def test_no_other_message_is_answered():
    bench = Bench()
    for payload in (b"", b"\x03" + bytes(40), b"\x07" + bytes(40), b"\x01", b"\x01" + bytes(22)):
        bench.ha.receive(Datagram(payload, CARE_OF, 434, HOME_AGENT, 434), 0.0)
        assert only_discarded(bench.ha.effects())
    assert bench.counters["discarded-type"] == 2 and bench.counters["discarded-truncated"] == 2
    assert bench.counters["discarded-revocation-missing-authentication"] == 1


def test_skippable_extensions_are_skipped():
    assert Bench().ask(extra=encode_extensions([Extension(200, b"?"), Extension(0)])).code == 0


# Advertising on the home link


def test_it_advertises_itself_as_home_agent_and_answers_solicitations():
    ha = HomeAgent(home_agent_config(), clock)
    ha.tick(0.0)
    (first,) = (effect.message for effect in ha.effects() if isinstance(effect, SendAgentMessage))
    advertisement = AgentAdvertisement.decode(first.payload)
    assert advertisement.mobility.flags == AgentFlag.HOME_AGENT | AgentFlag.GRE | AgentFlag.MINIMAL
    assert advertisement.mobility.sequence == 0 and advertisement.mobility.care_of_addresses == ()
    assert (first.destination, first.ttl, first.interface) == (A("224.0.0.1"), 1, "home")
    assert 0.75 <= ha.deadline() <= 1.0
    ask = AgentMessage(agent_solicitation.encode(), HOME_ADDRESS, A("224.0.0.11"), "home", 1, MN_MAC)
    ha.receive_agent_message(ask, 0.1)
    (answer,) = (effect.message for effect in ha.effects())
    assert (answer.destination, answer.link_address, answer.ttl) == (HOME_ADDRESS, MN_MAC, 1)
    ha.receive_agent_message(replace(ask, interface="internet"), 0.1)
    ha.receive_agent_message(replace(ask, ttl=64), 0.1)
    ha.receive_agent_message(replace(ask, payload=b"\x0a\0\0\0\0\0\0\0"), 0.1)
    assert only_discarded(ha.effects())


def test_many_nodes_are_served():
    nodes = [A(0x0A000000 + 256 + number) for number in range(3000)]
    config = home_agent_config(
        home_prefix=IPv4Network("10.0.0.0/16"),
        mobile_nodes=tuple(association(each) for each in nodes if each != HOME_AGENT),
        advertising=None,
    )
    ha = HomeAgent(config, clock)
    for number, node in enumerate(nodes):
        if node == HOME_AGENT:
            continue
        now = number / 100
        request = RegistrationRequest(0x20, 30, node, HOME_AGENT, CARE_OF, from_unix(EPOCH + now) % 2**64)
        payload = sign(request.encode(), 32, association(node))
        ha.receive(Datagram(payload, CARE_OF, 434, HOME_AGENT, 434), now)
    assert ha.counters["requests-accepted"] == 2999
    ha.tick(40.0)
    assert ha.state(40)["mobile_nodes"] == 1999
