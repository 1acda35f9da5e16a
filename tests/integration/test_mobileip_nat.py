"""NATs between the daemons in nodes of a lab: real packets through real translations (RFC 3519)."""

from __future__ import annotations

import subprocess
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mobileip_world import (
    CARE_OF_HOTEL,
    CN,
    CONFIG,
    FA,
    HOME_ADDRESS,
    Daemon,
    World,
    check_packets,
)

NAT = "203.0.113.1"
NAPT = textwrap.dedent("""
    table ip test-nat {
      ct timeout short { protocol udp; l3proto ip; policy = { unreplied : 3s, replied : 3s }; }
      chain lifetimes {
        type filter hook prerouting priority mangle;
        ip saddr 198.51.100.0/24 meta l4proto udp ct timeout set "short"
      }
      chain forward {
        type filter hook forward priority filter;
        meta l4proto != { tcp, udp, icmp } drop
      }
      chain translate {
        type nat hook postrouting priority srcnat;
        oifname "ha-link" meta l4proto udp masquerade to :1024-65535 fully-random
        oifname "ha-link" ip saddr != 192.0.2.0/24 masquerade
      }
    }
    """)


FORGET = textwrap.dedent("""
    import socket, struct
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    # IPCTNL_MSG_CT_DELETE without a connection: all of IPv4
    s.send(struct.pack("=IHHIIBBH", 20, 0x102, 5, 1, 0, socket.AF_INET, 0, 0))
    assert struct.unpack_from("=i", s.recv(4096), 16) == (0,)
    """)


@pytest.fixture
def nat(world: World) -> Iterator[None]:
    """A NAT between everybody and the home agent: ports, no IP in IP, mappings of three seconds."""
    world.run("core", "sh", "-c", 'echo "$1" | nft -f -', "sh", NAPT)
    world.run("core", "python3", "-S", "-c", FORGET)  # what went through untranslated would go on so
    try:
        yield
    finally:
        world.run("core", "nft", "delete", "table", "ip", "test-nat")


def binding(ha: Daemon) -> dict[str, Any]:
    (found,) = ha.ask("state")["bindings"]
    (one,) = found["bindings"]
    return dict(one)


def wants(world: World, udp_tunnel: str) -> None:
    world.configure("mobile-node", f'udp-tunnel = "{udp_tunnel}"\n' + textwrap.dedent(CONFIG["mobile-node"]))


@pytest.mark.usefixtures("nat")
def test_through_a_nat(world: World) -> None:
    wants(world, "nat")
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    captures = [world.capture("ha", "ha-link"), world.capture("mn", "hotel")]
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    mn.wait("registered", after=before)
    mn.wait("udp-tunnel", after=before, forced=False)
    assert world.both_ways()
    first = binding(ha)
    assert [first[key] for key in ("care_of_address", "asked", "encapsulation", "lifetime")] == [
        NAT, CARE_OF_HOTEL, "udp", 60,
    ]  # fmt: skip
    assert "mtu 1468" in world.ip("mn", "link", "show", "mip0")
    for node, to in (("mn", CN), ("cn", HOME_ADDRESS)):
        world.run(node, "ping", "-c", "1", "-s", "3000", "-W", "2", to)

    time.sleep(4)  # nobody uses the mapping
    assert not world.ping("cn", HOME_ADDRESS, seconds=0.5)
    mn.wait("registered", after=mn.do("renew"))
    assert world.both_ways()
    assert binding(ha)["care_of_address"] == NAT
    assert binding(ha)["port"] != first["port"]
    world.end_captures()
    for capture in captures:
        tunnelled = "mip.nattt.nexthdr == 4 && icmp.type == 0"
        check_packets(capture, "mip.ext.utrq.subtype == 0", "mip.ext.utrp.code == 0", tunnelled)
        assert world.tcpdump(capture, "-n", "ip proto 4") == ""
        # §4.8: what is large is fragmented before it is put into UDP.
        assert world.tcpdump(capture, "-n", "udp and ip[6:2] & 0x3fff != 0") == ""
        checked = ["tshark", "-o", "udp.check_checksum:TRUE", "-r", str(capture)]
        wrong = subprocess.run(
            [*checked, "-Y", "mip.nattt.nexthdr && udp.checksum.status != 1"], capture_output=True, check=True
        )
        assert wrong.stdout == b""


