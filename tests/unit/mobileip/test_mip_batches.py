"""A burst of registrations is one change of the kernel; what the kernel refuses is not granted."""

import errno
import struct
from collections import deque
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import SimpleNamespace

import pytest
from mip_world import EPOCH, HOME_AGENT, World, association, clock, events, home_agent_config, sent
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.io import changes, netlink, rtnetlink
from testbed.mobileip.io.changes import DEFAULT, Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.home_agent import HomeAgentRole
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.store import Store
from testbed.mobileip.io.turn import settle
from testbed.mobileip.tunnel.api import Side
from testbed.mobileip.tunnel.kernel import KernelPlane
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest

FIRST, PREFIX = IPv4Address("10.99.0.10"), IPv4Network("10.99.0.0/16")
CARE_OF, ELSEWHERE = IPv4Address("198.51.100.70"), IPv4Address("198.51.100.71")
HEADER = struct.Struct("=IHHII")


class Kernel:
    """The other end of a netlink socket: takes every message but routes to `refused`, and counts calls."""

    def __init__(self):
        self.calls = 0
        self.messages = []
        self.refused = set()
        self._answers = deque()

    def bind(self, _address):
        pass

    def setsockopt(self, *_):
        pass

    def send(self, data):
        self.calls += 1
        at = 0
        while at < len(data):
            length, kind, flags, number, _ = HEADER.unpack_from(data, at)
            message = data[at : at + length]
            self.messages.append(message)
            refused = kind == rtnetlink.NEW_ROUTE and any(each.packed in message for each in self.refused)
            if refused or flags & 4:
                error = -errno.ENOBUFS if refused else 0
                self._answers.append(HEADER.pack(36, 2, 0, number, 0) + struct.pack("=i", error) + bytes(16))
            at += length

    def recv(self, _size):
        self.calls += 1
        return self._answers.popleft()

    def kinds(self):
        return [HEADER.unpack_from(each)[1] for each in self.messages]


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    names = {"AF_NETLINK": 16, "SOCK_RAW": 3, "SOCK_CLOEXEC": 0}
    monkeypatch.setattr(rtnetlink, "socket", SimpleNamespace(socket=lambda *_: made, **names))
    for module in (changes, netlink):
        monkeypatch.setattr(module, "index", lambda name: 7)
    return made


class Plane:
    """A device for each care-of address, or one for all."""

    backend, anchor = "fake", "mip0"

    def __init__(self, only_device=None):
        self.ends = {}
        self.only_device = only_device

    def set_all(self, tunnels):
        self.ends |= {each.mobile: [end.address for end in each.ends] for each in tunnels}
        return [self.only_device or f"mip{int(each.ends[0].address) % 256}" for each in tunnels]

    def settled(self, mobile):
        assert mobile in self.ends

    def remove(self, mobile):
        self.ends.pop(mobile, None)


class Agent:
    """A home agent of a virtual home network, its role, and what a burst of requests becomes."""

    def __init__(self, kernel, plane, nodes, store=None):
        peers = tuple(association(FIRST + number) for number in range(nodes))
        prefix = {"home_prefix": PREFIX, "home_interface": None, "advertising": None}
        config = home_agent_config(mobile_nodes=peers, **prefix)
        self.core = HomeAgent(config, clock)
        self.plane = plane
        self.role = HomeAgentRole(config, Netlink(), plane)
        self.store = store
        self.failures = []
        self.now = 0.0

    def register(self, numbers, care_of=CARE_OF):
        """In one go, as the shell reads them; returns the codes of the replies in their order."""
        self.now += 1
        for number in numbers:
            stamp = from_unix(EPOCH + self.now) % 2**64
            message = RegistrationRequest(0, 300, FIRST + number, HOME_AGENT, care_of, stamp).encode()
            signed = sign(message, 32, association(FIRST + number))
            self.core.receive(Datagram(signed, care_of, 434, HOME_AGENT, 434), self.now)
        fail = lambda name, error: self.failures.append((name, str(error)))  # noqa: E731
        self.messages = settle(self.core.effects(), self.role, self.store, self.core.refused, fail)
        return [(each.payload[1], each.payload[4:8]) for each in sent(self.messages)]

    def bindings(self):
        state = self.core.state(self.now)["bindings"]
        return {IPv4Address(each["home_address"]): each["care_of_addresses"] for each in state}


def accepted(numbers):
    return [(Code.ACCEPTED, (FIRST + number).packed) for number in numbers]


@pytest.fixture(params=["process", "kernel"])
def plane(request, kernel, tmp_path):
    if request.param == "process":
        return Plane()
    return KernelPlane(Side.HOME, Netlink(), frozenset({Encapsulation.IP_IN_IP}), tmp_path)


