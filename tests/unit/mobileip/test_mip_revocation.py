"""Registration revocation (RFC 3543): home agent, foreign agent and mobile node back to back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    events,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
    sent,
)

from testbed.mobileip.core.api import Datagram, SendAgentMessage, SendDatagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.config import Inform
from testbed.mobileip.core.foreign.effects import ClearVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.effects import ClearBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.effects import UseCoLocated
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.revocation import (
    ACKNOWLEDGMENT,
    REVOCATION,
    SUPPORT,
    Revocation,
    RevocationAcknowledgment,
    RevocationSupport,
)

OFFICE = A("10.0.5.1")
BETWEEN = b"foreign and home"


def foreign(care_of=FA_CARE_OF, seed=5, **changes) -> ForeignAgent:
    changes = {"revocation": True, "home_agents": (association(HOME_AGENT, 600, BETWEEN),)} | changes
    where = {} if care_of == FA_CARE_OF else {"interface": "office", "address": care_of, "care_of": care_of}
    return ForeignAgent(foreign_agent_config(**where, **changes), clock, Random(seed))


def home(**changes) -> HomeAgent:
    agents = tuple(association(each, 600, BETWEEN) for each in (FA_CARE_OF, OFFICE))
    return HomeAgent(home_agent_config(**{"foreign_agents": agents} | changes), clock, Random(4))


def world(fas=None, ha=None, mn=None, visit="visited", **changes) -> World:
    """The mobile node registered with a foreign agent, all of whom negotiate revocation."""
    made = World(mn, ha or home(), fas or [foreign(**changes)], now=0.25)
    if visit:
        made.discover(visit)
        made.run(2.0)
        assert made.reachable()
        made.wire.clear()
        made.log.clear()
    return made


def advertised(made: World) -> int:
    """The flags of the foreign agent's first advertisement."""
    flags = (AgentAdvertisement.decode(each).mobility.flags for each in made.wire if each[0] == 9)
    return next(each for each in flags if each & AgentFlag.FOREIGN_AGENT)


def messages(made: World, kind: int) -> list[bytes]:
    return [payload for payload in made.wire if payload[0] == kind]


def revocations(made: World) -> list[Revocation]:
    return [Revocation.decode(payload) for payload in messages(made, REVOCATION)]


def acknowledgments(made: World) -> list[RevocationAcknowledgment]:
    return [RevocationAcknowledgment.decode(payload) for payload in messages(made, ACKNOWLEDGMENT)]


def informed(made: World) -> list[AgentAdvertisement]:
    """Advertisements to the mobile node alone that say: your registration has ended."""
    unicast = [
        AgentAdvertisement.decode(each.message.payload)
        for _, _, each in made.log
        if isinstance(each, SendAgentMessage) and each.message.destination == HOME_ADDRESS
    ]
    return [each for each in unicast if each.mobility.sequence == 0]


def happened(made: World, name: str) -> list[dict[str, object]]:
    return events([each for _, _, each in made.log], name)


# Negotiation (§3.1, §3.2, §4.2.1)


def test_the_x_bit_and_the_extensions_of_both_agents():
    made = World(ha=home(), fas=[foreign()])
    made.discover("visited")
    made.run(1.0)
    assert advertised(made) & AgentFlag.REVOCATION and advertised(made) & AgentFlag.REGISTRATION_REQUIRED
    requests = [RegistrationRequest.decode(each) for each in made.wire if each[0] == 1]
    replies = [RegistrationReply.decode(each) for each in made.wire if each[0] == 3]
    types = [[extension.type for extension in each.extensions] for each in (*requests, *replies)]
    mobile_node, agents = [MOBILE_HOME], [MOBILE_HOME, SUPPORT, FOREIGN_HOME]
    assert types == [mobile_node, agents, agents, mobile_node]
    asked = RevocationSupport.decode(requests[1].extensions[1].data)
    given_back = RevocationSupport.decode(replies[0].extensions[1].data)
    assert asked.inform and given_back.inform
    assert made.fas[0].state(made.now)["visitors"][0]["revocable"]
    assert made.ha.state(made.now)["bindings"][0]["bindings"][0]["revocable"]


