"""The Encapsulating Delivery Style: RFC 3024 §3.3, §4.1, §4.2, §5.2 to §5.4."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import (
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    World,
    clock,
    foreign_agent_config,
    mobile_node_config,
)
from scapy.layers.inet import IP, UDP, IPOption
from test_mip_foreign_agent import MN_FA
from test_mip_foreign_agent import Bench as AgentBench
from test_mip_mobile_node import MN_FA as FA_OF_MN
from test_mip_mobile_node import Bench as NodeBench

from testbed.mobileip.core.api import Datagram, TunnelEnd
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign.visitors import Visitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.mobile.effects import UseForeignAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import ENCAPSULATING_DELIVERY, Extension, encode_extensions
from testbed.mobileip.wire.forwarding import forwarded
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

T, D, G = RequestFlag.REVERSE_TUNNEL, RequestFlag.DECAPSULATION, RequestFlag.GRE
STYLE = encode_extensions([Extension(ENCAPSULATING_DELIVERY)])
ENCAPSULATING = {"reverse_tunnel": True, "delivery": Delivery.ENCAPSULATING}
GRE = (Encapsulation.GRE, Encapsulation.IP_IN_IP)


def test_the_extension_as_the_text_draws_it():
    assert STYLE == b"\x82\x00"


# The foreign agent


def test_the_extension_is_consumed():
    """§3.3: neither relayed to the home agent nor in replies."""
    bench = AgentBench(mobile_nodes=(MN_FA,))
    kind, out = bench.ask(flags=T, trailer=STYLE, mobile_foreign=MN_FA)
    assert (kind, out.payload) == ("relay", bench.proven)
    assert not bench.of(SetVisitor)
    assert [each.type for each in bench.answer().extensions] == [32, 33]


@pytest.mark.parametrize(("flags", "used"), [(T, (Encapsulation.IP_IN_IP,)), (T | G, GRE)])
def test_a_visitor_delivers_to_the_address_that_has_answered(flags, used):
    """§5.2.2: to the source of the reply, in what was negotiated for the forward tunnel."""
    bench = AgentBench()
    bench.ask(flags=flags, trailer=STYLE, destination=FA_CARE_OF)
    bench.answer()
    (visitor,) = bench.of(SetVisitor)
    assert visitor.delivery == TunnelEnd(FA_CARE_OF, used)
    assert bench.out.source == FA_CARE_OF
    (picture,) = bench.fa.state(bench.now)["visitors"]
    assert picture["delivery"] == "encapsulating"


def test_a_request_without_it_means_direct_delivery_from_then_on():
    bench = AgentBench()
    bench.ask(flags=T, trailer=STYLE)
    bench.answer()
    bench.ask(flags=T)
    bench.answer()
    assert [each.delivery for each in bench.of(SetVisitor)] == [None]
    assert bench.fa.state(bench.now)["visitors"][0]["delivery"] == "direct"


def test_with_a_care_of_address_of_its_own_there_is_nothing_to_deliver():
    bench = AgentBench()
    bench.ask(flags=T | D, trailer=STYLE, care_of_address=A("192.0.2.77"))
    bench.answer()
    assert [each.delivery for each in bench.of(SetVisitor)] == [None]


def test_a_restarted_agent_remembers_the_style():
    bench = AgentBench()
    bench.ask(flags=T, trailer=STYLE)
    bench.answer()
    (visitor,) = bench.fa._visitors
    assert Visitor.from_record(HOME_ADDRESS, visitor.record(clock), clock, bench.now) == visitor
    successor = ForeignAgent(foreign_agent_config(), clock, Random(1))
    successor.restore({HOME_ADDRESS: visitor.record(clock)}, bench.now)
    assert [each.delivery for each in successor.effects() if isinstance(each, SetVisitor)] == [
        TunnelEnd(FA_ADDRESS)
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {"flags": 0, "trailer": STYLE},  # §3.3: not without the T bit
        {"flags": T, "extra": STYLE},  # before the Mobile-Home Authentication Extension
        {"flags": T, "trailer": encode_extensions([Extension(ENCAPSULATING_DELIVERY, b"x")])},
    ],
    ids=["no T", "before 32", "with data"],
)
def test_an_extension_that_must_not_be_there_is_poorly_formed(arguments):
    kind, reply = AgentBench().ask(**arguments)
    assert (kind, reply.code) == ("deny", 70)


def test_an_extension_behind_the_proof_to_the_agent_is_poorly_formed():
    bench = AgentBench(mobile_nodes=(MN_FA,))
    assert bench.ask(flags=T, trailer=STYLE, mobile_foreign=MN_FA)[0] == "relay"
    proven = sign(bench.proven, 33, MN_FA)
    bench.now += 1
    datagram = Datagram(proven + STYLE, HOME_ADDRESS, 5434, FA_ADDRESS, 434, "visited", 255, MN_MAC)
    kind, reply = bench.send(datagram)
    assert (kind, reply.code) == ("deny", 70)


def test_the_order_of_the_checks():
    """§4.2.1: first the encapsulation, then the delivery style, then the distance, at last the tunnel."""
    refuses = {"encapsulating_delivery": False}
    assert AgentBench(**refuses).ask(flags=T, trailer=STYLE, ttl=1)[1].code == 79
    assert AgentBench().ask(flags=T, trailer=STYLE, ttl=254)[1].code == 76


# The mobile node


def through_agent(prefix=None, **changes) -> NodeBench:
    bench = NodeBench(**ENCAPSULATING | changes)
    bench.discover()
    bench.advertise(prefix=prefix, flags=0x1000 | 0x0100 | 0x0400, lifetime=9000)
    return bench


def test_the_extension_is_between_the_two_authentications():
    """§3.3; the TTL is 255 (§4.1.1)."""
    bench = through_agent(foreign_agents=(FA_OF_MN,))
    assert [each.type for each in bench.request.extensions] == [32, 130, 33]
    Associations((FA_OF_MN,)).authenticate(bench.out.payload, bench.request.extensions, 33, FA_ADDRESS)
    assert bench.request.flags & T and bench.out.ttl == 255
    bench.reply(foreign=FA_OF_MN)
    bench.mn.deregister(5.0)
    bench.take()
    assert [each.type for each in bench.request.extensions] == [32, 33] and not bench.request.flags & T


def test_it_is_not_asked_for_where_there_is_no_agent_or_no_wish():
    bench = NodeBench(**ENCAPSULATING)
    bench.attach()
    assert [each.type for each in bench.request.extensions] == [32]
    bench = through_agent(delivery=Delivery.DIRECT)
    assert [each.type for each in bench.request.extensions] == [32]
    with pytest.raises(ValueError, match="encapsulating delivery"):
        mobile_node_config(delivery=Delivery.ENCAPSULATING)


def test_what_is_sent_goes_to_where_the_reply_came_from():
    """§5.2.2, but for the visited link's own addresses (§5.4); broadcasts and multicast come nested."""
    bench = through_agent(prefix=24, encapsulation=Encapsulation.GRE)
    (before,) = bench.of(UseForeignAgent)
    assert before.tunnel is None and before.broadcasts_from is None
    other = A("192.0.2.2")
    bench.reply(source=other)
    (use,) = bench.of(UseForeignAgent)
    assert use.tunnel == TunnelEnd(other, GRE)
    assert [str(each) for each in use.local] == ["192.0.2.0/24"]
    assert use.broadcasts_from == HOME_AGENT
    bench.run(2000.0)  # the registration ends
    assert bench.state() != "registered"
    last = [each for _, each in bench.history if isinstance(each, UseForeignAgent)][-1]
    assert (last.tunnel, last.local, last.registered) == (None, (), False)


