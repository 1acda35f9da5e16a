"""Home agent, foreign agent and mobile node in nodes of a lab without any other daemon: real packets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from socket import inet_aton
from typing import Any

import pytest
from mobileip_world import (
    CARE_OF_FA,
    CARE_OF_HOTEL,
    CN,
    CONFIG,
    FA,
    HOME_ADDRESS,
    HOME_AGENT,
    KEY,
    PLACES,
    Daemon,
    World,
    check_packets,
    counted,
)

RECEIVE = textwrap.dedent("""
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 9))
    s.settimeout(20)
    print("ready", flush=True)
    print(len(s.recv(2000)))
    """)
SEND = textwrap.dedent(f"""
    import socket, sys, time
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 10, int(sys.argv[1]))  # IP_MTU_DISCOVER
    s.bind(("{HOME_ADDRESS}", 0))
    for _ in range(5):
        s.sendto(bytes(1452), ("{CN}", 9))
        time.sleep(0.2)
    """)


def test_co_located(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    assert not world.ping("mn", CN, seconds=0.3)
    capture = world.capture("ha", "ha-link")
    world.to_hotel()
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    registered = mn.wait("registered", after=before)
    assert registered["mode"] == "co-located"
    assert registered["care_of"] == CARE_OF_HOTEL
    assert world.both_ways()
    binding = ha.ask("state")["bindings"][0]
    assert binding["care_of_addresses"] == [CARE_OF_HOTEL]
    state = mn.ask("state")
    assert state["state"] == "registered"
    assert state["tunnel"]["encapsulated"] > 0
    assert state["tunnel"]["decapsulated"] > 0
    assert f"dev {world.tunnel('mn')}" in world.ip("mn", "route", "show", "table", "434")
    assert "230:\tfrom all lookup 434" in world.ip("mn", "rule")
    world.end_captures()
    check_packets(capture, "mip", "ip.proto == 4")


@pytest.mark.kernel("esp")
def test_what_the_kernel_has_for_ipsec_takes_ip_in_ip(world: World) -> None:
    """Its interface at the home agent's address is offered tunnelled packets before a tunnel device is."""
    world.ip("ha", "link", "add", "ipsec0", "type", "vti", "local", HOME_AGENT, "key", "66")
    try:
        world.ip("ha", "link", "set", "ipsec0", "up")
        ha, mn = world.start("home-agent", "mobile-node")
        world.to_hotel()
        mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
        assert world.both_ways()
        assert "tun" in ha.ask("state")["backend"]
    finally:
        world.ip("ha", "link", "delete", "ipsec0")


def icmp(world: World, node: str, name: str) -> int:
    """A counter of the ICMP of a node's kernel."""
    lines = world.run(node, "cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Icmp:"))
    return int(values[names.index(name)])


