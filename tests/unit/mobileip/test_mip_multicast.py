"""Multicast by the tunnel to the home agent: RFC 5944 §4.4, RFC 3024 §5.3, with scapy's IGMP."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import CARE_OF, FA_CARE_OF, HOME_ADDRESS, HOME_AGENT, A, association, clock, events
from scapy.layers.igmp import IGMP, IGMPv3_MQ, IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import IP, UDP, IPOption
from scapy.utils import checksum
from test_mip_home_agent import Bench

from testbed.mobileip.core.api import Remember, SendOnHomeLink
from testbed.mobileip.core.home.effects import SetGroups, TunnelDatagram
from testbed.mobileip.core.home.multicast import GROUPS_PER_NODE, MEMBERSHIP, QUERY_INTERVAL
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.wire import igmp
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.registration_request import RequestFlag

B, D, T, S = (
    RequestFlag.BROADCAST,
    RequestFlag.DECAPSULATION,
    RequestFlag.REVERSE_TUNNEL,
    RequestFlag.SIMULTANEOUS,
)
GROUP, OTHER_GROUP, OTHER = A("239.1.2.3"), A("239.1.2.4"), A("10.0.1.50")
INCLUDE, EXCLUDE, TO_INCLUDE, TO_EXCLUDE, ALLOW, BLOCK = range(1, 7)


def report(*records: tuple[int, IP, tuple[str, ...]], source=HOME_ADDRESS) -> bytes:
    """A report of version 3, as Linux sends it."""
    about = [
        IGMPv3_MR_Group(rtype=mode, maddr=str(group), srcaddrs=list(more)) for mode, group, more in records
    ]
    alert = IPOption(b"\x94\x04\0\0")
    return bytes(
        IP(src=str(source), dst="224.0.0.22", ttl=1, proto=2, options=[alert]) / IGMPv3_MR(records=about)
    )


def old(kind: int, group=GROUP, source=HOME_ADDRESS) -> bytes:
    """A message of version 1 or 2."""
    return bytes(IP(src=str(source), dst=str(group), ttl=1, proto=2) / IGMP(type=kind, gaddr=str(group)))


def data(destination=GROUP, source="10.0.1.10", **fields) -> bytes:
    return bytes(IP(src=str(source), dst=str(destination), **fields) / UDP(sport=9, dport=9) / b"all")


def joined(flags=D | T, care_of=CARE_OF, **changes) -> Bench:
    bench = Bench(**changes)
    bench.ask(flags=flags, care_of_address=care_of)
    tunnelled(bench, report((TO_EXCLUDE, GROUP, ())))
    return bench


def tunnelled(bench: Bench, datagram: bytes) -> list:
    bench.ha.receive_tunnelled(datagram, bench.now)
    bench.effects = bench.ha.effects()
    return bench.effects


def heard(bench: Bench, datagram: bytes) -> list[TunnelDatagram]:
    bench.ha.receive_broadcast(datagram, bench.now)
    return [effect for effect in bench.ha.effects() if isinstance(effect, TunnelDatagram)]


def groups(bench: Bench) -> list[frozenset]:
    return [effect.groups for effect in bench.of(SetGroups)]


# What a mobile node says


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (old(0x12), [(GROUP, True)]),
        (old(0x16), [(GROUP, True)]),
        (old(0x17), [(GROUP, False)]),
        (report((TO_EXCLUDE, GROUP, ()), (EXCLUDE, OTHER_GROUP, ("192.0.2.1",))),
         [(GROUP, True), (OTHER_GROUP, True)]),
        (report((TO_INCLUDE, GROUP, ()), (INCLUDE, OTHER_GROUP, ())), [(GROUP, False), (OTHER_GROUP, False)]),
        (report((INCLUDE, GROUP, ("192.0.2.1",))), [(GROUP, True)]),
        (report((ALLOW, GROUP, ("192.0.2.1", "192.0.2.2")), (BLOCK, OTHER_GROUP, ("192.0.2.1",))),
         [(GROUP, True)]),
        (report((TO_EXCLUDE, "224.0.0.1", ()), (TO_EXCLUDE, "10.0.0.1", ())), []),
    ],
)  # fmt: skip
def test_memberships_as_scapy_writes_them(datagram, expected):
    assert list(igmp.memberships(datagram)) == expected


@given(st.binary(max_size=60))
def test_nothing_but_wire_errors(payload):
    for kind in (0x12, 0x22):
        message = bytes((kind, 0, 0, 0)) + payload
        message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
        for packet in (bytes(IP(proto=2)) + message, payload):
            with suppress(WireError):
                igmp.memberships(packet)


def test_a_damaged_report_counts_for_nothing():
    bench = Bench()
    bench.ask(flags=D | T)
    damaged = bytearray(report((TO_EXCLUDE, GROUP, ())))
    damaged[-1] ^= 1
    assert tunnelled(bench, bytes(damaged)) == []


def test_a_query_is_one_that_scapy_reads():
    query = IP(igmp.general_query(HOME_AGENT, 125))
    assert (query.src, query.dst, query.ttl, query.proto) == (str(HOME_AGENT), "224.0.0.1", 1, 2)
    assert bytes(query.options[0]) == b"\x94\x04\0\0"  # Router Alert
    assert checksum(bytes(query)[:24]) == checksum(bytes(query)[24:]) == 0
    message = IGMPv3_MQ(bytes(query)[24:])
    assert (message.type, message.gaddr, message.qqic, message.numsrc) == (0x11, "0.0.0.0", 125, 0)
    assert bytes(query)[25] == 100  # tenths of a second


# Receiving


def test_a_member_gets_what_the_home_link_has_for_the_group():
    bench = joined()
    assert groups(bench) == [frozenset((GROUP,))]
    assert events(bench.effects, "group-joined") == [{"home_address": "10.0.1.100", "group": "239.1.2.3"}]
    assert heard(bench, data(ttl=1)) == [TunnelDatagram(HOME_ADDRESS, (CARE_OF,), data(ttl=1))]
    assert heard(bench, data(OTHER_GROUP)) == []
    assert heard(bench, data("10.0.1.255")) == []  # no broadcasts without the B bit
    assert bench.ha.state(bench.now)["groups"] == {"239.1.2.3": ["10.0.1.100"]}


def test_through_a_foreign_agent_it_is_nested():
    """§4.4: "MUST first encapsulate the datagram in a unicast datagram addressed to the home address"."""
    bench = joined(T, FA_CARE_OF)
    (effect,) = heard(bench, data())
    outer = IP(effect.datagram)
    assert effect.care_of_addresses == (FA_CARE_OF,)
    assert (outer.src, outer.dst, outer.proto) == (str(HOME_AGENT), str(HOME_ADDRESS), 4)
    assert bytes(outer.payload) == data()


def test_it_leaves_by_its_own_word_by_silence_and_with_its_registration():
    for leave in (old(0x17), report((TO_INCLUDE, GROUP, ()))):
        bench = joined()
        tunnelled(bench, leave)
        assert groups(bench) == [frozenset()] and heard(bench, data()) == []
    bench = joined(lifetime=600)
    bench.ask(flags=D | T, lifetime=0xFFFF)
    while (when := bench.ha.deadline()) <= bench.now + MEMBERSHIP + 1:
        bench.ha.tick(when)
        if left := events(bench.ha.effects(), "group-left"):
            assert left == [{"home_address": "10.0.1.100", "group": "239.1.2.3"}]
            break
    assert bench.now + MEMBERSHIP - 2 <= when <= bench.now + MEMBERSHIP
    bench = joined()
    bench.ask(lifetime=0, care_of_address=HOME_ADDRESS)
    assert groups(bench) == [frozenset()] and heard(bench, data()) == []
    bench = joined()
    bench.ask(flags=D)  # renewed without a reverse tunnel
    assert groups(bench) == [frozenset()]


def test_members_are_queried_and_stay_by_their_answers():
    bench = joined(lifetime=0xFFFF)
    bench.ask(flags=D | T, lifetime=0xFFFF)
    queries, end = 0, bench.now + 10 * QUERY_INTERVAL
    while (when := bench.ha.deadline()) is not None and when < end:
        bench.now = when
        bench.ha.tick(when)
        for effect in bench.ha.effects():
            if isinstance(effect, TunnelDatagram):
                assert IP(effect.datagram).dst == "224.0.0.1"
                queries += 1
                tunnelled(bench, report((EXCLUDE, GROUP, ())))
    assert queries == 10
    assert heard(bench, data())


def test_only_who_has_a_reverse_tunnel_joins():
    """§4.4: "via a bidirectional tunnel to its home agent"."""
    bench = Bench()
    bench.ask(flags=D)
    assert tunnelled(bench, report((TO_EXCLUDE, GROUP, ()))) == []
    assert tunnelled(bench, report((TO_EXCLUDE, GROUP, ()), source=OTHER)) == []
    virtual = Bench(home_interface=None)
    virtual.ask(flags=D | T)
    assert tunnelled(virtual, report((TO_EXCLUDE, GROUP, ()))) == []


def test_nobody_fills_the_list():
    bench = Bench()
    bench.ask(flags=D | T)
    tunnelled(bench, report(*((TO_EXCLUDE, A("239.9.0.1") + n, ()) for n in range(40))))
    assert len(groups(bench)[-1]) == GROUPS_PER_NODE


def test_a_successor_remembers_the_members():
    bench = joined()
    (kept,) = [effect for effect in bench.effects if isinstance(effect, Remember)]
    successor = HomeAgent(bench.ha.config, clock, Random(1))
    successor.restore({HOME_ADDRESS: kept.record}, bench.now)
    assert [each.groups for each in successor.effects() if isinstance(each, SetGroups)] == [
        frozenset((GROUP,))
    ]
    tunnelled(bench, old(0x17))
    (kept,) = [effect for effect in bench.effects if isinstance(effect, Remember)]
    assert "groups" not in kept.record


# Sending


@pytest.mark.parametrize("destination", [GROUP, "255.255.255.255", "10.0.1.255"])
def test_what_a_mobile_node_tunnels_to_many_is_put_on_the_home_link(destination):
    bench = Bench(mobile_nodes=(association(HOME_ADDRESS), association(OTHER)))
    bench.ask(flags=D | T | B)
    bench.ask(home_address=OTHER, sa=association(OTHER), flags=D | T | B, care_of_address=FA_CARE_OF)
    for source in (HOME_ADDRESS, OTHER):
        tunnelled(bench, report((TO_EXCLUDE, GROUP, ()), source=source))
    datagram = data(destination, HOME_ADDRESS, ttl=3)
    effects = tunnelled(bench, datagram)
    assert [each.datagram for each in effects if isinstance(each, SendOnHomeLink)] == [datagram]
    others = [each for each in effects if isinstance(each, TunnelDatagram)]  # and not to who sent it
    assert others == [TunnelDatagram(OTHER, (FA_CARE_OF,), datagram)]


def test_a_storm_from_a_tunnel_stays_there():
    bench = Bench()
    bench.ask(flags=D | T)
    sent = sum(
        len([e for e in tunnelled(bench, data("10.0.1.255", HOME_ADDRESS)) if isinstance(e, SendOnHomeLink)])
        for _ in range(1000)
    )
    assert 200 <= sent <= 230
