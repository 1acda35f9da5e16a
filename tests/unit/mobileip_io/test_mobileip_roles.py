"""What the roles ask of the kernel; a fake that remembers stands for it."""

import subprocess
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from testbed.mobileip.__main__ import main
from testbed.mobileip.core.api import Datagram, FormerTunnel, SendAgentMessage, SendDatagram, TunnelEnd
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp, SetBinding, TunnelDatagram
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import (
    UseCoLocated,
    UseForeignAgent,
    UseHome,
    UseHomeAddress,
    UseNothing,
)
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.io import foreign_agent, home_agent
from testbed.mobileip.io.changes import Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.foreign_agent import ForeignAgentRole
from testbed.mobileip.io.home_agent import HomeAgentRole
from testbed.mobileip.io.mobile_node import MobileNodeRole
from testbed.mobileip.io.netlink import Hop
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.tunnel.api import PlaneError, Side, Tunnel
from testbed.mobileip.tunnel.kernel import ANY, REFUSE, KernelPlane, answer_again, available, filters, silence
from testbed.mobileip.tunnel.mixed import MixedPlane
from testbed.mobileip.tunnel.probe import probe
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.extension import Extension

MN, HA, COA, FA = map(IPv4Address, ("192.0.2.100", "203.0.113.2", "198.51.100.70", "198.51.100.1"))
ROUTER, GROUPS = IPv4Address("192.0.2.1"), IPv4Address("224.0.0.0")
PREFIX = IPv4Network("192.0.2.0/24")
MAC = bytes(range(6))
AWAY, AT_HOME = IPv4Interface("192.0.2.100/32"), IPv4Interface("192.0.2.100/24")


class FakeKernel:
    """Addresses, routes, rules, neighbours, proxies and links as sets."""

    def __init__(self):
        self.routes = {}
        self.rules = set()
        self.neighbours = {}
        self.proxies = set()
        self.given = set()
        self.broadcasts = {}
        self.links = {}
        self.devices = {}
        self.sinks = set()
        self.next_hop = Hop("hotel", IPv4Address("198.51.100.65"), 1500)
        self.kinds = {"ipip", "gre"}
        self.filtered = set()
        self.sources = {}
        self.can_filter = True
        self.refuses = set()
        self.commits = 0
        self.always = lambda: None

    def batch(self):
        return FakeBatch(self)

    def clean(self):
        self.routes.clear()
        self.rules.clear()

    def set_link(self, interface, *, up=None, mtu=None):
        self.links[interface] = mtu

    def add_tunnel(self, kind, interface, local, remote, mtu):
        if kind not in self.kinds:
            raise NodeError("EOPNOTSUPP")
        self.devices[interface] = (kind, local, remote, mtu)

    def filter_reverse_path(self, interface, on):
        assert interface in self.devices
        self.filtered = self.filtered - {interface} | ({interface} if on else set())

    def accept_sources(self, interface, addresses):
        if not self.can_filter:
            raise NodeError("ENOENT")
        assert interface in self.devices and interface not in self.sources
        self.sources[interface] = set(addresses)

    def admit_source(self, interface, address):
        self.sources[interface].add(address)

    def expel_source(self, interface, address):
        self.sources[interface].remove(address)

    def add_ipip_sink(self, interface):
        if "ipip" not in self.kinds:
            raise NodeError("EOPNOTSUPP")
        self.sinks.add(interface)

    def ipsec_ends(self):
        return []

    def delete_link(self, interface):
        self.devices.pop(interface, None)
        self.sinks.discard(interface)
        self.filtered.discard(interface)
        self.sources.pop(interface, None)

    def addresses(self):
        return list(self.given)

    def add_address(self, interface, address, broadcast=None):
        self.given.add((interface, address))
        if broadcast is not None:
            self.broadcasts[address.ip] = broadcast
        self.always()

    def delete_address(self, interface, address):
        self.given.discard((interface, address))
        self.always()

    def set_route(self, destination, interface, *, table=254, gateway=None, source=None):
        self.routes[(table, str(IPv4Network(destination)))] = (interface, gateway, source)

    def set_unreachable(self, destination):
        self.routes[(254, str(destination))] = "unreachable"

    def delete_route(self, destination, *, table=254):
        self.routes.pop((table, str(IPv4Network(destination))), None)

    def mtu(self, interface):
        return 1500

    def gateways(self, table):
        return [(r[0], r[1]) for (t, _), r in self.routes.items() if t == table and r[1] is not None]

    def hop(self, destination, source):
        return self.next_hop

    def add_rule(self, rule):
        self.rules.add(rule)

    def delete_rule(self, rule):
        self.rules.discard(rule)

    def set_neighbour(self, interface, address, link_address):
        self.neighbours[(interface, address)] = link_address

    def delete_neighbour(self, interface, address):
        self.neighbours.pop((interface, address), None)

    def fixed_neighbours(self, interface):
        return [address for name, address in self.neighbours if name == interface]

    def add_proxy(self, interface, address):
        self.proxies.add((interface, address))

    def delete_proxy(self, interface, address):
        self.proxies.discard((interface, address))