@pytest.mark.parametrize(
    ("foreign_knows", "home_knows", "asks"),
    [(False, True, True), (True, False, True), (False, False, True), (True, True, False)],
)
def test_without_association_or_request_nothing_is_negotiated(foreign_knows, home_knows, asks):
    """Neither end sends what nothing would prove; nobody who has no association is asked."""
    fa = foreign(revocation=asks, **({} if foreign_knows else {"home_agents": ()}))
    ha = home(**({} if home_knows else {"foreign_agents": ()}))
    made = World(ha=ha, fas=[fa])
    made.discover("visited")
    made.run(1.0)
    replies = [RegistrationReply.decode(each) for each in made.wire if each[0] == 3]
    assert not any(each.type == SUPPORT for reply in replies for each in reply.extensions)
    assert not any(visitor["revocable"] for visitor in fa.state(made.now)["visitors"])
    assert bool(advertised(made) & AgentFlag.REVOCATION) is asks


def test_the_home_agent_sets_the_i_bit_only_in_answer_to_one():
    made = world(inform=Inform.ALWAYS, visit=None)
    made.discover("visited")
    made.run(1.0)
    (reply,) = [RegistrationReply.decode(each) for each in made.wire if each[0] == 3][:1]
    assert RevocationSupport.decode(reply.extensions[1].data).inform is False


def test_revocation_needs_the_r_bit_and_no_co_located_mobile_node():
    """§4.3.1."""
    with pytest.raises(ValueError, match="R bit"):
        foreign(registration_required=False)
    fa = foreign()
    request = RegistrationRequest(
        RequestFlag.DECAPSULATION, 300, HOME_ADDRESS, HOME_AGENT, A("192.0.2.77"), 1
    )
    payload = sign(request.encode(), MOBILE_HOME, association(HOME_ADDRESS))
    fa.receive(Datagram(payload, A("192.0.2.77"), 434, FA_ADDRESS, 434, "visited", 255, MN_MAC), 1.0)
    (denial,) = sent(fa.effects())
    assert RegistrationReply.decode(denial.payload).code == 65


def test_revocation_needs_the_port_that_revocations_are_sent_to():
    with pytest.raises(ValueError, match="revocation needs port 434, not 4434"):
        foreign(port=4434)
    assert foreign(port=4434, revocation=False).config.port == 4434


def test_what_a_mobile_node_must_not_send_is_discarded():
    """§4.2.1: the extension in a request that is not for a co-located care-of address."""
    fa = foreign()
    request = RegistrationRequest(
        0, 300, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 1, (RevocationSupport(1).encode(),)
    )
    payload = sign(request.encode(), MOBILE_HOME, association(HOME_ADDRESS))
    fa.receive(Datagram(payload, HOME_ADDRESS, 434, FA_ADDRESS, 434, "visited", 255, MN_MAC), 1.0)
    assert not sent(fa.effects()) and fa.counters["discarded-revocation-support-of-mobile-node"] == 1


# The home agent revokes (§4.2.2)


def test_a_home_agent_revokes_and_the_mobile_node_registers_again():
    made = world()
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    made.run(0.0035)
    (message,), (acknowledgment,) = revocations(made), acknowledgments(made)
    assert (message.by_home_agent, message.inform) == (True, True)
    assert (message.home_address, message.home_domain) == (HOME_ADDRESS, HOME_AGENT)
    assert message.foreign_domain == FA_CARE_OF
    assert (acknowledgment.home_address, acknowledgment.identifier) == (HOME_ADDRESS, message.identifier)
    assert acknowledgment.inform
    (advertisement,) = informed(made)
    assert advertisement.mobility.sequence == 0
    assert made.bindings == {} and made.visitors == {}
    assert made.ha.counters["revocations-acknowledged"] == 1
    made.run(1.0)
    assert made.reachable()
    made.run(200.0)
    assert len(revocations(made)) == 1  # it was acknowledged


