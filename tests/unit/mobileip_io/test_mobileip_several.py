"""Several daemons in one node: what each claims, where each listens, and what its files say."""

import re
import socket
import uuid
from ipaddress import IPv4Address, IPv4Network

import pytest
from test_mobileip_daemon_toml import FOREIGN_AGENT, HOME_AGENT, MOBILE_NODE, READ
from test_mobileip_roles import BOTH, COA, FA, GROUPS, HA, MAC, MN, FakeFilter, FakeKernel, FakePlane
from test_mobileip_worker import CN, Bench, inet
from test_mobileip_worker import make as make_bench

from testbed.mobileip.core.api import FormerTunnel, TunnelEnd
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseForeignAgent
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.io import foreign_agent, udp
from testbed.mobileip.io.errors import ConfigError, NodeError
from testbed.mobileip.io.foreign_agent import ForeignAgentRole
from testbed.mobileip.io.instance import Claims, Instance
from testbed.mobileip.io.mobile_node import MobileNodeRole
from testbed.mobileip.io.netlink import Rule
from testbed.mobileip.io.udp import ANSWERS, Place, RegistrationSocket
from testbed.mobileip.tunnel.api import Side, Tunnel
from testbed.mobileip.tunnel.kernel import KernelPlane
from testbed.mobileip.tunnel.tun import _set
from testbed.mobileip.wire.encapsulation import Encapsulation

make = make_bench
LATER = IPv4Address("198.51.100.71")


# -- claims and sockets -----------------------------------------------------------------------------------


def test_a_claim_holds_until_it_is_let_go():
    what = f"the routing table of {uuid.uuid4()}"
    first, second = Claims(), Claims()
    first.take([(what, "table")])
    message = rf"{what} is in use by process \d+: give one of them another `table`"
    with pytest.raises(NodeError, match=message):
        second.take([(what, "table")])
    first.close()
    second.take([(what, "table")])
    second.close()


def test_what_two_daemons_must_not_share():
    assert Instance("x", "mip", 143, 434).claims == {
        "the name mipN of tunnel devices": "device",
        "the route protocol 143": "protocol",
        "the routing table 434": "table",
    }
    assert not {*Instance("x").claims} & {*Instance("y", "mipy", 144, 500).claims}


def open_at(*place):
    return RegistrationSocket(Place(*place), ANSWERS)


