"""Mobile nodes known by their NAI, and the home addresses that they are assigned (RFC 2794)."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Network
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

from testbed.mobileip.core.api import Datagram, GratuitousArp, Remember
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.effects import UseHome, UseHomeAddress
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_FOREIGN, MOBILE_HOME
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.nai import TYPE, check, encode, nai_of
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

NAI, OTHER, THIRD = "mn@example.net", "other@example.net", "third@example.net"
POOL = (IPv4Network("10.0.1.100/31"),)
ZERO, ELSEWHERE = A("0.0.0.0"), A("198.51.100.9")


def nai_agent(nais=(NAI,), pool=POOL, **changes) -> HomeAgent:
    nodes = tuple(association(nai) for nai in nais)
    changes = {"advertising": None, "mobile_nodes": nodes, "pool": pool, **changes}
    return HomeAgent(home_agent_config(**changes), clock, Random(2))


def nai_node(**changes) -> MobileNode:
    changes = {"home_address": None, "nai": NAI, **changes}
    return MobileNode(mobile_node_config(**changes), clock, Random(1))


# The extension


@pytest.mark.parametrize(
    "nai",
    [  # RFC 2486 §2.1
        "fred@3com.com",
        "fred@foo-9.com",
        "fred_smith@big-co.com",
        "fred=?#$&*+-/^smith@bigco.com",
        "nancy@eng.bigu.edu",
        "eng!nancy@bigu.edu",
        "eng%nancy@bigu.edu",
        "fred",
        "a\\ b@bigu.edu",
    ],
)
def test_an_nai_comes_back_as_it_was(nai):
    check(nai)
    request = RegistrationRequest(0, 60, ZERO, HOME_AGENT, CARE_OF, 1, (encode(nai),))
    payload = request.encode()
    assert payload[24:26] == bytes((131, len(nai))) and payload[26:] == nai.encode()
    assert nai_of(RegistrationRequest.decode(payload).extensions) == nai


@pytest.mark.parametrize(
    "data",
    [  # RFC 2486 §2.1
        b"fred@foo",
        b"fred@foo_9.com",
        b"@howard.edu",
        b"fred@bigco.com@smallco.com",
        b"eng:nancy@bigu.edu",
        b"eng;nancy@bigu.edu",
        b"<nancy>@bigu.edu",
        b"",
        b"fr\xe9d@bigu.edu",
        b"fred@bigu.edu\0",
    ],
)
def test_what_is_no_nai_is_refused(data):
    with pytest.raises(WireError):
        nai_of((Extension(TYPE, data),))
    with pytest.raises(ValueError):
        check(data.decode("latin-1"))


@given(st.binary(max_size=40))
def test_any_bytes_are_an_nai_or_none(data):
    try:
        nai = nai_of((Extension(TYPE, data),))
    except WireError:
        return
    assert nai is not None and nai.encode() == data


def test_nai_and_pool_are_checked_where_they_are_configured():
    with pytest.raises(ValueError, match="home address, or an NAI"):
        mobile_node_config(home_address=None)
    with pytest.raises(ValueError, match=r"mn@example\.net"):
        nai_node(nai="mn")
    with pytest.raises(ValueError, match="need a pool"):
        nai_agent(pool=())
    with pytest.raises(ValueError, match="not within the home prefix"):
        nai_agent(pool=(IPv4Network("10.0.2.0/24"),))
    with pytest.raises(ValueError, match="not 'mn@'"):
        association("mn@")


# All back to back


def nai_world(**changes) -> World:
    return World(nai_node(**changes), nai_agent())


@pytest.mark.parametrize("network", ["hotel", "visited"])
def test_a_home_address_is_assigned_and_used(network):
    world = nai_world(lifetime=30)
    world.attach(network, CARE_OF) if network == "hotel" else world.discover(network)
    assert world.mn.state(0.0)["home_address"] is None
    world.run(0.1)
    assert world.reachable()
    log = [each for _, core, each in world.log if core is world.mn]
    given_address = UseHomeAddress(HOME_ADDRESS)
    assert log.count(given_address) == 1 and log.index(given_address) < log.index(world.use)
    first, *_ = sent(log)
    request = RegistrationRequest.decode(first.payload)
    assert request.home_address == ZERO
    assert [each.type for each in request.extensions] == [TYPE, MOBILE_HOME]
    assert first.source == (CARE_OF if network == "hotel" else ZERO)  # RFC 5944 §3.6.1.1
    world.run(100.0)
    again = sent([each for _, core, each in world.log if core is world.mn])[-1]
    request = RegistrationRequest.decode(again.payload)
    assert (request.home_address, nai_of(request.extensions)) == (HOME_ADDRESS, NAI)
    assert again.source == (CARE_OF if network == "hotel" else HOME_ADDRESS)
    for reply in sent([each for _, core, each in world.log if core is world.ha]):
        decoded = RegistrationReply.decode(reply.payload)
        assert (decoded.code, decoded.home_address, nai_of(decoded.extensions)) == (0, HOME_ADDRESS, NAI)
    assert world.ha.state(world.now)["bindings"][0]["nai"] == NAI
    state = world.mn.state(world.now)
    assert (state["home_address"], state["nai"], state["state"]) == (str(HOME_ADDRESS), NAI, "registered")
    assert world.mn.counters["replies-received"] == world.mn.counters["requests-sent"]


def test_a_walk_begins_at_home_without_a_home_address():
    world = World(nai_node(), nai_agent(advertising=home_agent_config().advertising))
    world.discover("home")
    world.run(3.0)
    assert world.use == UseHome("home", world.use.router)
    assert world.mn.state(world.now)["state"] == "at-home"
    first, second = sent([each for _, core, each in world.log if core is world.mn])
    assert first.source == ZERO and first.link_address == b"\x02agent"
    request = RegistrationRequest.decode(first.payload)
    assert (request.home_address, request.care_of_address, request.lifetime) == (ZERO, ZERO, 0)
    request = RegistrationRequest.decode(second.payload)  # the usual one, after the gratuitous ARP of §4.6
    assert (request.home_address, request.care_of_address, second.source) == (HOME_ADDRESS,) * 3
    kinds = [type(each) for _, core, each in world.log if core is world.mn]
    assert kinds.index(UseHomeAddress) < kinds.index(UseHome) < kinds.index(GratuitousArp)
    world.discover("visited")
    world.run(1.0)
    assert world.reachable()
    world.discover("home")
    world.run(3.0)
    assert world.bindings == {} and world.reachable()


def test_dynamic_home_agent_resolution_by_nai():
    """The refusal of a broadcast has the home agent's address, and a home address to be adopted later."""
    world = nai_world(home_agent=A("10.0.1.255"))
    world.discover("visited")
    world.run(0.5)
    relayed = sent([each for _, core, each in world.log if core is world.fas[0]])[-1]
    assert relayed.destination == A("10.0.1.255")
    world.ha.receive(replace(relayed, link_address=MN_MAC), world.now)
    world.run(3.0)
    codes = [each["code"] for each in events([e for _, core, e in world.log if core is world.mn], "reply")]
    assert codes[:2] == [136, 0] and world.reachable()