def test_no_error_answers_what_is_tunnelled(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    before = [icmp(world, node, "OutDestUnreachs") for node in ("ha", "mn")]  # what other tests left
    assert world.both_ways()
    assert [icmp(world, node, "OutDestUnreachs") for node in ("ha", "mn")] == before


def asks_for(world: World, encapsulation: str) -> None:
    asked = f'encapsulation = "{encapsulation}"\nmip-rule'
    world.configure("mobile-node", CONFIG["mobile-node"].replace("mip-rule", asked))


OUTER = {"gre": 47, "minimal": 55}


@pytest.mark.parametrize("encapsulation", ["gre", "minimal"])
def test_other_encapsulations_both_ways(world: World, encapsulation: str) -> None:
    """Co-located and through a foreign agent; tshark and tcpdump read what is on the wire."""
    asks_for(world, encapsulation)
    ha, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    capture = world.capture("ha", "ha-link")
    world.to_hotel()
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    assert mn.wait("registered", after=before)["encapsulation"] == encapsulation
    assert world.both_ways()
    world.only_up("hotspot")
    before = mn.do("discover", interface="hotspot")
    assert mn.wait("registered", after=before)["encapsulation"] == encapsulation
    assert world.both_ways()
    for daemon in (ha, fa):
        tunnel = daemon.ask("state")["tunnel"]
        assert tunnel["encapsulated"] > 0 and tunnel["decapsulated"] > 0
        assert not any(tunnel.get(name, 0) for name in ("malformed", "refused", "failed"))
    world.end_captures()
    ends = [f"ip.{way} == {source}" for source in (CARE_OF_HOTEL, CARE_OF_FA) for way in ("src", "dst")]
    tunnelled = [f"ip.proto == {OUTER[encapsulation]} && {end}" for end in ends]
    check_packets(capture, *tunnelled, never=["ip.proto == 4", "ip.checksum.status == 0"])
    if encapsulation == "gre":
        inside, never = "gre.proto == 0x0800 && icmp.type == 8", "gre && gre.flags_and_version != 0"
        check_packets(capture, inside, never=[never])
        return
    lines = world.tcpdump(capture, "-vn", "ip proto 55").splitlines()
    assert any(f"mobile: [S] {HOME_ADDRESS} > {CN}" in line for line in lines)
    assert not any("bad" in line for line in lines)
    damaged = bytearray(capture.read_bytes())
    damaged[damaged.index(inet_aton(CN) + inet_aton(HOME_ADDRESS))] ^= 1
    capture.write_bytes(damaged)
    assert "bad checksum" in world.tcpdump(capture, "-vn", "ip proto 55")


@pytest.mark.parametrize("encapsulation", ["gre", "minimal"])
def test_large_datagrams_in_other_encapsulations(world: World, encapsulation: str) -> None:
    asks_for(world, encapsulation)
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    mtu = {"gre": 1476, "minimal": 1480}[encapsulation]
    assert f"mtu {mtu}" in world.ip("mn", "link", "show", world.tunnel("mn"))
    receiver = world.start_program("cn", "python3", "-S", "-c", RECEIVE)
    assert receiver.until(lambda: receiver.lines == ["ready"])
    capture = world.capture("ha", "ha-link")
    # What the mobile node sends arrives in fragments.
    world.ip("mn", "link", "set", world.tunnel("mn"), "mtu", "600")
    world.run("mn", "python3", "-S", "-c", SEND, "0")
    assert receiver.wait() == 0
    assert receiver.lines == ["ready", "1452"]
    world.end_captures()
    # RFC 2004 §3: fragments are never in minimal encapsulation.
    fragments = "ip.proto == 4" if encapsulation == "minimal" else "ip.proto == 47"
    check_packets(capture, fragments, never=["ip.proto == 55 && ip.flags.mf == 1"])


DIGEST = textwrap.dedent("""
    import hashlib, socket
    s = socket.create_server(("", 5001))
    print("ready", flush=True)
    connection, digest = s.accept()[0], hashlib.sha256()
    connection.settimeout(20)
    while data := connection.recv(1 << 16):
        digest.update(data)
    print(digest.hexdigest())
    """)
SEND_ALL = textwrap.dedent(f"""
    import hashlib, random, socket
    data = random.Random(1).randbytes(1 << 20)
    with socket.create_connection(("{CN}", 5001), 20, ("{HOME_ADDRESS}", 0)) as s:
        s.sendall(data)
    print(hashlib.sha256(data).hexdigest())
    """)


@pytest.mark.parametrize("encapsulation", ["ip-in-ip", "minimal"])
def test_superpackets_of_tcp_go_into_tunnels(world: World, encapsulation: str) -> None:
    """What arrives is what was sent; through the links of IP in IP it went in superpackets."""
    merged = "merge-segments = true\n"
    world.configure("home-agent", merged + textwrap.dedent(CONFIG["home-agent"]))
    asked = f'encapsulation = "{encapsulation}"\n{merged}mip-rule'
    world.configure("mobile-node", CONFIG["mobile-node"].replace("mip-rule", asked))
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    receiver = world.start_program("cn", "python3", "-S", "-c", DIGEST)
    assert receiver.until(lambda: receiver.lines == ["ready"])
    capture = world.capture("ha", "ha-link")
    sent = world.run("mn", "python3", "-S", "-c", SEND_ALL)
    assert receiver.wait() == 0
    assert receiver.lines == ["ready", sent.strip()]
    world.end_captures()
    if "merge0" in world.ip("mn", "-br", "link") and encapsulation == "ip-in-ip":
        check_packets(capture, "ip.proto == 4 && ip.len > 1500")
    tunnel = ha.ask("state")["tunnel"]
    assert not any(tunnel.get(name, 0) for name in ("malformed", "refused", "failed"))


@pytest.mark.kernel("ipip")
def test_the_kernel_has_the_tunnels_where_it_can(world: World) -> None:
    for daemon in world.start("home-agent", "foreign-agent", "mobile-node"):
        assert daemon.ask("state")["backend"] == "kernel"


@pytest.mark.kernel("gre")
def test_the_kernel_has_gre_tunnels_where_it_can(world: World) -> None:
    asks_for(world, "gre")
    ha, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.both_ways()
    assert ha.ask("state")["backend"] == mn.ask("state")["backend"] == "kernel"
    assert "gre remote" in world.ip("ha", "-d", "link", "show", "type", "gre")


ALSO_AT = f"""
import socket, time
from ipaddress import IPv4Address
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
agent, home, care_of = map(IPv4Address, ("{HOME_AGENT}", "{HOME_ADDRESS}", "198.51.100.99"))
flags = RequestFlag.SIMULTANEOUS | RequestFlag.REVERSE_TUNNEL | RequestFlag.DECAPSULATION
request = RegistrationRequest(flags, 300, home, agent, care_of, from_unix(time.time()) % 2**64)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{CARE_OF_HOTEL}", 0))
s.settimeout(20)
association = SecurityAssociation(agent, 256, bytes.fromhex("{KEY}"))
s.sendto(sign(request.encode(), 32, association), (str(agent), 434))
print(s.recv(2000)[1])
"""


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7))
print("ready", flush=True)
while True:
    s.sendto(*s.recvfrom(2000))
"""
WITHOUT_END = f"""
import select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{HOME_ADDRESS}", 0))
s.connect(("{CN}", 7))
asked, unanswered, end = 0, {{}}, None
while end is None or time.monotonic() < end:
    if end is None:
        asked += 1
        unanswered[asked] = round(time.monotonic(), 3)
        s.send(str(asked).encode())
        time.sleep(0.01)
    readable, _, _ = select.select([s] if end else [s, sys.stdin], [], [], 0)
    if s in readable:
        unanswered.pop(int(s.recv(100)), None)
    if sys.stdin in readable:
        end = time.monotonic() + 2.0
