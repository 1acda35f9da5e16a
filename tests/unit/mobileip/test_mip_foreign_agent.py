"""The foreign agent: RFC 5944 §2.3, §3.7 and RFC 3024 §4.2, one behaviour per test."""

from __future__ import annotations

import json
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
    association,
    clock,
    events,
    foreign_agent_config,
    only_discarded,
    sent,
)

from testbed.mobileip.core.api import Datagram, SendAgentMessage, TunnelEnd
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.foreign.pending import PENDING_PER_NODE
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.extension import Extension, encode_extensions
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

SA = association(HOME_ADDRESS)
MN_FA = association(HOME_ADDRESS, 500, b"mobile and foreign")
FA_HA = association(HOME_AGENT, 600, b"foreign and home")

GRE, MINIMAL, IP_IN_IP = Encapsulation.GRE, Encapsulation.MINIMAL, Encapsulation.IP_IN_IP


class Bench:
    """A foreign agent, a way to ask it, and a way to answer as the home agent would."""

    def __init__(self, **changes) -> None:
        self.fa = ForeignAgent(foreign_agent_config(**changes), clock, Random(1))
        self.now = 0.0

    def ask(self, *, at=None, sa=SA, extra=b"", trailer=b"", mobile_foreign=None, ttl=255, port=5434,
            destination=FA_ADDRESS, interface="visited", link_address=MN_MAC, **fields):  # fmt: skip
        """Send a request; return ("relay", datagram), ("deny", reply) or None."""
        self.now = self.now + 1.0 if at is None else at
        fields = {
            "flags": 0,
            "lifetime": 300,
            "home_address": HOME_ADDRESS,
            "home_agent": HOME_AGENT,
            "care_of_address": FA_CARE_OF,
            "identification": from_unix(EPOCH + self.now) % 2**64,
        } | fields
        self.request = RegistrationRequest(**fields)
        payload = self.request.encode() + extra
        if sa is not None:
            payload = sign(payload, 32, sa)
        self.proven = payload
        payload += trailer
        if mobile_foreign is not None:
            payload = sign(payload, 33, mobile_foreign)
        source = fields["home_address"]
        return self.send(
            Datagram(payload, source, port, destination, 434, interface, ttl, link_address=link_address)
        )

    def send(self, datagram):
        self.fa.receive(datagram, self.now)
        self.effects = self.fa.effects()
        return self._outcome()

    def _outcome(self):
        datagrams = sent(self.effects)
        if not datagrams:
            return None
        (self.out,) = datagrams
        if self.out.payload[0] == 1:
            return "relay", self.out
        return "deny", RegistrationReply.decode(self.out.payload)

    def answer(self, *, sa=SA, extra=b"", foreign_home=None, source=HOME_AGENT, **fields):
        """Answer the latest request; return the reply that reaches the mobile node, None if none does."""
        request = self.request
        fields = {
            "code": 0,
            "lifetime": request.lifetime,
            "home_address": request.home_address,
            "home_agent": request.home_agent,
            "identification": request.identification,
        } | fields
        payload = RegistrationReply(**fields).encode()
        if sa is not None:
            payload = sign(payload, 32, sa)
        self.proven = payload
        payload += extra
        if foreign_home is not None:
            payload = sign(payload, 34, foreign_home)
        self.fa.receive(Datagram(payload, source, 434, FA_CARE_OF, 434, "internet"), self.now)
        self.effects = self.fa.effects()
        outcome = self._outcome()
        return outcome and outcome[1]

    def of(self, kind):
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def counters(self):
        return self.fa.counters

    @property
    def visitors(self):
        return [each["home_address"] for each in self.fa.state(self.now)["visitors"]]


# Relaying


def test_a_request_is_relayed_unchanged_and_its_reply_returned():
    bench = Bench()
    kind, out = bench.ask(flags=RequestFlag.REVERSE_TUNNEL)
    assert kind == "relay" and out.payload == bench.proven
    assert (out.source, out.destination, out.destination_port) == (FA_CARE_OF, HOME_AGENT, 434)
    assert not bench.of(SetVisitor)  # nothing is forwarded before the home agent has agreed
    reply = bench.answer()
    assert reply.code == 0 and bench.out.payload == bench.proven
    assert (bench.out.source, bench.out.source_port) == (FA_ADDRESS, 434)
    assert (bench.out.destination, bench.out.destination_port) == (HOME_ADDRESS, 5434)
    assert (bench.out.interface, bench.out.link_address) == ("visited", MN_MAC)
    assert bench.effects[0] == SetVisitor(
        HOME_ADDRESS, TunnelEnd(HOME_AGENT), FA_CARE_OF, "visited", MN_MAC, True
    )
    assert bench.fa.state(bench.now)["pending"] == []