@pytest.mark.parametrize("policy", Inform)
@pytest.mark.parametrize("wanted", [True, False])
def test_whether_the_mobile_node_is_informed(policy, wanted):
    """§4.2.2.2: by the I bit where that is agreed, else as the foreign agent does it."""
    made = world(ha=home(inform_revoked=wanted), inform=policy)
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    made.run(0.01)
    does = wanted if policy is Inform.HOME_AGENT else policy is Inform.ALWAYS
    assert bool(informed(made)) is does
    agreed = policy is Inform.HOME_AGENT and wanted
    assert [each.inform for each in revocations(made)] == [agreed]
    assert [each.inform for each in acknowledgments(made)] == [agreed]


def test_the_operator_may_decide_otherwise():
    made = world()
    made.ha.revoke(HOME_ADDRESS, FA_CARE_OF, False, made.now)
    made.run(0.01)
    assert not informed(made) and made.bindings == {}
    with pytest.raises(ValueError, match="no binding"):
        made.ha.revoke(HOME_ADDRESS, None, None, made.now)


# The foreign agent revokes (§4.2.3)


@pytest.mark.parametrize("policy", Inform)
@pytest.mark.parametrize("wanted", [True, False])
def test_a_foreign_agent_revokes(policy, wanted):
    made = world(ha=home(inform_revoked=wanted), inform=policy)
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made._drain()
    # With the I bit it MUST NOT inform the mobile node before the home agent has answered.
    assert len(informed(made)) == (1 if policy is Inform.ALWAYS else 0)
    assert made.visitors == {}
    made.run(0.0025)
    (message,), (acknowledgment,) = revocations(made), acknowledgments(made)
    asks = policy is Inform.HOME_AGENT
    assert (message.by_home_agent, message.inform) == (False, asks)
    assert acknowledgment.inform is (asks and wanted)
    assert len(informed(made)) == (wanted if asks else policy is Inform.ALWAYS)
    assert made.bindings == {}
    (event,) = happened(made, "binding-revoked")
    assert event["by"] == "foreign-agent"


def test_a_mobile_node_that_shall_not_come_back_goes_elsewhere():
    """§4.1: the B bit beside the sequence number 0."""
    made = world(inform=Inform.ALWAYS)
    made.fas[0].revoke(HOME_ADDRESS, True, made.now)
    made.run(0.0015)
    (advertisement,) = informed(made)
    assert advertisement.mobility.flags & AgentFlag.BUSY
    assert happened(made, "lost-agent") and made.mn.state(made.now)["state"] == "discovering"


def test_nobody_is_revoked_who_is_no_visitor():
    made = world()
    with pytest.raises(ValueError, match="no visitor"):
        made.fas[0].revoke(A("10.0.1.101"), False, made.now)


def test_without_negotiation_a_revocation_is_not_sent_and_the_mobile_node_is_informed():
    made = world(fas=[foreign(revocation=False)])
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.run(0.0015)
    assert made.wire and not revocations(made) and len(informed(made)) == 1


# Retransmission (§4.2.2.1, §4.2.3.1)


@pytest.mark.parametrize("by", ["home-agent", "foreign-agent"])
def test_it_is_repeated_ever_less_often_with_new_timestamps_until_the_registration_would_end(by):
    made = world(mn=MobileNode(mobile_node_config(lifetime=60), clock, Random(1)))
    core = made.ha if by == "home-agent" else made.fas[0]
    made.loss = 1.0
    if by == "home-agent":
        made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    else:
        made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.run(100.0)
    when = [(at, each.datagram) for at, who, each in made.log if who is core and is_revocation(each)]
    gaps = [round(b - a) for (a, _), (b, _) in pairwise(when)]
    assert gaps == [1, 2, 4, 8, 16]
    assert when[-1][0] < 62.25
    stamps = [Revocation.decode(each.payload).identifier for _, each in when]
    assert all(b - a == gap for (a, b), gap in zip(pairwise(stamps), gaps, strict=True))
    assert core.counters["revocations-unacknowledged"] == 1
    assert len({each.payload[-16:] for _, each in when}) == len(when)  # and a new authenticator


