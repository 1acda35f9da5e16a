"""Broadcasts of the home network for mobile nodes away from home: RFC 5944 §4.3, the B bit."""

from __future__ import annotations

import pytest
from mip_world import CARE_OF, FA_CARE_OF, HOME_ADDRESS, HOME_AGENT, A, association
from test_mip_home_agent import Bench as HomeAgentBench
from test_mip_mobile_node import USES, at_foreign_agent
from test_mip_mobile_node import Bench as MobileNodeBench

from testbed.mobileip.core.home.broadcasts import AT_ONCE
from testbed.mobileip.core.home.effects import TunnelDatagram
from testbed.mobileip.core.mobile.effects import UseForeignAgent
from testbed.mobileip.wire.registration_request import RequestFlag

inet = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")

B, D, S = RequestFlag.BROADCAST, RequestFlag.DECAPSULATION, RequestFlag.SIMULTANEOUS


def announcement(destination="10.0.1.255", **fields) -> bytes:
    return bytes(inet.IP(src="10.0.1.10", dst=destination, **fields) / inet.UDP(sport=9, dport=9) / b"all")


def forward(bench: HomeAgentBench, datagram: bytes, now: float | None = None) -> list[TunnelDatagram]:
    bench.ha.receive_broadcast(datagram, bench.now if now is None else now)
    return [effect for effect in bench.ha.effects() if isinstance(effect, TunnelDatagram)]


@pytest.mark.parametrize("destination", ["10.0.1.255", "255.255.255.255"])
def test_to_a_co_located_care_of_address_they_go_as_they_are(destination):
    bench = HomeAgentBench()
    bench.ask(flags=B | D)
    datagram = announcement(destination)
    assert forward(bench, datagram) == [TunnelDatagram(HOME_ADDRESS, (CARE_OF,), datagram)]
    assert bench.counters["broadcasts-forwarded"] == 1


@pytest.mark.parametrize("flags", [0, "DF"])
def test_to_a_foreign_agent_they_go_in_a_datagram_to_the_home_address(flags):
    bench = HomeAgentBench()
    bench.ask(flags=B, care_of_address=FA_CARE_OF)
    datagram = announcement(flags=flags, tos=0x10)
    (effect,) = forward(bench, datagram)
    assert (effect.home_address, effect.care_of_addresses) == (HOME_ADDRESS, (FA_CARE_OF,))
    outer = inet.IP(effect.datagram)
    assert (outer.src, outer.dst, outer.proto) == (str(HOME_AGENT), str(HOME_ADDRESS), 4)
    assert (outer.tos, outer.flags) == (0x10, flags)
    assert bytes(outer.payload) == datagram
    checksum = outer.chksum
    del outer.chksum
    assert inet.IP(bytes(outer)).chksum == checksum


def test_each_datagram_that_may_be_fragmented_has_its_own_identification():
    bench = HomeAgentBench()
    bench.ask(flags=B, care_of_address=FA_CARE_OF)
    numbers = {inet.IP(forward(bench, announcement())[0].datagram).id for _ in range(5)}
    assert len(numbers) == 5


def test_only_those_who_asked_for_them_get_them():
    other = A("10.0.1.50")
    bench = HomeAgentBench(mobile_nodes=(association(other),))
    bench.ask(flags=D)
    assert forward(bench, announcement()) == []
    assert bench.counters["broadcasts-forwarded"] == 0
    bench.ask(home_address=other, sa=association(other), flags=B | D)
    assert [effect.home_address for effect in forward(bench, announcement())] == [other]
    bench.ask(home_address=other, sa=association(other), flags=D)  # renewed without
    assert forward(bench, announcement()) == []
    bench.ask(flags=B | D)
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS)
    assert forward(bench, announcement()) == []


def test_each_binding_has_them_its_own_way():
    bench = HomeAgentBench()
    bench.ask(flags=B | D | S)
    bench.ask(flags=B | S, care_of_address=FA_CARE_OF)
    bench.ask(flags=D | S, care_of_address=A("192.0.2.9"))
    ways = {effect.care_of_addresses: effect.datagram for effect in forward(bench, announcement())}
    assert set(ways) == {(CARE_OF,), (FA_CARE_OF,)}
    assert ways[(CARE_OF,)] == announcement()


def test_a_storm_stays_at_home():
    bench = HomeAgentBench()
    bench.ask(flags=B | D)
    forwarded = sum(len(forward(bench, announcement(), 5 + step / 10_000)) for step in range(1000))
    assert AT_ONCE <= forwarded <= AT_ONCE + 30
    assert bench.counters["broadcasts-not-forwarded-rate"] == 1000 - forwarded


def test_a_virtual_home_network_has_none_and_the_bit_is_ignored():
    bench = HomeAgentBench(home_interface=None)
    assert bench.ask(flags=B | D).code == 0  # §3.8.2: not rejected


# The mobile node


def test_the_mobile_node_asks_for_them_where_it_is_to():
    for broadcasts in (False, True):
        bench = MobileNodeBench(broadcasts=broadcasts)
        bench.attach()
        assert bool(bench.request.flags & B) is broadcasts
    bench.reply()
    bench.now = 2.0
    bench.mn.deregister(2.0)
    bench.take()
    assert not bench.request.flags & B


def test_through_a_foreign_agent_they_come_from_the_home_agent_while_registered():
    bench = at_foreign_agent(broadcasts=True, lifetime=20)
    bench.reply()
    (use,) = (each for _, each in bench.history if isinstance(each, UseForeignAgent) and each.registered)
    assert use.broadcasts_from == HOME_AGENT
    bench.mn.renew(2.0)
    bench.now = 2.0
    bench.take()
    bench.reply()
    assert not bench.of(*USES)  # nothing has changed
    bench.run(30.0)
    last = [each for _, each in bench.history if isinstance(each, USES)][-1]
    assert getattr(last, "broadcasts_from", None) is None