print(asked, *unanswered.values())
"""


@pytest.mark.kernel("ipip")
def test_a_switch_between_kernel_and_process_loses_nothing(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.both_ways()
    echo = world.start_program("cn", "python3", "-c", ECHO)
    assert echo.until(lambda: echo.lines == ["ready"]), echo.stderr.decode()
    talk = world.start_program("mn", "python3", "-c", WITHOUT_END)
    devices, switched = [], []
    for _ in range(2):
        assert world.run("mn", "python3", "-c", ALSO_AT) == "0\n"
        devices.append(world.ip("ha", "route", "get", HOME_ADDRESS).split()[2])
        switched.append(ha.events[-1]["monotonic"])
        time.sleep(0.3)
        mn.wait("registered", after=mn.do("renew"))
        devices.append(world.ip("ha", "route", "get", HOME_ADDRESS).split()[2])
        switched.append(ha.events[-1]["monotonic"])
        time.sleep(0.3)
    assert devices == ["mip0", "mip1"] * 2 and ha.ask("state")["backend"] == "kernel+tun"
    talk.send("\n")
    assert talk.until(lambda: talk.lines != []), talk.stderr.decode()
    asked, *unanswered = map(float, talk.lines[0].split())
    assert asked > 60 and not unanswered, (asked, unanswered, switched)


PROCESS = f"""
import sys
from ipaddress import IPv4Address, IPv4Network
from testbed.mobileip.core.api import TunnelEnd
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.tunnel.api import Side, Tunnel
from testbed.mobileip.tunnel.tun import TunPlane
from testbed.mobileip.wire.encapsulation import Encapsulation
netlink = Netlink()
plane = TunPlane(Side.HOME, netlink)
netlink.set_link("mip0", up=True, mtu=1400)
end = TunnelEnd(IPv4Address("{CARE_OF_HOTEL}"), (Encapsulation(sys.argv[1]), Encapsulation.IP_IN_IP))
device = plane.set(Tunnel(IPv4Address("{HOME_ADDRESS}"), IPv4Address("{HOME_AGENT}"), (end,)))
netlink.set_route(IPv4Network("{HOME_ADDRESS}/32"), device)
print("ready", flush=True)
sys.stdin.read()
netlink.clean()
plane.close()
"""


@pytest.mark.parametrize(
    ("kind", "encapsulation"),
    [
        pytest.param("ipip", "ip-in-ip", marks=pytest.mark.kernel("ipip")),
        pytest.param("gre", "gre", marks=pytest.mark.kernel("gre")),
    ],
)
def test_devices_of_linux_are_peers_of_the_process(world: World, kind: str, encapsulation: str) -> None:
    world.to_hotel()
    ours = world.start_program("ha", "python3", "-c", PROCESS, encapsulation)
    assert ours.until(lambda: ours.lines == ["ready"]), ours.stderr.decode()
    world.ip("ha", "neigh", "add", "proxy", HOME_ADDRESS, "dev", "home")
    ends = ("local", CARE_OF_HOTEL, "remote", HOME_AGENT, "ttl", "64")
    world.ip("mn", "link", "add", "peer0", "type", kind, *ends)
    try:
        world.ip("mn", "addr", "add", f"{HOME_ADDRESS}/32", "dev", "peer0")
        world.ip("mn", "link", "set", "peer0", "up")
        world.ip("mn", "route", "add", f"{CN}/32", "dev", "peer0", "src", HOME_ADDRESS)
        assert world.ping("mn", CN, HOME_ADDRESS)
        assert world.ping("cn", HOME_ADDRESS)
        world.run("cn", "iperf3", "--server", "--daemon")
        capture = world.capture("ha", "ha-link")
        for way in ((), ("--reverse",)):
            client = ("--client", CN, "--bind", HOME_ADDRESS, "--time", "1", "--bitrate", "20M")
            done = json.loads(world.run("mn", "iperf3", *client, "--json", *way))["end"]["sum_received"]
            # Were checksums wrong, or superpackets lost, TCP would carry nothing.
            assert done["bytes"] > 100_000, done
        world.end_captures()
        check_packets(capture, f"ip.src == {CARE_OF_HOTEL} && frame.len > 3000")  # the link segments them
    finally:
        world.execute("cn", "pkill", "iperf3")
        world.ip("mn", "link", "del", "peer0")
        world.ip("ha", "neigh", "del", "proxy", HOME_ADDRESS, "dev", "home")


def test_through_a_foreign_agent(world: World) -> None:
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    captures = [world.capture("fa", "fa-link"), world.capture("mn", "hotspot")]
    # A stranger on the link, and this mobile node before it is registered, are forwarded for by nobody.
    world.ip("mn", "addr", "add", "198.51.100.9/26", "dev", "hotspot")
    world.ip("mn", "route", "add", "default", "via", FA, "dev", "hotspot")
    assert world.ping("mn", FA, "198.51.100.9")
    assert not world.ping("mn", CN, "198.51.100.9", seconds=0.5)
    assert not world.ping("mn", CN, HOME_ADDRESS, seconds=0.5)
    world.ip("mn", "addr", "del", "198.51.100.9/26", "dev", "hotspot")

    before = mn.do("discover", interface="hotspot")
    registered = mn.wait("registered", after=before)
    assert (registered["mode"], registered["care_of"], registered["agent"]) == (
        "foreign-agent",
        CARE_OF_FA,
        FA,
    )
    assert world.both_ways()
    state = fa.ask("state")
    assert state["counters"]["solicitations-received"] > 0  # sent to 224.0.0.11
    assert [visitor["home_address"] for visitor in state["visitors"]] == [HOME_ADDRESS]
    assert state["tunnel"]["encapsulated"] > 0
    assert state["tunnel"]["decapsulated"] > 0
    neighbours = world.ip("fa", "neigh", "show", HOME_ADDRESS)
    assert "PERMANENT" in neighbours
    assert state["visitors"][0]["link_address"] in neighbours

    before = mn.do("deregister")
    mn.wait("deregistered", after=before)
    assert not world.ping("mn", CN, HOME_ADDRESS, seconds=0.5)
    assert world.ip("fa", "neigh", "show", HOME_ADDRESS) == ""
    assert "from 192.0.2.100" not in world.ip("fa", "rule")
    world.end_captures()
    check_packets(captures[0], "mip")
    arp_by_mn = "arp && eth.dst == ff:ff:ff:ff:ff:ff && arp.src.proto_ipv4 == 192.0.2.100"
    arp_for_mn = "arp.opcode == 1 && arp.dst.proto_ipv4 == 192.0.2.100"
    # RFC 5944 §4.6, §4.2.2: never while away from home.
    check_packets(captures[1], "mip", "icmp.type == 9", never=[arp_by_mn, arp_for_mn])


def test_either_agent_revokes_a_registration(world: World) -> None:
    """RFC 3543, by the operator's command; the mobile node learns it and registers again."""
    for role, peer, address in (
        ("home-agent", "foreign-agent", CARE_OF_FA),
        ("foreign-agent", "home-agent", HOME_AGENT),
    ):
        security = f'[[security]]\n{peer} = "{address}"\nspi = 600\nkey = "{KEY}"\n'
        text = textwrap.dedent(CONFIG[role]) + security
        world.configure(role, f"revocation = true\n{text}" if role == "foreign-agent" else text)
    ha, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    capture = world.capture("ha", "ha-link")
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert ha.ask("revoke", home_address="192.0.2.101")["error"] == "192.0.2.101 has no binding"
    for by, other, event in ((ha, fa, "visitor-revoked"), (fa, ha, "binding-revoked")):
        before, at_mn = len(other.events), len(mn.events)
        since = by.do("revoke", home_address=HOME_ADDRESS)
        other.wait(event, after=before, home_address=HOME_ADDRESS)
        by.wait("revocation-acknowledged", after=since)
        mn.wait("agent-rebooted", after=at_mn)
        mn.wait("registered", after=at_mn)
        assert world.ping("mn", CN, HOME_ADDRESS)
    world.end_captures()
    ways = ((7, HOME_AGENT), (15, CARE_OF_FA), (7, CARE_OF_FA), (15, HOME_AGENT))
    assert counted(capture, *(f"mip.type == {kind} && ip.src == {end}" for kind, end in ways)) == [1] * 4
    check_packets(capture, "mip.ext.rev.i == 1")