def is_revocation(effect) -> bool:
    return hasattr(effect, "datagram") and effect.datagram.payload[:1] == b"\x07"


def test_a_revocation_keeps_a_second_from_a_registration():
    """§3.3."""
    made = World(ha=home(), fas=[foreign()], now=0.25)
    made.discover("visited")
    made.run(0.1)
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    (reply,) = [at for at, who, each in made.log if who is made.ha and getattr(each, "datagram", None)]
    made.run(3.0)
    at = [at for at, who, each in made.log if who is made.ha and is_revocation(each)]
    assert at == [reply + 1.0]


@pytest.mark.parametrize(("by", "delay"), [("home-agent", 0.2), ("foreign-agent", 0.4)])
def test_a_new_registration_is_not_revoked_by_what_was_sent_about_the_last(by, delay):
    made = world()
    made.loss = 1.0
    if by == "home-agent":
        made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    else:
        made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.run(0.3)
    made.loss, made.delay = 0.0, lambda: delay  # a request and its reply are under way for four times that
    made.mn.renew(made.now)
    made.run(5.0)
    assert not revocations(made) and made.reachable()
    made.run(60.0)
    assert not revocations(made) and made.reachable()


def test_where_a_new_request_fails_the_revocation_goes_on():
    made = world()
    made.loss = 1.0
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.loss = 0.0
    made.ha.receive = lambda datagram, now: None  # the request is lost, and the first revocations
    made.mn.renew(made.now)
    made.run(2.5)
    del made.ha.receive
    made.silent.add("visited")
    made.mn.detach(made.now)
    made.run(30.0)
    assert made.bindings == {} and made.fas[0].counters["revocations-acknowledged"] == 1


def test_a_lost_acknowledgment_is_sent_again():
    """§3.4: each valid revocation is acknowledged, also one of what has ended by then."""
    made = world()
    made.silent.add("visited")
    made.ha.revoke(HOME_ADDRESS, None, False, made.now)
    made._drain()
    made.run(0.0011)
    made._queue.clear()  # the acknowledgment is lost
    made.run(3.0)
    assert len(revocations(made)) == 2 and len(acknowledgments(made)) == 1
    assert made.ha.counters["revocations-acknowledged"] == 1
    assert len(happened(made, "visitor-revoked")) == 1


def test_both_ends_revoke_at_the_same_time():
    made = world()
    made.ha.revoke(HOME_ADDRESS, None, False, made.now)
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.silent.add("visited")
    made.run(10.0)
    assert len(revocations(made)) == len(acknowledgments(made)) == 2
    for core in (made.ha, made.fas[0]):
        assert core.counters["revocations-acknowledged"] == 1


# What is not obeyed (§3.3, §3.5)


def revocation_for(made: World, by_home_agent: bool, **changes) -> Revocation:
    stamp = int(EPOCH + made.now) + 2_208_988_800 & 0xFFFFFFFF
    fields = {
        "by_home_agent": by_home_agent,
        "inform": False,
        "home_address": HOME_ADDRESS,
        "home_domain": HOME_AGENT,
        "foreign_domain": FA_CARE_OF,
        "identifier": stamp,
    } | changes
    return Revocation(**fields)


def give(made: World, to_home_agent: bool, payload: bytes) -> list:
    core = made.ha if to_home_agent else made.fas[0]
    ends = (FA_CARE_OF, HOME_AGENT) if to_home_agent else (HOME_AGENT, FA_CARE_OF)
    made._drain()
    core.receive(Datagram(payload, ends[0], 1234, ends[1], 434), made.now)
    effects = core.effects()
    for effect in effects:
        made._carry_out(core, effect)
    return effects


def proven(message: Revocation, key: bytes = BETWEEN) -> bytes:
    return sign(message.encode(), FOREIGN_HOME, association(HOME_AGENT, 600, key))