class FakeBatch:
    """Changes that the kernel carries out when they are committed; it refuses routes to `kernel.refuses`."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._changes = []

    def __len__(self):
        return len(self._changes)

    def __getattr__(self, name):
        return lambda *arguments: self._changes.append((name, arguments))

    def commit(self):
        self._kernel.commits += 1
        return [self._do(name, arguments) for name, arguments in self._changes]

    def _do(self, name, arguments):
        if name == "set_route" and str(IPv4Network(arguments[0])) in self._kernel.refuses:
            return NodeError(f"route {arguments[0]}: ENOBUFS")
        getattr(self._kernel, name)(*arguments)
        return None


class FakePlane:
    backend, anchor, only_device = "fake", "mip0", None

    def __init__(self):
        self.tunnels = {}
        self.settlements = []
        self.sent = []

    def set(self, tunnel):
        self.tunnels[tunnel.mobile] = tunnel
        return "mip0"

    def set_all(self, tunnels):
        return [self.set(tunnel) for tunnel in tunnels]

    def settled(self, mobile):
        self.settlements.append(mobile)

    def send(self, mobile, remotes, datagram):
        self.sent.append((mobile, remotes, datagram))

    def remove(self, mobile):
        self.tunnels.pop(mobile, None)


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def plane():
    return FakePlane()


# -- mobile node ------------------------------------------------------------------------------------------


@pytest.fixture
def node(kernel, plane):
    config = MobileNodeConfig(MN, PREFIX, HA, SecurityAssociation(HA, 256, b"key"))
    kernel.given = {("home", AT_HOME)}  # a predecessor was killed at home
    kernel.neighbours = {("hotspot", FA): MAC}  # or at a foreign agent
    kernel.set_route(IPv4Network("0.0.0.0/0"), "hotspot", table=434, gateway=FA)
    role = MobileNodeRole(config, Rule(200, 434), kernel, plane)
    role.start()
    return role


def test_it_starts_with_nothing_but_its_address(node, kernel):
    assert kernel.given == {("mip0", AWAY)}
    assert not kernel.neighbours
    assert not kernel.routes
    assert not kernel.rules


def test_co_located(node, kernel, plane):
    kernel.next_hop = Hop("ipsec0", None, 1400)
    node.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    assert plane.tunnels == {MN: Tunnel(MN, COA, (TunnelEnd(HA),), (GROUPS,))}
    assert kernel.routes == {(434, "0.0.0.0/0"): ("mip0", None, MN)}
    assert kernel.rules == {Rule(200, 434)}
    assert kernel.links["mip0"] == 1380


def test_co_located_without_reverse_tunnel(node, kernel):
    node.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), False))
    assert kernel.routes == {(434, "0.0.0.0/0"): ("hotel", IPv4Address("198.51.100.65"), MN)}
    kernel.next_hop = None
    with pytest.raises(NodeError, match="no route"):
        node.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), False))


def test_through_a_foreign_agent(node, kernel, plane):
    node.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    node.apply(UseForeignAgent("hotspot", FA, MAC, False))
    assert kernel.routes == {(434, "0.0.0.0/0"): ("hotspot", FA, MN)}
    assert kernel.neighbours == {("hotspot", FA): MAC}
    assert plane.tunnels == {}
    other = IPv4Address("198.51.100.2")
    node.apply(UseForeignAgent("hotspot", other, MAC, True))
    assert kernel.neighbours == {("hotspot", other): MAC}
    node.apply(UseNothing())
    assert not kernel.neighbours
    assert not kernel.routes
    assert not kernel.rules


def test_the_home_address_is_always_there(node, kernel):
    def there():
        assert MN in {address.ip for _, address in kernel.given}

    kernel.always = there
    for use in (
        UseCoLocated("hotel", COA, TunnelEnd(HA), True),
        UseHome("home", ROUTER),
        UseForeignAgent("hotspot", FA, MAC, True),
        UseHome("home", None),
        UseHome("home2", ROUTER),
        UseNothing(),
    ):
        node.apply(use)
    assert kernel.given == {("mip0", AWAY)}


def test_at_home(node, kernel, plane):
    node.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    node.apply(UseHome("home", ROUTER))
    assert kernel.given == {("home", AT_HOME)}
    assert kernel.routes == {(254, "0.0.0.0/0"): ("home", ROUTER, None)}
    assert not kernel.rules
    assert not plane.tunnels
    node.apply(UseNothing())
    assert kernel.given == {("mip0", AWAY)}
    assert not kernel.routes


def test_broadcasts_of_the_home_network_come_out_of_the_tunnel(kernel, plane):
    config = MobileNodeConfig(MN, PREFIX, HA, SecurityAssociation(HA, 256, b"key"), broadcasts=True)
    role = MobileNodeRole(config, Rule(200, 434), kernel, plane)
    role.start()
    everybody = (IPv4Address("255.255.255.255"), PREFIX.broadcast_address)
    assert kernel.broadcasts == {MN: PREFIX.broadcast_address}  # or the kernel would forward what is for it
    role.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    assert plane.tunnels == {MN: Tunnel(MN, COA, (TunnelEnd(HA),), (*everybody, GROUPS))}
    role.apply(UseForeignAgent("hotspot", FA, MAC, True, HA))
    assert plane.tunnels == {MN: Tunnel(MN, MN, (TunnelEnd(HA),), everybody)}  # nested, to the home address
    assert kernel.routes[(434, "0.0.0.0/0")] == ("hotspot", FA, MN)
    role.apply(UseForeignAgent("hotspot", FA, MAC, False))
    assert not plane.tunnels


def test_requests_from_a_care_of_address_are_routed(node):
    from_care_of = Datagram(b"", COA, 434, HA, 434, "hotel")
    assert node.outgoing(from_care_of).interface is None
    from_home = Datagram(b"", MN, 434, HA, 434, "home")
    assert node.outgoing(from_home) is from_home
    to_agent = Datagram(b"", COA, 434, FA, 434, "hotel", 255, MAC)
    assert node.outgoing(to_agent) is to_agent


# -- foreign agent ----------------------------------------------------------------------------------------


class FakeFilter:
    """Which addresses may be used from which link addresses."""

    def __init__(self):
        self.pairs = set()

    def replace(self, before, after):
        before, after = set(before), set(after)
        assert before <= self.pairs
        self.pairs = self.pairs - before | after

    def close(self):
        assert not self.pairs


@pytest.fixture
def senders(monkeypatch):
    made = FakeFilter()
    monkeypatch.setattr(foreign_agent, "LinkFilter", lambda interface: made)
    return made


@pytest.fixture
def agent(kernel, plane, senders):
    kernel.neighbours = {("hotspot", IPv4Address("192.0.2.7")): MAC}
    role = ForeignAgentRole(ForeignAgentConfig("hotspot", FA, COA), kernel, plane)
    role.start()
    return role


STRANGERS = Rule(200, None, interface="hotspot")


def test_strangers_are_kept_out(agent, kernel):
    assert kernel.rules == {STRANGERS}
    assert not kernel.neighbours
    agent.stop()
    assert not kernel.rules


def test_a_visitor(agent, kernel, plane):
    agent.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, True))
    out_of_the_tunnel = Rule(150, 254, destination=MN, interface="mip0")
    assert kernel.rules == {STRANGERS, out_of_the_tunnel, Rule(100, 435, source=MN, interface="hotspot")}
    assert kernel.routes == {
        (254, "192.0.2.100/32"): ("hotspot", None, None),
        (435, "0.0.0.0/0"): ("mip0", None, None),
    }
    assert kernel.neighbours == {("hotspot", MN): MAC}
    assert plane.tunnels == {MN: Tunnel(MN, COA, (TunnelEnd(HA),))}
    agent.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, False))
    assert kernel.rules == {STRANGERS, out_of_the_tunnel, Rule(100, 254, source=MN, interface="hotspot")}
    agent.apply(ClearVisitor(MN))
    assert kernel.rules == {STRANGERS}
    assert not kernel.neighbours
    assert not plane.tunnels
    assert (254, "192.0.2.100/32") not in kernel.routes
    agent.apply(ClearVisitor(MN))


def test_a_co_located_visitor_is_forwarded_for_and_needs_no_tunnel_here(agent, kernel, plane):
    there, elsewhere = IPv4Address("198.51.100.9"), IPv4Address("198.51.100.10")
    agent.apply(SetVisitor(MN, TunnelEnd(HA), there, "hotspot", MAC, True))
    assert not plane.tunnels
    sources = [Rule(100, 254, source=each, interface="hotspot") for each in (MN, there)]
    assert kernel.rules == {STRANGERS, *sources}  # §4.2.2: what it tunnels itself, and what it does not
    assert kernel.neighbours == {("hotspot", MN): MAC, ("hotspot", there): MAC}
    agent.apply(SetVisitor(MN, TunnelEnd(HA), elsewhere, "hotspot", MAC, True))
    assert kernel.rules == {
        STRANGERS, sources[0], Rule(100, 254, source=elsewhere, interface="hotspot")
    }  # fmt: skip
    assert kernel.neighbours == {("hotspot", MN): MAC, ("hotspot", elsewhere): MAC}
    agent.apply(ClearVisitor(MN))
    assert kernel.rules == {STRANGERS}
    assert not kernel.neighbours


def test_only_a_visitors_own_link_address_may_use_its_addresses(agent, senders):
    other, there = bytes(reversed(MAC)), IPv4Address("198.51.100.9")
    agent.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, True))
    assert senders.pairs == {(MN, MAC)}
    agent.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", other, True))
    assert senders.pairs == {(MN, other)}
    agent.apply(SetVisitor(MN, TunnelEnd(HA), there, "hotspot", MAC, True))
    assert senders.pairs == {(MN, MAC), (there, MAC)}
    agent.stop()
    assert not senders.pairs


def test_without_nftables_a_foreign_agent_says_so_and_runs(kernel, plane, monkeypatch, capsys):
    def missing(interface):
        raise NodeError("nftables: no such program")

    monkeypatch.setattr(foreign_agent, "LinkFilter", missing)
    role = ForeignAgentRole(ForeignAgentConfig("hotspot", FA, COA), kernel, plane)
    role.start()
    role.apply(SetVisitor(MN, TunnelEnd(HA), COA, "hotspot", MAC, True))
    assert "nftables: no such program" in capsys.readouterr().err
    role.stop()


def test_where_nobody_has_to_register_the_link_is_routed(kernel, plane, senders):
    config = ForeignAgentConfig("hotspot", FA, COA, prefix_length=26, registration_required=False)
    role = ForeignAgentRole(config, kernel, plane)
    role.start()
    link = IPv4Network("198.51.100.0/26")
    assert kernel.rules == {STRANGERS, Rule(190, 254, source=link, interface="hotspot")}


@pytest.fixture
def homeless(kernel, plane):
    config = MobileNodeConfig(None, PREFIX, HA, SecurityAssociation(HA, 256, b"key"), nai="mn@example.net")
    kernel.given = {
        ("home", AT_HOME),
        ("hotel", IPv4Interface((COA, 24))),
    }  # a predecessor was killed at home
    role = MobileNodeRole(config, Rule(200, 434), kernel, plane)
    role.start()
    return role


def test_a_home_address_comes_later_and_may_be_another(homeless, kernel, plane):
    hotel = ("hotel", IPv4Interface((COA, 24)))
    assert homeless.homeless and kernel.given == {hotel}
    homeless.apply(UseForeignAgent("hotspot", FA, MAC, False))
    assert kernel.neighbours == {("hotspot", FA): MAC} and kernel.routes == {}
    homeless.apply(UseHomeAddress(MN))
    assert not homeless.homeless and kernel.given == {hotel, ("mip0", IPv4Interface((MN, 32)))}
    homeless.apply(UseForeignAgent("hotspot", FA, MAC, True))
    assert kernel.routes == {(434, "0.0.0.0/0"): ("hotspot", FA, MN)}
    homeless.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    other = IPv4Address("192.0.2.101")
    homeless.apply(UseHomeAddress(other))
    homeless.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    assert kernel.given == {hotel, ("mip0", IPv4Interface((other, 32)))}
    assert plane.tunnels == {other: Tunnel(other, COA, (TunnelEnd(HA),), (GROUPS,))}
    assert kernel.routes == {(434, "0.0.0.0/0"): ("mip0", None, other)}
    homeless.apply(UseHome("home", None))
    homeless.apply(UseHomeAddress(MN))
    assert kernel.given == {hotel, ("mip0", IPv4Interface((MN, 32)))}
    homeless.stop()
    assert kernel.given == {hotel}


def test_nothing_is_left_of_a_mobile_node_that_got_no_home_address(homeless, kernel):
    homeless.apply(UseForeignAgent("hotspot", FA, MAC, False))
    homeless.stop()
    assert not kernel.neighbours and not kernel.routes and not kernel.rules


# -- home agent -------------------------------------------------------------------------------------------


@pytest.fixture
def home(kernel, plane, monkeypatch):
    monkeypatch.setattr(home_agent, "answer_at_once", lambda interface: None)
    stale = {MN, IPv4Address("192.0.2.200")}
    kernel.proxies = {("home", each) for each in stale}
    assigned = IPv4Address("192.0.2.128")
    monkeypatch.setattr(home_agent, "proxies", lambda interface: {*stale, assigned})
    kernel.proxies.add(("home", assigned))
    nodes = (SecurityAssociation(MN, 256, b"key"), SecurityAssociation("mn@example.net", 256, b"key"))
    config = HomeAgentConfig(HA, PREFIX, "home", pool=(IPv4Network("192.0.2.128/31"),), mobile_nodes=nodes)
    role = HomeAgentRole(config, kernel, plane)
    role.start()
    return role


def test_a_binding(home, kernel, plane):
    others = {("home", IPv4Address("192.0.2.200"))}  # of somebody else
    assert kernel.proxies == others
    home.apply(SetBinding(MN, (TunnelEnd(COA), TunnelEnd(FA)), True))
    home.apply(ProxyArp(MN, True))
    assert plane.tunnels == {MN: Tunnel(MN, HA, (TunnelEnd(COA), TunnelEnd(FA)))}
    assert kernel.routes == {(254, "192.0.2.100/32"): ("mip0", None, None)}
    assert kernel.proxies == others | {("home", MN)}
    home.apply(ClearBinding(MN))
    home.apply(ProxyArp(MN, False))
    assert not plane.tunnels
    assert not kernel.routes
    assert kernel.proxies == others


def test_one_of_several_processes_leaves_alone_what_others_have(kernel, plane, monkeypatch):
    monkeypatch.setattr(home_agent, "answer_at_once", lambda interface: None)
    other = IPv4Address(int(MN) + 1)
    kernel.proxies = {("home", MN), ("home", other)}
    monkeypatch.setattr(home_agent, "proxies", lambda interface: {MN, other})
    nodes = (SecurityAssociation(MN, 256, b"key"), SecurityAssociation(other, 256, b"key"))
    config = HomeAgentConfig(HA, PREFIX, "home", mobile_nodes=nodes)
    kernel.set_route(other, "mipb0")
    theirs = dict(kernel.routes)
    role = HomeAgentRole(config, kernel, plane, Share(Steering(2), int(MN) % 2))
    role.start()
    assert kernel.proxies == {("home", other)} and kernel.routes == theirs
    role.apply(SetBinding(MN, (TunnelEnd(COA),), True))
    role.apply(ProxyArp(MN, True))
    role.stop()
    assert kernel.proxies == {("home", other)} and kernel.routes == theirs
    virtual = HomeAgentConfig(HA, PREFIX)
    home_agent.prepare(virtual, kernel)  # which their parent does
    plane.only_device = "mipa0"  # of this process, and no way to the mobile nodes of others
    role = HomeAgentRole(virtual, kernel, plane, Share(Steering(2), 0))
    role.start()
    role.stop()
    assert kernel.routes == {(254, "192.0.2.0/24"): "unreachable"}
    home_agent.release(virtual, kernel)
    assert not kernel.routes


def test_what_another_process_puts_on_the_home_link_is_heard(kernel, plane):
    """A broadcast of one mobile node that is away reaches the others, whichever process serves them."""
    own = frozenset({IPv4Interface("192.0.2.1/24")})
    role = HomeAgentRole(
        HomeAgentConfig(HA, PREFIX, "home", own_addresses=own), kernel, plane, Share(Steering(2), int(MN) % 2)
    )
    assert role.relays(IPv4Address(int(MN) + 1))
    assert not role.relays(MN)  # this process has sent it into tunnels itself
    assert not role.relays(IPv4Address("192.0.2.1"))  # this node's own, as an advertisement
    assert not role.relays(IPv4Address("198.51.100.71"))  # not of this network


def test_a_broadcast_goes_into_the_tunnels_it_is_for(home, plane):
    home.apply(TunnelDatagram(MN, (COA,), b"to all"))
    assert plane.sent == [(MN, (COA,), b"to all")]


def test_stopping_gives_everything_back(home, kernel, plane):
    home.apply(SetBinding(MN, (TunnelEnd(COA),), True))
    home.apply(ProxyArp(MN, True))
    home.stop()
    assert not plane.tunnels
    assert not kernel.routes
    assert ("home", MN) not in kernel.proxies


def test_a_virtual_home(kernel, plane):
    role = HomeAgentRole(HomeAgentConfig(HA, PREFIX), kernel, plane)
    role.start()
    assert kernel.routes == {(254, "192.0.2.0/24"): "unreachable"}
    role.apply(SetBinding(MN, (TunnelEnd(COA),), True))
    assert kernel.routes[(254, f"{MN}/32")] == ("mip0", None, None)
    role.apply(ProxyArp(MN, True))
    assert not kernel.proxies
    role.stop()
    assert not kernel.routes


def test_a_virtual_home_whose_tunnels_have_one_device(kernel, plane):
    plane.only_device = "mip0"
    role = HomeAgentRole(HomeAgentConfig(HA, PREFIX), kernel, plane)
    role.start()
    whole = {(254, "192.0.2.0/24"): ("mip0", None, None)}
    assert kernel.routes == whole
    role.apply(SetBinding(MN, (TunnelEnd(COA),), True))
    assert kernel.routes == whole and MN in plane.tunnels
    role.stop()
    assert not kernel.routes and not plane.tunnels


def test_one_device_does_not_take_a_home_link(kernel, plane, monkeypatch):
    monkeypatch.setattr(home_agent, "_ip", lambda *_: "")
    plane.only_device = "mip0"
    role = HomeAgentRole(HomeAgentConfig(HA, PREFIX, home_interface="home"), kernel, plane)
    role.start()
    role.apply(SetBinding(MN, (TunnelEnd(COA),), True))
    assert kernel.routes == {(254, f"{MN}/32"): ("mip0", None, None)}


# -- kernel tunnels ---------------------------------------------------------------------------------------


BOTH = frozenset({Encapsulation.IP_IN_IP, Encapsulation.GRE})


def statistics(folder, name, value):
    where = folder / name / "statistics"
    where.mkdir(parents=True)
    for counter in ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes", "tx_errors"):
        (where / counter).write_text(f"{value}\n")


def test_probing_makes_and_removes_a_device(kernel):
    assert available(kernel) == BOTH
    assert not kernel.devices
    kernel.kinds = {"ipip"}
    assert available(kernel) == {Encapsulation.IP_IN_IP}
    kernel.kinds = {"gre"}  # every tunnel has to take IP in IP too
    assert not available(kernel)


def test_the_kernel_is_silenced_where_it_would_answer(kernel):
    for _ in range(2):  # a killed predecessor may have done so already
        silence(kernel)
        assert kernel.sinks == {"mipsink0"}
    answer_again(kernel)
    assert not kernel.sinks
    kernel.kinds = set()
    silence(kernel)
    assert not kernel.sinks


def test_kernel_tunnels_leave_strangers_without_an_answer(kernel, tmp_path):
    """A datagram that is in no tunnel of ours is silently discarded (RFC 5944 §4.2.2)."""
    plane = KernelPlane(Side.VISITED, kernel, BOTH, tmp_path)
    assert kernel.sinks == {"mipsink0"}
    plane.close()
    assert not kernel.sinks


def test_a_device_is_up_only_once_its_rule_is_there(kernel, tmp_path):
    available(kernel)
    assert not kernel.links  # up, IPv6 would send on them
    kernel.set_link = lambda interface, up: kernel.links.update({interface: set(kernel.rules)})
    KernelPlane(Side.VISITED, kernel, BOTH, tmp_path).set(Tunnel(MN, COA, (TunnelEnd(HA),)))
    assert kernel.links == {"mip1": {Rule(REFUSE, None, interface="mip1")}}


def test_one_device_for_each_pair_of_ends(kernel, tmp_path):
    other = IPv4Address("192.0.2.101")
    for name in ("mip1", "mip2"):
        statistics(tmp_path, name, 5)
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path)
    assert plane.set(Tunnel(MN, HA, (TunnelEnd(COA),))) == "mip1"
    assert plane.set(Tunnel(other, HA, (TunnelEnd(COA),))) == "mip1"
    assert kernel.devices == {"mip1": ("ipip", HA, COA, 1480)}
    assert kernel.rules == {Rule(150, 254, interface="mip1")}  # one for all mobile nodes
    assert kernel.filtered == {"mip1"}
    assert plane.set(Tunnel(MN, HA, (TunnelEnd(FA),))) == "mip2"
    plane.settled(MN)
    assert plane.counters()["decapsulated"] == 10
    plane.remove(MN)
    assert list(kernel.devices) == ["mip1"]
    assert plane.counters()["decapsulated"] == 10  # what is gone still counts
    plane.close()
    assert not kernel.devices
    assert not kernel.rules


def test_a_replaced_tunnel_stays_until_packets_go_the_new_way(kernel, tmp_path):
    for name in ("mip1", "mip2", "mip3"):
        statistics(tmp_path, name, 0)
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path)
    there, elsewhere = Tunnel(MN, HA, (TunnelEnd(COA),)), Tunnel(MN, HA, (TunnelEnd(FA),))
    plane.set(there)
    plane.set(elsewhere)
    assert sorted(kernel.devices) == ["mip1", "mip2"]
    assert plane.set(there) == "mip1"  # back again before anything was settled
    plane.settled(MN)
    assert sorted(kernel.devices) == ["mip1"]
    assert plane.set(there) == "mip1"  # a renewal
    plane.settled(MN)
    assert sorted(kernel.devices) == ["mip1"]
    plane.set(elsewhere)
    plane.remove(MN)
    assert not kernel.devices and not kernel.rules


def test_gre_has_a_device_beside_the_one_for_ip_in_ip(kernel, tmp_path):
    for name in ("mip1", "mip2"):
        statistics(tmp_path, name, 0)
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path)
    end = TunnelEnd(COA, (Encapsulation.GRE, Encapsulation.IP_IN_IP))
    assert plane.set(Tunnel(MN, HA, (end,))) == "mip1"
    assert kernel.devices == {"mip1": ("gre", HA, COA, 1476), "mip2": ("ipip", HA, COA, 1480)}
    # Packets for it go into mip1: by its route back, nothing that comes out of mip2 would be accepted.
    assert kernel.rules == {Rule(150, 254, interface=each) for each in ("mip1", "mip2")}
    assert kernel.filtered == {"mip1"} and kernel.sources == {"mip2": {MN}}
    plane.set(Tunnel(MN, HA, (TunnelEnd(COA),)))
    plane.settled(MN)
    assert list(kernel.devices) == ["mip2"] and kernel.rules == {Rule(150, 254, interface="mip2")}
    plane.close()
    assert not kernel.rules


def test_a_device_that_others_may_use_too_names_them_all(kernel, tmp_path):
    other = IPv4Address("192.0.2.101")
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path)
    plane.set(Tunnel(other, HA, (TunnelEnd(COA),)))
    assert kernel.filtered == {"mip1"} and not kernel.sources
    plane.set(Tunnel(MN, HA, (TunnelEnd(COA, (Encapsulation.GRE, Encapsulation.IP_IN_IP)),)))
    assert kernel.filtered == {"mip2"} and kernel.sources == {"mip1": {other, MN}}
    assert kernel.rules == {Rule(150, 254, interface=each) for each in ("mip1", "mip2")}
    plane.close()
    assert not kernel.rules and not kernel.devices


def test_beside_ipsec_no_reverse_path_is_asked_for(kernel, tmp_path):
    """IPsec's rule (220) may lead to a mobile node's address elsewhere than into its tunnel."""
    other = IPv4Address("192.0.2.101")
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path, ipsec_here=True)
    for mobile in (MN, other):
        plane.set(Tunnel(mobile, HA, (TunnelEnd(COA),)))
    assert kernel.sources == {"mip1": {MN, other}}
    assert kernel.rules == {Rule(150, 254, interface="mip1")} and not kernel.filtered
    plane.remove(other)
    assert kernel.sources == {"mip1": {MN}}
    plane.close()
    assert not kernel.rules and not kernel.devices


def test_without_filters_the_process_checks_what_a_route_back_does_not_show(kernel, tmp_path):
    several = Tunnel(MN, HA, (TunnelEnd(COA, (Encapsulation.GRE, Encapsulation.IP_IN_IP)),))
    single = Tunnel(MN, HA, (TunnelEnd(COA),))
    for ipsec_here in (True, False):
        assert KernelPlane(Side.HOME, kernel, BOTH, tmp_path, ipsec_here=ipsec_here).can(several)
    without = KernelPlane(Side.HOME, kernel, BOTH, tmp_path, filters=False)
    assert not without.can(several) and without.can(single)
    assert not KernelPlane(Side.HOME, kernel, BOTH, tmp_path, ipsec_here=True, filters=False).can(single)
    assert KernelPlane(Side.VISITED, kernel, BOTH, tmp_path, filters=False).can(several)
    assert filters(kernel) and not kernel.devices
    kernel.can_filter = False
    assert not filters(kernel) and not kernel.devices


def test_the_visited_side_allows_by_destination(kernel, tmp_path):
    for name in ("mip1", "mip2"):
        statistics(tmp_path, name, 0)
    plane = KernelPlane(Side.VISITED, kernel, BOTH, tmp_path)
    plane.set(Tunnel(MN, COA, (TunnelEnd(HA),)))
    assert Rule(150, 254, destination=MN, interface="mip1") in kernel.rules
    kernel.kinds = set()
    for _ in range(2):
        with pytest.raises(PlaneError):
            plane.set(Tunnel(MN, COA, (TunnelEnd(FA),)))
    kernel.kinds = {"ipip"}
    assert plane.set(Tunnel(MN, COA, (TunnelEnd(FA),))) == "mip2"
    plane.settled(MN)
    assert list(kernel.devices) == ["mip2"]
    plane.close()
    assert not kernel.rules and not kernel.devices


def test_what_the_kernel_can_do(kernel, tmp_path):
    plane = KernelPlane(Side.HOME, kernel, frozenset({Encapsulation.IP_IN_IP}), tmp_path)
    assert plane.can(Tunnel(MN, HA, (TunnelEnd(COA),)))
    assert not plane.can(Tunnel(MN, HA, (TunnelEnd(COA), TunnelEnd(FA))))
    for other in (Encapsulation.GRE, Encapsulation.MINIMAL, Encapsulation.UDP):
        assert not plane.can(Tunnel(MN, HA, (TunnelEnd(COA, (other, Encapsulation.IP_IN_IP)),)))


@pytest.mark.parametrize(
    ("ours", "theirs", "can"),
    [
        (HA, ANY, False),  # a gateway's
        (ANY, COA, False),  # a client's, of whom the other end of the tunnel is the gateway
        (HA, COA, False),
        (ANY, FA, True),
        (FA, ANY, True),
        (HA, FA, True),
        (ANY, ANY, True),  # the kernel's own, which takes nothing
    ],
)
def test_the_kernels_ipsec_takes_ip_in_ip_first(kernel, tmp_path, ours, theirs, can):
    plane = KernelPlane(Side.HOME, kernel, BOTH, tmp_path, ipsec_ends=[(ours, theirs)])
    assert plane.can(Tunnel(MN, HA, (TunnelEnd(COA),))) is can
    former = (FormerTunnel(HA, TunnelEnd(COA)),)
    assert plane.can(Tunnel(MN, MN, (TunnelEnd(IPv4Address("192.0.2.9")),), former=former)) is can


# -- both kinds of tunnels --------------------------------------------------------------------------------


class FakeProcess(FakePlane):
    backend = "tun"
    left = frozenset()

    def leave(self, ends):
        self.left = frozenset(ends)

    def counters(self):
        return {"encapsulated": 3, "refused": 1}

    def check(self):
        return True

    def close(self):
        self.tunnels.clear()


@pytest.fixture
def mixed(kernel, tmp_path):
    for name in ("mip1", "mip2"):
        statistics(tmp_path, name, 5)
    process = FakeProcess()
    return MixedPlane(KernelPlane(Side.HOME, kernel, BOTH, tmp_path), lambda: process), process


SINGLE = Tunnel(MN, HA, (TunnelEnd(COA),))
DOUBLE = Tunnel(MN, HA, (TunnelEnd(COA), TunnelEnd(FA)))


def test_a_tunnel_is_the_kernels_whenever_it_can_be(mixed, kernel):
    plane, process = mixed
    assert (plane.set(SINGLE), plane.backend) == ("mip1", "kernel")
    plane.settled(MN)
    assert (plane.set(DOUBLE), plane.backend) == ("mip0", "kernel+tun")
    assert kernel.devices and process.tunnels == {MN: DOUBLE}  # both, until packets go the new way
    plane.settled(MN)
    assert not kernel.devices
    assert plane.set(SINGLE) == "mip1"
    assert kernel.devices and process.tunnels
    plane.settled(MN)
    assert not process.tunnels
    assert plane.counters()["encapsulated"] == 13 and plane.counters()["refused"] == 1
    assert plane.check()
    assert process.left == {COA}  # what comes from there is the kernel's
    minimal = TunnelEnd(FA, (Encapsulation.MINIMAL, Encapsulation.IP_IN_IP))
    other = IPv4Address("192.0.2.101")
    assert plane.set(Tunnel(other, HA, (minimal,))) == "mip0"
    plane.remove(MN)
    assert not kernel.devices and list(process.tunnels) == [other]
    assert process.left == frozenset()
    plane.close()
    assert not process.tunnels


def test_a_tunnel_that_goes_there_and_back_unsettled_stays(mixed, kernel):
    plane, process = mixed
    plane.set(SINGLE)
    plane.set(DOUBLE)
    plane.set(SINGLE)
    plane.settled(MN)
    assert list(kernel.devices) == ["mip1"] and not process.tunnels


def test_with_very_many_tunnels_the_process_sees_the_packets_of_others(mixed, kernel, monkeypatch):
    plane, process = mixed
    monkeypatch.setattr("testbed.mobileip.tunnel.mixed.MOST", 2)
    other, third = IPv4Address("192.0.2.101"), IPv4Address("192.0.2.102")
    plane.set(Tunnel(other, HA, DOUBLE.ends))
    for mobile, left in ((MN, {ROUTER}), (third, frozenset())):
        plane.set(Tunnel(mobile, HA, (TunnelEnd(ROUTER),)))
        plane.settled(mobile)
        assert process.left == left


def test_which_plane_a_node_gets(kernel, monkeypatch):
    module = "testbed.mobileip.tunnel.probe.TunPlane"
    asked = []
    monkeypatch.setattr(module, lambda *_, **how: asked.append(how) or FakeProcess())
    assert probe(Side.HOME, kernel).backend == "kernel" and kernel.links == {}
    kernel.kinds = set()
    assert probe(Side.HOME, kernel).backend == "tun" and kernel.links == {"mip0": 1480}
    probe(Side.HOME, kernel, merges_segments=True)
    assert asked == [{"merges_segments": False, "share": None}, {"merges_segments": True, "share": None}]


def test_one_of_several_processes_has_no_kernel_tunnels(kernel, monkeypatch):
    """There can be one for each two ends, and mobile nodes of all processes are at the same foreign agent."""
    asked = []
    monkeypatch.setattr(
        "testbed.mobileip.tunnel.probe.TunPlane", lambda *_, **how: asked.append(how) or FakeProcess()
    )
    share = Share(Steering(2), 1)
    assert probe(Side.HOME, kernel, share=share).backend == "tun"
    assert asked == [{"merges_segments": False, "share": share}]


def test_the_mobile_node_with_kernel_tunnels(kernel, tmp_path):
    statistics(tmp_path, "mip1", 0)
    config = MobileNodeConfig(MN, PREFIX, HA, SecurityAssociation(HA, 256, b"key"))
    role = MobileNodeRole(config, Rule(230, 434), kernel, KernelPlane(Side.VISITED, kernel, BOTH, tmp_path))
    role.start()
    assert kernel.given == {("lo", AWAY)}
    role.apply(UseCoLocated("hotel", COA, TunnelEnd(HA), True))
    assert kernel.routes == {(434, "0.0.0.0/0"): ("mip1", None, MN)}
    role.stop()
    assert not kernel.given
    assert not kernel.devices


def test_kernel_tunnels_that_a_killed_predecessor_left_are_gone_before_new_ones_are_made(kernel, tmp_path):
    for name in ("mip1", "mip7", "lo", "mipsink0"):
        (tmp_path / name / "statistics").mkdir(parents=True)
        kernel.devices[name] = None
    plane = KernelPlane(Side.VISITED, kernel, BOTH, tmp_path)
    assert set(kernel.devices) == {"lo"}
    plane.set(Tunnel(MN, COA, (TunnelEnd(HA),)))
    assert not plane.check()
    (tmp_path / "mip1" / "statistics").rmdir()
    (tmp_path / "mip1").rmdir()
    with pytest.raises(PlaneError, match="mip1 has been deleted"):
        plane.check()


@pytest.mark.parametrize("role", ["home_agent", "foreign_agent", "mobile_node"])
def test_a_daemon_imports_little(role):
    """Importing is most of its start, and a library for netlink took longer than all of it."""
    modules = "testbed.mobileip.__main__", "testbed.mobileip.io.daemon"
    modules += f"testbed.mobileip.core.{role}", f"testbed.mobileip.io.{role}"
    heavy = "{'pyroute2', 'asyncio', 'ssl', 'multiprocessing', 'logging', 'unittest'}"
    program = f"import sys, {', '.join(modules)}; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_values_compile_no_comparison_of_their_own():
    """A dataclass compiles its methods when a daemon starts; all that one needs is its constructor."""
    one, same, other = SendDatagram(1), SendDatagram(1), SendDatagram(2)
    assert (one == same, one == other, hash(one) == hash(same)) == (True, False, True)
    assert one != SendAgentMessage(1)
    assert SendDatagram.__eq__.__code__ is SendAgentMessage.__eq__.__code__
    assert UseNothing() == UseNothing() and len({UseNothing(), UseNothing()}) == 1
    assert Extension(1, b"x", 4) == Extension(1, b"x", 9)  # `offset` is not compared
    assert hash(Extension(1, b"x", 4)) == hash(Extension(1, b"x", 9))


@pytest.mark.parametrize(("role", "others"), [("home", "mobile"), ("foreign", "home"), ("mobile", "foreign")])
def test_a_daemon_has_no_effects_of_another_kind(role, others):
    kind = {"home": "home_agent", "foreign": "foreign_agent", "mobile": "mobile_node"}[role]
    program = f"import sys, testbed.mobileip.core.{kind}, testbed.mobileip.io.{kind}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert f"testbed.mobileip.core.{role}.effects" in modules
    assert f"testbed.mobileip.core.{others}.effects" not in modules


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["home-agent"], 2), (["router", "--config", "x"], 2), (["--help"], 0)],
)
def test_a_wrong_command_line_is_answered_by_what_was_expected(arguments, code, capsys):
    assert main(arguments) == code
    said = capsys.readouterr()
    assert "--config FILE [--control PATH]" in (said.err if code else said.out)
