"""Challenges of foreign agents, and their answers (RFC 4721): one behaviour per test, then all together."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import (
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
from scapy.layers.inet import IP
from scapy.utils import wrpcap
from test_mip_udp_tunnel_wire import found, read_by_tshark

from testbed.mobileip.core.aaa import NO_CHALLENGE, authenticator, prove
from testbed.mobileip.core.api import AgentMessage, Datagram, SendAgentMessage
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.security import Credential
from testbed.mobileip.wire import agent_solicitation, nai
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_FOREIGN, MOBILE_HOME
from testbed.mobileip.wire.challenge import CHALLENGE, FOREIGN_AGENT_ERROR, error_status, foreign_agent_error
from testbed.mobileip.wire.code import Code, accepted, from_foreign_agent
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import (
    GENERALIZED_AUTHENTICATION,
    Extension,
    decode_extensions,
    encode_extensions,
)
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest

SA = association(HOME_ADDRESS)
MN_FA = association(HOME_ADDRESS, 500, b"mobile and foreign")
FA_HA = association(HOME_AGENT, 600, b"foreign and home")
AAA = Credential(HOME_ADDRESS, 700, b"a key of the AAA server")
CHAP = Credential(HOME_ADDRESS, 2, b"a key of the AAA server")
OTHER = b"another challenge"
LOUNGE = VisitedLink("lounge", A("192.0.2.65"), 26)


class Hotspot:
    """A foreign agent that advertises challenges, and requests by hand."""

    def __init__(self, **changes) -> None:
        changes = {"challenge_window": 2, "aaa": (AAA,)} | changes
        self.fa = ForeignAgent(foreign_agent_config(**changes), clock, Random(1))
        self.now = 0.0
        self.advertised: list[bytes | None] = []
        self.advertise()

    def advertise(self, times: int = 1) -> bytes | None:
        """Wait for advertisements; returns the last challenge."""
        for _ in range(times):
            self.now = max(self.now, self.fa._advertisers["visited"].due)
            self.fa.tick(self.now)
            self.advertised += [each.challenge for each in self.advertisements()]
        return self.advertised[-1]

    def advertise_on(self, interface: str, times: int = 1) -> bytes | None:
        """The same on one of its links alone."""
        for _ in range(times):
            self.now += 1.0
            for each in self.fa._advertisers.values():
                each.due = self.now if each.interface == interface else float("inf")
            self.fa.tick(self.now)
            (advertisement,) = self.advertisements()
        return advertisement.challenge

    def advertisements(self) -> list[AgentAdvertisement]:
        self.effects = self.fa.effects()
        return [
            AgentAdvertisement.decode(each.message.payload)
            for each in self.effects
            if isinstance(each, SendAgentMessage)
        ]

    def solicit(self, source=HOME_ADDRESS, link_address=MN_MAC, interface="visited") -> bytes | None:
        message = AgentMessage(
            agent_solicitation.encode(), source, A("224.0.0.11"), interface, 1, link_address
        )
        self.fa.receive_agent_message(message, self.now)
        found = self.advertisements()
        return found[0].challenge if found else None

    def ask(self, challenge=None, aaa=None, mobile_foreign=None, first=None, at=None, on="visited", **fields):
        """Send a request; returns ("relay", payload) or ("deny", reply), None for a discarded one."""
        self.now = self.now + 0.01 if at is None else at
        fields = {
            "flags": 0,
            "lifetime": 300,
            "home_address": HOME_ADDRESS,
            "home_agent": HOME_AGENT,
            "care_of_address": FA_CARE_OF,
            "identification": from_unix(EPOCH + self.now) % 2**64,
        } | fields
        self.request = RegistrationRequest(**fields)
        payload = sign(self.request.encode(), MOBILE_HOME, SA)
        if first is not None:
            payload = prove(payload, first, challenge)
        if challenge is not None:
            payload += Extension(CHALLENGE, challenge).encode()
        if aaa is not None:
            payload = prove(payload, aaa, challenge or NO_CHALLENGE)
        self.proven = payload
        if mobile_foreign is not None:
            payload = sign(payload, MOBILE_FOREIGN, mobile_foreign)
        source = fields["home_address"]
        self.fa.receive(Datagram(payload, source, 434, FA_ADDRESS, 434, on, 255, MN_MAC), self.now)
        return self._outcome()

    def answer(self, code=0, challenge=None, home_agents=None):
        payload = RegistrationReply(code, 300, HOME_ADDRESS, HOME_AGENT, self.request.identification).encode()
        payload = sign(payload, MOBILE_HOME, SA)
        if challenge is not None:
            payload += Extension(CHALLENGE, challenge).encode()
        if home_agents is not None:
            payload = sign(payload, FOREIGN_HOME, home_agents)
        self.fa.receive(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434, "internet"), self.now)
        _, reply = self._outcome()
        return reply

    def _outcome(self):
        self.effects = self.fa.effects()
        datagrams = sent(self.effects)
        if not datagrams:
            return None
        payload = datagrams[0].payload
        if payload[0] == 1:
            return "relay", payload
        return "deny", RegistrationReply.decode(payload)

    @property
    def visiting(self) -> bool:
        return any(isinstance(each, SetVisitor) for each in self.effects)


def offered(reply: RegistrationReply) -> bytes:
    (value,) = [each.data for each in reply.extensions if each.type == CHALLENGE]
    return value


def code(outcome) -> int | str | None:
    return None if outcome is None else outcome[0] if outcome[0] == "relay" else outcome[1].code


# Advertising (§2)


def test_each_advertisement_has_a_new_challenge_of_at_least_32_bits():
    hotspot = Hotspot()
    hotspot.advertise(20)
    assert len(set(hotspot.advertised)) == 21 and all(len(each) >= 4 for each in hotspot.advertised)
    assert Hotspot(challenge_window=0).advertise() is None


def test_a_solicited_multicast_advertisement_repeats_the_last_one():
    """§2.1: it MUST NOT have a new challenge."""
    hotspot = Hotspot()
    last = hotspot.advertise()
    assert hotspot.solicit(link_address=None) is None
    before = hotspot.now
    assert hotspot.advertise() == last and hotspot.now < before + 0.1
    assert hotspot.advertise() != last


def test_a_unicast_advertisement_repeats_what_was_not_used_and_renews_what_was():
    """§2.1, §3.2.1."""
    hotspot = Hotspot()
    last = hotspot.advertise()
    assert hotspot.solicit() == hotspot.solicit() == last
    assert code(hotspot.ask(last, AAA)) == "relay"
    new = hotspot.solicit()
    assert new not in hotspot.advertised and hotspot.solicit() == new
    assert hotspot.solicit(A("10.0.1.101")) == last  # others have not used it
    hotspot.advertise(5)
    assert hotspot.solicit() == new
    assert code(hotspot.ask(new, AAA)) == "relay"
    assert hotspot.solicit() != new


def test_solicitations_of_strangers_take_no_room():
    """§12."""
    hotspot = Hotspot()
    for number in range(1000):
        hotspot.now += 0.02
        hotspot.solicit(A(0x0A000100 + number))
        hotspot.ask(home_address=A(0x0A000100 + number))
    assert len(hotspot.fa._challenges._records) == 0


# What requests must have (§3.2)


def test_a_request_without_challenge_is_missing_one():
    hotspot = Hotspot()
    kind, reply = hotspot.ask()
    assert (kind, reply.code) == ("deny", Code.FA_MISSING_CHALLENGE)
    assert code(hotspot.ask(offered(reply), AAA)) == "relay"


def test_who_has_an_association_may_do_without_but_not_with_a_wrong_one():
    hotspot = Hotspot(mobile_nodes=(MN_FA,))
    assert code(hotspot.ask(mobile_foreign=MN_FA)) == "relay"
    assert offered(hotspot.answer()) not in hotspot.advertised  # for its next request
    assert code(hotspot.ask(OTHER, mobile_foreign=MN_FA)) == Code.FA_UNKNOWN_CHALLENGE
    hotspot.now += 1.0
    wrong = association(HOME_ADDRESS, 500, b"wrong")
    kind, reply = hotspot.ask(hotspot.advertise(), mobile_foreign=wrong)
    assert (kind, reply.code) == ("deny", Code.FA_MOBILE_NODE_FAILED_AUTHENTICATION)


def test_the_window():
    hotspot = Hotspot(challenge_window=3)
    hotspot.advertise(3)
    old, *valid = hotspot.advertised[-4:]
    assert code(hotspot.ask(old, AAA)) == Code.FA_UNKNOWN_CHALLENGE
    for value in valid:
        assert code(hotspot.ask(value, AAA)) == "relay"


def test_each_link_has_a_window_of_its_own():
    hotspot = Hotspot(other_links=(LOUNGE,))
    old, here, there = (hotspot.advertise_on(each) for each in ("visited", "visited", "lounge"))
    assert len({old, here, there}) == 3
    there = hotspot.advertise_on("lounge", 3)
    kind, reply = hotspot.ask(there, AAA)
    assert kind == "deny" and reply.code == Code.FA_UNKNOWN_CHALLENGE and offered(reply) == here
    hotspot.now += 1.1
    kind, reply = hotspot.ask(here, AAA, on="lounge")
    assert kind == "deny" and reply.code == Code.FA_UNKNOWN_CHALLENGE and offered(reply) == there
    assert (hotspot.solicit(), hotspot.solicit(interface="lounge")) == (here, there)
    for value in (old, here):  # whatever was advertised elsewhere meanwhile
        assert code(hotspot.ask(value, AAA)) == "relay"


@pytest.mark.parametrize("links", [("visited", "lounge"), ("lounge", "visited")])
def test_a_challenge_stays_used_when_one_of_another_link_was_used_in_between(links):
    hotspot = Hotspot(other_links=(LOUNGE,))
    advertised = {each: hotspot.advertise_on(each) for each in links}
    for on, value in advertised.items():
        assert code(hotspot.ask(value, AAA, on=on)) == "relay"
        hotspot.answer(129)
    for on, value in advertised.items():
        hotspot.now += 1.1
        assert code(hotspot.ask(value, AAA, on=on)) == Code.FA_STALE_CHALLENGE
        assert hotspot.solicit(interface=on) not in advertised.values()


def test_no_challenge_is_used_twice_nor_one_before_the_last():
    hotspot = Hotspot()
    first, second = hotspot.advertise(), hotspot.advertise()
    assert code(hotspot.ask(second, AAA)) == "relay"
    hotspot.answer(129)
    assert code(hotspot.ask(second, AAA)) == Code.FA_STALE_CHALLENGE
    hotspot.now += 1.1
    assert code(hotspot.ask(first, AAA)) == Code.FA_STALE_CHALLENGE
    other = A("10.0.1.101")
    assert code(hotspot.ask(first, Credential(other, 9999, b"x"), home_address=other)) == "relay"


def test_a_used_challenge_stays_used_when_one_from_a_reply_was_used_in_between():
    hotspot = Hotspot()
    value = hotspot.advertise()
    hotspot.ask(value, AAA)
    given_back = offered(hotspot.answer())
    hotspot.ask(given_back, AAA)
    hotspot.answer()
    assert code(hotspot.ask(value, AAA)) == Code.FA_STALE_CHALLENGE
    hotspot.now += 1.1
    assert code(hotspot.ask(given_back, AAA)) == Code.FA_STALE_CHALLENGE


def test_a_retransmission_may_have_the_same_challenge_while_the_first_is_pending():
    hotspot = Hotspot()
    value = hotspot.advertise()
    assert code(hotspot.ask(value, AAA)) == "relay"
    assert code(hotspot.ask(value, AAA)) == "relay"  # another identification
    assert code(hotspot.ask(value, AAA, lifetime=200)) == "relay"
    assert code(hotspot.ask(value, AAA, flags=0x02)) == Code.FA_STALE_CHALLENGE  # another request
    hotspot.fa.tick(hotspot.now + 8)
    hotspot.fa.effects()
    assert code(hotspot.ask(value, AAA, at=hotspot.now + 9)) == Code.FA_STALE_CHALLENGE


def test_a_challenge_without_a_proof_behind_it_is_discarded():
    hotspot = Hotspot()
    value = hotspot.advertise()
    assert hotspot.ask(value) is None
    assert hotspot.ask(value, first=AAA) is None  # the proof precedes it
    assert hotspot.fa.counters["discarded-challenge-without-authentication"] == 2


@pytest.mark.parametrize("credential", [AAA, CHAP])
def test_the_agent_verifies_what_it_has_a_key_for(credential):
    hotspot = Hotspot(aaa=(AAA, CHAP))
    wrong = Credential(HOME_ADDRESS, credential.spi, b"wrong")
    assert code(hotspot.ask(hotspot.advertise(), wrong)) == Code.FA_BAD_AAA_AUTHENTICATION
    hotspot.now += 1.1
    unknown = Credential(HOME_ADDRESS, 701, AAA.key)
    assert code(hotspot.ask(hotspot.advertise(), unknown)) == Code.FA_BAD_AAA_AUTHENTICATION
    assert code(hotspot.ask(hotspot.advertise(), credential)) == "relay"


def test_what_it_has_no_key_for_is_left_to_the_home_agent():
    hotspot = Hotspot(aaa=())
    kind, payload = hotspot.ask(hotspot.advertise(), Credential(HOME_ADDRESS, 999, b"?"))
    assert kind == "relay" and payload == hotspot.proven


def test_what_is_relayed():
    """§3.2: with its challenge where AAA has to verify; the agent's own extension follows."""
    hotspot = Hotspot(mobile_nodes=(MN_FA,), home_agents=(FA_HA,))
    _, payload = hotspot.ask(hotspot.advertise(), AAA, MN_FA)
    types = [each.type for each in RegistrationRequest.decode(payload).extensions]
    assert types == [MOBILE_HOME, CHALLENGE, GENERALIZED_AUTHENTICATION, FOREIGN_HOME]
    _, payload = hotspot.ask(hotspot.advertise(), None, MN_FA)
    types = [each.type for each in RegistrationRequest.decode(payload).extensions]
    assert types == [MOBILE_HOME, FOREIGN_HOME]