@pytest.mark.parametrize("to_home_agent", [True, False])
def test_an_authentic_revocation_is_acknowledged_to_where_it_came_from(to_home_agent):
    made = world()
    effects = give(made, to_home_agent, proven(revocation_for(made, not to_home_agent)))
    (answer,) = sent(effects)
    assert answer.payload[0] == ACKNOWLEDGMENT
    assert (answer.source_port, answer.destination_port) == (434, 1234)
    assert answer.destination == (FA_CARE_OF if to_home_agent else HOME_AGENT)
    assert any(isinstance(each, ClearBinding if to_home_agent else ClearVisitor) for each in effects)


@pytest.mark.parametrize("to_home_agent", [True, False])
@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({}, b"another key", "revocation-bad-authenticator"),
        ({}, None, "revocation-missing-authentication"),
        ({"by_home_agent": None}, BETWEEN, "revocation-reflected"),
        ({"foreign_domain": OFFICE}, BETWEEN, "revocation-of-no-binding"),
        ({"home_address": A("10.0.1.101")}, BETWEEN, "revocation-of-no-binding"),
        ({"identifier": 0}, BETWEEN, "revocation-precedes-registration"),
    ],
)
def test_what_is_not_obeyed_is_discarded(to_home_agent, changes, key, reason):
    made = world()
    before = made.ha.state(made.now)["bindings"], made.fas[0].state(made.now)["visitors"]
    message = revocation_for(made, not to_home_agent)
    if changes.get("by_home_agent", 1) is None:
        changes = {"by_home_agent": to_home_agent}
    elif "identifier" in changes:
        changes = {"identifier": message.identifier - 2}  # the second of the registration
    message = replace(message, **changes)
    effects = give(made, to_home_agent, message.encode() if key is None else proven(message, key))
    core = made.ha if to_home_agent else made.fas[0]
    assert not sent(effects) and core.counters[f"discarded-{reason}"] == 1
    assert (made.ha.state(made.now)["bindings"], made.fas[0].state(made.now)["visitors"]) == before


def test_a_foreign_agent_ignores_a_revocation_for_any_home_agent():
    """Appendix B."""
    made = world()
    give(made, False, proven(revocation_for(made, True, home_domain=A("0.0.0.0"))))
    assert made.fas[0].counters["discarded-revocation-of-any-home-agent"] == 1 and made.reachable()


@pytest.mark.parametrize("to_home_agent", [True, False])
def test_a_replayed_revocation_does_not_end_the_next_registration(to_home_agent):
    made = world()
    payload = proven(revocation_for(made, not to_home_agent))
    assert sent(give(made, to_home_agent, payload))
    assert not sent(give(made, to_home_agent, payload))  # once more, at once
    made.ha.flush()
    made.mn.renew(made.now)
    made.run(5.0)
    assert made.reachable()
    assert not sent(give(made, to_home_agent, payload)) and made.reachable()
    core = made.ha if to_home_agent else made.fas[0]
    assert core.counters["discarded-revocation-replayed"] == 2


def test_a_revocation_that_a_registration_has_overtaken_is_not_obeyed():
    made = world()
    early = proven(revocation_for(made, True))  # on its way for long
    made.mn.renew(made.now)
    made.run(2.0)
    give(made, False, early)
    assert made.fas[0].counters["discarded-revocation-precedes-registration"] == 1 and made.reachable()


def test_a_reply_that_its_revocation_has_overtaken_registers_nobody():
    made = world()
    made.mn.renew(made.now)
    made.run(0.0025)  # the home agent has answered
    (late,) = [payload for payload in made.wire if payload[0] == 1][1:]
    assert late
    stamp = revocation_for(made, True).identifier + 1
    assert sent(give(made, False, proven(revocation_for(made, True, identifier=stamp))))
    made.silent.add("visited")
    made.run(0.0025)
    assert made.fas[0].counters["discarded-revoked-since"] == 1 and made.visitors == {}


