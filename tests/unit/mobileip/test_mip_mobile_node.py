"""The mobile node: RFC 5944 §2.4, §3.6, one behaviour per test."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from mip_world import (
    CARE_OF,
    EPOCH,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    A,
    association,
    clock,
    events,
    mobile_node_config,
    only_discarded,
    sent,
)

from testbed.mobileip.core.api import AgentMessage, Datagram, GratuitousArp, SendAgentMessage, TunnelEnd
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.mobile.agents import MAX_AGENTS
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseForeignAgent, UseHome, UseNothing
from testbed.mobileip.core.mobile.repetition import JITTER, MAXIMUM_INTERVAL
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag, MobilityAgentExtension
from testbed.mobileip.wire.identification import SECOND, from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

SA = association(HOME_AGENT)
FA_MAC = b"\x02fa-01"
MN_FA = association(FA_ADDRESS, 500, b"mobile and foreign")
USES = (UseCoLocated, UseForeignAgent, UseHome, UseNothing)


def backs_off(times, first=1.0, limit=MAXIMUM_INTERVAL):
    """Whether each wait is twice the one before (§3.6.3), and the second longer at random."""
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] == pytest.approx(first)
    assert min(2 * first, limit) <= gaps[1] <= min(2 * first * JITTER, limit)
    return all(after == pytest.approx(min(2 * before, limit)) for before, after in pairwise(gaps[1:]))


class Bench:
    """A mobile node, a way to talk to it, and a clock that runs from deadline to deadline."""

    def __init__(self, **changes) -> None:
        self.mn = MobileNode(mobile_node_config(**changes), clock, Random(1))
        self.now = 0.0
        self.effects: list = []
        self.history: list = []

    def take(self):
        self.effects = self.mn.effects()
        self.history += [(self.now, effect) for effect in self.effects]
        for datagram in sent(self.effects):
            self.out = datagram
            self.request = RegistrationRequest.decode(datagram.payload)
        return self.effects

    def run(self, until: float):
        while (when := self.mn.deadline()) is not None and when <= until:
            self.now = max(self.now, when)
            self.mn.tick(self.now)
            self.take()
        self.now = until

    def attach(self, interface="hotel", care_of=CARE_OF):
        self.mn.attach(interface, care_of, self.now)
        return self.take()

    def discover(self, interface="visited", **arguments):
        self.mn.discover(interface, self.now, **arguments)
        return self.take()

    def reply(self, *, sa=SA, source=None, foreign=None, extra=b"", **fields):
        request = self.request
        fields = {
            "code": 0,
            "lifetime": request.lifetime,
            "home_address": request.home_address,
            "home_agent": request.home_agent,
            "identification": request.identification,
        } | fields
        payload = RegistrationReply(**fields).encode() + extra
        if sa is not None:
            payload = sign(payload, 32, sa)
        if foreign is not None:
            payload = sign(payload, 33, foreign)
        source = source or self.out.destination
        self.mn.receive(Datagram(payload, source, 434, self.out.source, 434, self.out.interface), self.now)
        return self.take()

    def advertise(self, address=FA_ADDRESS, *, flags=AgentFlag.FOREIGN_AGENT | AgentFlag.REVERSE_TUNNEL,
                  sequence=None, lifetime=3, registration_lifetime=600, care_of=(FA_CARE_OF,), prefix=None,
                  interface="visited", link_address=FA_MAC, ttl=1):  # fmt: skip
        self.sequence = getattr(self, "sequence", -1) + 1 if sequence is None else sequence
        extension = MobilityAgentExtension(self.sequence, registration_lifetime, int(flags), care_of)
        advertisement = AgentAdvertisement(
            lifetime, ((address, 0),), extension, None if prefix is None else (prefix,)
        )
        message = AgentMessage(advertisement.encode(), address, A("224.0.0.1"), interface, ttl, link_address)
        self.mn.receive_agent_message(message, self.now)
        return self.take()

    def home(self, **arguments):
        arguments = {"flags": AgentFlag.HOME_AGENT, "care_of": (), "interface": "home"} | arguments
        return self.advertise(arguments.pop("address", HOME_AGENT), **arguments)

    def of(self, *kinds):
        return [effect for effect in self.effects if isinstance(effect, kinds)]

    def sent_at(self):
        return [when for when, effect in self.history if sent([effect])]

    def solicited_at(self):
        return [when for when, effect in self.history if isinstance(effect, SendAgentMessage)]

    def state(self, key="state"):
        return self.mn.state(self.now)[key]

    @property
    def counters(self):
        return self.mn.counters


def at_foreign_agent(**changes) -> Bench:
    bench = Bench(**changes)
    bench.discover()
    bench.advertise()
    bench.reply()
    assert bench.state() == "registered"
    return bench


# Requests and what they say (§3.6.1)


def test_a_co_located_request():
    bench = Bench(reverse_tunnel=True)
    bench.attach()
    assert bench.request == replace(
        RegistrationRequest(
            RequestFlag.DECAPSULATION | RequestFlag.REVERSE_TUNNEL,
            600,
            HOME_ADDRESS,
            HOME_AGENT,
            CARE_OF,
            bench.request.identification,
        ),
        extensions=bench.request.extensions,
    )
    assert (bench.out.source, bench.out.destination, bench.out.destination_port) == (CARE_OF, HOME_AGENT, 434)
    assert bench.out.ttl == 255 and bench.out.interface == "hotel"
    assert abs(bench.request.identification - from_unix(EPOCH)) < SECOND
    Associations((SA,)).authenticate(bench.out.payload, bench.request.extensions, 32, HOME_AGENT)
    assert bench.state() == "registering" and bench.solicited_at() == []


def test_a_request_through_a_foreign_agent():
    bench = Bench(lifetime=1800, foreign_agents=(MN_FA,))
    bench.discover()
    bench.advertise(registration_lifetime=900)
    request = bench.request
    assert request.flags == 0 and request.care_of_address == FA_CARE_OF
    assert request.lifetime == 900  # §3.6.1.2: not more than the agent accepts
    assert (bench.out.source, bench.out.destination) == (HOME_ADDRESS, FA_ADDRESS)
    assert (bench.out.link_address, bench.out.ttl) == (FA_MAC, 255)
    assert [each.type for each in request.extensions] == [32, 33]
    Associations((MN_FA,)).authenticate(bench.out.payload, request.extensions, 33, FA_ADDRESS)
    assert bench.of(*USES) == [UseForeignAgent("visited", FA_ADDRESS, FA_MAC, False)]


# Replies (§3.6.2)


def test_acceptance_co_located():
    bench = Bench(reverse_tunnel=True)
    bench.attach()
    bench.reply(lifetime=100)
    assert bench.of(*USES) == [UseCoLocated("hotel", CARE_OF, TunnelEnd(HOME_AGENT), True)]
    assert bench.state() == "registered" and bench.state("lifetime_left") == 100
    registered = {
        "mode": "co-located", "care_of": "198.51.100.70", "agent": None, "home_agent": "10.0.1.2",
        "encapsulation": "ip-in-ip", "lifetime": 100, "renewal": False, "beside": 0, "requested": 0.0,
        "interface": "hotel", "trusted": False,
    }  # fmt: skip
    assert events(bench.effects, "registered") == [registered]


def test_the_lifetime_counts_from_the_request_and_is_at_most_what_was_asked():
    bench = Bench()
    bench.attach()
    bench.now = 0.8
    bench.reply(lifetime=0xFFFF)
    assert bench.state("lifetime_left") == pytest.approx(599.2)


@pytest.mark.parametrize(
    ("counter", "arguments"),
    [
        ("discarded-identification", {"identification": 1}),
        ("discarded-home-address", {"home_address": A("10.0.1.101")}),
        ("discarded-missing-authentication", {"sa": None}),
        ("discarded-bad-authenticator", {"sa": association(HOME_AGENT, key=b"wrong")}),
        ("discarded-unknown-spi", {"sa": association(HOME_AGENT, 999)}),
        ("discarded-unknown-extension", {"extra": b"\x63\x00"}),
        ("discarded-truncated", {"sa": None, "extra": b"\x20\xff"}),
        ("discarded-missing-authentication", {"sa": None, "code": 131}),
        ("discarded-not-from-agent", {"sa": None, "code": 65}),  # no agent was asked
    ],
)
def test_replies_discarded(counter, arguments):
    bench = Bench()
    bench.attach()
    assert only_discarded(bench.reply(**arguments))
    assert bench.counters[counter] == 1 and bench.state() == "registering"
    bench.reply()
    assert bench.state() == "registered"


def test_only_the_latest_request_can_be_answered():
    bench = Bench()
    bench.attach()
    first = bench.request
    bench.run(1.0)
    assert bench.request.identification > first.identification
    assert only_discarded(bench.reply(identification=first.identification))
    bench.reply()
    assert bench.state() == "registered"
    assert only_discarded(bench.reply())  # and once


def test_with_a_foreign_agent_association_the_agent_must_prove_itself():
    bench = Bench(foreign_agents=(MN_FA,))
    bench.discover()
    bench.advertise()
    assert only_discarded(bench.reply())
    assert only_discarded(bench.reply(foreign=association(FA_ADDRESS, 500, b"wrong")))
    assert only_discarded(bench.reply(sa=None, code=66))
    bench.reply(foreign=MN_FA)
    assert bench.state() == "registered"


def test_a_foreign_agents_refusal_counts_only_from_the_agent_asked():
    bench = Bench()
    bench.discover()
    bench.advertise()
    assert only_discarded(bench.reply(sa=None, code=66, source=A("192.0.2.66")))
    bench.reply(sa=None, code=66)
    assert events(bench.effects, "registration-failed") == [
        {"reason": "fa-insufficient-resources", "code": 66}
    ]


# Repetition (§3.6.3)


def test_unanswered_requests_are_repeated_ever_less_often():
    bench = Bench()
    bench.attach()
    bench.run(400.0)
    assert backs_off(bench.sent_at()[:9])
    failed = [when for when, each in bench.history if events([each], "registration-failed")]
    assert failed[0] == bench.sent_at()[5]
    identifications = [
        RegistrationRequest.decode(sent([each])[0].payload).identification
        for _, each in bench.history
        if sent([each])
    ]
    assert identifications == sorted(set(identifications))


def test_the_time_out_never_exceeds_the_lifetime_asked_for():
    bench = Bench(lifetime=4)
    bench.attach()
    bench.run(30.0)
    assert backs_off(bench.sent_at()[:6], limit=4)


def test_weeks_of_silence_are_survived():
    bench = Bench()
    bench.discover("nowhere")
    bench.run(86400 * 7.0)
    bench.attach()
    start = bench.now
    bench.run(start + 86400 * 7)
    assert bench.state() == "registering"


@pytest.mark.parametrize("lifetime", [1, 2, 3, 10, 60, 600, 65534])
def test_a_registration_is_renewed_in_time(lifetime):
    bench = Bench(lifetime=lifetime)
    bench.attach()
    bench.reply()
    for _ in range(5):
        before = bench.request
        asked = len(bench.sent_at())
        bench.run(bench.mn.deadline())
        assert bench.request.identification > before.identification
        gaps = bench.sent_at()[-1] - bench.sent_at()[-2]
        assert 1.0 <= gaps <= max(1.0, lifetime)
        bench.reply()
        assert len(bench.sent_at()) == asked + 1
    if lifetime > 1:  # one second is as long as requests have to wait anyway
        assert not bench.of(*USES) and events(bench.effects, "registered")[0]["renewal"]
        assert bench.counters["registrations-expired"] == 0


def test_a_registration_is_renewed_when_the_connection_manager_says_so():
    """RFC 5265 §3.2.4: whatever its lifetime. How old it is counts from the request on."""
    bench = Bench(lifetime=0xFFFF)
    with pytest.raises(ValueError, match="no registration"):
        bench.mn.renew(0.0)
    bench.attach()
    bench.reply()
    bench.now = 50.0
    bench.mn.renew(bench.now)
    bench.mn.renew(bench.now)  # it is under way
    bench.take()
    assert bench.sent_at() == [0.0, 50.0]
    bench.now = 50.2
    bench.reply()
    (registered,) = events(bench.effects, "registered")
    assert registered["renewal"] and registered["requested"] == 50.0 and not bench.of(*USES)


def test_at_home_the_deregistration_is_what_is_renewed():
    bench = Bench()
    bench.discover("home")
    bench.home()
    bench.reply(lifetime=0)
    bench.now = 50.0
    bench.mn.renew(bench.now)
    bench.take()
    assert bench.request.lifetime == 0
    bench.reply(lifetime=0)
    (deregistered,) = events(bench.effects, "deregistered")
    assert deregistered == {
        "mode": "home",
        "interface": "home",
        "trusted": False,
        "requested": 50.0,
    }


def test_an_agent_that_is_a_router_and_no_more_is_not_asked():
    bench = Bench()
    bench.discover(register=False)
    bench.advertise()
    with pytest.raises(ValueError, match="no registration"):
        bench.mn.renew(1.0)


def test_a_registration_for_ever_is_not_renewed():
    bench = Bench(lifetime=0xFFFF)
    bench.attach()
    bench.reply()
    assert bench.mn.deadline() is None and bench.state("lifetime_left") is None
    assert bench.state() == "registered"


def test_a_registration_not_renewed_expires_and_is_asked_for_on():
    bench = Bench(lifetime=30)
    bench.attach()
    bench.reply()
    bench.run(29.9)
    assert bench.state() == "registered" and len(bench.sent_at()) > 2
    bench.run(30.0)
    assert bench.state() == "registering"
    assert UseNothing() in [each for _, each in bench.history]
    bench.run(100.0)
    bench.reply()
    assert bench.state() == "registered" and bench.of(UseCoLocated)


# Refusals (§3.6.2.3)


def test_133_sets_the_clock_and_is_repaired_within_a_second():
    bench = Bench()
    bench.attach()
    theirs = from_unix(EPOCH + 3600)
    bench.now = 0.1
    bench.reply(code=133, identification=(theirs >> 32 << 32) % 2**64 | bench.request.low_identification)
    assert not events(bench.effects, "registration-failed")
    bench.run(1.0)
    assert bench.sent_at() == [0, 1.0]
    assert abs(bench.request.identification - from_unix(EPOCH + 3601)) < 2 * SECOND
    assert bench.state("clock_offset") == pytest.approx(3600, abs=1)


def test_a_home_agent_that_always_says_133_is_not_flooded():
    bench = Bench()
    bench.attach()
    for _ in range(40):
        bench.reply(code=133)
        bench.run(bench.mn.deadline())
    gaps = [b - a for a, b in pairwise(bench.sent_at())]
    assert gaps[0] == 1 and gaps[6:] == pytest.approx([60] * 34)
    assert all(2**at <= gap <= 2**at * JITTER for at, gap in enumerate(gaps[1:6], 1))
    assert len({round(gap / 2**at, 6) for at, gap in enumerate(gaps[1:6], 1)}) == 5  # at random


def test_69_lowers_the_lifetime():
    bench = Bench()
    bench.discover()
    bench.advertise()
    bench.reply(sa=None, code=69, lifetime=120)
    bench.run(1.0)
    assert bench.request.lifetime == 120 and bench.request.care_of_address == FA_CARE_OF
    bench.reply()
    assert bench.state() == "registered"


def test_136_resolves_the_home_agent():
    broadcast = A("10.0.1.255")
    bench = Bench(home_agent=broadcast)
    bench.attach()
    assert bench.request.home_agent == broadcast and bench.out.destination == broadcast
    bench.reply(code=136, home_agent=HOME_AGENT, source=HOME_AGENT)
    bench.run(1.0)
    assert bench.request.home_agent == HOME_AGENT and bench.out.destination == HOME_AGENT
    bench.reply()
    assert bench.state() == "registered"


@pytest.mark.parametrize("code", [128, 129, 130, 131, 132, 134, 135, 137, 138, 139, 2, 200])
def test_other_refusals_are_told_and_asked_again_later(code):
    bench = Bench()
    bench.attach()
    bench.reply(code=code)
    assert events(bench.effects, "registration-failed")[0]["code"] == code
    assert bench.counters[f"denied-{code}"] == 1
    assert (bench.state(), bench.state("lifetime_left")) == ("registering", None)
    bench.run(0.99)
    assert len(bench.sent_at()) == 1
    bench.run(1.0)
    bench.reply()
    assert bench.state() == "registered"


def test_a_grant_of_no_time_is_none():
    bench = Bench()
    bench.attach()
    bench.reply(lifetime=0)
    assert bench.state() == "registering" and not bench.of(*USES)


@pytest.mark.parametrize("code", [64, 65, 66, 67, 68, 70, 71, 72, 74, 75, 76, 77, 78, 80, 81, 82, 88, 194])
def test_when_the_agent_refuses_its_next_care_of_address_is_tried_then_another_agent(code):
    bench = Bench()
    bench.discover()
    other, second = A("192.0.2.2"), A("203.0.113.11")
    bench.advertise(care_of=(FA_CARE_OF, second), lifetime=100)
    bench.advertise(other, link_address=b"\x02other", lifetime=100)
    assert bench.request.care_of_address == FA_CARE_OF
    bench.reply(sa=None, code=code)
    bench.run(1.0)
    assert (bench.out.destination, bench.request.care_of_address) == (FA_ADDRESS, second)
    bench.reply(sa=None, code=code)
    bench.run(bench.mn.deadline())
    assert (bench.out.destination, bench.out.link_address) == (other, b"\x02other")
    bench.reply()
    assert bench.state("agent") == str(other) and bench.of(UseForeignAgent)[0].agent == other


# Discovery (§2.4)


def test_solicitations_begin_at_one_per_second_and_slow_down():
    bench = Bench()
    bench.discover()
    (message,) = (each.message for each in bench.of(SendAgentMessage))
    assert (message.destination, message.ttl, message.source) == (A("224.0.0.11"), 1, HOME_ADDRESS)
    bench.run(600.0)
    times = bench.solicited_at()
    gaps = [b - a for a, b in pairwise(times)]
    for gap, nominal in zip(gaps, [1, 1, 2, 4, 8, 16, 32, 60, 60], strict=False):
        assert nominal <= gap <= nominal * 1.25
    bench.advertise()
    count = len(bench.solicited_at())
    bench.run(602.0)
    assert len(bench.solicited_at()) == count


def test_a_suitable_agent_is_registered_with_at_once():
    bench = at_foreign_agent()
    assert bench.of(*USES) == [UseForeignAgent("visited", FA_ADDRESS, FA_MAC, True)]
    assert bench.state("agent") == str(FA_ADDRESS)


@pytest.mark.parametrize(
    "arguments",
    [
        {"flags": AgentFlag.FOREIGN_AGENT | AgentFlag.BUSY | AgentFlag.REVERSE_TUNNEL},
        {"flags": AgentFlag.FOREIGN_AGENT},  # offers no reverse tunnel
        {"flags": AgentFlag.HOME_AGENT},  # of somebody else
        {"care_of": ()},
        {"registration_lifetime": 0},
        {"link_address": None},
        {"interface": "elsewhere"},
        {"ttl": 64},
    ],
)
def test_unsuitable_agents_are_passed_over(arguments):
    bench = Bench(reverse_tunnel=True)
    bench.discover()
    bench.advertise(**arguments)
    assert bench.state() == "discovering" and not sent(bench.effects)
    bench.advertise()
    assert bench.state() == "registering"


def test_a_plain_routers_advertisement_is_ignored():
    bench = Bench()
    bench.discover()
    payload = AgentAdvertisement(1800, ((A("192.0.2.1"), 0),)).encode()
    bench.mn.receive_agent_message(AgentMessage(payload, A("192.0.2.1"), A("224.0.0.1"), "visited"), 0.0)
    assert bench.take() == [] and bench.counters["agent-messages-ignored"] == 1


def test_without_register_the_agent_is_only_a_router():
    bench = Bench()
    bench.discover(register=False)
    bench.advertise()
    assert bench.of(*USES) == [UseForeignAgent("visited", FA_ADDRESS, FA_MAC, False)]
    bench.run(2.0)
    assert bench.sent_at() == [] and bench.state() == "using-agent"


def test_a_new_agent_does_not_lure_away_while_the_current_one_is_heard():
    bench = at_foreign_agent()
    for step in range(20):
        bench.run(step + 1.0)
        bench.advertise(lifetime=3)
        bench.advertise(A("192.0.2.2"), prefix=None)
    assert len(bench.sent_at()) == 1 and bench.state("agent") == str(FA_ADDRESS)


def test_a_lost_agent_is_replaced_by_one_that_is_heard():
    bench = at_foreign_agent()
    bench.run(2.0)
    bench.advertise(A("192.0.2.2"), link_address=b"\x02other")
    bench.run(2.9)
    assert bench.state("agent") == str(FA_ADDRESS)
    bench.run(3.0)
    assert bench.state("agent") == "192.0.2.2" and bench.out.destination == A("192.0.2.2")
    assert events([each for _, each in bench.history], "lost-agent") == [{"agent": str(FA_ADDRESS)}]


def test_a_lost_agent_is_sought_and_when_it_comes_back_registered_with_anew():
    bench = at_foreign_agent()
    bench.run(3.0)
    assert bench.state() == "discovering" and bench.state("registered")
    assert bench.solicited_at() == [0.0, 3.0]
    bench.run(10.0)
    assert all(b - a <= 1.25 for a, b in pairwise(bench.solicited_at()[1:4]))  # as fast as at first
    bench.advertise()
    assert bench.out.destination == FA_ADDRESS and len(bench.sent_at()) == 2
    assert bench.state() == "registered"  # what was granted still holds


def test_other_prefixes_show_a_move_once_the_current_agent_is_overdue():
    bench = Bench()
    bench.discover()
    bench.advertise(prefix=24)
    bench.reply()
    bench.run(1.4)
    bench.advertise(A("198.51.100.1"), prefix=24, link_address=b"\x02other")
    assert bench.state("agent") == str(FA_ADDRESS)
    bench.run(1.6)
    bench.advertise(A("198.51.100.1"), prefix=24, link_address=b"\x02other")
    assert bench.state("agent") == "198.51.100.1" and bench.out.destination == A("198.51.100.1")


@pytest.mark.parametrize(("ours", "theirs"), [(24, None), (None, 24), (8, 8)])
def test_without_prefixes_of_both_or_with_a_common_one_there_is_no_move(ours, theirs):
    bench = Bench()
    bench.discover()
    bench.advertise(prefix=ours)
    bench.reply()
    bench.run(1.6)
    bench.advertise(A("192.9.9.1"), prefix=theirs)
    assert bench.state("agent") == str(FA_ADDRESS)


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        (300, 0, True),
        (300, 255, True),
        (0xFFFF, 256, False),
        (300, 299, False),
        (5, 6, False),
        (200, 3, True),
    ],
)
def test_an_agent_that_rebooted_is_registered_with_again(first, second, again):
    """§2.4.4."""
    bench = Bench()
    bench.discover()
    bench.advertise(sequence=first)
    bench.reply()
    bench.run(1.0)
    bench.advertise(sequence=second)
    assert (len(bench.sent_at()) == 2) is again
    assert bench.state() == "registered"


def test_reboots_do_not_make_it_register_more_than_once_per_second():
    bench = at_foreign_agent()
    for step in range(100):
        bench.run(step / 10)
        bench.advertise(sequence=0 if step % 2 else 1)
        if "request" in bench.mn._timers and bench.mn._requester.sent:
            bench.reply()
    gaps = [b - a for a, b in pairwise(bench.sent_at())]
    assert min(gaps) >= 1.0 and len(gaps) >= 4


def test_a_flood_of_advertisements_takes_bounded_room_and_not_the_agent_in_use():
    bench = at_foreign_agent()
    for number in range(5000):
        bench.advertise(A(0xC0000300 + number % 200 + number // 200 * 256), lifetime=9000)
    assert len(bench.state("agents")) == MAX_AGENTS
    assert str(FA_ADDRESS) in bench.state("agents")


def test_where_registration_is_required_a_co_located_node_goes_through_the_agent():
    bench = Bench()
    bench.attach("visited")
    bench.reply()
    bench.run(2.0)
    bench.advertise()
    assert len(bench.sent_at()) == 1
    bench.advertise(flags=AgentFlag.FOREIGN_AGENT | AgentFlag.REGISTRATION_REQUIRED)
    assert (bench.out.source, bench.out.destination) == (CARE_OF, FA_ADDRESS)
    assert bench.request.care_of_address == CARE_OF and bench.request.flags & RequestFlag.DECAPSULATION
    bench.reply()
    assert bench.state() == "registered" and bench.state("mode") == "co-located"


# Home (§2.4.3, §4.6)


def test_at_home_it_takes_its_place_tells_the_link_and_deregisters_in_this_order():
    bench = Bench()
    bench.attach()
    bench.reply()
    bench.discover("home")
    assert bench.of(UseNothing)
    bench.home()
    shown = [each for each in bench.effects if not hasattr(each, "fields")]
    assert shown[:2] == [UseHome("home", HOME_AGENT), GratuitousArp(HOME_ADDRESS, "home")]
    assert shown[2].datagram is bench.out
    request = bench.request
    assert (request.lifetime, request.care_of_address, request.flags) == (0, HOME_ADDRESS, 0)
    assert (bench.out.source, bench.out.destination) == (HOME_ADDRESS, HOME_AGENT)
    assert bench.state() == "deregistering"
    bench.reply()
    assert bench.state() == "at-home" and events(bench.effects, "deregistered")
    bench.run(2.5)
    assert sum(isinstance(each, GratuitousArp) for _, each in bench.history) == 3


def test_a_deregistration_at_home_is_repeated_until_answered_even_if_the_home_agent_falls_silent():
    bench = Bench(home_router=A("10.0.1.1"))
    bench.discover("home")
    bench.home()
    assert bench.of(UseHome) == [UseHome("home", A("10.0.1.1"))]
    bench.run(20.0)
    assert backs_off(bench.sent_at()) and len(bench.sent_at()) >= 4
    bench.home()
    bench.reply()
    assert bench.state() == "at-home"
    assert sum(isinstance(each, UseHome) for _, each in bench.history) == 1


def test_home_is_recognised_by_the_home_agents_address_or_one_on_the_home_network():
    for arguments, home in (
        ({}, True),
        ({"address": A("10.0.1.9")}, True),
        ({"address": A("10.0.2.9")}, False),
        ({"flags": AgentFlag.FOREIGN_AGENT}, False),
    ):
        bench = Bench()
        bench.discover("home")
        bench.home(**arguments)
        assert (bench.state("mode") == "home") is home


def test_home_is_preferred_and_left_for_a_foreign_agent():
    bench = Bench()
    bench.discover("visited")
    bench.advertise()
    bench.reply()
    bench.run(1.0)
    bench.home(interface="visited")
    assert bench.state("mode") == "home"
    bench.reply()
    for step in range(5):
        bench.run(bench.now + 1)
        bench.advertise()
        if step < 3:
            bench.home(interface="visited")
    assert bench.state("mode") == "home"
    bench.run(bench.now + 3)
    bench.advertise()
    assert bench.state("mode") == "foreign-agent" and bench.request.care_of_address == FA_CARE_OF


def test_a_co_located_node_that_hears_its_home_agent_is_at_home():
    bench = Bench()
    bench.attach("home", A("10.0.1.77"))
    bench.run(0.5)
    bench.home()
    assert bench.state("mode") == "home"
    assert only_discarded(bench.reply())  # that registration is not wanted any more
    bench.run(1.0)  # not more often than once per second
    assert bench.request.lifetime == 0
    bench.reply()
    assert bench.state() == "at-home"


# What a connection manager says


def test_detach_is_silent():
    bench = at_foreign_agent()
    bench.mn.detach(1.0)
    effects = bench.take()
    assert UseNothing() in effects and not sent(effects)
    assert bench.mn.deadline() is None and bench.state() == "detached"
    assert bench.advertise() == []
    bench.mn.detach(2.0)
    assert not [each for each in bench.take() if isinstance(each, UseNothing)]


def test_discovering_again_asks_again_and_forgets_nothing():
    bench = Bench()
    bench.discover()
    bench.discover()
    assert len(bench.solicited_at()) == 2 and not bench.sent_at()
    bench.advertise()
    bench.discover()  # crossed the advertisement: no second request (§3.6.3)
    assert len(bench.solicited_at()) == 2 and len(bench.sent_at()) == 1
    bench.reply()
    assert bench.state() == "registered"


def test_discovering_again_and_again_does_not_slow_down_the_search():
    bench = Bench()
    for _ in range(6):
        bench.discover()
    bench.run(3.0)
    assert len(bench.solicited_at()) >= 6 + 2


def test_deregister_away_from_home():
    bench = at_foreign_agent()
    bench.run(1.0)
    bench.advertise()
    bench.mn.deregister(1.0)
    bench.take()
    assert (bench.request.lifetime, bench.request.care_of_address) == (0, HOME_ADDRESS)
    assert bench.out.destination == FA_ADDRESS and bench.state() == "deregistering"
    bench.reply()
    assert bench.of(UseNothing) and bench.state() == "deregistered"
    bench.advertise(sequence=0)
    bench.run(100.0)
    assert len(bench.sent_at()) == 2  # it does not come back by itself
    bench.discover()
    bench.advertise()
    bench.reply()
    assert bench.state() == "registered"


def test_deregister_needs_an_attachment():
    with pytest.raises(ValueError, match="not attached"):
        Bench().mn.deregister(0.0)


@pytest.mark.parametrize("care_of", [HOME_ADDRESS, A("0.0.0.0"), A("224.0.0.1"), A("255.255.255.255")])
def test_attach_refuses_what_is_no_care_of_address(care_of):
    bench = at_foreign_agent()
    with pytest.raises(ValueError, match="care-of"):
        bench.mn.attach("hotel", care_of, 1.0)
    assert bench.state() == "registered"


def test_attach_again_registers_again_and_tells_the_shell_again():
    bench = Bench()
    bench.attach()
    bench.reply()
    assert bench.of(UseCoLocated)
    bench.now = 0.2
    bench.attach()
    assert sent(bench.effects) and not bench.of(*USES)
    bench.reply()
    assert bench.of(UseCoLocated)
    bench.attach("airport", A("198.51.100.130"))
    assert bench.of(*USES) == [UseNothing()]


def test_the_picture_is_json():
    bench = Bench()
    assert json.loads(json.dumps(bench.mn.state(0.0)))["state"] == "detached"
    bench = at_foreign_agent()
    picture = json.loads(json.dumps(bench.mn.state(1.0)))
    assert picture["lifetime_left"] == 599 and picture["care_of"] == str(FA_CARE_OF)