# Replies (§3.3)


def test_each_reply_has_an_unused_challenge():
    hotspot = Hotspot()
    _, reply = hotspot.ask(OTHER, AAA)
    assert offered(reply) == hotspot.advertised[-1]
    value = hotspot.advertise()
    hotspot.ask(value, AAA)
    reply = hotspot.answer()
    new = offered(reply)
    assert accepted(reply.code) and new not in hotspot.advertised and hotspot.visiting
    hotspot.advertise(300)
    assert code(hotspot.ask(new, AAA)) == "relay"  # a renewal need not wait for an advertisement
    assert offered(hotspot.answer()) != new


def test_the_new_challenge_takes_the_place_of_the_home_agents():
    hotspot = Hotspot(home_agents=(FA_HA,), mobile_nodes=(MN_FA,))
    value = hotspot.advertise()
    hotspot.ask(value, AAA, MN_FA)
    reply = hotspot.answer(challenge=value, home_agents=FA_HA)
    assert [each.type for each in reply.extensions] == [MOBILE_HOME, CHALLENGE, MOBILE_FOREIGN]
    assert offered(reply) != value and hotspot.visiting


def test_a_home_agent_that_returns_another_challenge_registers_nobody():
    hotspot = Hotspot()
    hotspot.ask(hotspot.advertise(), AAA)
    reply = hotspot.answer(challenge=OTHER)
    assert reply.code == 0  # the home agent's own
    assert error_status(reply.extensions) == Code.FA_HOME_AGENT_WRONG_CHALLENGE and not hotspot.visiting