@pytest.mark.parametrize(
    "changes", [{"identifier": 1}, {"home_address": A("10.0.1.101")}, {"key": b"another"}]
)
def test_an_acknowledgment_of_nothing_is_discarded(changes):
    made = world()
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    (message,) = [each for each in sent(made.ha.effects()) if each.payload[0] == REVOCATION]
    key = changes.pop("key", BETWEEN)
    acknowledgment = RevocationAcknowledgment(
        False, HOME_ADDRESS, Revocation.decode(message.payload).identifier
    )
    payload = replace(acknowledgment, **changes).encode()
    give(made, True, sign(payload, FOREIGN_HOME, association(HOME_AGENT, 600, key)))
    assert made.ha.counters["revocations-acknowledged"] == 0
    give(made, True, sign(acknowledgment.encode(), FOREIGN_HOME, association(HOME_AGENT, 600, BETWEEN)))
    assert made.ha.counters["revocations-acknowledged"] == 1


def test_an_i_bit_that_was_not_set_in_the_revocation_is_ignored():
    """§3.4."""
    made = world(inform=Inform.NEVER)
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    (message,) = sent(made.fas[0].effects())
    acknowledgment = RevocationAcknowledgment(
        True, HOME_ADDRESS, Revocation.decode(message.payload).identifier
    )
    give(made, False, sign(acknowledgment.encode(), FOREIGN_HOME, association(HOME_AGENT, 600, BETWEEN)))
    made._drain()
    assert made.fas[0].counters["revocations-acknowledged"] == 1 and not informed(made)


# Moving on (§1)


@pytest.mark.parametrize("to", ["office", "home", "hotel"])
def test_the_agent_that_a_mobile_node_has_left_may_forget_it(to):
    made = world(fas=[foreign(), foreign(OFFICE, 6)])
    if to == "hotel":
        made.attach("hotel", CARE_OF)
    else:
        made.discover(to)
    made.run(2.0)
    (message,), (_,) = revocations(made), acknowledgments(made)
    assert message.foreign_domain == FA_CARE_OF and not message.inform
    assert made.fas[0].state(made.now)["visitors"] == [] and not informed(made)
    assert made.reachable()


def test_there_and_back_again_ends_nothing():
    """Revocations of the last visit must not end this one, however late they arrive."""
    made = world(fas=[foreign(), foreign(OFFICE, 6)])
    made.delay = lambda: made.rng.uniform(0.001, 1.5)
    for _ in range(10):
        for network in ("office", "visited"):
            made.discover(network)
            made.run(made.rng.uniform(0.1, 6.0))
    made.run(30.0)
    assert made.reachable() and made.ha.counters["revocations-sent"] > 3
    agree(made)


def test_whoever_deregisters_through_its_agent_is_not_revoked():
    made = world()
    made.mn.deregister(made.now)
    made.run(5.0)
    assert made.bindings == {} and made.visitors == {} and not revocations(made)


# A mobile node without a foreign agent (§4.2.2.3)


def test_a_home_agent_revokes_what_a_mobile_node_has_registered_itself():
    mn = MobileNode(mobile_node_config(revocation=True), clock, Random(1))
    made = World(mn, home(), [], now=0.25)
    made.attach("hotel", CARE_OF)
    made.run(2.0)
    (request,) = [RegistrationRequest.decode(each) for each in made.wire if each[0] == 1]
    (reply,) = [RegistrationReply.decode(each) for each in made.wire if each[0] == 3]
    for each in (request, reply):  # proven by what is between the two
        assert [extension.type for extension in each.extensions] == [SUPPORT, MOBILE_HOME]
    made.wire.clear()
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    made.run(0.0025)
    (message,), (acknowledgment,) = revocations(made), acknowledgments(made)
    assert message.inform and message.foreign_domain == CARE_OF  # §3.3
    assert acknowledgment.extensions[0].type == MOBILE_HOME
    assert happened(made, "registration-revoked") and made.ha.counters["revocations-acknowledged"] == 1
    made.run(2.0)
    assert made.reachable()
    again = Datagram(messages(made, REVOCATION)[0], HOME_AGENT, 434, CARE_OF, 434)
    made.mn.receive(again, made.now)
    assert made.mn.counters["discarded-revocation-replayed"] == 1 and made.reachable()
    stamp = revocation_for(made, False, foreign_domain=CARE_OF)
    for message, reason in (
        (stamp, "revocation-reflected"),
        (replace(stamp, by_home_agent=True, foreign_domain=OFFICE), "revocation-of-no-binding"),
    ):
        payload = sign(message.encode(), MOBILE_HOME, association(HOME_AGENT))
        made.mn.receive(Datagram(payload, HOME_AGENT, 434, CARE_OF, 434), made.now)
        assert made.mn.counters[f"discarded-{reason}"] == 1 and made.reachable()