def test_an_address_given_away_is_asked_for_no_more():
    """The home agent has lost its state, and has assigned the address to another."""
    world = nai_world(lifetime=20)
    world.attach("hotel", CARE_OF)
    world.run(1.0)
    world.bindings.clear()
    world.proxied.clear()
    world.ha = nai_agent((OTHER, NAI))
    world.ha.receive(ask(OTHER, now=world.now), world.now)
    world.run(20.0)
    assert (
        events([e for _, core, e in world.log if core is world.mn], "registration-failed")[0]["code"] == 129
    )
    assert world.mn.state(world.now)["home_address"] == "10.0.1.101"
    assert world.bindings == {HOME_ADDRESS: (ELSEWHERE,), A("10.0.1.101"): (CARE_OF,)}
    log = [each for _, core, each in world.log if core is world.mn]
    assert world.use in log[log.index(UseHomeAddress(A("10.0.1.101"))) :]  # the tunnel of the new address


# The home agent


def ask(nai, now=0.0, home=ZERO, lifetime=300, care_of=ELSEWHERE, key=None, extensions=None, **changes):
    identification = from_unix(EPOCH + now) % 2**64
    extensions = (encode(nai),) if extensions is None else extensions
    message = RegistrationRequest(
        int(RequestFlag.DECAPSULATION), lifetime, home, HOME_AGENT, care_of, identification, extensions
    )
    proof = association(nai) if key is None else association(nai, key=key)
    datagram = Datagram(sign(message.encode(), MOBILE_HOME, proof), care_of, 434, HOME_AGENT, 434)
    return replace(datagram, **changes)


def answer(agent, datagram, now=0.0) -> RegistrationReply:
    agent.receive(datagram, now)
    (reply,) = sent(agent.effects())
    return RegistrationReply.decode(reply.payload)