def test_a_home_address_is_assigned_to_an_nai(world: World) -> None:
    """Through a foreign agent and at home, from 0.0.0.0; with nonces and HMAC-SHA-256, read by tshark."""
    key, nai = f'key = "{KEY}"', "mn@example.net"
    security = f'key = "{KEY * 2}"\nalgorithm = "hmac-sha-256"\nreplay = "nonces"'
    ours = CONFIG["home-agent"].replace(f'mobile-node = "{HOME_ADDRESS}"', f'mobile-node = "{nai}"')
    pool = f'pool = ["{HOME_ADDRESS}/31"]\n[[security]]'
    world.configure("home-agent", ours.replace(key, security).replace("[[security]]", pool))
    ours = CONFIG["mobile-node"].replace(f'home-address = "{HOME_ADDRESS}"', f'nai = "{nai}"')
    world.configure("mobile-node", ours.replace(key, security))
    ha, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    assert mn.ask("state")["home_address"] is None
    world.only_up("hotspot")
    captures = [world.capture("mn", "hotspot"), world.capture("ha", "ha-link")]
    before = mn.do("discover", interface="hotspot")
    assert mn.wait("home-address", after=before)["home_address"] == HOME_ADDRESS
    mn.wait("registered", after=before)
    assert world.both_ways()
    for state, key in ((ha.ask("state"), "bindings"), (fa.ask("state"), "visitors")):
        assert [(each["nai"], each["home_address"]) for each in state[key]] == [(nai, HOME_ADDRESS)]
    mn.stop(signal.SIGKILL)
    mn.start()
    assert HOME_ADDRESS not in world.ip("mn", "addr")
    world.only_up("home")
    before = mn.do("discover", interface="home")
    mn.wait("at-home", after=before)
    mn.wait("deregistered", after=before)
    assert world.ping("cn", HOME_ADDRESS, seconds=0.5)
    assert ha.ask("state")["bindings"] == []
    assert mn.stop() == 0
    assert HOME_ADDRESS not in world.ip("mn", "addr")
    world.end_captures()
    named = [f'mip.type == {kind} && mip.nai == "{nai}"' for kind in (1, 3)]
    asked = "mip.type == 1 && ip.src == 0.0.0.0 && mip.homeaddr == 0.0.0.0"
    granted = f"mip.type == 3 && ip.dst == {HOME_ADDRESS} && mip.homeaddr == {HOME_ADDRESS}"
    check_packets(captures[0], *named, asked, granted)
    for capture in captures[1:]:
        check_packets(capture, *named)


def test_without_reverse_tunnel_packets_go_the_short_way(world: World) -> None:
    world.configure("mobile-node", CONFIG["mobile-node"].replace("reverse-tunnel = true", ""))
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.both_ways()
    counters = mn.ask("state")["tunnel"]
    assert counters["encapsulated"] == 0
    assert counters["decapsulated"] > 0
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    counters = fa.ask("state")["tunnel"]
    assert counters["encapsulated"] == 0
    assert counters["decapsulated"] > 0