def test_a_home_agents_denial_is_relayed():
    hotspot = Hotspot()
    value = hotspot.advertise()
    hotspot.ask(value, AAA)
    assert hotspot.answer(Code.HA_BAD_AAA_AUTHENTICATION, value).code == Code.HA_BAD_AAA_AUTHENTICATION


def test_who_has_no_home_address_yet_is_known_by_its_nai():
    """RFC 2794: its challenges and its key."""
    named = Credential("mn@example.net", 700, AAA.key)
    hotspot = Hotspot(aaa=(named,))
    who = {"home_address": A("0.0.0.0"), "extensions": (nai.encode("mn@example.net"),)}
    value = hotspot.advertise()
    wrong = Credential("mn@example.net", 700, b"wrong")
    assert code(hotspot.ask(value, wrong, **who)) == Code.FA_BAD_AAA_AUTHENTICATION
    assert code(hotspot.ask(value, named, **who)) == "relay"
    hotspot.fa.unreachable(HOME_AGENT, 1, hotspot.now)  # it is not pending any more
    hotspot.fa.effects()
    hotspot.now += 1.1
    assert code(hotspot.ask(value, named, **who)) == Code.FA_STALE_CHALLENGE
    other = {**who, "extensions": (nai.encode("other@example.net"),)}
    assert code(hotspot.ask(value, Credential("other@example.net", 9999, b"?"), **other)) == "relay"


