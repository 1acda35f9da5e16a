"""Unfinished checksums and superpackets, against scapy's own checksums."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mobileip.wire.offload import DEVICE_HEADER, device_header, segments, transport, unfinished

inet = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")
l2 = pytest.importorskip("scapy.layers.l2")

MN, CN, HA, COA = "192.0.2.100", "192.0.2.10", "203.0.113.2", "198.51.100.70"
OPTIONS = [("Timestamp", (5, 6)), ("NOP", None), ("NOP", None)]


def layers(transport_layer):
    return inet.IP(src=MN, dst=CN, id=7, flags="DF", options=inet.IPOption(b"\x94\x04\0\0")) / transport_layer


def left_to_hardware(packet, start):
    """As Linux does it: the sum of the pseudo header, as scapy computes it, in place of the checksum."""
    content = bytearray(bytes(packet))
    inner = packet[inet.TCP] if inet.TCP in packet else packet[inet.UDP]
    protocol = 6 if inet.TCP in packet else 17
    at = start + (16 if protocol == 6 else 6)
    content[at : at + 2] = bytes(2)
    # The checksum of nothing but the pseudo header is the complement of its sum.
    pseudo = ~inet.in4_chksum(protocol, inner.underlayer, b"") & 0xFFFF
    length = len(content) - start
    pseudo = (pseudo + length) % 0xFFFF or 0xFFFF
    content[at : at + 2] = pseudo.to_bytes(2, "big")
    return bytes(content)


DATA = bytes(range(250)) * 10
TCP = layers(inet.TCP(sport=1, dport=2, seq=2**32 - 900, flags="PA", options=OPTIONS) / DATA)
UDP = layers(inet.UDP(sport=1, dport=2) / (b"datagram" * 100))
IN_IP = inet.IP(src=COA, dst=HA, id=40000) / TCP
IN_GRE = inet.IP(src=COA, dst=HA, id=65535) / l2.GRE() / UDP
ALL = {"tcp": (TCP, 24), "udp": (UDP, 24), "in ip": (IN_IP, 44), "in gre": (IN_GRE, 48)}


@pytest.mark.parametrize(("packet", "start"), ALL.values(), ids=ALL)
def test_an_unfinished_checksum_is_recognised(packet, start):
    assert unfinished(left_to_hardware(packet, start)) == start
    assert unfinished(bytes(packet)) == 0
    fragment = bytearray(left_to_hardware(packet, start))
    fragment[6] |= 0x20
    assert unfinished(bytes(fragment)) == 0


@pytest.mark.parametrize(("packet", "start"), ALL.values(), ids=ALL)
def test_what_is_finished_has_the_checksums_of_scapy(packet, start):
    (whole,) = segments(left_to_hardware(packet, start), start)
    assert whole == bytes(packet)


@given(st.binary(max_size=80))
def test_nonsense_is_nothing_unfinished(content):
    assert unfinished(content) in range(len(content) + 1)


def test_no_checksum_is_none_to_finish():
    packet = layers(inet.UDP(sport=1, dport=2, chksum=0) / b"data")
    assert unfinished(bytes(packet)) == 0


@pytest.mark.parametrize("size", [100, 300, 536])
@pytest.mark.parametrize(("packet", "start"), ALL.values(), ids=ALL)
def test_segments_are_what_was_sent(packet, start, size):
    cut = [inet.IP(each) for each in segments(left_to_hardware(packet, start), start, size)]
    layer = inet.TCP if inet.TCP in packet else inet.UDP
    data = bytes(packet[layer].payload)
    assert b"".join(bytes(each[layer].payload) for each in cut) == data
    assert {len(each[layer].payload) for each in cut[:-1]} == {size}
    for number, each in enumerate(cut):
        assert each.id == packet.id + number & 0xFFFF
        assert len(each) == each.len
        again = inet.IP(bytes(each))
        for header in (again, again[layer]):
            del header.chksum
        if again.payload.haslayer(inet.IP):
            del again.payload[inet.IP].chksum
        assert bytes(again) == bytes(each)  # every checksum is the one that scapy computes
    if layer is inet.TCP:
        places = [each[layer].seq - packet[layer].seq & 0xFFFFFFFF for each in cut]
        assert places == [*range(0, len(data), size)]
        assert [str(each[layer].flags) for each in cut] == [*["A"] * (len(cut) - 1), "PA"]


def test_only_the_first_segment_says_that_the_window_was_reduced():
    packet = layers(inet.TCP(sport=1, dport=2, flags="FACE") / bytes(300))
    cut = [inet.IP(each) for each in segments(left_to_hardware(packet, 24), 24, 100)]
    assert [str(each[inet.TCP].flags) for each in cut] == ["AEC", "AE", "FAE"]


def test_what_a_device_is_told():
    whole = left_to_hardware(TCP, 24)
    assert DEVICE_HEADER.unpack(device_header(whole, 24)) == (1, 0, 0, 0, 24, 16)
    assert DEVICE_HEADER.unpack(device_header(whole, 24, 500)) == (1, 1, 24 + 32, 500, 24, 16)
    datagrams = left_to_hardware(UDP, 24)
    assert DEVICE_HEADER.unpack(device_header(datagrams, 24, 100)) == (1, 5, 32, 100, 24, 6)
    reduced = left_to_hardware(layers(inet.TCP(sport=1, dport=2, flags="CA") / bytes(300)), 24)
    assert DEVICE_HEADER.unpack(device_header(reduced, 24, 100))[1] == 0x81


@pytest.mark.parametrize(("packet", "start"), ALL.values(), ids=ALL)
def test_the_transport_protocol_is_found_in_further_tunnels(packet, start):
    assert transport(bytes(packet), start) == (6 if inet.TCP in packet else 17)