@pytest.mark.usefixtures("nat")
def test_other_encapsulations_through_a_nat(world: World) -> None:
    """§4.1; large datagrams too, which minimal encapsulation leaves to IP in UDP."""
    (ha,) = world.start("home-agent")
    world.to_hotel()
    capture = world.capture("ha", "ha-link")
    for encapsulation in ("gre", "minimal"):
        text = f'udp-tunnel = "nat"\nencapsulation = "{encapsulation}"\n'
        world.configure("mobile-node", text + textwrap.dedent(CONFIG["mobile-node"]))
        (mn,) = world.start("mobile-node")
        before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
        mn.wait("udp-tunnel", after=before)
        assert binding(ha)["encapsulation"] == f"{encapsulation}-in-udp"
        assert world.both_ways()
        for node, to in (("mn", CN), ("cn", HOME_ADDRESS)):
            world.run(node, "ping", "-c", "1", "-s", "3000", "-W", "2", to)
        tunnel = ha.ask("state")["tunnel"]
        assert not any(tunnel[name] for name in ("malformed", "refused", "failed"))
        mn.stop()
    world.end_captures()
    ways = [(number, way) for number in (47, 55) for way in ("src", "dst")]
    check_packets(capture, *(f"mip.nattt.nexthdr == {number} && ip.{way} == {NAT}" for number, way in ways))
    assert world.tcpdump(capture, "-n", "udp and ip[6:2] & 0x3fff != 0") == ""
    assert "bad" not in world.tcpdump(capture, "-vn", "udp port 434")


@pytest.mark.usefixtures("nat")
def test_behind_a_nat_nothing_arrives_without_a_tunnel_in_udp(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert binding(ha)["care_of_address"] == CARE_OF_HOTEL
    assert not world.ping("mn", CN, HOME_ADDRESS, seconds=0.5)
    assert not world.ping("cn", HOME_ADDRESS, seconds=0.5)


def test_a_tunnel_in_udp_is_forced_without_a_nat(world: World) -> None:
    wants(world, "forced")
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    mn.wait("udp-tunnel", after=before, forced=True)
    assert world.both_ways()
    assert [binding(ha)[key] for key in ("care_of_address", "port")] == [CARE_OF_HOTEL, 434]


@pytest.mark.usefixtures("nat")
def test_a_foreign_agent_behind_a_nat(world: World) -> None:
    world.configure("foreign-agent", "behind-nat = true\n" + textwrap.dedent(CONFIG["foreign-agent"]))
    ha, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    capture = world.capture("mn", "hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    assert binding(ha)["care_of_address"] == NAT
    assert [visitor["encapsulation"] for visitor in fa.ask("state")["visitors"]] == ["udp"]
    world.end_captures()
    check_packets(capture, "icmp.type == 9", never=["mip.ext.utrp.code"])  # that is between the agents


@pytest.mark.usefixtures("nat")
def test_a_care_of_address_of_its_own_through_an_agent_behind_the_same_nat(world: World) -> None:
    """§4.11: the home agent learns the mobile node's port from its first keepalive."""
    wants(world, "nat")
    world.configure("foreign-agent", "behind-nat = true\n" + textwrap.dedent(CONFIG["foreign-agent"]))
    ha, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    care_of = "198.51.100.9"
    world.ip("mn", "addr", "replace", f"{care_of}/26", "dev", "hotspot")
    world.ip("mn", "route", "replace", "default", "via", FA, "dev", "hotspot", "table", "101")
    world.ip("mn", "rule", "add", "pref", "51", "from", care_of, "lookup", "101")
    try:
        before = mn.do("attach", interface="hotspot", care_of=care_of)
        mn.wait("registered", after=before, agent=FA)
        ha.wait("binding-moved")
        assert world.both_ways()
        assert [binding(ha)[key] for key in ("care_of_address", "asked")] == [NAT, care_of]
        assert [visitor["care_of"] for visitor in fa.ask("state")["visitors"]] == [care_of]
    finally:
        world.ip("mn", "rule", "del", "pref", "51")