def test_a_refused_renewal_changes_nothing_about_the_tunnel():
    bench = through_agent()
    bench.reply()
    bench.mn.renew(5.0)
    bench.now = 5.0
    bench.take()
    bench.reply(code=66, sa=None, source=FA_ADDRESS)
    assert not bench.of(UseForeignAgent)


def test_an_agent_that_does_not_support_it_is_asked_for_direct_delivery():
    """§4.1.2: code 79 may be answered by a request without the extension."""
    world = World(
        MobileNode(mobile_node_config(**ENCAPSULATING), clock, Random(1)),
        fas=[ForeignAgent(foreign_agent_config(encapsulating_delivery=False), clock, Random(3))],
    )
    world.discover("visited")
    world.run(1.5)
    asked = [RegistrationRequest.decode(each) for each in world.wire if each[0] == 1]
    assert [130 in [e.type for e in each.extensions] for each in asked] == [True, False, False]
    assert world.reachable() and world.use.tunnel is None
    world.run(700)
    assert world.fas[0].counters["denied-79"] == 1


def test_all_three_together():
    world = World(MobileNode(mobile_node_config(**ENCAPSULATING), clock, Random(1)))
    world.discover("visited")
    world.run(0.1)
    (visitor,) = [effect for _, _, effect in world.log if isinstance(effect, SetVisitor)]
    assert visitor == SetVisitor(
        HOME_ADDRESS, TunnelEnd(HOME_AGENT), FA_CARE_OF, "visited", MN_MAC, True, TunnelEnd(FA_ADDRESS)
    )
    assert world.use.tunnel == TunnelEnd(FA_ADDRESS)


# What an agent does to a datagram that it sends on


@given(
    st.integers(0, 255),
    st.sampled_from(["192.0.2.10", "224.0.0.22", "255.255.255.255"]),
    st.integers(0, 2),
    st.binary(max_size=32),
)
def test_a_datagram_is_forwarded_as_scapy_does_it(ttl, destination, options, payload):
    packet = IP(src="10.0.1.100", dst=destination, ttl=ttl, options=[IPOption(b"\x94\x04\0\0")] * options)
    packet = IP(bytes(packet / UDP() / payload))
    if destination != "192.0.2.10":
        assert forwarded(bytes(packet)) == bytes(packet)
        return
    if ttl <= 1:
        with pytest.raises(WireError, match="ttl"):
            forwarded(bytes(packet))
        return
    expected = packet.copy()
    del expected.chksum
    expected.ttl -= 1
    assert forwarded(bytes(packet)) == bytes(expected)


def test_a_wrong_header_checksum_is_noticed():
    """RFC 5944 §4.2.2."""
    packet = bytearray(bytes(IP(src="10.0.1.100", dst="192.0.2.10") / UDP()))
    packet[15] ^= 1
    with pytest.raises(WireError, match="checksum"):
        forwarded(bytes(packet))