def test_every_reply_has_nai_and_home_address():
    """RFC 2794 §3, else a foreign agent replaces the code, and a clock could not be corrected."""
    agent = nai_agent()
    wrong_clock = answer(agent, ask(NAI, now=-100.0))
    assert (wrong_clock.code, wrong_clock.home_address, nai_of(wrong_clock.extensions)) == (
        133,
        HOME_ADDRESS,
        NAI,
    )
    assert [each.type for each in wrong_clock.extensions] == [TYPE, MOBILE_HOME]
    wrong_key = answer(agent, ask(NAI, key=b"wrong"))
    assert (wrong_key.code, wrong_key.home_address, nai_of(wrong_key.extensions)) == (131, HOME_ADDRESS, NAI)
    assert agent.state(0.0)["bindings"] == []
    granted = answer(agent, ask(NAI))
    assert (granted.code, granted.home_address) == (0, HOME_ADDRESS)
    # The low half is copied, the authenticator holds.
    assert granted.identification == from_unix(EPOCH) % 2**64


def test_strangers_and_what_follows_the_proof_are_nobody():
    agent = nai_agent()
    for datagram in (ask(OTHER), ask(NAI, extensions=())):
        agent.receive(datagram, 0.0)
        assert sent(agent.effects()) == []
    assert agent.counters["discarded-no-security-association"] == 2
    late = ask(NAI)
    late = replace(late, payload=late.payload + encode(OTHER).encode())
    assert answer(agent, late).code == 134
    agent.receive(ask(NAI, now=1.0, extensions=(Extension(TYPE, b"@"),)), 1.0)
    assert agent.counters["discarded-nai"] == 1


def test_an_assignment_is_kept_until_the_pool_has_no_other():
    agent = nai_agent((NAI, OTHER, THIRD))
    assert answer(agent, ask(OTHER)).home_address == A("10.0.1.101")  # that of its rank
    assert answer(agent, ask(THIRD, care_of=A("198.51.100.10"))).home_address == HOME_ADDRESS
    full = answer(agent, ask(NAI, care_of=A("198.51.100.11")))
    assert (full.code, full.home_address) == (130, ZERO)
    assert answer(agent, ask(OTHER, now=1.0, lifetime=0), 1.0).code == 0
    back = answer(agent, ask(OTHER, now=2.0), 2.0)
    assert (back.code, back.home_address) == (0, A("10.0.1.101"))
    assert answer(agent, ask(OTHER, now=3.0, lifetime=0), 3.0).code == 0
    late = answer(agent, ask(NAI, now=4.0, care_of=A("198.51.100.11")), 4.0)
    assert (late.code, late.home_address) == (0, A("10.0.1.101"))
    assert answer(agent, ask(OTHER, now=5.0), 5.0).code == 130


def test_129_for_a_home_address_that_is_not_its_own():
    agent = nai_agent((NAI, OTHER))
    assert answer(agent, ask(NAI)).home_address == HOME_ADDRESS
    for now, home in ((0.1, HOME_ADDRESS), (0.2, A("10.0.1.50"))):
        refused = answer(agent, ask(OTHER, now=now, home=home, care_of=CARE_OF), now)
        assert (refused.code, refused.home_address) == (129, home)  # RFC 5944 §3.8.3.2
    assert answer(agent, ask(NAI, now=1.0, home=A("10.0.1.101")), 1.0).code == 129
    # What a home agent that has forgotten everything gave, it gives again.
    assert answer(agent, ask(OTHER, now=1.0, home=A("10.0.1.101"), care_of=CARE_OF), 1.0).code == 0


def test_no_address_of_the_pool_is_a_care_of_address():
    assert answer(nai_agent(), ask(NAI, care_of=HOME_ADDRESS)).code in (129, 134)
    assert answer(nai_agent((NAI, OTHER)), ask(NAI, care_of=A("10.0.1.101"))).code == 129