def test_what_is_only_for_the_foreign_agent_is_removed():
    bench = Bench(mobile_nodes=(MN_FA,))
    kind, out = bench.ask(
        extra=encode_extensions([Extension(200, b"for the home agent")]),
        trailer=encode_extensions([Extension(201, b"for the foreign agent")]),
        mobile_foreign=MN_FA,
    )
    assert kind == "relay" and out.payload == bench.proven
    reply = bench.answer(extra=encode_extensions([Extension(202, b"for the foreign agent")]))
    assert [each.type for each in reply.extensions] == [32, 33]
    assert bench.out.payload.startswith(bench.proven)
    Associations((MN_FA,)).authenticate(bench.out.payload, reply.extensions, 33, HOME_ADDRESS)


def test_agents_that_share_an_association_prove_themselves():
    bench = Bench(home_agents=(FA_HA,))
    _, out = bench.ask()
    request = RegistrationRequest.decode(out.payload)
    assert [each.type for each in request.extensions] == [32, 34]
    Associations((FA_HA,)).authenticate(out.payload, request.extensions, 34, HOME_AGENT)
    reply = bench.answer(foreign_home=FA_HA)
    assert reply.code == 0 and [each.type for each in reply.extensions] == [32]
    _, out = bench.ask(lifetime=0, care_of_address=HOME_ADDRESS)  # never on a deregistration (§3.5.4)
    assert [each.type for each in RegistrationRequest.decode(out.payload).extensions] == [32]
    assert bench.answer().code == 0 and bench.visitors == []
    _, out = bench.ask(care_of_address=CARE_OF, flags=RequestFlag.DECAPSULATION)  # nor on another's address
    assert [each.type for each in RegistrationRequest.decode(out.payload).extensions] == [32]


def test_a_co_located_node_may_register_through_it():
    bench = Bench()
    assert bench.ask(care_of_address=CARE_OF, flags=RequestFlag.DECAPSULATION)[0] == "relay"
    bench.answer()
    assert bench.of(SetVisitor)[0].care_of_address == CARE_OF


# Denying: one case per code


@pytest.mark.parametrize(
    ("code", "config", "arguments"),
    [
        (65, {"own_addresses": frozenset({A("203.0.113.99")})}, {"home_address": A("203.0.113.99")}),
        (65, {}, {"home_address": FA_ADDRESS}),
        (67, {"mobile_nodes": (MN_FA,)}, {}),
        (67, {"mobile_nodes": (MN_FA,)}, {"mobile_foreign": association(HOME_ADDRESS, 500, b"wrong")}),
        (69, {}, {"lifetime": 601}),
        (70, {}, {"flags": RequestFlag.X}),
        (70, {}, {"sa": None}),
        (70, {}, {"sa": None, "extra": b"\x20\xff"}),
        (70, {}, {"home_address": A("224.0.0.9")}),
        (70, {}, {"home_address": HOME_AGENT}),
        (70, {}, {"trailer": encode_extensions([Extension(130)])}),
        (72, {"encapsulations": (MINIMAL,)}, {"flags": RequestFlag.GRE}),
        (72, {"encapsulations": (GRE,)}, {"flags": RequestFlag.GRE | RequestFlag.MINIMAL}),
        (72, {"encapsulations": (GRE,)}, {"flags": RequestFlag.MINIMAL}),
        (74, {"reverse_tunnel": ReverseTunnel.REFUSED}, {"flags": RequestFlag.REVERSE_TUNNEL}),
        (75, {"reverse_tunnel": ReverseTunnel.REQUIRED}, {}),
        (76, {}, {"flags": RequestFlag.REVERSE_TUNNEL, "ttl": 254}),
        (77, {}, {"care_of_address": CARE_OF}),
        (77, {}, {"care_of_address": HOME_ADDRESS, "flags": RequestFlag.DECAPSULATION}),
        (77, {}, {"care_of_address": A("224.0.0.1"), "flags": RequestFlag.DECAPSULATION}),
        (
            79,
            {"encapsulating_delivery": False},
            {"flags": RequestFlag.REVERSE_TUNNEL, "trailer": encode_extensions([Extension(130)])},
        ),
        (96, {}, {"home_address": A("0.0.0.0")}),
        (194, {}, {"home_agent": FA_CARE_OF}),
        (194, {}, {"home_agent": A("224.0.0.1")}),
    ],
)
def test_denials(code, config, arguments):
    bench = Bench(**config)
    kind, reply = bench.ask(**arguments)
    assert (kind, reply.code) == ("deny", code)
    request = bench.request
    assert reply.home_address == request.home_address and reply.home_agent == request.home_agent
    assert reply.identification == request.identification
    assert reply.lifetime == (600 if code == 69 else request.lifetime)  # §3.7.2.3
    assert bench.out.link_address == MN_MAC and bench.out.interface == "visited"
    assert bench.counters[f"denied-{code}"] == 1
    assert bench.fa.state(0)["pending"] == [] and not bench.of(SetVisitor)
    assert events(bench.effects, "denied")[0]["code"] == code