# The home agent (§3.4)


@pytest.mark.parametrize("credential", [AAA, CHAP])
@pytest.mark.parametrize("right", [True, False])
def test_a_home_agent_returns_the_challenge_and_verifies_for_aaa(credential, right):
    ha = HomeAgent(
        home_agent_config(
            advertising=None, foreign_agents=(association(FA_CARE_OF, 600, FA_HA.key),), aaa=(AAA, CHAP)
        ),
        clock,
    )
    hotspot = Hotspot(aaa=(), home_agents=(FA_HA,))
    shown = credential if right else Credential(HOME_ADDRESS, credential.spi, b"wrong")
    value = hotspot.advertise()
    _, payload = hotspot.ask(value, shown)
    ha.receive(Datagram(payload, FA_CARE_OF, 434, HOME_AGENT, 434), hotspot.now)
    (answer,) = sent(ha.effects())
    reply = RegistrationReply.decode(answer.payload)
    assert reply.code == (0 if right else Code.HA_BAD_AAA_AUTHENTICATION)
    assert [each.type for each in reply.extensions] == [MOBILE_HOME, CHALLENGE, FOREIGN_HOME]
    assert reply.extensions[1].data == value


def test_two_aaa_keys_of_one_node_and_spi_are_refused():
    with pytest.raises(ValueError, match="two AAA keys"):
        HomeAgent(home_agent_config(aaa=(AAA, AAA)), clock)
    for spi in (0, 1, 3, 255, 2**32):
        with pytest.raises(ValueError, match="SPI"):
            Credential(HOME_ADDRESS, spi, b"key")
    with pytest.raises(ValueError, match="empty"):
        Credential(HOME_ADDRESS, 700, b"")
    with pytest.raises(ValueError, match="window"):
        foreign_agent_config(challenge_window=1)


