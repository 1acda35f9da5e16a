"""Replay protection by nonces, all back to back (RFC 5944 §5.7.2)."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import (
    CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    World,
    association,
    clock,
    home_agent_config,
    mobile_node_config,
    sent,
)

from testbed.mobileip.core.api import Datagram, Remember
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.security import ReplayProtection
from testbed.mobileip.wire.identification import LOW
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest

NONCES = ReplayProtection.NONCES


def home_agent(seed: int = 2) -> HomeAgent:
    nodes = (association(HOME_ADDRESS, replay=NONCES),)
    return HomeAgent(home_agent_config(advertising=None, mobile_nodes=nodes), clock, Random(seed))


def mobile_node(seed: int = 1, **changes) -> MobileNode:
    security = association(HOME_AGENT, replay=NONCES)
    return MobileNode(mobile_node_config(security=security, **changes), clock, Random(seed))


def world(seed: int = 1, **changes) -> World:
    return World(mobile_node(seed, **changes), home_agent(seed + 1), seed=seed)


def datagrams(world: World) -> list[Datagram]:
    return sent([effect for _, core, effect in world.log if core is world.mn])


def requests(world: World) -> list[bytes]:
    return [each.payload for each in datagrams(world)]


def fields(world: World) -> list[int]:
    return [RegistrationRequest.decode(each).identification for each in requests(world)]


def replies(world: World) -> list[RegistrationReply]:
    answers = sent([effect for _, core, effect in world.log if isinstance(core, HomeAgent)])
    return [RegistrationReply.decode(each.payload) for each in answers]


@pytest.mark.parametrize("network", ["hotel", "visited"])
def test_the_first_request_draws_a_nonce_and_every_other_returns_the_last(network):
    here = world(lifetime=30)
    here.attach(network, CARE_OF) if network == "hotel" else here.discover(network)
    here.run(200.0)
    assert here.reachable()
    answers, asked = replies(here), fields(here)
    assert [reply.code for reply in answers[:3]] == [133, 0, 0]
    assert 133 not in [reply.code for reply in answers[1:]]
    assert here.mn.counters["resynchronisations"] == here.ha.counters["denied-133"] == 1
    for field, answer in zip(asked, answers, strict=True):
        assert answer.identification & LOW == field & LOW
        assert answer.identification >> 32 != field >> 32  # "a new nonce … of every Registration Reply"
    for answer, following in zip(answers, asked[1:], strict=False):
        assert following >> 32 == answer.identification >> 32
        assert following & LOW != answer.identification & LOW


def test_an_unanswered_request_is_sent_again_as_it_was_and_needs_no_other_nonce():
    here = world()
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    assert here.reachable()
    here.loss = 1.0
    here.mn.renew(here.now)
    here.run(10.0)
    again = requests(here)[2:]
    assert len(again) > 2 and len(set(again)) == 1
    here.loss = 0.0
    here.run(60.0)
    assert requests(here)[-1] == again[0]
    assert [reply.code for reply in replies(here)] == [133, 0, 0]


def test_another_request_has_another_identification():
    here = world()
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    here.loss = 1.0
    here.mn.renew(here.now)
    here.run(0.5)
    here.mn.deregister(here.now)
    here.run(0.5)
    renewal, deregistration = fields(here)[-2:]
    assert renewal >> 32 == deregistration >> 32 and renewal & LOW != deregistration & LOW


def test_a_lifetime_counts_from_when_its_request_was_first_sent():
    """The home agent may have granted what it got first, and its reply may be that which was delayed."""
    here = world(lifetime=30)
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    asked = here.now
    here.mn.renew(asked)
    here.delay = lambda: 1.2
    here.run(3.0)
    assert len({*requests(here)[2:]}) == 1 < len(requests(here)[2:])
    left = here.mn.state(here.now)["lifetime_left"]
    assert left == pytest.approx(30 - (here.now - asked))


def test_a_registration_that_was_over_before_it_was_granted_is_asked_for_again():
    here = world(lifetime=20)
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    here.loss = 1.0
    here.mn.renew(here.now)
    here.run(25.0)
    here.loss = 0.0
    here.run(40.0)
    assert here.reachable()


def test_a_replay_is_refused_and_does_not_make_the_mobile_nodes_nonce_worthless():
    here = world()
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    first, second = datagrams(here)
    for datagram in (first, second, second):
        here.ha.receive(datagram, here.now)
        (reply,) = sent(here.ha.effects())
        assert RegistrationReply.decode(reply.payload).code == 133
    here.mn.renew(here.now)
    here.run(1.0)
    assert replies(here)[-1].code == 0


def test_a_denial_for_another_reason_has_a_new_nonce_too():
    here = world()
    here.attach("hotel", CARE_OF)
    here.run(2.0)
    nonces = set()
    for _ in range(3):
        datagram = datagrams(here)[-1]
        forged = datagram.payload[:-16] + bytes(16)
        here.ha.receive(replace(datagram, payload=forged), here.now)
        (reply,) = sent(here.ha.effects())
        decoded = RegistrationReply.decode(reply.payload)
        assert decoded.code == 131
        nonces.add(decoded.identification >> 32)
    assert len(nonces) == 3


@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=3, max_size=12))
@settings(max_examples=8, deadline=None)
def test_over_a_bad_network_with_restarts_of_both_nothing_is_accepted_twice(seed, restarts):
    here = World(mobile_node(seed, lifetime=20), home_agent(seed + 1), [], seed)
    here.loss, here.duplication = 0.2, 0.3
    here.delay = lambda: here.rng.uniform(0.001, 0.4)
    records: dict = {}
    here.attach("hotel", CARE_OF)
    for number, restart in enumerate(restarts):
        here.run(10.0)
        for _, core, effect in here.log:
            if core is here.ha and isinstance(effect, Remember):
                records[effect.node] = json.loads(json.dumps(effect.record))
        if restart:
            here.bindings.clear()
            here.proxied.clear()
            here.ha = home_agent(seed + number)
            here.ha.restore(records, here.now)
        elif number % 3 == 2:
            here.mn = mobile_node(seed + number, lifetime=20)
            here.attach("hotel", CARE_OF)
    granted = [reply.identification & LOW for reply in replies(here) if reply.code == 0]
    assert len(granted) == len(set(granted))
    here.loss = here.duplication = 0.0
    here.run(150.0)  # it asks once a minute, when it was refused often
    assert here.reachable()