def test_a_node_without_home_address_is_answered_by_broadcast():
    bench = Bench()
    bench.ask(home_address=A("0.0.0.0"))
    assert bench.out.destination == A("255.255.255.255")


def test_the_answer_comes_from_the_address_asked_unless_that_was_all_agents():
    bench = Bench()
    bench.ask(lifetime=601, destination=FA_CARE_OF)
    assert bench.out.source == FA_CARE_OF
    bench.ask(lifetime=601, destination=A("224.0.0.11"))
    assert bench.out.source == FA_ADDRESS


def test_denials_are_limited_to_one_per_second_and_node():
    bench = Bench()
    assert [bench.ask(at=t, lifetime=601) is not None for t in (1, 1.5, 1.99, 2, 2.5)] == [
        True, False, False, True, False,
    ]  # fmt: skip
    assert bench.ask(at=2.5, lifetime=601, home_address=A("10.0.1.101")) is not None
    assert bench.counters["denials-withheld"] == 3


def test_66_when_the_pending_list_is_full():
    bench = Bench(pending=3)
    nodes = [A(f"10.0.1.{number}") for number in range(50, 54)]
    outcomes = [bench.ask(at=1.0, home_address=node) for node in nodes]
    assert [kind for kind, _ in outcomes] == ["relay"] * 3 + ["deny"]
    assert outcomes[3][1].code == 66
    bench.fa.tick(8.0)
    bench.fa.effects()
    assert bench.ask(at=8.1, home_address=nodes[3])[0] == "relay"


def test_66_when_one_node_asks_too_often():
    bench = Bench()
    outcomes = [bench.ask(at=1 + step / 10) for step in range(PENDING_PER_NODE + 1)]
    assert [kind for kind, _ in outcomes] == ["relay"] * PENDING_PER_NODE + ["deny"]
    assert bench.ask(at=1.0, home_address=A("10.0.1.101"))[0] == "relay"


def test_66_and_the_busy_bit_when_the_visitor_list_is_full():
    bench = Bench(visitors=1)
    bench.ask()
    bench.answer()
    _, reply = bench.ask(home_address=A("10.0.1.101"))
    assert reply.code == 66
    assert bench.ask()[0] == "relay"  # who is there may renew
    bench.fa.tick(bench.now + 1)
    message = next(effect for effect in bench.fa.effects() if isinstance(effect, SendAgentMessage)).message
    flags = AgentAdvertisement.decode(message.payload).mobility.flags
    assert flags & AgentFlag.BUSY and flags & AgentFlag.FOREIGN_AGENT


def test_78_after_seven_seconds_without_a_reply():
    bench = Bench()
    bench.ask(at=1.0)
    bench.fa.tick(7.9)
    assert sent(bench.fa.effects()) == []
    bench.fa.tick(8.0)
    bench.effects = bench.fa.effects()
    assert bench._outcome()[1].code == 78
    assert bench.answer() is None and bench.counters["discarded-no-pending-request"] == 1