# The mobile node (§3.1, §3.5)


def with_challenges(mn_aaa=AAA, foreign=(), seed=1, **changes) -> World:
    changes = {"challenge_window": 2, "aaa": (AAA,)} | changes
    fa = ForeignAgent(foreign_agent_config(**changes), clock, Random(seed + 7))
    config = mobile_node_config(lifetime=30, aaa=mn_aaa, foreign_agents=foreign)
    return World(MobileNode(config, clock, Random(seed)), HomeAgent(home_agent_config(), clock), [fa], seed)


FOREIGN = (association(FA_ADDRESS, 500, MN_FA.key),)


@pytest.mark.parametrize(
    ("aaa", "foreign", "types"),
    [
        (AAA, (), [MOBILE_HOME, CHALLENGE, GENERALIZED_AUTHENTICATION]),
        (CHAP, (), [MOBILE_HOME, CHALLENGE, GENERALIZED_AUTHENTICATION]),
        (None, FOREIGN, [MOBILE_HOME, CHALLENGE, MOBILE_FOREIGN]),
        (AAA, FOREIGN, [MOBILE_HOME, CHALLENGE, GENERALIZED_AUTHENTICATION, MOBILE_FOREIGN]),
    ],
)
def test_a_mobile_node_answers_challenges(aaa, foreign, types):
    world = with_challenges(aaa, foreign, mobile_nodes=(MN_FA,) if foreign else (), aaa=(aaa,) if aaa else ())
    world.discover("visited")
    world.run(200.0)
    assert world.reachable()
    requests = [RegistrationRequest.decode(each) for each in world.wire if each[0] == 1]
    assert [each.type for each in requests[0].extensions] == types
    assert len(requests) > 10
    challenges = [e.data for request in requests[::2] for e in request.extensions if e.type == CHALLENGE]
    assert len(set(challenges)) == len(challenges)
    assert not [name for name in world.fas[0].counters if name.startswith("denied")]