def test_a_registration_costs_as_many_netlink_calls_with_many_bindings_as_with_few(kernel, plane):
    agent = Agent(kernel, plane, 1025)
    agent.register([0])  # makes the device, where the kernel has tunnels
    costs = []
    for begin in range(1, 1025, 64):
        kernel.calls, kernel.messages = 0, []
        burst = range(begin, begin + 64)
        assert agent.register(burst) == accepted(burst)
        assert set(kernel.kinds()) == {rtnetlink.NEW_ROUTE}  # no rule, and no question
        costs.append((kernel.calls, len(kernel.messages)))
    assert set(costs) == {(2, 64)}  # one call to send, one for the answer
    kernel.calls = 0
    agent.register(burst)  # renewals
    assert kernel.calls == 0


def test_where_all_tunnels_have_one_device_a_registration_asks_the_kernel_for_nothing(kernel):
    """The whole virtual home network is routed into it; and a move changes no route of one's own either."""
    agent = Agent(kernel, Plane("mip0"), 4)
    for care_of in (CARE_OF, ELSEWHERE):
        assert agent.register(range(4), care_of) == accepted(range(4))
    agent.core.flush()
    messages = settle(agent.core.effects(), agent.role, None, agent.core.refused, print)
    assert len(events(messages, "binding-removed")) == 4
    assert kernel.calls == 0 and not agent.plane.ends


def test_a_move_within_a_device_changes_no_route(kernel):
    agent = Agent(kernel, Plane(), 1)
    agent.register([0])
    kernel.calls = 0
    assert agent.register([0], CARE_OF + 256) == accepted([0])
    assert kernel.calls == 0 and agent.plane.ends == {FIRST: [CARE_OF + 256]}


@pytest.mark.parametrize("known", [False, True])
def test_a_refusal_amid_a_burst_withdraws_that_registration_and_no_other(kernel, tmp_path, known):
    agent = Agent(kernel, Plane(), 16, Store(tmp_path / "state"))
    seventh = FIRST + 7
    if known:
        assert agent.register([7], ELSEWHERE) == accepted([7])
    kernel.refused, kernel.messages = {seventh}, []
    others = [*range(7), *range(8, 16)]
    denied = [(Code.HA_INSUFFICIENT_RESOURCES, seventh.packed)]
    assert agent.register(range(16)) == accepted(others) + denied
    there = {FIRST + number: [str(CARE_OF)] for number in others}
    ends = {FIRST + number: [CARE_OF] for number in others}
    if known:
        there[seventh], ends[seventh] = [str(ELSEWHERE)], [ELSEWHERE]
    assert agent.bindings() == there and agent.plane.ends == ends
    assert agent.failures[0] == ("SetBinding", "route 10.99.0.17/32 table 254: ENOBUFS")
    assert [each["home_address"] for each in events(agent.messages, "denied")] == [str(seventh)]
    assert str(seventh) not in {each["home_address"] for each in events(agent.messages, "binding")}
    undone = rtnetlink.NEW_ROUTE if known else rtnetlink.DELETE_ROUTE
    assert kernel.kinds() == [rtnetlink.NEW_ROUTE] * 16 + [undone]
    kernel.refused.clear()
    again = HomeAgent(agent.core.config, clock)
    again.restore(Store(tmp_path / "state").records, agent.now)
    assert again.state(agent.now)["bindings"] == agent.core.state(agent.now)["bindings"]
    assert agent.register([7]) == accepted([7])


def test_a_deregistration_that_the_kernel_refuses_ends_no_binding(kernel):
    agent = Agent(kernel, Plane(), 1)
    agent.register([0])
    agent.role.carry_out = lambda effects: dict.fromkeys(effects, NodeError("EPERM"))
    stamp = from_unix(EPOCH + 9) % 2**64
    message = RegistrationRequest(0, 0, FIRST, HOME_AGENT, CARE_OF, stamp).encode()
    agent.core.receive(Datagram(sign(message, 32, association(FIRST)), CARE_OF, 434, HOME_AGENT, 434), 9.0)
    messages = settle(agent.core.effects(), agent.role, None, agent.core.refused, lambda *_: None)
    assert [each.payload[1] for each in sent(messages)] == [Code.HA_INSUFFICIENT_RESOURCES]
    assert agent.bindings() == {FIRST: [str(CARE_OF)]}


class Unwilling:
    """A foreign agent's role whose kernel takes no visitor."""

    def __init__(self):
        self.asked = []

    def carry_out(self, effects):
        self.asked += effects.values()
        return {at: NodeError("ENOBUFS") for at, each in effects.items() if isinstance(each, SetVisitor)}