@pytest.mark.parametrize(
    ("icmp", "code"),
    [(0, 80), (6, 80), (11, 80), (1, 81), (7, 81), (12, 81), (3, 82), (2, 88), (13, 88), (250, 88)],
)
def test_80_to_88_when_the_home_agent_is_unreachable(icmp, code):
    bench = Bench()
    bench.ask()
    bench.fa.unreachable(A("10.9.9.9"), icmp, bench.now)
    assert sent(bench.fa.effects()) == []
    bench.fa.unreachable(HOME_AGENT, icmp, bench.now)
    bench.effects = bench.fa.effects()
    assert bench._outcome()[1].code == code
    bench.fa.unreachable(HOME_AGENT, icmp, bench.now)
    assert bench.fa.effects() == []


def test_68_when_the_home_agent_does_not_prove_itself():
    for wrong in ({}, {"foreign_home": association(HOME_AGENT, 600, b"wrong")}):
        bench = Bench(home_agents=(FA_HA,))
        bench.ask()
        assert bench.answer(**wrong).code == 68
        assert bench.visitors == [] and bench.counters["discarded-failed-authentication"] == 1


def test_71_for_a_reply_that_cannot_be_read_or_proves_nothing():
    bench = Bench()
    bench.ask()
    assert bench.answer(extra=b"\x21\xff").code == 71
    bench.ask()
    assert bench.answer(sa=None).code == 71
    assert bench.visitors == []


def test_a_well_formed_deregistration_is_always_relayed():
    bench = Bench(reverse_tunnel=ReverseTunnel.REQUIRED)
    for care_of in (HOME_ADDRESS, A("192.0.2.77")):
        assert bench.ask(lifetime=0, care_of_address=care_of, flags=RequestFlag.GRE)[0] == "relay"


# Replies


@pytest.mark.parametrize(
    ("counter", "fields"),
    [
        ("discarded-no-pending-request", {"identification": 5}),
        ("discarded-no-pending-request", {"home_address": A("10.0.1.101")}),
        ("discarded-not-from-home-agent", {"source": A("10.0.1.3")}),
        ("discarded-unknown-extension", {"extra": encode_extensions([Extension(99)])}),
    ],
)
def test_replies_discarded_silently(counter, fields):
    bench = Bench()
    bench.ask()
    assert bench.answer(**fields) is None
    assert bench.counters[counter] == 1
    assert bench.visitors == [] and bench.answer().code == 0  # the right one still comes through


def test_a_reply_counts_once():
    bench = Bench()
    bench.ask()
    assert bench.answer() is not None
    assert bench.answer() is None


@pytest.mark.parametrize("code", [136, 133])
def test_what_dynamic_resolution_finds_answers_from_another_address(code):
    """A home agent asked by broadcast looks at the identification first (§3.8.2.1 b): 133, too."""
    bench = Bench()
    bench.ask(home_agent=A("10.0.1.255"))
    assert bench.answer(code=code, source=HOME_AGENT, home_agent=HOME_AGENT).code == code


def test_a_denial_leaves_the_visitor_as_it_was():
    bench = Bench()
    bench.ask(at=1.0)
    bench.answer()
    bench.ask(at=100.0, link_address=b"\x02evil!")
    assert bench.answer(code=131).code == 131
    assert bench.fa.state(100.0)["pending"] == []
    (visitor,) = bench.fa.state(100.0)["visitors"]
    assert visitor["lifetime_left"] == 201.0 and visitor["link_address"] == MN_MAC.hex(":")


def test_a_visitor_stays_for_the_shortest_of_three_lifetimes():
    for asked, granted, left in ((300, 200, 200), (100, 65535, 100), (600, 600, 600)):
        bench = Bench()
        bench.ask(lifetime=asked)
        bench.answer(lifetime=granted)
        assert bench.fa.state(bench.now)["visitors"][0]["lifetime_left"] == left


def test_a_visitor_expires_without_a_word():
    bench = Bench()
    bench.ask(at=1.0, lifetime=30)
    bench.now = 1.5
    bench.answer()
    bench.fa.tick(31.4)
    assert ClearVisitor(HOME_ADDRESS) not in bench.fa.effects()
    bench.fa.tick(31.5)
    effects = bench.fa.effects()
    assert ClearVisitor(HOME_ADDRESS) in effects and sent(effects) == []
    assert bench.visitors == []


def test_a_late_request_is_overtaken_by_one_that_was_repeated_since():
    bench = Bench()
    bench.ask(at=2.25, lifetime=200)
    bench.ask(at=1.125, lifetime=100)  # the network has kept it until now
    late = bench.request
    bench.ask(at=2.25, lifetime=200)
    bench.answer()
    bench.request = late
    bench.answer()
    (visitor,) = bench.fa.state(bench.now)["visitors"]
    assert visitor["lifetime"] == 200


