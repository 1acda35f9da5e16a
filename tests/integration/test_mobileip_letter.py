"""Rules of RFC 5944 that only packets on a link show: the daemons in a lab, tcpdump and tshark as judges."""

from __future__ import annotations

import subprocess
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from mobileip_world import (
    CARE_OF_FA,
    CARE_OF_HOTEL,
    CN,
    CONFIG,
    FA,
    HOME_ADDRESS,
    HOME_AGENT,
    PLACES,
    World,
    check_packets,
)

AT_HOTSPOT = "198.51.100.9"
IKE = Path(__file__).parents[1] / "unit/lab/charon/gw-internet.pcap"
"""Messages of IKE and packets of ESP, and nothing of Mobile IP."""
EVERYBODY = ("255.255.255.255", "192.0.2.255")
WITH_BROADCASTS = CONFIG["mobile-node"].replace("reverse-tunnel", "broadcasts = true\n        reverse-tunnel")

FRAME = textwrap.dedent("""
    import socket, struct, sys
    def checksum(data):
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        return (-total % 0xffff).to_bytes(2, "big")
    def header(source, destination, protocol, length):
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 1, 0, 255, protocol, 0,
                           socket.inet_aton(source), socket.inet_aton(destination))
        return head[:10] + checksum(head) + head[12:]
    def frame(interface, to, sender, kind, packet):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        s.bind((interface, 0))
        ours = s.getsockname()[4] if sender == "own" else bytes.fromhex(sender.replace(":", ""))
        s.send(bytes.fromhex(to.replace(":", "")) + ours + kind.to_bytes(2, "big") + packet)
    """)
PROBE = FRAME + textwrap.dedent("""
    interface, target = sys.argv[1:]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((interface, 0))
    packet = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, s.getsockname()[4], bytes(4), bytes(6),
                         socket.inet_aton(target))
    frame(interface, "ff:ff:ff:ff:ff:ff", "own", 0x806, packet)
    """)
PING = FRAME + textwrap.dedent("""
    interface, to, sender, source, destination = sys.argv[1:]
    echo = b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0"
    frame(interface, to, sender, 0x800, header(source, destination, 1, len(echo)) + echo)
    """)
REQUEST = FRAME + textwrap.dedent("""
    interface, to, destination, source, check = [*sys.argv[1:], "0.0.0.0", "0"][:5]
    home_agent, care_of = socket.inet_aton("203.0.113.2"), socket.inet_aton("203.0.113.6")
    request = bytes((1, 0, 0, 100)) + bytes(4) + home_agent + care_of
    request += bytes(range(8)) + bytes((32, 20)) + (256).to_bytes(4, "big") + bytes(16)
    udp = struct.pack("!HHHH", 5434, 434, 8 + len(request), int(check)) + request
    frame(interface, to, "own", 0x800, header(source, destination, 17, len(udp)) + udp)
    """)
ANNOUNCE = textwrap.dedent("""
    import socket, sys
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"home")
    for address in sys.argv[1:]:
        s.sendto(b"to " + address.encode(), (address, 9))
    """)
LISTEN = textwrap.dedent("""
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 9))
    s.settimeout(20)
    print("ready", flush=True)
    while True:
        data, (sender, _) = s.recvfrom(2000)
        print(sender, data.decode(), flush=True)
    """)


def fields(file: Path, display: str, *names: str) -> list[list[str]]:
    """What tshark reads in the packets that `display` selects."""
    columns = [part for name in names for part in ("-e", name)]
    command = ["tshark", "-r", str(file), "-Y", display, "-T", "fields", "-E", "occurrence=a", *columns]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [line.split("\t") for line in lines]


def test_what_a_capture_lacks_is_noticed() -> None:
    check_packets(IKE, "isakmp", never=["mip"])
    for there, never in ((["isakmp", "mip"], []), (["isakmp"], ["esp"])):
        with pytest.raises(AssertionError):
            check_packets(IKE, *there, never=never)


def gaps(file: Path, display: str) -> list[float]:
    """Seconds between the packets that `display` selects."""
    times = [float(time) for (time,) in fields(file, display, "frame.time_epoch")]
    return [after - before for before, after in pairwise(times)]