@pytest.mark.parametrize("known", [False, True])
def test_what_a_foreign_agents_kernel_refuses_it_does_not_pass_on(monkeypatch, known):
    world = World()
    agent = world.fas[0]
    world.discover("visited")
    if known:
        world.run(1.0)
        world.mn.renew(world.now)
    fetch, role, passed = agent.effects, Unwilling(), []

    def effects():
        messages = settle(fetch(), role, None, agent.refused, lambda *_: None)
        passed.extend(messages)
        return messages

    monkeypatch.setattr(agent, "effects", effects)
    world.run(1.0)
    denied = events(passed, "denied")[0]
    assert (denied["code"], denied["reason"]) == (Code.FA_INSUFFICIENT_RESOURCES, "ENOBUFS")
    assert bool(agent.state(world.now)["visitors"]) == known
    assert type(role.asked[1]) is (SetVisitor if known else ClearVisitor)  # undone


# -- the messages, as a library that others wrote reads them ------------------------------------------------


def read(kernel):
    """The last message."""
    (message,) = MarshalRtnl().parse(kernel.messages[-1])
    return message


def test_a_route(kernel):
    link = Netlink()
    source, gateway = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.7")
    link.set_route(DEFAULT, "mip0", table=435, gateway=gateway, source=source)
    route = read(kernel)
    assert route["event"] == "RTM_NEWROUTE" and route["header"]["flags"] == 0x505
    assert (route["dst_len"], route["proto"], route["type"], route["flags"]) == (0, 143, 1, 4)
    found = {name: route.get_attr(f"RTA_{name}") for name in ("TABLE", "OIF", "GATEWAY", "PREFSRC")}
    assert found == {"TABLE": 435, "OIF": 7, "GATEWAY": str(gateway), "PREFSRC": str(source)}
    link.delete_route(IPv4Network(FIRST))
    route = read(kernel)
    assert (route["event"], route["dst_len"], route["table"]) == ("RTM_DELROUTE", 32, 254)
    assert route.get_attr("RTA_DST") == str(FIRST)


def test_a_rule(kernel):
    Netlink().add_rule(Rule(150, 435, IPv4Network("192.0.2.0/24"), FIRST, "hotspot"))
    rule = read(kernel)
    assert (rule["event"], rule["src_len"], rule["dst_len"]) == ("RTM_NEWRULE", 24, 32)
    assert (rule["action"], rule.get_attr("FRA_PROTOCOL")) == (1, 143)
    names = ("SRC", "DST", "IIFNAME", "PRIORITY", "TABLE")
    found = [rule.get_attr(f"FRA_{name}") for name in names]
    assert found == ["192.0.2.0", str(FIRST), "hotspot", 150, 435]


def test_neighbours_and_addresses(kernel):
    link = Netlink()
    link.set_neighbour("hotspot", FIRST, bytes(range(6)))
    neighbour = read(kernel)
    assert (neighbour["event"], neighbour["ifindex"], neighbour["state"]) == ("RTM_NEWNEIGH", 7, 0x80)
    assert neighbour.get_attr("NDA_LLADDR") == "00:01:02:03:04:05"
    link.add_proxy("home", FIRST)
    proxy = read(kernel)
    assert (proxy["flags"], proxy.get_attr("NDA_DST")) == (8, str(FIRST))
    link.add_address("lo", IPv4Interface((FIRST, 24)), IPv4Address("10.99.0.255"))
    address = read(kernel)
    assert (address["event"], address["prefixlen"], address["index"]) == ("RTM_NEWADDR", 24, 7)
    assert address.get_attr("IFA_LOCAL") == str(FIRST) and address.get_attr("IFA_BROADCAST") == "10.99.0.255"


@pytest.mark.parametrize("kind", ["ipip", "gre"])
def test_tunnels(kernel, kind):
    link = Netlink()
    link.add_tunnel(kind, "mip1", HOME_AGENT, CARE_OF, 1480)
    link.set_link("mip1", up=True)
    created, up = (message for each in kernel.messages for message in MarshalRtnl().parse(each))
    assert (created.get_attr("IFLA_IFNAME"), created.get_attr("IFLA_MTU")) == ("mip1", 1480)
    info = created.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == kind
    data, name = info.get_attr("IFLA_INFO_DATA"), kind.upper()
    wanted = {"LOCAL": str(HOME_AGENT), "REMOTE": str(CARE_OF), "TTL": 64, "TOS": 1, "PMTUDISC": 1}
    assert {each: data.get_attr(f"IFLA_{name}_{each}") for each in wanted} == wanted
    assert (up["index"], up["flags"], up["change"]) == (7, 1, 1)