ELSEWHERE = A("198.51.100.200")


def beside() -> World:
    """A mobile node that has registered where it is now beside where it was."""
    mn = MobileNode(mobile_node_config(revocation=True, overlap=60.0), clock, Random(1))
    made = World(mn, home(), [], now=0.25)
    for network, care_of in (("hotel", CARE_OF), ("airport", ELSEWHERE)):
        made.attach(network, care_of)
        made.run(2.0)
    assert made.bindings[HOME_ADDRESS] == (CARE_OF, ELSEWHERE)
    made.wire.clear()
    made.log.clear()
    return made


def pass_on(made: World, care_of) -> None:
    """Bring the latest revocation to a care-of address of the mobile node, and back the acknowledgment."""
    interface = "hotel" if care_of == CARE_OF else "airport"
    payload = messages(made, REVOCATION)[-1]
    made.mn.receive(Datagram(payload, HOME_AGENT, 434, care_of, 434, interface), made.now)
    for effect in made.mn.effects():
        made.log.append((made.now, made.mn, effect))
        if isinstance(effect, SendDatagram) and effect.datagram.payload[0] == ACKNOWLEDGMENT:
            assert (effect.datagram.source, effect.datagram.interface) == (care_of, interface)
            made.ha.receive(replace(effect.datagram, interface=None), made.now)


def test_the_revocation_of_a_former_care_of_address_leaves_the_registration():
    made = beside()
    made.ha.revoke(HOME_ADDRESS, CARE_OF, None, made.now)
    made.run(1.5)
    pass_on(made, CARE_OF)
    assert happened(made, "care-of-revoked") == [{"care_of": str(CARE_OF)}]
    assert made.ha.counters["revocations-acknowledged"] == 1 and not happened(made, "registration-revoked")
    state = made.mn.state(made.now)
    assert (state["state"], state["care_of"], state["former_care_of"]) == ("registered", str(ELSEWHERE), [])
    (use,) = [each for _, _, each in made.log if isinstance(each, UseCoLocated)]
    assert use.care_of_address == ELSEWHERE and use.former == ()
    made.run(70.0)
    assert not messages(made, 1) and made.bindings[HOME_ADDRESS] == (ELSEWHERE,)  # nothing to give back


def test_the_revocation_of_the_present_one_of_two_lets_it_ask_again():
    made = beside()
    made.ha.revoke(HOME_ADDRESS, ELSEWHERE, None, made.now)
    made.run(2.0)
    assert len(happened(made, "registration-revoked")) == 1
    assert made.ha.counters["revocations-acknowledged"] == 1
    assert made.reachable() and made.bindings[HOME_ADDRESS] == (ELSEWHERE,)


def test_all_care_of_addresses_are_revoked_and_each_is_acknowledged():
    made = beside()
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    made.run(2.0)
    assert len(happened(made, "registration-revoked")) == 1
    (last,) = {each.foreign_domain for each in revocations(made)} - {ELSEWHERE}
    made.run(20.0)
    assert revocations(made)[-1].foreign_domain == last == CARE_OF  # again and again, as none has arrived
    pass_on(made, CARE_OF)
    assert made.ha.counters["revocations-acknowledged"] == 2
    assert not happened(made, "care-of-revoked") and made.mn.state(made.now)["state"] == "registered"
    made.run(60.0)
    assert made.reachable()


def test_a_mobile_node_that_does_not_ask_is_not_asked():
    made = World(ha=home(), fas=[], now=0.25)
    made.attach("hotel", CARE_OF)
    made.run(2.0)
    replies = [RegistrationReply.decode(each) for each in made.wire if each[0] == 3]
    assert [each.type for reply in replies for each in reply.extensions] == [MOBILE_HOME]
    made.ha.revoke(HOME_ADDRESS, None, None, made.now)
    made.run(2.0)
    assert not revocations(made) and made.bindings == {}