def python(world: World, node: str, script: str, *arguments: str) -> None:
    world.run(node, "python3", "-c", script, *arguments)


def link_address(world: World, node: str, interface: str) -> str:
    return world.run(node, "cat", f"/sys/class/net/{interface}/address").strip()


def to_hotspot(world: World) -> None:
    """With an address of its own on the foreign agent's link, and the agent as router."""
    world.only_up("hotspot")
    world.ip("mn", "addr", "replace", f"{AT_HOTSPOT}/26", "dev", "hotspot")
    world.ip("mn", "route", "replace", "default", "via", FA, "dev", "hotspot", "table", "100")
    if "lookup 100" not in world.ip("mn", "rule"):
        world.ip("mn", "rule", "add", "pref", "50", "from", AT_HOTSPOT, "lookup", "100")
    world.ip("core", "route", "replace", "198.51.100.0/26", "via", CARE_OF_FA)


@pytest.mark.parametrize("required", ["true", "false"])
def test_a_co_located_mobile_node_is_forwarded_for(world: World, required: str) -> None:
    """§4.2.2: what a registered mobile node tunnels itself, and what it sends untunnelled."""
    world.configure(
        "foreign-agent", CONFIG["foreign-agent"] + f"[advertisement]\nregistration-required = {required}"
    )
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    to_hotspot(world)
    capture = world.capture("mn", "hotspot")
    if required == "true":
        assert not world.ping("mn", CN, AT_HOTSPOT, seconds=0.5)
    before = mn.do("attach", interface="hotspot", care_of=AT_HOTSPOT)
    registered = mn.wait("registered", after=before)
    if required == "true":  # the first may have gone directly, before the agent was heard
        registered = mn.wait("registered", after=before, agent=FA)
        assert [each["care_of"] for each in fa.ask("state")["visitors"]] == [AT_HOTSPOT]
    assert registered["mode"] == "co-located"
    mn.wait("agent-advertisement", after=before, agent=FA)
    assert world.both_ways()
    assert world.ping("mn", CN, AT_HOTSPOT)
    assert world.ip("fa", "neigh", "show", AT_HOTSPOT).count("PERMANENT") == (required == "true")
    world.end_captures()
    code = "16" if required == "true" else "0"  # §2.1: whether common traffic is routed
    assert {code} == {each for (each,) in fields(capture, "icmp.type == 9", "icmp.code")}
    assert fields(
        capture, f"ip.src == {AT_HOTSPOT} && ip.dst == {HOME_AGENT} && ip.proto == 4", "frame.number"
    )


def test_arp_probes_for_a_home_address_are_answered_while_it_is_registered(world: World) -> None:
    """§4.6 with RFC 5227 §2.1.1: nobody else may take the address."""
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    captures = [world.capture("cn", "home")]
    python(world, "cn", PROBE, "home", HOME_ADDRESS)
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    world.end_captures()
    answers = f"arp.opcode == 2 && arp.src.proto_ipv4 == {HOME_ADDRESS} && arp.dst.proto_ipv4 == 0.0.0.0"
    assert fields(captures[0], "arp.opcode == 1 && arp.src.proto_ipv4 == 0.0.0.0", "frame.number")
    assert not fields(captures[0], answers, "arp.src.hw_mac")
    captures.append(world.capture("cn", "home"))
    python(world, "cn", PROBE, "home", HOME_ADDRESS)
    python(world, "cn", PROBE, "home", "192.0.2.77")
    world.end_captures()
    ours, theirs = link_address(world, "ha", "home"), link_address(world, "cn", "home")
    assert fields(captures[1], answers, "arp.src.hw_mac", "arp.dst.hw_mac", "eth.dst") == [
        [ours, theirs, theirs]
    ]
    assert not fields(captures[1], "arp.opcode == 2 && arp.src.proto_ipv4 == 192.0.2.77", "frame.number")
    mn.wait("deregistered", after=mn.do("deregister"))
    captures.append(world.capture("cn", "home"))
    python(world, "cn", PROBE, "home", HOME_ADDRESS)
    world.end_captures()
    assert not fields(captures[2], answers, "arp.src.hw_mac")