def test_a_restart_keeps_assignments_and_replay_protection():
    agent, records = nai_agent((NAI, OTHER, THIRD)), {}

    def take(datagram, now):
        agent.receive(datagram, now)
        effects = agent.effects()
        records.update({e.node: json.loads(json.dumps(e.record)) for e in effects if isinstance(e, Remember)})
        return RegistrationReply.decode(sent(effects)[0].payload)

    first = ask(THIRD)
    assert take(first, 0.0).home_address == HOME_ADDRESS
    assert take(ask(THIRD, now=0.5, lifetime=0), 0.5).code == 0
    assert take(ask(OTHER, now=0.5, care_of=CARE_OF), 0.5).home_address == A("10.0.1.101")
    assert (
        take(ask(NAI, now=0.5, care_of=A("198.51.100.11")), 0.5).home_address == HOME_ADDRESS
    )  # it is free again
    assert records[THIRD]["home_address"] is None
    agent = nai_agent((NAI, OTHER, THIRD))
    agent.restore(records, 1.0)
    agent.effects()
    bindings = {each["nai"]: each["home_address"] for each in agent.state(1.0)["bindings"]}
    assert bindings == {OTHER: "10.0.1.101", NAI: str(HOME_ADDRESS)}
    assert answer(agent, first, 1.0).code == 133
    agent = nai_agent((OTHER,))  # the configuration has changed
    agent.restore(records, 1.0)
    assert {e.node for e in agent.effects() if isinstance(e, Remember)} == {NAI, THIRD}


@given(st.lists(st.tuples(st.sampled_from([NAI, OTHER, THIRD]), st.booleans()), max_size=25))
@settings(max_examples=30)
def test_no_two_mobile_nodes_ever_have_one_address(steps):
    agent = nai_agent((NAI, OTHER, THIRD))
    for now, (nai, away) in enumerate(steps):
        care_of = A(f"198.51.100.{10 + len(nai)}")
        reply = answer(agent, ask(nai, now=now, lifetime=300 if away else 0, care_of=care_of), now)
        assert reply.code in (0, 130)
        bindings = agent.state(now)["bindings"]
        assert len({each["home_address"] for each in bindings}) == len({each["nai"] for each in bindings})
        if reply.code == 0 and away:
            assert (str(reply.home_address), nai) in {
                (each["home_address"], each["nai"]) for each in bindings
            }


# The foreign agent


class Relay:
    """A foreign agent between a mobile node and a home agent that say whatever a test wants."""

    def __init__(self, **changes) -> None:
        self.agent = ForeignAgent(foreign_agent_config(**changes), clock, Random(3))
        self.now = 0.0

    def ask(self, nai=NAI, home=ZERO, low=7, mac=MN_MAC, extensions=None, tail=b""):
        extensions = extensions if extensions is not None else (encode(nai),) if nai else ()
        message = RegistrationRequest(0, 60, home, HOME_AGENT, FA_CARE_OF, low, extensions)
        payload = sign(message.encode(), MOBILE_HOME, association("x@y.z")) + tail
        self.agent.receive(Datagram(payload, home, 434, FA_ADDRESS, 434, "visited", 64, mac), self.now)
        return self.agent.effects()

    def reply(self, nai=NAI, home=HOME_ADDRESS, home_agent=HOME_AGENT, low=7, code=0):
        extensions = (encode(nai),) if nai else ()
        message = RegistrationReply(code, 60, home, home_agent, low, extensions)
        payload = sign(message.encode(), MOBILE_HOME, association("x@y.z"))
        self.agent.receive(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434), self.now)
        return self.agent.effects()


def test_a_visitor_without_home_address_is_admitted_by_its_nai_and_link_address():
    relay = Relay()
    (relayed,) = sent(relay.ask())
    assert nai_of(RegistrationRequest.decode(relayed.payload).extensions) == NAI
    (pending,) = relay.agent.state(0.0)["pending"]
    assert (pending["nai"], pending["home_address"]) == (NAI, "0.0.0.0")
    effects = relay.reply()
    (visitor,) = [each for each in effects if isinstance(each, SetVisitor)]
    assert (visitor.home_address, visitor.link_address) == (HOME_ADDRESS, MN_MAC)
    (datagram,) = sent(effects)  # §3.7.2.3: to the home address of the reply
    assert (datagram.destination, datagram.link_address) == (HOME_ADDRESS, MN_MAC)
    (state,) = relay.agent.state(0.0)["visitors"]
    assert (state["nai"], state["home_address"]) == (NAI, str(HOME_ADDRESS))


def test_96_without_an_nai():
    relay = Relay()
    (datagram,) = sent(relay.ask(nai=None))
    reply = RegistrationReply.decode(datagram.payload)
    assert (reply.code, reply.home_address) == (96, ZERO)
    assert (datagram.destination, datagram.link_address) == (A("255.255.255.255"), MN_MAC)


def test_two_without_home_address_are_distinguished_by_their_nai():
    relay, other_mac = Relay(), b"\2other"
    relay.ask()
    relay.ask(OTHER, mac=other_mac)  # the same identification, by chance
    assert len(relay.agent.state(0.0)["pending"]) == 2
    (datagram,) = sent(relay.reply(OTHER, home=A("10.0.1.101")))
    assert datagram.link_address == other_mac
    (datagram,) = sent(relay.reply(NAI))
    assert datagram.link_address == MN_MAC