def test_the_tunnel_fits_the_path(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert "mtu 1480" in world.ip("mn", "link", "show", world.tunnel("mn"))
    world.ip("mn", "link", "set", "hotel", "mtu", "1400")  # as a device of userspace IPsec has
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert "mtu 1380" in world.ip("mn", "link", "show", world.tunnel("mn"))
    assert world.both_ways()
    # A way narrower than the device knows: what may be fragmented gets through, the rest is refused.
    world.ip("mn", "link", "set", world.tunnel("mn"), "mtu", "1480")
    receiver = world.start_program("cn", "python3", "-S", "-c", RECEIVE)
    assert receiver.until(lambda: receiver.lines == ["ready"])
    refused = world.execute("mn", "python3", "-S", "-c", SEND, "2")  # Don't Fragment
    assert "Message too long" in refused.stderr
    world.run("mn", "python3", "-S", "-c", SEND, "0")
    assert receiver.wait() == 0
    assert receiver.lines == ["ready", "1452"]


def test_a_silent_home_agent_is_told_by_the_foreign_agent(world: World) -> None:
    _, mn = world.start("foreign-agent", "mobile-node")
    world.only_up("hotspot")
    before = mn.do("discover", interface="hotspot")
    mn.wait("reply", after=before, code=82)  # home agent port unreachable
    world.ip("core", "route", "add", "unreachable", f"{HOME_AGENT}/32")
    before = len(mn.events)
    mn.wait("reply", after=before, code=81)  # home agent host unreachable
    world.ip("fa", "route", "flush", "root", "0/0", "proto", "boot")
    before = len(mn.events)
    mn.wait("reply", after=before, code=80, timeout=8)  # home network unreachable


def test_a_walk_home_keeps_a_connection(world: World) -> None:
    ha, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    session = world.start_program("mn", "socat", "-", f"TCP:{CN}:7")
    assert session.says("hotel", "hotel")
    assert world.ping("cn", HOME_ADDRESS)  # so that cn has its link address: the home agent's
    world.only_up("home")
    before = mn.do("discover", interface="home")
    mn.wait("at-home", after=before)
    mn.wait("deregistered", after=before)
    assert session.says("home", "home")
    assert world.ping("cn", HOME_ADDRESS, seconds=0.5)
    assert ha.ask("state")["bindings"] == []
    assert "192.0.2.100/24" in world.ip("mn", "addr", "show", "dev", "home")
    assert "192.0.2.100/32" not in world.ip("mn", "addr")
    assert "lookup 434" not in world.ip("mn", "rule")
    assert world.ip("ha", "neigh", "show", "proxy") == ""
    assert session.says("still", "still")

    world.only_up("hotspot")
    before = mn.do("discover", interface="hotspot")
    mn.wait("registered", after=before)
    assert session.says("hotspot", "hotspot")
    assert world.both_ways()

    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert session.says("back", "back")


@pytest.mark.parametrize("role", ["home-agent", "foreign-agent", "mobile-node"])
def test_a_killed_daemon_recovers(world: World, role: str) -> None:
    _, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    killed = world.daemons[role]
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    killed.stop(signal.SIGKILL)
    killed.start()
    mn.do("detach")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()


@pytest.mark.parametrize("role", ["home-agent", "foreign-agent", "mobile-node"])
def test_nothing_is_left_behind(world: World, role: str) -> None:
    node = PLACES[role]

    def picture() -> list[str]:
        parts = [
            ("rule",),
            ("route", "show", "table", "all"),
            ("neigh", "show", "nud", "permanent"),  # the others are the kernel's own, and come and go
            ("neigh", "show", "proxy"),
            ("addr",),
        ]
        return [world.ip(node, "-4", "-o", *part) for part in parts]

    world.only_up("hotspot")
    before = picture()
    _, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    daemon = world.daemons[role]
    assert daemon.stop() == 0
    assert picture() == before
    assert world.execute(node, "test", "-e", daemon.socket).returncode == 1

    for other in {"home-agent", "foreign-agent", "mobile-node"} - {role}:
        world.daemons[other].stop()
        world.daemons[other].start()
    daemon.start()
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    daemon.stop(signal.SIGKILL)
    daemon.start()
    assert daemon.stop() == 0
    assert picture() == before


def test_a_mobile_node_killed_at_home_leaves_nothing(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.only_up("home")
    mn.wait("at-home", after=mn.do("discover", interface="home"))
    mn.stop(signal.SIGKILL)
    assert "192.0.2.100/24" in world.ip("mn", "addr", "show", "dev", "home")
    mn.start()
    assert "192.0.2.100" not in world.ip("mn", "addr", "show", "dev", "home")
    anchor = "lo" if mn.ask("state")["backend"] == "kernel" else "mip0"
    assert "192.0.2.100/32" in world.ip("mn", "addr", "show", "dev", anchor)
    assert world.ip("mn", "route") == ""


def tunnel_process(world: World, daemon: Daemon) -> str:
    """The process behind the home agent's TUN device."""
    (child,) = world.run("ha", "pgrep", "-P", str(daemon.program.pid)).split()
    return child


@pytest.mark.parametrize("fate", ["KILL", "STOP"])
def test_a_tunnel_process_that_dies_or_hangs_is_replaced(world: World, fate: str) -> None:
    asks_for(world, "minimal")  # no kernel has that: it takes a process
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    ha.wait("binding")  # the reply overtakes it
    before, first = len(ha.events), tunnel_process(world, ha)
    world.run("ha", "kill", f"-{fate}", first)
    ha.wait("tunnel-restarted", after=before)
    assert world.both_ways()
    assert tunnel_process(world, ha) != first
    assert not [event for event in ha.events[before:] if event["event"] == "binding"]


def test_a_daemon_whose_device_is_deleted_ends_and_begins_again_with_its_bindings(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    world.ip("ha", "link", "del", world.tunnel("ha"))
    assert ha.program.wait() == 3
    assert world.ip("ha", "neigh", "show", "proxy") == ""
    ha.start()
    assert world.both_ways()


OTHER_HOME = "192.0.2.101"
"""Another process serves this home address than HOME_ADDRESS."""


def to_all(world: World) -> None:
    """The mobile node broadcasts, through its tunnel, on its home network."""
    send = """import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.bind((sys.argv[1], 9))
s.sendto(b"to all", ("192.0.2.255", 9))"""
    world.run("mn", "python3", "-c", send, HOME_ADDRESS)


def test_a_home_agent_in_several_processes(world: World) -> None:
    """One mobile node of each process, of which one dies; then they are more, and then there is one."""
    text = textwrap.dedent(CONFIG["home-agent"])
    text += text[text.index("[[security]]") :].replace(HOME_ADDRESS, OTHER_HOME)
    broadcasts = CONFIG["mobile-node"].replace("reverse-tunnel", "broadcasts = true\n        reverse-tunnel")

    def processes(number: int) -> None:
        world.configure("home-agent", f"processes = {number}\n{text}")

    def both_both_ways() -> bool:
        second = world.ping("fa", CN, OTHER_HOME) and world.ping("cn", OTHER_HOME)
        return world.both_ways() and second and world.ping("mn", OTHER_HOME, HOME_ADDRESS)

    world.configure("mobile-node", broadcasts)
    processes(2)
    ha, mn = world.start("home-agent", "mobile-node")
    second = world.start_another(
        "second", "mobile-node", "fa", textwrap.dedent(broadcasts).replace(HOME_ADDRESS, OTHER_HOME)
    )
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    world.ip("fa", "rule", "add", "pref", "50", "from", CARE_OF_FA, "lookup", "main")
    second.wait("registered", after=second.do("attach", interface="fa-link", care_of=CARE_OF_FA))
    assert both_both_ways()
    capture = world.capture("fa", "fa-link")
    to_all(world)
    world.end_captures()
    assert counted(capture, 'ip.dst == 192.0.2.255 && frame contains "to all"') == [1]
    state = ha.ask("state")
    assert (state["backend"], state["mobile_nodes"]) == ("tun", 2)
    assert [each["mobile_nodes"] for each in state["processes"]] == [1, 1]
    assert {each["home_address"] for each in state["bindings"]} == {HOME_ADDRESS, OTHER_HOME}
    assert state["tunnel"]["encapsulated"] and state["tunnel"]["decapsulated"]
    assert not any(state["tunnel"][name] for name in ("refused", "malformed", "failed", "loop"))
    assert [event["event"] for event in ha.events].count("ready") == 1
    proxied = world.ip("ha", "neigh", "show", "proxy")
    assert HOME_ADDRESS in proxied and OTHER_HOME in proxied

    children = world.run("ha", "pgrep", "-P", str(ha.program.pid)).split()
    before, registrations = len(ha.events), len(mn.events) + len(second.events)
    world.run("ha", "kill", "-KILL", children[1])
    ha.wait("process-restarted", after=before, process=1)
    ha.wait("binding-restored", after=before, home_address=OTHER_HOME)
    assert both_both_ways()
    for number, restored in ((3, 2), (1, 2)):
        assert ha.stop() == 0
        assert world.ip("ha", "neigh", "show", "proxy") == "" and "mip" not in world.ip("ha", "link")
        processes(number)
        before = len(ha.events)
        ha.start()
        events = [event["event"] for event in ha.events[before:]]
        assert events.count("binding-restored") == restored, events
        assert both_both_ways()
    assert len(mn.events) + len(second.events) == registrations  # nobody had to register again


def test_a_virtual_home_network(world: World) -> None:
    world.configure("home-agent", CONFIG["home-agent"].replace('interface = "home"', ""))
    before = world.ip("ha", "route")
    ha, mn = world.start("home-agent", "mobile-node")
    world.ip("ha", "addr", "flush", "dev", "home")
    world.ip("core", "route", "add", HOME_ADDRESS, "via", HOME_AGENT)
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    assert world.ping("core", HOME_ADDRESS)
    routes = world.ip("ha", "route")
    assert "unreachable 192.0.2.0/24" in routes
    by_process = ha.ask("state")["backend"] == "tun"
    assert (f"{HOME_ADDRESS} dev" in routes) is not by_process
    assert ("\n192.0.2.0/24 dev mip0" in f"\n{routes}") is by_process
    mn.wait("deregistered", after=mn.do("deregister"))
    answer = world.execute("core", "ping", "-n", "-c1", "-W2", HOME_ADDRESS).stdout
    assert f"From {HOME_AGENT}" in answer and "Destination Host Unreachable" in answer
    ha.stop()
    assert "192.0.2" not in world.ip("ha", "route")
    assert "unreachable" not in before


@pytest.mark.parametrize("case", ["alone", "beside IPsec", "beside GRE"])
def test_what_nobody_registered_is_dropped(world: World, case: str) -> None:
    """Beside GRE, what is forged comes in by another device than the one into which packets are routed."""
    if case == "beside IPsec":
        world.configure("home-agent", "ipsec-here = true\n" + textwrap.dedent(CONFIG["home-agent"]))
    if case == "beside GRE":
        asks_for(world, "gre")
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    forge = textwrap.dedent("""
        import socket, struct, sys
        def header(source, destination, protocol, length):
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 1, 0, 64, protocol, 0,
                               socket.inet_aton(source), socket.inet_aton(destination))
            total = sum(struct.unpack("!10H", head))
            return head[:10] + (-total % 0xffff).to_bytes(2, "big") + head[12:]
        for addresses in sys.argv[1:]:
            outer, to, source, destination = addresses.split()
            echo = b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0"
            inner = header(source, destination, 1, len(echo)) + echo
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            s.bind((outer, 0))
            s.sendto(header(outer, to, 4, len(inner)) + inner, (to, 0))
        """)

    def send(node: str, *packets: Sequence[str]) -> None:
        world.run(node, "python3", "-S", "-c", forge, *map(" ".join, packets))

    def refused(daemon: Daemon, outer: str, *inner: str) -> bool:
        """Whether this very datagram was discarded; others that pass meanwhile do not matter."""
        daemon.ask("state")  # the traces so far
        addresses = b"".join(map(inet_aton, inner))
        return any(
            (event["event"], event.get("reason"), event.get("sender")) == ("discarded", "refused", outer)
            and addresses in bytes.fromhex(event["content"])
            for event in daemon.events
        )

    def counted() -> list[int]:
        requests = [icmp(world, node, "InEchos") for node in ("cn", "ha", "mn")]
        return requests + [icmp(world, node, "OutDestUnreachs") for node in ("ha", "mn")]

    before = counted()
    forged = (
        (ha, "core", "203.0.113.1", HOME_AGENT, HOME_ADDRESS, CN),  # not from the care-of address
        (ha, "mn", CARE_OF_HOTEL, HOME_AGENT, "192.0.2.77", CN),  # from no mobile node of ours
        (ha, "mn", CARE_OF_HOTEL, HOME_AGENT, "192.0.2.77", HOME_AGENT),  # and to the agent itself
        (mn, "core", "203.0.113.1", CARE_OF_HOTEL, CN, HOME_ADDRESS),  # not from the home agent
        (mn, "ha", HOME_AGENT, CARE_OF_HOTEL, CN, "192.0.2.77"),  # not for the home address
    )
    for node in ("core", "mn", "ha"):
        send(node, *(addresses for _, sender, *addresses in forged if sender == node))
    time.sleep(0.5)  # a daemon takes the traces of its process every 0.4 s
    for daemon, _, outer, _, *inner in forged:
        # A kernel neither counts nor traces what its rules drop.
        assert daemon.ask("state")["backend"] != "tun" or refused(daemon, outer, *inner)
    assert counted() == before  # nothing arrived, and no error was sent (RFC 5944 §4.2.2)
    sound = [(CARE_OF_HOTEL, HOME_AGENT, HOME_ADDRESS, destination) for destination in (HOME_AGENT, CN)]
    send("mn", *sound)  # what would have arrived
    time.sleep(0.5)
    assert counted()[:2] == [before[0] + 1, before[1] + 1]
    assert not refused(ha, CARE_OF_HOTEL, HOME_ADDRESS, CN)
    if case != "beside IPsec":
        return
    # As a VPN gateway has it whose client's address is the home address: what comes from there still arrives.
    script = f'ip route "$1" {HOME_ADDRESS} dev home table 220; ip rule "$1" pref 220 lookup 220'
    asked = icmp(world, "ha", "InEchos")
    world.run("ha", "sh", "-c", script, "sh", "add")
    try:
        send("mn", *sound)
        time.sleep(0.1)
        assert icmp(world, "ha", "InEchos") == asked + 1
        assert icmp(world, "cn", "InEchos") == before[0] + 2
    finally:
        world.run("ha", "sh", "-c", script, "sh", "delete")


ATTACH = textwrap.dedent("""
    import json, socket, sys, time
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    lines = s.makefile()
    def do(op, until, **fields):
        s.sendall(json.dumps({"op": op, **fields}).encode() + b"\\n")
        events = []
        while until not in events:
            events.append(json.loads(lines.readline()).get("event"))
        return events
    s.sendall(b'{"op": "subscribe"}\\n')
    for _ in range(20):
        begin = time.monotonic()
        events = do("attach", "registered", interface="hotel", care_of=sys.argv[2])
        print(events.count("request-sent"), time.monotonic() - begin)
        do("detach", "detached")
    """)


def test_the_daemon_reacts_at_once(world: World) -> None:
    """No registration waits for a timer: one would keep each of them waiting, a busy machine does not."""
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    shown = world.run("mn", "python3", "-c", ATTACH, mn.socket, CARE_OF_HOTEL)
    requests, took = zip(*(line.split() for line in shown.splitlines()), strict=True)
    assert set(requests) == {"1"}, shown
    assert min(map(float, took)) < 0.030, shown


def test_events_reach_subscribers(world: World) -> None:
    (mn,) = world.start("mobile-node")
    client = world.start_program("mn", "socat", "-", f"UNIX-CONNECT:{mn.socket}")

    def line(number: int) -> dict[str, Any]:
        assert client.until(lambda: len(client.lines) > number), client.lines
        found: dict[str, Any] = json.loads(client.lines[number])
        return found

    client.send('{"op": "subscribe", "id": 7}\nnonsense\n{"op": "fly"}\n{"op": "attach"}\n')
    assert line(0) == {"ok": True, "id": 7}
    for number, text in enumerate(
        ("not JSON", "there are attach, deregister, detach, detect, discover", "'interface' must be"), 1
    ):
        assert not line(number)["ok"]
        assert text in line(number)["error"]
    assert not mn.ask("attach", interface="hotel", care_of=HOME_ADDRESS)["ok"]
    assert not mn.ask("discover", interface="nowhere")["ok"]
    world.only_up("hotspot")
    mn.do("detach")
    event = line(4)
    assert event["event"] == "detached"
    assert event["source"] == "mobile-node"
    assert isinstance(event["monotonic"], float)


def test_wrong_configurations_end_with_4(world: World, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('home-adress = "192.0.2.100"\n')
    command = [sys.executable, "-m", "testbed.mobileip", "mobile-node", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr


# -- several daemons in one node --------------------------------------------------------------------------

SECOND = 'device = "mipb"\nprotocol = 144\ntable = 500\n'
INSIDE, INNER_AGENT = "10.9.9.100", "192.0.2.1"
INNER_HOME = f"""
    device = "mipb"
    protocol = 144
    share-port = true
    address = "{INNER_AGENT}"
    [home]
    prefix = "10.9.9.0/24"
    [[security]]
    mobile-node = "{INSIDE}"
    spi = 300
    key = "aabb"
    """
INNER_NODE = f"""
    {SECOND}
    name = "inner"
    port = 5434
    home-address = "{INSIDE}"
    home-prefix = "10.9.9.0/24"
    home-agent = "{INNER_AGENT}"
    reverse-tunnel = true
    mip-rule-preference = 240
    [security]
    spi = 300
    key = "aabb"
    """


def test_a_second_daemon_that_cannot_start_touches_nothing(world: World) -> None:
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    before = [
        world.ip("mn", *words) for words in (("rule",), ("route", "show", "table", "434"), ("-br", "addr"))
    ]
    for text, complaint in (
        (CONFIG["mobile-node"], "the name mipN of tunnel devices is in use by process"),
        (f"{SECOND}{CONFIG['mobile-node']}", "UDP port 434: Address already in use"),
    ):
        world.configure("second", textwrap.dedent(text) if text[0].isspace() else text, "mn")
        done = world.execute(
            "mn", "python3", "-m", "testbed.mobileip", "mobile-node", "--config", "/run/testbed/second.toml"
        )
        assert done.returncode == 3 and complaint in done.stderr, done.stderr
    after = [
        world.ip("mn", *words) for words in (("rule",), ("route", "show", "table", "434"), ("-br", "addr"))
    ]
    assert after == before
    assert world.both_ways()


def test_a_mobile_node_inside_another_has_its_own_home_agent_in_the_same_node(world: World) -> None:
    """Two daemons of a kind on both sides, as RFC 5265 needs them: an inner tunnel inside an outer one."""
    world.configure("home-agent", f"share-port = true\n{textwrap.dedent(CONFIG['home-agent'])}")
    outer = textwrap.dedent(CONFIG["mobile-node"]).replace(
        "mip-rule-preference", 'mip-rule-from = "home-address"\nmip-rule-preference'
    )
    world.configure("mobile-node", outer)
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    world.start_another("inner-agent", "home-agent", "ha", INNER_HOME)
    inner = world.start_another("inner-node", "mobile-node", "mn", INNER_NODE)
    capture = world.capture("ha", "ha-link")
    before = inner.do("attach", interface=world.tunnel("mn"), care_of=HOME_ADDRESS)
    assert inner.wait("registered", after=before)["source"] == "inner"
    assert world.ping("mn", CN, INSIDE) and world.ping("cn", INSIDE)
    assert world.ping("mn", CN, HOME_ADDRESS) and world.ping("cn", HOME_ADDRESS)
    world.end_captures()
    check_packets(capture, f"ip.proto == 4 && ip.src == {INSIDE} && icmp.type == 8")
    assert inner.stop() == 0
    assert "lookup 500" not in world.ip("mn", "rule")
    assert world.ping("mn", CN, HOME_ADDRESS) and not world.ping("cn", INSIDE, seconds=0.3)


def test_home_and_foreign_agent_in_one_node_at_one_address(world: World) -> None:
    home, visitor = "10.8.8.0/24", "10.8.8.100"
    world.configure(
        "beside",
        f"""
        share-port = true
        foreign-agents-here = "{CARE_OF_FA}"
        address = "{CARE_OF_FA}"
        [home]
        prefix = "{home}"
        [[security]]
        mobile-node = "{visitor}"
        spi = 256
        key = "aabb"
        """,
        "fa",
    )
    both = (
        f'{SECOND.replace("144", "145")}share-port = true\nport = 4434\nhome-agents-here = "{CARE_OF_FA}"\n'
    )
    world.configure("foreign-agent", both + textwrap.dedent(CONFIG["foreign-agent"]))
    world.configure(
        "mobile-node",
        f"""
        home-address = "{visitor}"
        home-prefix = "{home}"
        home-agent = "{CARE_OF_FA}"
        reverse-tunnel = true
        [security]
        spi = 256
        key = "aabb"
        """,
    )
    world.ip("core", "route", "replace", home, "via", CARE_OF_FA)
    ha = world.daemons["beside"] = Daemon(world, "home-agent", "beside", "fa")
    _, mn = world.start("foreign-agent", "mobile-node")
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert ha.ask("state")["bindings"][0]["care_of_addresses"] == [CARE_OF_FA]
    assert world.ping("mn", CN, visitor) and world.ping("cn", visitor)
