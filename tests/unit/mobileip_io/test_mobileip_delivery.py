"""The Encapsulating Delivery Style on the wire and in the kernel (RFC 3024 §5.2 to §5.4)."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from test_mobileip_roles import (  # noqa: F401
    FA,
    GROUPS,
    HA,
    MAC,
    MN,
    FakeFilter,
    kernel,
    node,
    plane,
)
from test_mobileip_worker import BITS, COA, gre, in_minimal, inner, make, tunnelled  # noqa: F401

from testbed.mobileip.core.api import FormerTunnel, TunnelEnd
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.mobile.effects import UseForeignAgent, UseNothing
from testbed.mobileip.io import foreign_agent
from testbed.mobileip.io.changes import MAIN, Rule
from testbed.mobileip.io.foreign_agent import ForeignAgentRole
from testbed.mobileip.tunnel.api import Tunnel
from testbed.mobileip.wire.encapsulation import Encapsulation

NODE, AGENT, HOME, CN = map(str, (MN, FA, HA, "192.0.2.10"))
CARE_OF = IPv4Address(COA)


def end(address, *encapsulations):
    return {"address": address, "encapsulations": encapsulations or ("ip-in-ip",), "local_port": 434}


@pytest.fixture
def agent(make):  # noqa: F811
    bench = make(home_side=False)
    bench.ask(set=[NODE], local=COA, ends=[end(HOME)], broadcasts=[], delivery=end(AGENT))
    return bench


def delivered(packet, source=NODE, destination=AGENT):
    return tunnelled(packet, source, destination)


def test_what_the_mobile_node_encapsulates_goes_on_to_the_home_agent(agent):
    """§5.2.2, both figures: the inner datagram is another one by its TTL alone."""
    assert agent.arrive(delivered(inner(NODE, CN, ttl=9, tos=0x10)), AGENT) is None
    ((sent, to),) = agent.raw(COA).sent
    outer = IP(sent)
    assert (to, outer.src, outer.dst, outer.proto, outer.tos) == (HOME, COA, HOME, 4, 0x10)
    assert bytes(outer.payload) == bytes(inner(NODE, CN, ttl=8, tos=0x10))
    assert agent.count["encapsulated"] == agent.count["decapsulated"] == 1


@pytest.mark.parametrize("destination", ["224.0.0.22", "239.1.2.3", "255.255.255.255"])
def test_broadcasts_and_multicast_go_on_as_they_are(agent, destination):
    """§5.3; IGMP has a TTL of 1, and is for the home agent all the same (RFC 5944 §4.4)."""
    packet = bytes(inner(NODE, destination, ttl=1))
    agent.arrive(delivered(packet), AGENT)
    assert [bytes(IP(data).payload) for data, _ in agent.raw(COA).sent] == [packet]


def test_each_way_has_its_own_encapsulation(make):  # noqa: F811
    agent = make(home_side=False)
    delivery = end(AGENT, "minimal", "ip-in-ip")
    agent.ask(set=[NODE], local=COA, ends=[end(HOME, *BITS["gre"])], broadcasts=[], delivery=delivery)
    packet = inner(NODE, CN, ttl=9)
    agent.arrive(in_minimal(packet, NODE, AGENT), AGENT, "minimal")
    agent.arrive(delivered(packet), AGENT)  # always, as for every tunnel (RFC 5944 §4.1)
    assert agent.arrive(gre(packet, NODE, AGENT), AGENT, "gre") is None
    assert agent.count["refused"] == 1
    expected = bytes(gre(inner(NODE, CN, ttl=8), COA, HOME))[20:]
    assert [data[20:] for data, _ in agent.raw(COA, "gre").sent] == [expected] * 2


@pytest.mark.parametrize(
    "packet",
    [
        delivered(inner("192.0.2.77", CN)),  # §5.2.1: "after verifying that it was sent by the mobile node"
        delivered(inner(NODE, CN), source="198.51.100.9"),
        delivered(inner("192.0.2.77", CN), source="192.0.2.77"),
    ],
)
def test_what_another_sends_does_not_go_on(agent, packet):
    assert agent.arrive(packet, AGENT) is None
    assert agent.raw(COA).sent == []
    assert agent.count == {"refused": 1}


def test_a_datagram_at_the_end_of_its_life_is_answered(agent):
    """RFC 2003 §3.1."""
    agent.arrive(delivered(inner(NODE, CN, ttl=1)), AGENT)
    assert agent.raw(COA).sent == []
    ((message, to),) = agent.worker.failures.icmp.sent
    assert to == NODE
    assert (ICMP(message).type, ICMP(message).code) == (11, 0)


def test_from_the_home_agent_datagrams_come_out_as_ever_also_at_the_same_address(make):  # noqa: F811
    agent = make(home_side=False)
    agent.ask(set=[NODE], local=AGENT, ends=[end(HOME)], broadcasts=[], delivery=end(AGENT))
    packet = bytes(inner(CN, NODE))
    assert agent.arrive(tunnelled(packet, HOME, AGENT), AGENT) == packet
    agent.arrive(delivered(inner(NODE, CN)), AGENT)
    assert [to for _, to in agent.raw(AGENT).sent] == [HOME]


def test_with_the_style_the_way_goes(agent):
    """A renewal without the extension, and the end of the registration."""
    agent.ask(set=[NODE], local=COA, ends=[end(HOME)], broadcasts=[])
    assert AGENT not in agent.worker.tunnels.locals
    agent.ask(set=[NODE], local=COA, ends=[end(HOME)], broadcasts=[], delivery=end(AGENT))
    agent.ask(remove=NODE)
    assert not agent.worker.tunnels.locals
    assert not agent.worker.tunnels.by_fd


def test_too_large_for_the_way_on(agent):
    (path,) = agent.end(COA).paths.values()
    path.learn(600)
    agent.arrive(delivered(inner(NODE, CN, flags="DF", payload=bytes(900))), AGENT)
    ((message, to),) = agent.worker.failures.icmp.sent
    assert (to, ICMP(message).nexthopmtu) == (NODE, 580)
    agent.arrive(delivered(inner(NODE, "239.1.2.3", flags="DF", payload=bytes(900))), AGENT)
    assert len(agent.worker.failures.icmp.sent) == 1  # RFC 1122 §3.2.2: never about a datagram to a group


# The mobile node


def test_its_tunnel_ends_at_the_agent_and_takes_what_the_home_agent_nests(make):  # noqa: F811
    bench = make(home_side=False)
    bench.ask(
        set=[NODE],
        local=NODE,
        ends=[end(AGENT, *BITS["gre"])],
        broadcasts=["224.0.0.0"],
        former=[end(HOME) | {"local": NODE}],
    )
    bench.put(inner(NODE, CN))
    ((sent, to),) = bench.raw(NODE, "gre").sent
    assert (to, IP(sent).src, IP(sent).dst) == (AGENT, NODE, AGENT)
    group = bytes(inner(CN, "239.1.2.3"))
    assert bench.arrive(tunnelled(group, HOME, NODE), NODE) == group
    assert bench.arrive(tunnelled(group, "198.51.100.9", NODE), NODE) is None
    assert len(bench.raw(NODE, "gre").sent) == 1


LINK, AT_HOME = IPv4Network("198.51.100.0/26"), IPv4Network("192.0.2.0/25")
GRE = (Encapsulation.GRE, Encapsulation.IP_IN_IP)
USE = UseForeignAgent("hotspot", FA, MAC, True, HA, (), TunnelEnd(FA, GRE), (AT_HOME, LINK))


def test_it_routes_into_the_tunnel_all_but_what_is_near(node, kernel, plane):  # noqa: F811
    """§5.4; a visited link with the addresses of home is not near."""
    node.apply(USE)
    assert plane.tunnels == {
        MN: Tunnel(MN, MN, (TunnelEnd(FA, GRE),), (GROUPS,), (FormerTunnel(MN, TunnelEnd(HA)),))
    }
    assert kernel.routes == {
        (434, "0.0.0.0/0"): ("mip0", None, MN),
        (434, f"{FA}/32"): ("hotspot", FA, MN),
        (434, str(LINK)): ("hotspot", FA, MN),
    }
    assert kernel.links["mip0"] == 1476
    node.apply(UseForeignAgent("hotspot", FA, MAC, True))
    assert kernel.routes == {(434, "0.0.0.0/0"): ("hotspot", FA, MN)}
    assert not plane.tunnels
    node.apply(USE)
    node.apply(UseNothing())
    assert not kernel.routes
    assert not kernel.neighbours


# The foreign agent


def test_the_agent_tunnels_nothing_that_comes_as_it_is(kernel, plane, monkeypatch):  # noqa: F811
    """§5.2.1: "MUST NOT reverse tunnel such a packet", and §5.4."""
    monkeypatch.setattr(foreign_agent, "LinkFilter", lambda interface: FakeFilter())
    role = ForeignAgentRole(ForeignAgentConfig("hotspot", FA, CARE_OF), kernel, plane)
    role.start()
    direct = SetVisitor(MN, TunnelEnd(HA), CARE_OF, "hotspot", MAC, True)
    encapsulating = SetVisitor(MN, TunnelEnd(HA), CARE_OF, "hotspot", MAC, True, TunnelEnd(FA))
    role.apply(direct)
    assert Rule(100, 435, source=MN, interface="hotspot") in kernel.rules
    role.apply(encapsulating)
    assert Rule(100, MAIN, source=MN, interface="hotspot") in kernel.rules
    assert Rule(100, 435, source=MN, interface="hotspot") not in kernel.rules
    assert plane.tunnels == {MN: Tunnel(MN, CARE_OF, (TunnelEnd(HA),), delivery=TunnelEnd(FA))}


# Traces of what is discarded (RFC 5944 §1.7, RFC 3024 §4.3.2)


def test_what_is_discarded_is_shown_at_a_bounded_rate(agent, monkeypatch):
    packet = delivered(inner("192.0.2.77", CN))
    for _ in range(30):
        agent.arrive(packet, AGENT)
    reply = agent.ask(counters=True)
    assert reply["counters"]["refused"] == 30
    assert reply["counters"]["discards-not-reported"] == 20
    assert len(reply["discarded"]) == 10
    assert reply["discarded"][0] == {
        "reason": "refused",
        "sender": NODE,
        "destination": AGENT,
        "ttl": 64,
        "length": len(bytes(packet)),
        "content": bytes(packet).hex(),
    }
    assert agent.ask(counters=True)["discarded"] == []


def test_a_trace_of_all_reasons_fits_the_answer(agent):
    for _ in range(10):
        agent.arrive(delivered(inner("192.0.2.77", CN, payload=bytes(60_000))), AGENT)
    agent.put(IP(src="192.0.2.77", dst=CN) / UDP())
    agent.put(b"\x60" + bytes(60))  # the kernel's own IPv6 is no datagram that is discarded
    reply = agent.ask(counters=True)
    assert {each["length"] for each in reply["discarded"]} == {60_048}
    assert {len(each["content"]) for each in reply["discarded"]} == {3200}
    assert reply["counters"]["unknown"] == 2
    assert reply["counters"]["discards-not-reported"] == 1