def test_a_second_passes_between_requests_on_the_link(world: World) -> None:
    """§3.6.3: also where ARP holds the first one back."""
    (mn,) = world.start("mobile-node")
    world.to_hotel()
    capture = world.capture("mn", "hotel")
    world.ip("core", "link", "set", "hotel", "arp", "off")
    world.ip("core", "neigh", "flush", "dev", "hotel")
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    mn.wait("request-sent", after=before)
    world.run("core", "sh", "-c", "sleep 0.4; ip link set hotel arp on")
    mn.program.until(lambda: False, 6.0)
    world.end_captures()
    seen = gaps(capture, "mip.type == 1 && !icmp")
    assert len(seen) >= 2
    assert 1.0 <= seen[0] < 1.5, seen  # from the departure on, and not from when ARP would have given up
    assert all(after >= 1.9 * gap for gap, after in pairwise(seen)), seen


def test_a_second_passes_before_a_repair(world: World) -> None:
    """§3.6.3 and §3.6.2.3: every request is refused with code 133 here, as no clock is that exact."""
    world.configure("home-agent", CONFIG["home-agent"] + "[replay]\ntolerance = 0.000001")
    _, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    capture = world.capture("mn", "hotel")
    before = mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL)
    mn.wait("reply", after=before, code=133)
    mn.program.until(lambda: False, 5.0)
    world.end_captures()
    seen = gaps(capture, "mip.type == 1 && !icmp")
    assert len(seen) >= 2
    assert min(seen) >= 1.0, seen


def test_a_request_from_nowhere_to_the_agents_own_address_is_answered(world: World) -> None:
    """§3.7.1, RFC 2794 §3: IP itself drops a unicast datagram from 0.0.0.0."""
    (fa,) = world.start("foreign-agent")
    world.only_up("hotspot")
    capture = world.capture("mn", "hotspot")
    python(world, "mn", REQUEST, "hotspot", link_address(world, "fa", "hotspot"), FA)
    assert fa.wait("denied")["code"] == 96
    python(world, "mn", REQUEST, "hotspot", link_address(world, "fa", "hotspot"), "198.51.100.44")
    assert fa.wait("discarded")["reason"] == "not-for-us"
    world.end_captures()
    replies = fields(capture, "mip.type == 3", "mip.code", "ip.src", "ip.dst", "udp.dstport", "eth.dst")
    assert replies == [["96", FA, "255.255.255.255", "5434", link_address(world, "mn", "hotspot")]]


@pytest.mark.parametrize("role", ["foreign-agent", "home-agent"])
def test_a_wrong_udp_checksum_is_a_reason_to_discard(world: World, role: str) -> None:
    """§3.1, §3.7.2.1, §3.8.2.1; a checksum of 0 is none at all."""
    (agent,) = world.start(role)
    asking, link, address, there = {
        "foreign-agent": ("mn", "hotspot", FA, AT_HOTSPOT),
        "home-agent": ("cn", "home", "192.0.2.1", CN),
    }[role]
    if role == "foreign-agent":
        world.only_up("hotspot")
    to = link_address(world, PLACES[role], link)
    python(world, asking, REQUEST, link, to, address, there, "4660")
    python(world, asking, REQUEST, link, to, address, there, "0")
    assert agent.program.until(lambda: agent.ask("state")["counters"]["requests-received"] > 0)
    assert agent.ask("state")["counters"]["requests-received"] == 1


def test_only_a_visitors_link_address_may_use_its_reverse_tunnel(world: World) -> None:
    """RFC 3024 §6.1: another station on the link sends from the visitor's address."""
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    capture = world.capture("cn", "home")
    agent = link_address(world, "fa", "hotspot")
    tunnelled = fa.ask("state")["tunnel"]["encapsulated"]
    python(world, "mn", PING, "hotspot", agent, "02:00:00:00:00:66", HOME_ADDRESS, "192.0.2.10")
    mn.program.until(lambda: False, 0.3)
    assert fa.ask("state")["tunnel"]["encapsulated"] == tunnelled
    python(world, "mn", PING, "hotspot", agent, "own", HOME_ADDRESS, "192.0.2.10")
    mn.program.until(lambda: False, 0.3)
    world.end_captures()
    assert len(fields(capture, f"icmp.type == 8 && ip.src == {HOME_ADDRESS}", "frame.number")) == 1
    mn.wait("deregistered", after=mn.do("deregister"))
    assert "elements" not in world.run("fa", "nft", "list", "table", "ip", "mobileip_hotspot")