def test_a_mobile_node_that_proves_nothing_is_denied():
    world = with_challenges(None)
    world.discover("visited")
    world.run(10.0)
    assert not world.reachable() and world.mn.counters["denied-105"] > 1
    assert CHALLENGE not in {
        each.type for p in world.wire if p[0] == 1 for each in RegistrationRequest.decode(p).extensions
    }


def test_directly_with_its_home_agent_it_sends_no_challenge():
    """§3.1: also where an agent has advertised one."""
    world = with_challenges()
    world.discover("visited")
    world.run(2.0)
    world.wire.clear()
    world.attach("hotel", A("198.51.100.70"))
    world.run(2.0)
    requests = [RegistrationRequest.decode(each) for each in world.wire if each[0] == 1]
    assert [each.type for request in requests for each in request.extensions] == [MOBILE_HOME]


@pytest.mark.parametrize("denial", [104, 105, 106])
def test_after_such_an_error_it_registers_with_the_challenge_of_the_reply(denial):
    world = with_challenges()
    denials = []

    def deny_once(datagram, request, nai, pending):
        if not denials:
            denials.append(request)
            raise Deny(Code(denial))

    world.fas[0]._challenges.check = deny_once
    world.discover("visited")
    world.run(1.1)  # a second after the first (RFC 5944 §3.6.3)
    assert denials and world.reachable()
    requests = [RegistrationRequest.decode(each) for each in world.wire if each[0] == 1]
    replies = [RegistrationReply.decode(each) for each in world.wire if each[0] == 3]
    assert replies[0].code == denial and offered(replies[0])
    first, *_, last = [e.data for each in requests for e in each.extensions if e.type == CHALLENGE]
    assert first != last


def test_without_a_new_challenge_it_solicits_one():
    """§3.3."""
    world = with_challenges()
    world.discover("visited")
    world.run(2.0)
    world.silent.add("visited")
    mn = world.mn
    mn.renew(world.now)
    (request,) = [each for each in sent(mn.effects()) if each.payload[0] == 1]
    asked = RegistrationRequest.decode(request.payload)
    stale = RegistrationReply(106, 30, HOME_ADDRESS, HOME_AGENT, asked.identification)
    mn.receive(Datagram(stale.encode(), FA_ADDRESS, 434, HOME_ADDRESS, 434, "visited", 64, MN_MAC), world.now)
    assert [each for each in mn.effects() if isinstance(each, SendAgentMessage)]


def test_an_agent_that_cannot_go_along_with_a_reply_has_not_registered_it():
    """RFC 4636."""
    world = with_challenges()
    world.discover("visited")
    receive = world.ha.receive

    def tampered(datagram, now):
        receive(datagram, now)
        effects = world.ha._out._effects
        for at, each in enumerate(effects):
            if sent([each]) and each.datagram.payload[0] == 3:
                reply = RegistrationReply.decode(each.datagram.payload)
                end = reply.extensions[0].end
                payload = each.datagram.payload[:end] + Extension(CHALLENGE, OTHER).encode()
                effects[at] = type(each)(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434))

    world.ha.receive = tampered
    world.run(3.0)
    assert world.mn.counters["denied-109"] >= 1 and not world.reachable() and world.visitors == {}
    world.ha.receive = receive
    world.run(60.0)
    assert world.reachable()


@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.3]), association_too=st.booleans())
@settings(max_examples=12)
def test_over_a_bad_network_it_gets_through(seed, loss, association_too):
    world = with_challenges(
        AAA, FOREIGN if association_too else (), seed, mobile_nodes=(MN_FA,) if association_too else ()
    )
    world.loss, world.duplication = loss, 0.2
    world.delay = lambda: world.rng.uniform(0.001, 0.9)
    world.discover("visited")
    world.run(60.0)
    world.loss = world.duplication = 0.0
    world.delay = lambda: 0.001
    world.run(70.0)
    assert world.reachable()


