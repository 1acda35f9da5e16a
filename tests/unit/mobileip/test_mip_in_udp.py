"""GRE and minimal encapsulation in UDP (RFC 3519 §3.3, §4.1 to §4.3, §4.8), as scapy and tshark read them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from socket import inet_aton

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import CARE_OF, HOME_ADDRESS, HOME_AGENT, sent
from scapy.layers.inet import ICMP, IP, UDP, in4_chksum
from scapy.layers.l2 import GRE
from scapy.packet import Raw
from scapy.utils import checksum, wrpcap
from test_mip_encapsulation import addresses, carried, datagrams, few, finished
from test_mip_nat import PUBLIC, Home, Nat

from testbed.mobileip.core.home.admission import Admission
from testbed.mobileip.core.mobile.effects import UseCoLocated
from testbed.mobileip.wire import udp_tunnel
from testbed.mobileip.wire.echo import REQUEST, Echo
from testbed.mobileip.wire.encapsulation import ROOM, Encapsulation
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.in_udp import CARRIERS, GreInUdp, IpInUdp, MinimalInUdp
from testbed.mobileip.wire.minimal import Minimal
from testbed.mobileip.wire.udp_tunnel import TunnelData, UdpTunnelRequest

CN, HA, NAT = "192.0.2.10", "203.0.113.2", "203.0.113.50"
PORT = 40001


def in_udp(carrier, datagram: bytes) -> IP:
    buffer = memoryview(bytearray(ROOM) + datagram)
    made = carrier(inet_aton(HA), inet_aton(NAT), 434, PORT)
    return finished(made.encode(buffer, ROOM, len(datagram)))


@pytest.mark.parametrize("carrier", CARRIERS)
@few
@given(datagram=datagrams)
def test_what_goes_in_comes_out(carrier, datagram):
    packet = in_udp(carrier, datagram)
    assert (packet.src, packet.dst, packet.proto, packet[UDP].sport, packet[UDP].dport) == (
        HA, NAT, 17, 434, PORT,
    )  # fmt: skip
    assert bytes(packet[UDP].payload)[:4] == bytes((4, carrier.next_header, 0, 0))
    segment = bytes(packet[UDP])
    assert (in4_chksum(17, packet, segment), packet[UDP].len) == (0, len(segment))
    assert len(packet) <= len(datagram) + carrier.overhead
    assert bytes(carrier.decode(memoryview(bytes(packet)))) == datagram


@few
@given(datagrams)
def test_gre_in_udp_as_scapy_builds_it(datagram):
    inner = IP(datagram)
    expected = IP(src=HA, dst=NAT, tos=inner.tos, flags="DF", id=0, ttl=64) / UDP(sport=434, dport=PORT)
    expected /= Raw(b"\x04\x2f\0\0" + bytes(GRE(proto=0x0800) / inner))
    assert bytes(in_udp(GreInUdp, datagram)) == bytes(expected)


@few
@given(datagrams)
def test_without_udp_and_message_header_it_is_a_packet_of_minimal_encapsulation(datagram):
    """§4.3, step by step, with the packet that RFC 2004 makes as what has to come out."""
    packet = bytes(in_udp(MinimalInUdp, datagram))
    size = (packet[0] & 15) * 4
    stripped = bytearray(packet[:size] + packet[size + 12 :])
    stripped[9] = packet[size + 9]
    assert bytes(finished(stripped)) == bytes(carried(Minimal, datagram, HA, NAT))


@pytest.mark.parametrize("carrier", CARRIERS)
@given(data=st.binary(max_size=80))
def test_nothing_but_wire_errors_is_raised(carrier, data):
    for packet in (data, b"\x45" + data, bytes(in_udp(carrier, bytes(IP())))[:30] + data):
        try:
            assert len(carrier.decode(memoryview(packet))) >= 20
        except WireError as error:
            assert error.reason in ("malformed", "loop")


@pytest.mark.parametrize("encapsulation", [udp_tunnel.IP_IN_IP, udp_tunnel.GRE, udp_tunnel.MINIMAL])
@few
@given(
    source=addresses.filter(lambda each: each != "0.0.0.0"),
    destination=addresses.filter(lambda each: each != NAT),
)
def test_a_message_of_the_daemon_is_one_of_the_data_plane(encapsulation, source, destination):
    """Keepalives: what one makes the other reads."""
    carrier = next(each for each in CARRIERS if each.next_header == encapsulation)
    inner = bytes(IP(src=source, dst=destination, flags="DF", id=0, ttl=64) / ICMP(id=7, seq=1))
    message = TunnelData.around(encapsulation, inner)
    packet = bytes(IP(src=NAT, dst=HA, flags="DF", id=0) / UDP(sport=PORT, dport=434) / message.encode())
    assert bytes(carrier.decode(memoryview(packet))) == inner
    read = TunnelData.decode(message.encode())
    assert read.datagram(HOME_ADDRESS, HOME_AGENT) == inner


def test_a_damaged_forwarding_header_is_noticed():
    packet = bytearray(bytes(in_udp(MinimalInUdp, bytes(IP(src=CN, dst=HA) / UDP()))))
    packet[20 + 12 + 5] ^= 1
    assert checksum(bytes(packet[32:44])) != 0
    with pytest.raises(WireError, match="malformed"):
        MinimalInUdp.decode(memoryview(bytes(packet)))


def test_tshark_finds_nothing_wrong(tmp_path: Path):
    """It knows all three, and reads what IP carries."""
    datagram = bytes(IP(src=CN, dst=str(HOME_ADDRESS)) / UDP(sport=7, dport=7) / b"data")
    file = tmp_path / "tunnels.pcap"
    wrpcap(str(file), [in_udp(carrier, datagram) for carrier in CARRIERS])
    names = ("mip.nattt.nexthdr", "udp.checksum.status", "_ws.malformed", "ip.dst")
    fields = [part for name in names for part in ("-e", name)]
    checks = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    command = ["tshark", "-n", "-r", str(file), *checks, "-T", "fields", *fields]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == ["4", "47", "55"]
    assert {row[2] for row in rows} == {""}
    assert [row[3] for row in rows] == [f"{NAT},{HOME_ADDRESS}", NAT, NAT]
    assert all(row[1].split(",")[0] == "1" for row in rows)


# Who asks for which


IN_UDP = {
    Encapsulation.GRE: (Encapsulation.GRE_IN_UDP,),
    Encapsulation.MINIMAL: (Encapsulation.MINIMAL_IN_UDP, Encapsulation.UDP),
    Encapsulation.IP_IN_IP: (Encapsulation.UDP,),
}


@pytest.mark.parametrize("asks", IN_UDP)
def test_both_ends_use_it_and_keepalives_are_in_it(asks):
    world = Nat(encapsulation=asks)
    world.attach("hotel", CARE_OF)
    world.run(400)
    assert [each.encapsulations for each in world.ends] == [IN_UDP[asks]]
    assert isinstance(world.use, UseCoLocated)
    assert world.use.home_agent.encapsulations == IN_UDP[asks]
    data = [TunnelData.decode(each) for each in world.wire if each[0] == 4]
    number = {Encapsulation.GRE: 47, Encapsulation.MINIMAL: 55, Encapsulation.IP_IN_IP: 4}[asks]
    assert {each.next_header for each in data} == {number} and len(data) > 4
    assert world.mn.counters["keepalives-answered"] == world.mn.counters["keepalives-sent"]
    assert world.mn.counters["mappings-lost"] == 0


@pytest.mark.parametrize("code", [139, 142])
def test_a_home_agent_without_it_is_asked_for_ip_in_udp(code, monkeypatch):
    """RFC 3519 §4.1: "the mobile node MAY choose to send a new Registration Request"."""
    world = Nat(encapsulation=Encapsulation.GRE, home={"encapsulations": ()})
    if code == 142:  # it does have GRE, only not in UDP
        monkeypatch.setattr(Admission, "check", lambda *_: None)
    world.attach("hotel", CARE_OF)
    world.run(2.5)
    assert world.mn.counters[f"denied-{code}"] == 1
    assert world.use.home_agent.encapsulations == (Encapsulation.UDP,)


@pytest.mark.parametrize("number", [4, 47, 55])
def test_the_first_keepalive_of_a_half_bound_tunnel_has_to_be_in_its_encapsulation(number):
    """§3.3: another Next Header than that of the binding is dropped."""
    home = Home()
    request = UdpTunnelRequest(through_agent=True, encapsulation=number)
    assert home.ask(request, source=PUBLIC, port=434).code == 0
    assert home.ends == ()
    inner = Echo(REQUEST, 7, 1).datagram(HOME_ADDRESS, HOME_AGENT)
    for kind in (4, 47, 55):
        if kind != number:
            home.tunnel_data(TunnelData.around(kind, inner))
            assert home.ends is None
    home.tunnel_data(TunnelData.around(number, inner))
    (end,) = home.ends
    assert (end.remote_port, end.encapsulations[0]) == (
        40009,
        {4: Encapsulation.UDP, 47: Encapsulation.GRE_IN_UDP, 55: Encapsulation.MINIMAL_IN_UDP}[number],
    )
    (answer,) = sent(home.effects)
    assert TunnelData.decode(answer.payload).next_header == number


def test_ip_in_udp_remains_what_it_was():
    assert (IpInUdp.overhead, GreInUdp.overhead, MinimalInUdp.overhead) == (32, 36, 32)