# What outlives a process, and what does not


def test_what_was_negotiated_outlives_the_agents():
    made = world()
    remembered = []
    for core, make in ((made.ha, home), (made.fas[0], foreign)):
        pictures = core._bindings.of(HOME_ADDRESS) if core is made.ha else core._visitors.get(HOME_ADDRESS)
        record = (
            {"identification": 1, "bindings": [each.record(clock) for each in pictures]}
            if core is made.ha
            else pictures.record(clock)
        )
        after = make()
        after.restore({HOME_ADDRESS: record}, made.now)
        remembered.append(after)
    made.ha, made.fas = remembered[0], [remembered[1]]
    made.bindings.clear()
    made.proxied.clear()
    made.run(0.1)
    made.wire.clear()
    made.ha.revoke(HOME_ADDRESS, None, False, made.now)
    made.run(1.0)
    assert len(revocations(made)) == len(acknowledgments(made)) == 1


def test_a_flush_ends_revocations_too():
    made = world()
    made.loss = 1.0
    made.fas[0].revoke(HOME_ADDRESS, False, made.now)
    made.run(0.1)
    made.fas[0].flush()
    made.loss = 0.0
    made.wire.clear()
    made.run(60.0)
    assert not revocations(made)


# Whatever happens


def agree(made: World) -> None:
    """The lists of both agents say the same, for what is revocable."""
    bindings = {
        (each["home_address"], binding["care_of_address"])
        for each in made.ha.state(made.now)["bindings"]
        for binding in each["bindings"]
    }
    visitors = {
        (visitor["home_address"], visitor["care_of"])
        for fa in made.fas
        for visitor in fa.state(made.now)["visitors"]
    }
    assert visitors == {each for each in bindings if each[1] != str(CARE_OF)}


STEPS = st.sampled_from(["visited", "office", "home", "hotel", "ha", "fa", "fa-busy", "renew"])


@given(
    steps=st.lists(st.tuples(STEPS, st.floats(0, 5)), min_size=1, max_size=10),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=40)
def test_whoever_revokes_whatever_is_lost_or_late_both_agents_agree_in_the_end(steps, seed, loss):
    fas = [foreign(), foreign(OFFICE, 6)]
    mn = MobileNode(mobile_node_config(lifetime=60, revocation=True), clock, Random(seed))
    made = World(mn, home(), fas, seed=seed)
    made.duplication = 0.2
    made.delay = lambda: made.rng.uniform(0.001, 0.9)
    made.loss = loss
    for step, stay in [("visited", 3.0), *steps, ("visited", 0.0)]:
        try:
            if step == "ha":
                made.ha.revoke(HOME_ADDRESS, None, made.rng.choice([True, False, None]), made.now)
            elif step.startswith("fa"):
                made.rng.choice(fas).revoke(HOME_ADDRESS, step == "fa-busy", made.now)
            elif step == "renew":
                made.mn.renew(made.now)
            elif step == "hotel":
                made.attach("hotel", CARE_OF)
            else:
                made.discover(step)
        except ValueError:
            pass  # there is nothing to revoke or renew
        made.run(stay)
    made.loss = made.duplication = 0.0
    made.delay = lambda: 0.001
    made.run(130.0)
    assert made.reachable()
    agree(made)
    last = {}
    for at, core, effect in made.log:
        if is_revocation(effect):
            message = Revocation.decode(effect.datagram.payload)
            key = core, message.foreign_domain
            assert at - last.get(key, -9.0) >= 0.999  # §3.3
            last[key] = at


def test_an_unknown_extension_of_a_revocation_is_skipped_or_ends_it():
    made = world()
    message = revocation_for(made, True, extensions=(Extension(200, b"x"),))
    assert sent(give(made, False, proven(message)))
    give(made, False, proven(replace(message, extensions=(Extension(99, b"x"),))))
    assert made.fas[0].counters["discarded-unknown-extension"] == 1