def test_a_port_at_every_address_is_one_daemons_and_at_one_address_not():
    port = 20000 + uuid.uuid4().int % 20000
    here, there = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
    whole = open_at(port)
    for place in (Place(port), Place(port, here)):
        with pytest.raises(NodeError, match=re.escape(f"{place}: Address already in use")):
            RegistrationSocket(place, ANSWERS)
    whole.close()
    ears = [open_at(port, here), open_at(port, there), open_at(port, None, "lo")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for address, ear in (("127.0.0.1", 0), ("127.0.0.2", 1), ("127.0.0.3", 2)):
            sender.sendto(address.encode(), (address, port))
            heard = [[datagram.payload.decode() for datagram in each.receive()] for each in ears]
            assert heard == [[address] if index == ear else [] for index in range(3)]
    with pytest.raises(NodeError, match=r"UDP port 5434 at 192\.0\.2\.99: Cannot assign"):
        open_at(5434, IPv4Address("192.0.2.99"))
    for each in ears:
        each.close()


def test_a_datagram_has_the_interface_it_came_by_and_the_address_it_went_to(monkeypatch):
    ear = open_at(0, IPv4Address("127.0.0.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"one", ear.socket.getsockname())
        (datagram,) = ear.receive()
        assert (datagram.interface, str(datagram.destination)) == ("lo", "127.0.0.1")
        sender.sendto(b"another", ear.socket.getsockname())
        monkeypatch.setattr(udp, "SIOCGIFNAME", 0)  # the link has gone meanwhile
        (datagram,) = ear.receive()
        assert (datagram.interface, datagram.payload) == (None, b"another")
    ear.close()


# -- files ------------------------------------------------------------------------------------------------


@pytest.fixture
def read(tmp_path):
    def read(kind, text):
        file = tmp_path / "daemon.toml"
        file.write_text(text)
        return READ[kind](file)

    return read


def test_by_default_a_daemon_is_alone(read):
    assert read("home_agent", HOME_AGENT).instance == Instance("home-agent")
    assert read("foreign_agent", FOREIGN_AGENT).instance == Instance("foreign-agent", table=435)
    assert read("mobile_node", MOBILE_NODE).instance == Instance("mobile-node", table=434)


def test_a_second_daemon(read):
    text = 'name = "x-mip"\ndevice = "mipx"\ntable = 500\nprotocol = 145\nport = 5434\n'
    text += 'mip-rule-from = "home-address"\nsimultaneous = 3\n' + MOBILE_NODE
    text += '[[other-home-agent]]\naddress = "10.0.1.3"\nspi = 300\nkey = "aa"\n'
    settings = read("mobile_node", text)
    assert settings.instance == Instance("x-mip", "mipx", 145, 500)
    assert (settings.core.port, settings.core.overlap) == (5434, 3.0)
    assert settings.rule_from_home_address
    assert [each.peer for each in settings.core.other_home_agents] == [IPv4Address("10.0.1.3")]


def test_agents_that_share_a_node(read):
    ha = read("home_agent", 'share-port = true\nforeign-agents-here = ["10.0.0.4"]\n' + HOME_AGENT)
    assert ha.instance.shares_port
    assert ha.core.foreign_agents_here == {IPv4Address("10.0.0.4")}
    assert not ha.ipsec_here
    assert read("home_agent", "ipsec-here = true\n" + HOME_AGENT).ipsec_here
    assert read("home_agent", "merge-segments = true\n" + HOME_AGENT).merges_segments
    assert not read("home_agent", HOME_AGENT).merges_segments
    text = FOREIGN_AGENT.replace('"10.0.0.4"', '["10.0.0.4", "10.0.0.5"]')
    text = 'share-port = true\nhome-agents-here = "10.0.1.2"\nport = 4434\n' + text
    text += '[[link]]\ninterface = "lab"\naddress = "10.0.3.1"\n'
    fa = read("foreign_agent", text)
    assert [str(each) for each in fa.core.care_of_addresses] == ["10.0.0.4", "10.0.0.5"]
    assert fa.core.other_links == (VisitedLink("lab", IPv4Address("10.0.3.1")),)
    assert (fa.core.port, fa.core.home_agents_here) == (4434, {IPv4Address("10.0.1.2")})


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("mobile_node", 'device = "mip7"', r":1: device: expected up to 9 letters, got 'mip7'"),
        ("mobile_node", 'device = "mobile-node"', r":1: device: expected up to 9 letters"),
        ("mobile_node", "protocol = 4", r":1: protocol: expected 5 to 255, got 4"),
        ("mobile_node", "table = 254", r":1: table: expected 1 to 2147483647, but not 253 to 255, got 254"),
        ("mobile_node", "share-port = true", r":1: share-port: unknown key"),
        ("mobile_node", "port = 0", r": port must be 1 to 65535, not 0"),
        ("home_agent", "table = 7", r":1: table: unknown key"),
        ("home_agent", 'foreign-agents-here = ["x"]', r":1: foreign-agents-here: expected IPv4 addresses"),
        ("foreign_agent", 'link = {interface = "office", address = "10.0.3.1"}', r"a link is there twice"),
    ],
)
def test_what_cannot_be(read, kind, line, message):
    text = {"mobile_node": MOBILE_NODE, "home_agent": HOME_AGENT, "foreign_agent": FOREIGN_AGENT}[kind]
    with pytest.raises(ConfigError, match=message):
        read(kind, f"{line}\n{text}")


# -- routes and tunnels -----------------------------------------------------------------------------------


@pytest.fixture
def kernel():
    return FakeKernel()


def two_links(kernel, monkeypatch, **changes):
    filters = {}
    monkeypatch.setattr(
        foreign_agent, "LinkFilter", lambda interface: filters.setdefault(interface, FakeFilter())
    )
    lounge = VisitedLink("lounge", IPv4Address("198.51.100.65"))
    config = ForeignAgentConfig("hotspot", FA, COA, other_links=(lounge,), **changes)
    role = ForeignAgentRole(config, kernel, FakePlane(), 700)
    role.start()
    return role, filters


def test_a_visitor_that_changes_links_leaves_nothing_behind(kernel, monkeypatch):
    role, filters = two_links(kernel, monkeypatch)
    strangers = {Rule(200, None, interface=each) for each in ("hotspot", "lounge")}
    assert kernel.rules == strangers
    role.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, True))
    role.apply(SetVisitor(MN, TunnelEnd(HA), COA, "lounge", MAC, True))
    assert kernel.neighbours == {("lounge", MN): MAC}
    assert kernel.routes[254, "192.0.2.100/32"][0] == "lounge"
    assert Rule(100, 700, source=MN, interface="lounge") in kernel.rules
    assert {name: each.pairs for name, each in filters.items()} == {"hotspot": set(), "lounge": {(MN, MAC)}}
    role.apply(ClearVisitor(MN))
    assert kernel.rules == strangers and not kernel.neighbours
    role.stop()


