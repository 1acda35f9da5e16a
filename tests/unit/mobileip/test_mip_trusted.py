"""Trusted networks (RFC 5265 §3.4, §4.3), and detection: whether a link is inside (§3.3)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import (
    CARE_OF,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    A,
    World,
    association,
    clock,
    events,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
    sent,
)

from testbed.mobileip.core.api import Datagram, ReportEvent
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.effects import UseCoLocated
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.security import ReplayProtection
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.trusted import TRUSTED_NETWORKS, is_trusted, trusted_networks_configured

INSIDE = (IPv4Network("10.0.0.0/8"),)
INNER, CAMPUS = A("10.0.250.1"), A("10.0.3.100")
VPN = "ipsec0"
TNC = trusted_networks_configured()


# The extension, and the home agent.


@pytest.mark.parametrize(
    ("extensions", "trusted"),
    [
        ((TNC,), True),
        ((Extension(TRUSTED_NETWORKS, b"\0\xff"),), True),  # "ignored when receiving"
        ((Extension(TRUSTED_NETWORKS, b"\x01\0"),), False),
        ((Extension(TRUSTED_NETWORKS, b"\0"),), False),
        ((Extension(TRUSTED_NETWORKS, b"\0\0\0"),), False),
        ((Extension(MOBILE_HOME, bytes(20)), TNC), False),  # whoever is on the way can add that
        ((), False),
    ],
)
def test_what_a_reply_says(extensions, trusted):
    assert TNC.encode() == bytes.fromhex("95020000")
    assert is_trusted(extensions) is trusted


def answer_to(source, trusted, **changes):
    ha = HomeAgent(home_agent_config(advertising=None, trusted=trusted), clock)
    request = RegistrationRequest(
        0, 60, HOME_ADDRESS, HOME_AGENT, source, int((clock(0) + 2208988800) * 2**32)
    )
    payload = sign(replace(request, **changes).encode(), MOBILE_HOME, association(HOME_AGENT))
    ha.receive(Datagram(payload, source, 434, HOME_AGENT, 434), 0.0)
    effects = ha.effects()
    replies = [RegistrationReply.decode(each.payload) for each in sent(effects)]
    return ha, replies, effects


@pytest.mark.parametrize(
    ("source", "trusted", "heard", "says"),
    [
        (INNER, INSIDE, True, True),
        (CARE_OF, INSIDE, False, False),
        (INNER, (), False, False),  # "no subnets being trusted by default"
        (CARE_OF, None, True, False),
    ],
)
def test_a_home_agent_discards_what_comes_from_anywhere_else(source, trusted, heard, says):
    ha, replies, effects = answer_to(source, trusted)
    assert [(reply.code, is_trusted(reply.extensions)) for reply in replies] == [(0, says)] * heard
    assert ha.counters["discarded-untrusted-source"] == (not heard)
    assert [each["sender"] for each in events(effects, "discarded")] == [str(source)] * (not heard)
    assert bool(ha.state(0.0)["bindings"]) is heard


def test_a_denial_says_so_too():
    _, (reply,), _ = answer_to(INNER, INSIDE, identification=1)
    assert (reply.code, is_trusted(reply.extensions)) == (133, True)


# The mobile node asks beside its registration.


class TwoWays(World):
    """A mobile node whose VPN leads to the home agent wherever it is; its link does so where it is inside."""

    def __init__(self, inside=("campus", "visited", "home"), trusted=INSIDE, agent="visited", **changes):
        changes = {"reverse_tunnel": True, **changes}
        replay = changes.pop("replay", ReplayProtection.TIMESTAMPS)
        shared = association(HOME_AGENT, replay=replay)
        ours = association(HOME_ADDRESS, replay=replay)
        super().__init__(
            mn=MobileNode(mobile_node_config(security=shared, **changes), self.clock, Random(1)),
            ha=HomeAgent(home_agent_config(trusted=trusted, mobile_nodes=(ours,)), clock, Random(2)),
            fas=[ForeignAgent(foreign_agent_config(interface=agent), clock, Random(3))],
        )
        self.inside, self.skew = inside, 0.0
        self.mn.attach(VPN, INNER, self.now)
        self.run(3.0)

    def clock(self, now):
        return clock(now) + self.skew

    def detect(self, link, care_of=None):
        self.where, self.care_of = link, care_of
        self.mn.detect(link, self.now, care_of)

    def _deliver(self, sender, datagram):
        if sender is self.mn and datagram.interface == VPN:
            self.ha.receive(replace(datagram, interface=None), self.now)
        elif sender is not self.mn and datagram.destination == INNER:
            self.mn.receive(replace(datagram, interface=VPN), self.now)
        elif sender is not self.mn or self.where in self.inside:
            super()._deliver(sender, datagram)

    @property
    def detected(self):
        return [
            (each.fields["interface"], each.fields["inside"])
            for _, core, each in self.log
            if core is self.mn and isinstance(each, ReportEvent) and each.name == "detected"
        ]

    def requests(self, interface):
        return [each for each in sent([effect for _, core, effect in self.log if core is self.mn])
                if each.interface == interface]  # fmt: skip


def trusting(*agents):
    return (*INSIDE, *(IPv4Network(agent) for agent in agents))


@pytest.mark.parametrize("replay", ReplayProtection)
@pytest.mark.parametrize(
    ("link", "care_of", "mode"),
    [("campus", CAMPUS, "co-located"), ("visited", None, "foreign-agent"), ("home", None, "home")],
)
def test_a_link_inside_is_found_out_while_the_registration_holds(replay, link, care_of, mode):
    world = TwoWays(trusted=trusting(FA_CARE_OF), replay=replay)
    assert world.use == UseCoLocated(VPN, INNER, world.use.home_agent, True)
    use = world.use
    world.detect(link, care_of)
    world.run(3.0)
    assert world.detected == [(link, True)]
    assert world.use == use and world.mn.state(world.now)["registered"]
    (event,) = events([effect for _, core, effect in world.log if core is world.mn], "detected")
    assert (event["mode"], event["code"]) == (mode, 0)
    assert len(world.requests(link)) == 1


@pytest.mark.parametrize("link", ["hotel", "visited"])
def test_outside_nobody_answers_and_nothing_changes(link):
    world = TwoWays(inside=())
    use, binding = world.use, dict(world.bindings)
    world.detect(link, CARE_OF if link == "hotel" else None)
    world.run(9.0)
    assert world.detected == []
    assert (world.use, world.bindings) == (use, binding)
    asked = len(world.requests(link))
    assert asked == 4  # 0, 1, 3, 7 s, the last two a little later at random: "periodically retransmitted"
    world.mn.rest()
    world.run(60.0)
    assert len(world.requests(link)) == asked
    assert world.mn.deadline() > world.now  # the registration is still renewed
    world.run(600.0)
    assert world.bindings == binding


def test_an_answer_that_comes_after_the_rest_is_heard():
    world = TwoWays()
    world.delay = lambda: 0.5
    world.detect("campus", CAMPUS)
    world.mn.rest()
    world.run(2.0)
    assert world.detected == [("campus", True)]


def test_a_home_agent_that_knows_no_trusted_networks_shows_nothing():
    """Nor is it asked again: "in any case"."""
    world = TwoWays(inside=("hotel",), trusted=None)
    world.detect("hotel", CARE_OF)
    world.run(9.0)
    assert world.detected == [("hotel", False)]
    assert len(world.requests("hotel")) == 1


def test_a_reply_through_the_vpn_shows_nothing():
    """The inner addresses are trusted, and every reply through the VPN has the extension."""
    world = TwoWays(inside=())
    world.detect("hotel", CARE_OF)
    world.mn.renew(world.now)
    world.run(2.0)
    renewed = events([effect for _, core, effect in world.log if core is world.mn], "registered")[-1]
    assert (renewed["interface"], renewed["trusted"]) == (VPN, True)
    assert world.detected == []


def test_a_reply_that_came_over_another_link_shows_nothing():
    world = TwoWays()
    world.detect("campus", CAMPUS)
    deliver = world.mn.receive
    world.mn.receive = lambda datagram, now: deliver(replace(datagram, interface=VPN), now)
    world.run(5.0)
    assert world.detected == []


def test_a_clock_that_is_off_is_put_right():
    world = TwoWays()
    world.skew = -3600.0
    world.detect("campus", CAMPUS)
    world.run(3.0)
    assert world.detected == [("campus", True)]


def test_no_care_of_address_no_request():
    world = TwoWays()
    with pytest.raises(ValueError, match="cannot be a care-of address"):
        world.mn.detect("campus", world.now, HOME_ADDRESS)


LINKS = [("campus", CAMPUS), ("hotel", CARE_OF), ("visited", None), ("home", None)]


@settings(max_examples=40, deadline=None)
@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from(LINKS),
            st.floats(0.01, 20.0),
            st.sampled_from(["detect", "rest", "renew", "attach"]),
        ),
        min_size=1,
        max_size=12,
    ),
    inside=st.sets(st.sampled_from([link for link, _ in LINKS])),
    loss=st.sampled_from([0.0, 0.0, 0.3]),
    latest=st.sampled_from([0.001, 0.4, 5.0]),
    seed=st.integers(0, 2**16),
)
def test_whatever_happens_a_link_is_inside_by_its_own_answer_alone(moves, inside, loss, latest, seed):
    world = TwoWays(inside=inside, trusted=trusting(FA_CARE_OF))
    world.rng, world.loss = Random(seed), loss
    world.delay = lambda: world.rng.uniform(0.0005, latest)
    for (link, care_of), wait, more in moves:
        before = len(world.detected)
        world.detect(link, care_of)
        if more == "attach":  # back to the VPN, as after a stay inside
            world.mn.attach(VPN, INNER, world.now)
        elif more != "detect":
            getattr(world.mn, more)(*[world.now] * (more == "renew"))
        world.run(wait)
        found = world.detected[before:]
        assert {interface for interface, _ in found} <= {link}
        assert not found or link in inside
        assert isinstance(world.use, UseCoLocated) and world.use.interface == VPN
    world.loss, world.delay = 0.0, lambda: 0.001
    world.detect("campus", CAMPUS)
    world.run(70.0)
    assert (world.detected[-1:] == [("campus", True)]) is ("campus" in inside)
    world.mn.renew(world.now)
    world.run(70.0)
    assert world.bindings[HOME_ADDRESS] == (INNER,)