# The wire


def test_the_generalized_authentication_is_laid_out_as_in_section_5():
    message = prove(b"\x01" * 24, AAA, b"challenge")
    assert message[24:32].hex() == "24010014000002bc" and len(message) == 24 + 4 + 20
    (extension,) = decode_extensions(message, 24, {GENERALIZED_AUTHENTICATION})
    assert extension.subtype == 1 and extension.end == len(message)
    assert encode_extensions([extension]) == message[24:]


def test_a_generalized_authentication_may_be_long_and_is_never_read_beyond_the_message():
    extension = Extension(GENERALIZED_AUTHENTICATION, bytes(range(256)) * 3, subtype=7)
    message = b"head" + extension.encode() + Extension(CHALLENGE, b"x").encode()
    assert decode_extensions(message, 4, {36}) == (extension, Extension(CHALLENGE, b"x"))
    for size in range(5, 4 + 4 + 768):
        with pytest.raises(WireError, match="truncated"):
            decode_extensions(message[:size], 4, {36})


@given(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=255), st.binary(max_size=90))
def test_the_authenticators_are_those_of_sections_6_and_8(key, challenge, covered):
    assert (
        authenticator(Credential(HOME_ADDRESS, 300, key), covered, challenge)
        == hmac.new(key, covered, hashlib.md5).digest()
    )
    digest = hashlib.md5(covered).digest()
    least = challenge if len(challenge) < 238 else challenge[len(challenge) - 237 :]
    expected = hashlib.md5(challenge[0:1] + key + digest + least).digest()
    assert authenticator(Credential(HOME_ADDRESS, 2, key), covered, challenge) == expected


def test_the_error_of_a_foreign_agent():
    """RFC 4636 §3."""
    assert foreign_agent_error(109).encode().hex() == "2d02006d"
    assert error_status((Extension(CHALLENGE, b"x"), foreign_agent_error(109))) == 109
    assert error_status(()) == 0 and from_foreign_agent(109)
    for data in (b"", b"\0", b"\1\0", b"\0\0\0"):
        with pytest.raises(WireError):
            error_status((Extension(FOREIGN_AGENT_ERROR, data),))


def test_tshark_reads_the_extensions(tmp_path: Path) -> None:
    request = RegistrationRequest(0, 60, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 1)
    asked = sign(request.encode(), MOBILE_HOME, SA) + Extension(CHALLENGE, b"\1\2\3\4").encode()
    asked = sign(prove(asked, AAA, b"\1\2\3\4"), MOBILE_FOREIGN, MN_FA)
    (packet,) = read_by_tshark(tmp_path / "request.pcap", asked)
    assert found(packet, "mip.ext.type") == ["32", "132", "36", "33"]
    assert found(packet, "mip.ext.auth.subtype") == ["1"]
    assert found(packet, "mip.ext.len") == ["20", "4", "20", "20"]
    assert found(packet, "mip.auth.spi") == ["0x00000100", "0x000002bc", "0x000001f4"]
    assert "_ws.malformed" not in packet


def test_tshark_reads_the_advertised_challenge(tmp_path: Path) -> None:
    hotspot = Hotspot()
    hotspot.now = hotspot.fa._advertisers["visited"].due
    hotspot.fa.tick(hotspot.now)
    (payload,) = [e.message.payload for e in hotspot.fa.effects() if isinstance(e, SendAgentMessage)]
    file = tmp_path / "advertisement.pcap"
    wrpcap(str(file), [IP(src=str(FA_ADDRESS), dst="224.0.0.1", ttl=1, proto=1) / payload])
    out = subprocess.run(["tshark", "-r", file, "-T", "json"], capture_output=True, check=True, text=True)
    (packet,) = json.loads(out.stdout)
    layers = packet["_source"]["layers"]
    assert "24" in found(layers, "icmp.ext.type") + found(layers, "icmp.mip.type")
    assert "_ws.malformed" not in layers