def test_beside_a_home_agent_only_what_came_out_of_the_tunnel_is_delivered(kernel, monkeypatch):
    role, _ = two_links(kernel, monkeypatch, home_agents_here=frozenset({HA}))
    role.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, True))
    assert kernel.routes == {
        (700, "192.0.2.100/32"): ("hotspot", None, None),
        (700, "0.0.0.0/0"): ("mip0", None, None),
    }
    assert Rule(150, 700, destination=MN, interface="mip0") in kernel.rules
    role.apply(ClearVisitor(MN))
    assert kernel.routes == {(700, "0.0.0.0/0"): ("mip0", None, None)}


FORMER = (FormerTunnel(COA, TunnelEnd(HA)),)


def test_what_comes_to_a_former_care_of_address_comes_out(kernel):
    config = MobileNodeConfig(MN, IPv4Network("192.0.2.0/24"), HA, SecurityAssociation(HA, 256, b"key"))
    plane = FakePlane()
    role = MobileNodeRole(config, Rule(200, 434), kernel, plane)
    role.start()
    role.apply(UseCoLocated("hotel", LATER, TunnelEnd(HA), True, FORMER))
    assert plane.tunnels[MN] == Tunnel(MN, LATER, (TunnelEnd(HA),), (GROUPS,), FORMER)
    role.apply(UseForeignAgent("hotspot", FA, MAC, True, former=FORMER))
    assert plane.tunnels[MN] == Tunnel(MN, COA, (TunnelEnd(HA),))
    role.apply(UseForeignAgent("hotspot", FA, MAC, True))
    assert not plane.tunnels


def test_a_former_tunnel_of_the_process(make):
    bench: Bench = make(home_side=False)
    tunnel = Tunnel(IPv4Address(MN), LATER, (TunnelEnd(HA),), former=FORMER)
    bench.ask(**_set(tunnel, [tunnel.mobile]))
    inner = inet.IP(src=CN, dst=str(MN)) / b"data"
    for local in (str(LATER), str(COA)):
        assert bench.arrive(inet.IP(src=str(HA), dst=local) / inner, local)
    assert not bench.arrive(inet.IP(src=CN, dst=str(COA)) / inner, str(COA))
    bench.ask(**_set(Tunnel(IPv4Address(MN), LATER, (TunnelEnd(HA),)), [IPv4Address(MN)]))
    assert [*bench.worker.tunnels.locals] == [str(LATER)]
    bench.ask(remove=str(MN))
    assert not bench.worker.tunnels.locals and not bench.worker.tunnels.by_fd


def test_a_former_tunnel_of_the_kernel(kernel, tmp_path):
    plane = KernelPlane(Side.VISITED, kernel, BOTH, tmp_path, "mipx")
    device = plane.set(Tunnel(MN, LATER, (TunnelEnd(HA),), former=FORMER))
    ip_in_ip = [(name, each[1:3]) for name, each in kernel.devices.items() if each[0] == "ipip"]
    assert device == "mipx1" and ip_in_ip == [("mipx1", (LATER, HA)), ("mipx2", (COA, HA))]
    plane.set(Tunnel(MN, LATER, (TunnelEnd(HA),)))
    plane.settled(MN)
    assert [*kernel.devices] == ["mipx1"]


def test_the_kernel_has_no_tunnel_within_a_node(kernel, tmp_path):
    plane = KernelPlane(Side.HOME, kernel, frozenset({Encapsulation.IP_IN_IP}), tmp_path)
    assert plane.can(Tunnel(MN, HA, (TunnelEnd(COA),)))
    assert not plane.can(Tunnel(MN, HA, (TunnelEnd(HA),)))