def test_two_with_one_home_address_are_distinguished_by_their_nai():
    relay, other_mac = Relay(), b"\2other"
    relay.ask(home=HOME_ADDRESS)
    relay.ask(OTHER, home=HOME_ADDRESS, mac=other_mac)
    (datagram,) = sent(relay.reply(OTHER))
    assert datagram.link_address == other_mac


@pytest.mark.parametrize(
    ("lacking", "code"),
    [
        ({"nai": None}, 97),
        ({"home_agent": ZERO}, 98),
        ({"home": ZERO}, 99),
        ({"home": ZERO, "nai": None}, 97),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("home", [ZERO, HOME_ADDRESS])
def test_97_to_99_for_what_a_reply_lacks(lacking, code, home):
    relay = Relay()
    relay.ask(home=home)
    effects = relay.reply(**lacking)
    (datagram,) = sent(effects)
    reply = RegistrationReply.decode(datagram.payload)
    assert (reply.code, reply.low_identification) == (code, 7)
    assert reply.home_address == lacking.get("home", HOME_ADDRESS)
    assert [each for each in effects if isinstance(each, SetVisitor)] == [] or code == 0
    assert relay.agent.state(0.0)["pending"] == []


def test_an_association_with_a_foreign_agent_is_by_nai_too():
    proof = association(NAI, 300, b"shared")
    relay = Relay(mobile_nodes=(proof,))
    (datagram,) = sent(relay.ask())
    assert RegistrationReply.decode(datagram.payload).code == 67
    relay.now = 2.0
    message = RegistrationRequest(0, 60, ZERO, HOME_AGENT, FA_CARE_OF, 9, (encode(NAI),))
    payload = sign(sign(message.encode(), MOBILE_HOME, association("x@y.z")), MOBILE_FOREIGN, proof)
    relay.agent.receive(Datagram(payload, ZERO, 434, FA_ADDRESS, 434, "visited", 64, MN_MAC), 2.0)
    relay.agent.effects()
    (datagram,) = sent(relay.reply(low=9))
    reply = RegistrationReply.decode(datagram.payload)
    assert [each.type for each in reply.extensions] == [TYPE, MOBILE_HOME, MOBILE_FOREIGN]
    Associations((proof,)).authenticate(datagram.payload, reply.extensions, MOBILE_FOREIGN, NAI)
    assert FOREIGN_HOME not in [each.type for each in reply.extensions]


@pytest.mark.parametrize("extensions", [(Extension(TYPE, b"@"),), (encode(NAI), encode(OTHER))])
def test_70_for_an_nai_that_is_none_and_for_two(extensions):
    (datagram,) = sent(Relay().ask(extensions=extensions))
    assert RegistrationReply.decode(datagram.payload).code == 70


def test_70_for_an_nai_that_follows_the_authentication():
    (datagram,) = sent(Relay().ask(home=HOME_ADDRESS, nai=None, tail=encode(NAI).encode()))
    assert RegistrationReply.decode(datagram.payload).code == 70


# The mobile node


@pytest.mark.parametrize(
    ("changes", "counter"),
    [
        ({"home": ZERO}, "discarded-home-address"),
        ({"home": A("10.255.255.255"), "nai": OTHER}, "discarded-nai"),
        ({"nai": None}, None),  # a home agent of RFC 2002's time, if the rest is right
        ({"home": ZERO, "code": 133}, None),
        ({}, None),
    ],
)
def test_what_a_mobile_node_takes_for_an_answer(changes, counter):
    mn = nai_node()
    mn.attach("hotel", CARE_OF, 0.0)
    (datagram,) = sent(mn.effects())
    request = RegistrationRequest.decode(datagram.payload)
    values = {"home": HOME_ADDRESS, "nai": NAI, "code": 0, **changes}
    extensions = (encode(values["nai"]),) if values["nai"] else ()
    reply = RegistrationReply(
        values["code"], 600, values["home"], HOME_AGENT, request.identification, extensions
    )
    payload = sign(reply.encode(), MOBILE_HOME, association(HOME_AGENT))
    mn.receive(Datagram(payload, HOME_AGENT, 434, CARE_OF, 434, "hotel"), 0.1)
    discarded = [name for name in mn.counters if name.startswith("discarded")]
    assert discarded == ([counter] if counter else [])
    expected = str(HOME_ADDRESS) if not counter and values["code"] == 0 else None
    assert mn.state(0.1)["home_address"] == expected