@pytest.mark.parametrize("through", ["hotel", "hotspot"])
def test_broadcasts_of_the_home_network_reach_a_node_away(world: World, through: str) -> None:
    """§4.3: directed and limited; with the D bit tunnelled directly, else nested to the home address."""
    world.configure("mobile-node", WITH_BROADCASTS)
    roles = ["home-agent", *(["foreign-agent"] if through == "hotspot" else []), "mobile-node"]
    *_, mn = world.start(*roles)
    if through == "hotel":
        world.to_hotel()
        mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    else:
        world.only_up("hotspot")
        mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    captures = [world.capture("ha", "ha-link"), world.capture("mn", through)]
    listener = world.start_program("mn", "python3", "-S", "-c", LISTEN)
    assert listener.until(lambda: listener.lines == ["ready"])
    python(world, "cn", ANNOUNCE, *EVERYBODY)
    assert listener.until(lambda: len(listener.lines) == 3, 10.0), listener.lines
    assert listener.lines[1:] == [f"{CN} to {address}" for address in EVERYBODY]
    assert world.both_ways()
    world.end_captures()
    care_of = CARE_OF_HOTEL if through == "hotel" else CARE_OF_FA
    display = 'udp.dstport == 9 && udp.payload contains "to "'
    for address, (outer, protocols) in zip(
        EVERYBODY, fields(captures[0], display, "ip.dst", "ip.proto"), strict=True
    ):
        nested = [] if through == "hotel" else [HOME_ADDRESS]
        assert outer.split(",") == [care_of, *nested, address]
        assert protocols.split(",") == ["4"] * (1 + len(nested)) + ["17"]
    if through == "hotspot":  # the agent has not unpacked it, and has not broadcast it
        on_link = fields(captures[1], display, "ip.dst", "eth.dst")
        mac = link_address(world, "mn", "hotspot")
        assert on_link == [[f"{HOME_ADDRESS},{address}", mac] for address in EVERYBODY]
    check_packets(captures[0], never=[f"{display} && udp.checksum.status == 0"])


def test_nobody_else_gets_broadcasts(world: World) -> None:
    ha, mn = world.start("home-agent", "mobile-node")
    world.to_hotel()
    mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    capture = world.capture("ha", "ha-link")
    python(world, "cn", ANNOUNCE, *EVERYBODY)
    assert world.both_ways()
    world.end_captures()
    assert ha.ask("state")["counters"]["broadcasts-forwarded"] == 0
    assert not fields(capture, 'udp.payload contains "to "', "frame.number")


ENCAPSULATING = CONFIG["mobile-node"].replace(
    "reverse-tunnel", 'delivery = "encapsulating"\n        broadcasts = true\n        reverse-tunnel'
)


