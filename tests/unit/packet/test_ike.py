"""Counting IKE exchanges and ESP associations in raw packets."""

import struct
import subprocess
from ipaddress import IPv4Address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.packet import ike as ike_module
from testbed.packet.ike import EXCHANGES
from testbed.packet.pcap import RAW_IP, Frame, read_capture, write_pcap

INIT, AUTH = EXCHANGES["IKE_SA_INIT"], EXCHANGES["IKE_AUTH"]
GATEWAY, CLIENT = "203.0.113.2", "198.51.100.70"


def ip(protocol, payload, source=CLIENT, destination=GATEWAY, options=b"", offset=0):
    first, length = 0x45 + len(options) // 4, 20 + len(options) + len(payload)
    header = struct.pack("!BBHHHBBH", first, 0, length, 0, offset // 8, 64, protocol, 0)
    return header + IPv4Address(source).packed + IPv4Address(destination).packed + options + payload


def udp(payload, port=500, **keys):
    return ip(17, struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload, **keys)


def ike(exchange, number=0, spi=1, response=False, initiator=True):
    flags = (0x20 if response else 0) | (0x08 if initiator else 0)
    return struct.pack("!QQBBBBII", spi, 0, 33, 0x20, exchange, flags, number, 28)


def frames(packets):
    return [Frame(0, RAW_IP, packet, len(packet)) for packet in packets]


def exchanges(*packets):
    return sorted(one.exchange for one in ike_module.requests(frames(packets)))


def associations(packets):
    return ike_module.associations(frames(packets))


def test_requests_and_not_responses_count():
    assert exchanges(udp(ike(INIT)), udp(ike(INIT, response=True))) == [INIT]


def test_a_retransmission_is_the_same_request():
    assert exchanges(udp(ike(INIT)), udp(ike(INIT)), udp(ike(AUTH, 1)), udp(ike(AUTH, 1))) == [INIT, AUTH]


def test_another_association_is_another_exchange():
    assert exchanges(udp(ike(INIT, spi=1)), udp(ike(INIT, spi=2))) == [INIT, INIT]


def test_behind_the_marker_of_port_4500():
    assert exchanges(udp(bytes(4) + ike(AUTH, 1), port=4500)) == [AUTH]


def test_with_ip_options():
    assert exchanges(udp(ike(INIT), options=bytes(8))) == [INIT]


def test_inside_the_tunnel_of_mobile_ip():
    assert exchanges(ip(4, udp(ike(INIT)))) == [INIT]
    assert exchanges(ip(4, udp(bytes(4) + ike(AUTH, 1), port=4500))) == [AUTH]
    inside = ip(4, ip(50, struct.pack("!II", 7, 1)), destination="203.0.113.3")
    assert associations([inside]) == {(IPv4Address(GATEWAY), 7)}
    assert associations([ip(4, udp(ike(INIT))), ip(4, ip(1, bytes(60)))]) == set()


def test_registrations_are_not_exchanges():
    assert exchanges(ip(4, udp(ike(INIT), port=434))) == []
    assert associations([udp(bytes(4) + ike(AUTH, 1), port=4500)]) == set()


def test_rubbish_is_nothing():
    rubbish = (b"", b"\x45", udp(b""), udp(b"short"), ip(1, bytes(60)), udp(ike(INIT)[:-1]))
    assert exchanges(*rubbish) == []
    assert associations([b"", bytes(19), ip(50, b"abc")]) == set()


@pytest.mark.timeout(5)
def test_a_packet_that_would_contain_itself_is_nothing():
    endless = bytes([0x40, *bytes(8), 4, *bytes(30)])  # a header of no length, of IP-in-IP
    assert associations([endless, ip(4, endless)]) == set()


def test_later_fragments_have_no_header_to_count():
    assert associations([ip(50, struct.pack("!II", 7, 1), offset=1480)]) == set()
    assert associations([ip(4, ip(50, struct.pack("!II", 7, 1)), offset=1480)]) == set()
    assert exchanges(udp(ike(INIT), offset=1480)) == []


def test_associations_are_pairs_of_destination_and_spi():
    there, back = ip(50, struct.pack("!II", 7, 1)), ip(50, struct.pack("!II", 7, 1), GATEWAY, CLIENT)
    again, encapsulated = ip(50, struct.pack("!II", 7, 2)), udp(struct.pack("!II", 9, 1), port=4500)
    assert associations([there, back, again, encapsulated]) == {
        (IPv4Address(GATEWAY), 7),
        (IPv4Address(CLIENT), 7),
        (IPv4Address(GATEWAY), 9),
    }


# tshark's reading of the same packets


def wrapped(packet, tunnels):
    for number in range(tunnels):
        packet = ip(4, packet, destination=f"203.0.113.{10 + number}")
    return packet


def every_kind():
    """IKE on both ports and ESP bare and in UDP; in no, one and two tunnels; sent again; from both ends."""
    for tunnels, spi in product((0, 1, 2), (5, 6)):
        for exchange, response, initiator in product(EXCHANGES.values(), (False, True), (False, True)):
            message = ike(exchange, number=exchange % 3, spi=spi, response=response, initiator=initiator)
            for _ in range(2):
                yield wrapped(udp(message), tunnels)
                yield wrapped(udp(bytes(4) + message, port=4500), tunnels)
        for destination in (GATEWAY, CLIENT):
            esp = struct.pack("!II", 0x1000 + spi, 1) + bytes(32)
            yield wrapped(ip(50, esp, destination=destination), tunnels)
            yield wrapped(udp(esp, port=4500, destination=destination), tunnels)
    yield udp(b"\xff", port=4500)
    yield udp(bytes(40), port=434)


def tshark(file):
    fields = ("isakmp.ispi", "isakmp.exchangetype", "isakmp.messageid", "isakmp.flags", "ip.dst", "esp.spi")
    command = ["tshark", "-n", "-r", file, "-T", "fields", "-E", "occurrence=l"]
    options = [word for field in fields for word in ("-e", field)]
    out = subprocess.run([*command, *options], capture_output=True, check=True, text=True).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    asked = {
        (int(exchange), int(spi, 16), int(number, 16), bool(int(flags, 16) & 0x08))
        for spi, exchange, number, flags, _, _ in rows
        if spi and not int(flags, 16) & 0x20
    }
    return asked, {(IPv4Address(target), int(spi, 16)) for *_, target, spi in rows if spi}


def counted(captured):
    found = ike_module.requests(captured)
    asked = {(one.exchange, one.initiator_spi, one.number, one.from_initiator) for one in found}
    return asked, ike_module.associations(captured)


def test_tshark_counts_the_same(tmp_path):
    packets = frames(every_kind())
    write_pcap(tmp_path / "a.pcap", RAW_IP, packets)
    asked, used = tshark(tmp_path / "a.pcap")
    assert len(asked) == 16 and len(used) == 4
    captured = read_capture(tmp_path / "a.pcap")
    assert captured == packets and counted(captured) == (asked, used)


def test_a_lost_packet_changes_the_count_and_tshark_agrees(tmp_path):
    packets = frames([udp(ike(INIT)), udp(ike(AUTH, 1)), ip(50, struct.pack("!II", 7, 1) + bytes(32))])
    for lost in range(3):
        left = packets[:lost] + packets[lost + 1 :]
        write_pcap(tmp_path / "a.pcap", RAW_IP, left)
        assert counted(left) == tshark(tmp_path / "a.pcap") != counted(packets)


@given(st.lists(st.binary(max_size=80)), st.sampled_from([RAW_IP, 1, 113, 276, 7]))
def test_what_means_nothing_counts_as_nothing(packets, linktype):
    assert counted([Frame(0, linktype, packet, 1500) for packet in packets]) == (set(), set())
