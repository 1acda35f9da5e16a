"""What agents and mobile nodes refuse by the letter: RFC 5944 §3.2, §3.7.2, §3.8.2."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest
from mip_world import CARE_OF, EPOCH, FA_ADDRESS, FA_CARE_OF, HOME_ADDRESS, HOME_AGENT, A, association, sent
from test_mip_foreign_agent import FA_HA
from test_mip_foreign_agent import Bench as ForeignAgentBench
from test_mip_home_agent import FA_SA, FA_SOURCE, SA
from test_mip_home_agent import Bench as HomeAgentBench
from test_mip_mobile_node import MN_FA, Bench

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.home.effects import SetBinding
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RequestFlag

# The Mobile-Home Authentication Extension is the first authentication (§3.2).


def reordered(payload: bytes, *associations) -> bytes:
    """The fixed portion of a request, signed anew in this order."""
    payload = payload[:24]
    for kind, association_ in associations:
        payload = sign(payload, kind, association_)
    return payload


def fresh(bench) -> bytes:
    stamp = from_unix(EPOCH + bench.now) % 2**64
    return replace(bench.request, identification=stamp).encode()


def test_134_for_a_foreign_home_extension_before_the_mobile_home_one():
    bench = HomeAgentBench(foreign_agents=(FA_SA,))
    assert bench.ask(source=FA_SOURCE, foreign=FA_SA).code == 0
    bench.now += 1
    payload = reordered(fresh(bench), (34, FA_SA), (32, SA))
    assert bench.send(Datagram(payload, FA_SOURCE, 434, HOME_AGENT, 434)).code == 134
    assert not bench.of(SetBinding)


def test_70_for_a_mobile_foreign_extension_before_the_mobile_home_one():
    mobile_foreign = association(HOME_ADDRESS, 500, b"mobile and foreign")
    bench = ForeignAgentBench(mobile_nodes=(mobile_foreign,))
    bench.ask(mobile_foreign=mobile_foreign)
    bench.now += 2
    payload = reordered(bench.proven, (33, mobile_foreign), (32, association(HOME_ADDRESS)))
    outcome = bench.send(
        Datagram(payload, HOME_ADDRESS, 434, FA_ADDRESS, 434, "visited", 255, link_address=b"\2\0\0\0\0\1")
    )
    assert outcome[0] == "deny" and outcome[1].code == 70


def test_71_for_a_reply_with_the_foreign_home_extension_first():
    bench = ForeignAgentBench(home_agents=(FA_HA,))
    bench.ask()
    assert bench.answer(foreign_home=FA_HA).code == 0
    bench.ask(at=bench.now + 2)
    payload = sign(sign(reply_to(bench.request), 34, FA_HA), 32, association(HOME_ADDRESS))
    bench.fa.receive(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434, "internet"), bench.now)
    (out,) = sent(bench.fa.effects())
    assert RegistrationReply.decode(out.payload).code == 71


def reply_to(request) -> bytes:
    return RegistrationReply(0, request.lifetime, HOME_ADDRESS, HOME_AGENT, request.identification).encode()


def test_a_mobile_node_takes_no_reply_whose_first_proof_is_the_foreign_agents():
    bench = Bench(foreign_agents=(MN_FA,))
    bench.discover()
    bench.advertise()
    for proofs, state in (((33, 32), "registering"), ((32, 33), "registered")):
        payload = reply_to(bench.request)
        for kind in proofs:
            payload = sign(payload, kind, MN_FA if kind == 33 else association(HOME_AGENT))
        bench.mn.receive(Datagram(payload, FA_ADDRESS, 434, HOME_ADDRESS, 434, "visited"), bench.now)
        assert bench.state() == state
    assert bench.counters["discarded-authentication-order"] == 1


# Care-of addresses that cannot be.

OWN = frozenset(map(IPv4Interface, ("10.0.1.2/24", "203.0.113.2/30")))


@pytest.mark.parametrize(
    "care_of",
    [
        "203.0.113.2",  # an address of the home agent's
        "203.0.113.3",  # the directed broadcast on a link of its
        "203.0.113.0",
        "10.0.1.255",  # on the home link
        "10.0.1.0",
    ],
)
def test_134_for_a_care_of_address_that_no_other_node_can_have(care_of):
    bench = HomeAgentBench(own_addresses=OWN)
    assert bench.ask(care_of_address=A(care_of)).code == 134
    assert not bench.of(SetBinding)
    assert bench.ask(care_of_address=A("203.0.113.1")).code == 0  # its neighbour


@pytest.mark.parametrize(
    "care_of", [str(FA_ADDRESS), str(FA_CARE_OF), "198.51.100.1", "192.0.2.63", "192.0.2.0"]
)
def test_77_for_a_co_located_care_of_address_that_no_visitor_can_have(care_of):
    bench = ForeignAgentBench(own_addresses=frozenset((A("198.51.100.1"),)), prefix_length=26)
    kind, reply = bench.ask(flags=RequestFlag.DECAPSULATION, care_of_address=A(care_of))
    assert (kind, reply.code) == ("deny", 77)
    bench.now += 1
    kind, _ = bench.ask(flags=RequestFlag.DECAPSULATION, care_of_address=CARE_OF)
    assert kind == "relay"