def test_the_encapsulating_delivery_style(world: World) -> None:
    """RFC 3024 §5.2 to §5.4: only what is encapsulated is reverse-tunnelled; broadcasts can be."""
    world.configure("mobile-node", ENCAPSULATING)
    _, fa, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    world.only_up("hotspot")
    captures = [world.capture("mn", "hotspot"), world.capture("ha", "ha-link")]
    mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    assert world.both_ways()
    assert [each["delivery"] for each in fa.ask("state")["visitors"]] == ["encapsulating"]
    tunnelled = fa.ask("state")["tunnel"]["encapsulated"]
    assert world.ping("mn", FA, HOME_ADDRESS)  # local, and so direct
    agent = link_address(world, "fa", "hotspot")
    python(world, "mn", PING, "hotspot", agent, "own", HOME_ADDRESS, CN)
    python(world, "mn", PING, "hotspot", agent, "02:00:00:00:00:66", HOME_ADDRESS, CN)
    assert fa.ask("state")["tunnel"]["encapsulated"] == tunnelled
    assert "ime to live" in world.execute("mn", "ping", "-c1", "-W1", "-t1", "-I", HOME_ADDRESS, CN).stdout
    world.end_captures()
    assert fields(captures[0], "mip.type == 1", "mip.ext.type")[0][0].split(",") == ["32", "130"]
    assert {each for (each,) in fields(captures[1], "mip.type == 1", "mip.ext.type")} == {"32"}
    for number, ends in enumerate((f"{HOME_ADDRESS},{HOME_ADDRESS}", f"{CARE_OF_FA},{HOME_ADDRESS}")):
        to = f"{(FA, HOME_AGENT)[number]},{CN}"
        echoes = fields(
            captures[number], f"icmp.type == 8 && ip.proto == 4 && ip.dst == {CN}", "ip.src", "ip.dst"
        )
        assert [ends, to] in echoes
    check_packets(captures[0], f"icmp.type == 11 && ip.src == {FA}")
    check_packets(captures[1])
    direct = fields(captures[1], f"icmp.type == 8 && ip.src == {HOME_ADDRESS} && !(ip.proto == 4)", "ip.dst")
    assert direct == [[CN]]  # what came as it was: by ordinary routes, and from its own link address alone


GROUP = "239.1.2.3"
MEMBER = textwrap.dedent(f"""
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 9))
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("{GROUP}") + bytes(4))
    s.settimeout(20)
    print("ready", flush=True)
    while True:
        data, (sender, _) = s.recvfrom(2000)
        print(sender, data.decode(), flush=True)
    """)
TO_GROUP = textwrap.dedent(f"""
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    s.sendto(b"from away", ("{GROUP}", 9))
    """)


@pytest.mark.parametrize("through", ["hotel", "hotspot"])
def test_multicast_both_ways_by_the_home_agent(world: World, through: str) -> None:
    """§4.4: IGMP in the tunnel, and the group's datagrams in it, with a TTL of 1; RFC 3024 §5.3."""
    world.configure("mobile-node", ENCAPSULATING)
    ha, _, mn = world.start("home-agent", "foreign-agent", "mobile-node")
    if through == "hotel":
        world.to_hotel()
        mn.wait("registered", after=mn.do("attach", interface="hotel", care_of=CARE_OF_HOTEL))
    else:
        world.only_up("hotspot")
        mn.wait("registered", after=mn.do("discover", interface="hotspot"))
    captures = [world.capture("ha", "ha-link"), world.capture("cn", "home")]
    members = [world.start_program(node, "python3", "-S", "-c", MEMBER) for node in ("mn", "cn")]
    assert all(member.until(lambda member=member: member.lines == ["ready"]) for member in members)
    joined = ha.wait("group-joined")
    assert (joined["home_address"], joined["group"]) == (HOME_ADDRESS, GROUP)
    python(world, "cn", ANNOUNCE, GROUP)
    assert members[0].until(lambda: members[0].lines[1:] == [f"{CN} to {GROUP}"], 10.0), members[0].lines
    python(world, "mn", TO_GROUP)
    sent = f"{HOME_ADDRESS} from away"
    assert members[1].until(lambda: members[1].lines[-1] == sent, 10.0), members[1].lines
    members[0].stop()
    ha.wait("group-left")
    python(world, "cn", ANNOUNCE, GROUP)
    assert world.both_ways()
    assert len(members[0].lines) == 2
    world.end_captures()
    care_of = CARE_OF_HOTEL if through == "hotel" else CARE_OF_FA
    nested = [] if through == "hotel" else [HOME_ADDRESS]
    (ends,) = fields(captures[0], f'ip.src == {CN} && udp.payload contains "to "', "ip.dst")
    assert ends[0].split(",") == [care_of, *nested, GROUP]
    check_packets(captures[0], f"igmp && ip.src == {care_of} && ip.dst == {HOME_AGENT}")
    check_packets(captures[1], "igmp && ip.src == 192.0.2.1")  # the home agent, as a member
    ttl = fields(captures[1], f'ip.src == {HOME_ADDRESS} && udp.payload contains "away"', "ip.ttl", "eth.dst")
    assert ttl == [["1", "01:00:5e:01:02:03"]]