def test_a_later_request_is_not_overtaken_by_an_earlier_one_that_is_repeated():
    bench = Bench()
    bench.ask(at=1.125, lifetime=100)
    earlier = bench.request
    bench.ask(at=2.25, lifetime=200)
    later = bench.request
    bench.ask(at=1.125, lifetime=100)
    bench.request = earlier
    bench.answer()
    bench.request = later
    bench.answer()
    (visitor,) = bench.fa.state(bench.now)["visitors"]
    assert visitor["lifetime"] == 200


def test_a_reply_that_was_overtaken_makes_nobody_a_visitor():
    """Nor does it bring back what the later request has replaced."""
    bench = Bench()  # requests are matched by the fraction of a second in their timestamps
    bench.ask(at=1.125)
    registration = bench.request
    bench.ask(at=2.25, lifetime=0, care_of_address=HOME_ADDRESS)
    assert bench.answer().code == 0
    bench.request = registration
    assert bench.answer().code == 0  # the mobile node gets it, and knows that it answers nothing it waits for
    assert bench.visitors == [] and not bench.of(SetVisitor)
    bench.ask(at=3.375)
    assert bench.answer().code == 0 and bench.visitors == [str(HOME_ADDRESS)]
    bench.ask(at=4.5, lifetime=100)
    earlier = bench.request
    bench.ask(at=5.625, lifetime=200)
    bench.answer()
    bench.request = earlier
    bench.answer()
    (visitor,) = bench.fa.state(bench.now)["visitors"]
    assert visitor["lifetime"] == 200
    bench.ask(at=6.75, lifetime=50)
    refused = bench.request
    bench.ask(at=7.875, lifetime=60)
    assert bench.answer(code=133).code == 133  # a denial overtakes nothing
    bench.request = refused
    bench.answer()
    (visitor,) = bench.fa.state(bench.now)["visitors"]
    assert visitor["lifetime"] == 50


def test_a_visitor_for_ever_needs_everybodys_consent():
    bench = Bench(registration_lifetime=0xFFFF)
    bench.ask(lifetime=0xFFFF)
    bench.answer()
    assert bench.fa.state(1e9)["visitors"][0]["lifetime_left"] is None


def test_deregistration_removes_the_visitor_when_the_home_agent_agrees():
    bench = Bench()
    bench.ask()
    bench.answer()
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS)
    assert bench.visitors == [str(HOME_ADDRESS)]
    bench.answer(code=133)
    assert bench.visitors == [str(HOME_ADDRESS)]
    bench.ask(lifetime=0, care_of_address=A("192.0.2.77"))  # of an agent visited before
    bench.answer()
    assert bench.visitors == [str(HOME_ADDRESS)]
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS)
    bench.answer()
    assert bench.visitors == [] and bench.of(ClearVisitor)


# Silence


@pytest.mark.parametrize(
    ("counter", "arguments"),
    [
        ("discarded-not-from-link", {"interface": "internet"}),
        ("discarded-unanswerable", {"link_address": None}),
        ("discarded-unanswerable", {"port": 0}),
        ("discarded-unknown-extension", {"extra": encode_extensions([Extension(99)])}),
    ],
)
def test_requests_discarded_silently(counter, arguments):
    bench = Bench()
    assert bench.ask(**arguments) is None
    assert only_discarded(bench.effects) and bench.counters[counter] == 1


# Bounds and pictures


def test_state_is_bounded_under_a_flood_of_requests():
    bench = Bench(pending=20)
    answered = 0
    for step in range(5000):
        outcome = bench.ask(at=1.0 + step / 5000, home_address=A(0x0A000100 + step))
        answered += outcome is not None
    state = bench.fa.state(bench.now)
    assert len(state["pending"]) == 20
    assert answered <= 20 + 1024
    assert len(bench.counters) < 30


def test_the_picture_is_json():
    bench = Bench()
    bench.ask()
    assert json.loads(json.dumps(bench.fa.state(bench.now)))["pending"][0]["time_left"] == 7.0
    bench.answer()
    assert json.loads(json.dumps(bench.fa.state(bench.now)))["visitors"][0]["reverse_tunnel"] is False
