"""Other vendors' parts in the place of the testbed's own: their files, and what the home agent decides."""

import hmac
import importlib.util
import json
import struct
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, checksum
from scapy.layers.mobileip import MobileIP, MobileIPRRP

from testbed.data import data_dir
from testbed.errors import TestbedError
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

KEY = "000102030405060708090a0b0c0d0e0f"
NOW = 1_700_000_000.0
HOME, AGENT, CARE_OF, SOURCE = (
    IPv4Address(one) for one in ("10.0.1.100", "10.0.1.2", "10.0.250.1", "10.0.250.1")
)
PROGRAM = data_dir("templates") / "vendors" / "home_agent.py"


def files(topology, node, *sets):
    lab = render_lab(load_topology(topology, sets=sets), lab="x", secrets=Secrets("psk", KEY))
    return {path: file.content for path, file in lab.nodes[node].files.items()}


@pytest.fixture(scope="module")
def program():
    """The program as a node gets it: the template has nothing that rendering would change."""
    rendered = files("solutions/nothing", "ha", "role.home-agent=independent-ha")
    assert rendered["/usr/local/lib/home_agent.py"] == PROGRAM.read_text()
    spec = importlib.util.spec_from_file_location("independent_home_agent", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def agent(program):
    return program.HomeAgent(
        json.loads(files("solutions/nothing", "ha", "role.home-agent=independent-ha")["/etc/home-agent.json"])
    )


def request(*, flags=0x02, lifetime=300, agent=AGENT, at=NOW, key=KEY, more=b""):
    stamp = int((at + 2208988800) * 2**32)
    head = struct.pack("!BBH4s4s4sQ", 1, flags, lifetime, HOME.packed, agent.packed, CARE_OF.packed, stamp)
    proven = head + more + struct.pack("!BBI", 32, 20, 256)
    return proven + hmac.digest(bytes.fromhex(key), proven, "md5")


def reply(octets):
    """As scapy reads it; its authenticator is right."""
    assert hmac.digest(bytes.fromhex(KEY), octets[:-16], "md5") == octets[-16:]
    return MobileIP(octets)[MobileIPRRP]


def test_a_request_is_granted_and_a_deregistration_ends_it(agent) -> None:
    read = reply(agent.answer(request(lifetime=65535), SOURCE, NOW))
    assert (read.code, read.lifetime, read.homeaddr, read.haaddr) == (0, 600, str(HOME), str(AGENT))
    assert agent.bindings == {HOME: (CARE_OF, NOW + 600)}
    inner = bytes(12) + HOME.packed + bytes(4)
    outer = b"\x45" + bytes(11) + CARE_OF.packed + AGENT.packed
    assert agent.incoming(outer + inner) == inner and agent.outgoing(bytes(16) + HOME.packed) == CARE_OF
    assert agent.incoming(b"\x45" + bytes(11) + AGENT.packed + AGENT.packed + inner) is None
    assert reply(agent.answer(request(lifetime=0, at=NOW + 1), SOURCE, NOW + 1)).lifetime == 0
    assert not agent.bindings and agent.outgoing(bytes(16) + HOME.packed) is None


def test_a_binding_ends_with_its_lifetime(agent) -> None:
    agent.answer(request(lifetime=60), SOURCE, NOW)
    agent.expire(NOW + 59)
    assert agent.bindings
    agent.expire(NOW + 60)
    assert not agent.bindings


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"key": "ff" * 16}, 131),
        ({"at": NOW - 8}, 133),
        ({"at": NOW + 8}, 133),
        ({"agent": IPv4Address("10.0.1.3")}, 136),
        ({"flags": 0x0A}, 139),  # GRE
        ({"flags": 0x12}, 139),  # minimal encapsulation
        ({"flags": 0x82}, 1),  # simultaneous bindings
        ({"more": b"\xc8\2??"}, 0),  # an extension that may be skipped
    ],
)
def test_what_a_request_comes_to(agent, changed, code) -> None:
    read = reply(agent.answer(request(**changed), SOURCE, NOW))
    assert read.code == code and bool(agent.bindings) == (code in (0, 1))


def test_a_request_that_is_seen_again_is_denied(agent) -> None:
    assert reply(agent.answer(request(), SOURCE, NOW)).code == 0
    again = reply(agent.answer(request(), SOURCE, NOW))
    assert again.code == 133 and again.id >> 32 == int(NOW) + 2208988800


@pytest.mark.parametrize(
    "octets", [b"", b"\1" * 23, b"\3" * 30, request(more=b"\x3c\2??"), request(more=b"\xc8\xff?")]
)
def test_what_is_discarded(agent, octets) -> None:
    assert agent.answer(octets, SOURCE, NOW) is None and not agent.bindings


def test_trusted_networks_are_told_from_others(program) -> None:
    config = json.loads(
        files("solutions/mip-mobike", "ha", "role.home-agent=independent-ha")["/etc/home-agent.json"]
    )
    agent = program.HomeAgent(config)
    assert agent.answer(request(), IPv4Address("198.51.100.70"), NOW) is None
    assert agent.answer(request(), SOURCE, NOW)[20:24] == bytes((149, 2, 0, 0))


def test_an_advertisement(program) -> None:
    octets = program.advertisement(AGENT, 24, 7, 600)
    read = ICMP(octets)
    assert (read.type, read.code) == (9, 16) and checksum(octets) == 0
    assert octets[16:] == struct.pack("!BBHHH", 16, 6, 7, 600, 0x2000) + bytes((19, 1, 24))


def test_both_home_agents_of_dual_ha_are_exchanged() -> None:
    inner, outer = (
        json.loads(files("solutions/dual-ha", node, "role.home-agent=independent-ha")["/etc/home-agent.json"])
        for node in ("ha", "x-ha")
    )
    assert inner["interface"] == "home" and outer["interface"] is None
    assert [*outer["nodes"]] == ["198.51.100.200"] and inner["nodes"].keys() == {"10.0.1.100"}


@pytest.mark.parametrize(
    ("vendor", "file"), [("libreswan", "/etc/ipsec.conf"), ("openiked", "/etc/iked.conf")]
)
def test_a_gateway_of_another_vendor_has_the_peers_of_the_built_in_one(vendor, file) -> None:
    sets = (f"node.gw.roles=[router, ospf, {vendor}-gw]", f"node.gw.image=testbed-node:{vendor}")
    plain, between = (
        files("solutions/nothing", "gw", *sets)[file],
        files("solutions/trusted-fa", "gw", *sets)[file],
    )
    assert "10.0.0.0/8" in plain and "fa-hotspot" not in plain
    assert "fa-hotspot" in between and "198.51.100.0/26" in between and "203.0.113.10" in between
    assert "mobike=no" in plain or "set nomobike" in plain
    follows = files("solutions/mobike", "gw", *sets)[file]
    assert "mobike=yes" in follows or "set mobike" in follows


def test_a_role_that_no_node_has_cannot_be_exchanged() -> None:
    with pytest.raises(TestbedError, match="no node has the role home-agnt") as caught:
        load_topology("solutions/nothing", sets=["role.home-agnt=independent-ha"])
    assert caught.value.hint == "did you mean home-agent?"


def test_the_image_of_a_role_is_that_of_those_that_act_as_it() -> None:
    loaded = load_topology(
        "solutions/wireguard", sets=["image.vpn-gateway=acme/gw", "node.gw.roles=[router, wg-gateway]"]
    )
    assert loaded.image("gw") == "acme/gw"
