"""TCP superpackets that go into tunnels: the headers of all their segments."""

from socket import inet_aton

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.mobileip.wire.encapsulation import ROOM
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal
from testbed.mobileip.wire.offload import segments, unfinished
from testbed.mobileip.wire.tcp_segments import TCP_HEADER, tcp_header_size, tcp_segments

inet = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")

MN, CN, HA, COA = "192.0.2.100", "192.0.2.10", "203.0.113.2", "198.51.100.70"
BEFORE = b"what is before the packet"
TIMESTAMPS = [("Timestamp", (5, 6)), ("NOP", None), ("NOP", None)]


def superpacket(data, **tcp):
    """As Linux hands it on: the sum of the pseudo header, which is of scapy, in place of the checksum."""
    packet = (
        inet.IP(src=MN, dst=CN, id=65530, flags="DF", tos=0xB8) / inet.TCP(sport=1, dport=2, **tcp) / data
    )
    packet = inet.IP(bytes(packet))
    packet[inet.TCP].chksum = ~inet.in4_chksum(6, packet, b"") & 0xFFFF
    return bytes(packet)


def tunnelled(carrier, content, size):
    """The packets into which a superpacket is cut, as a router sees them."""
    buffer = memoryview(bytearray(ROOM) + content)
    end = 20 + tcp_header_size(content, 20)
    headers = bytes(carrier(inet_aton(COA), inet_aton(HA)).encode(buffer, ROOM, end))
    transport = len(BEFORE) + len(headers) - end + 20
    data = content[end:]
    block, count = tcp_segments(BEFORE + headers, len(BEFORE), transport, len(data), size)
    stride = len(block) // count
    assert stride == len(BEFORE) + len(headers)
    for number in range(count):
        head = bytes(block[number * stride : (number + 1) * stride])
        assert head.startswith(BEFORE)
        yield head.removeprefix(BEFORE) + data[number * size : (number + 1) * size]


def finished(packet, carrier):
    """The datagram that comes out of the tunnel, when a device has finished its checksum."""
    datagram = bytes(carrier.decode(memoryview(packet)))
    assert unfinished(datagram) == 20
    (whole,) = segments(datagram, 20)
    return whole


@pytest.mark.parametrize("carrier", [IpInIp, Gre, Minimal])
@settings(max_examples=20)
@given(
    length=st.integers(0, 3000),
    size=st.integers(100, 1460),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.sampled_from(["A", "PA", "FPA", "CA", "CPA"]),
    options=st.sampled_from([[], TIMESTAMPS]),
)
def test_every_segment_is_what_its_sender_meant(carrier, length, size, sequence, flags, options):
    """Against the segments that are cut one by one, whose checksums are compared with those of scapy."""
    content = superpacket(bytes(n % 251 for n in range(length)), seq=sequence, flags=flags, options=options)
    packets = list(tunnelled(carrier, content, size))
    assert [finished(packet, carrier) for packet in packets] == list(segments(content, 20, size))


@pytest.mark.parametrize("carrier", [IpInIp, Gre, Minimal])
def test_outer_headers_as_scapy_builds_them(carrier):
    for packet in tunnelled(carrier, superpacket(bytes(2500), flags="A"), 1000):
        outer = inet.IP(packet)
        assert (outer.src, outer.dst, outer.flags, outer.tos, outer.len) == (COA, HA, "DF", 0xB8, len(packet))
        header = inet.IP(packet[:20])
        header.chksum = None
        assert bytes(header) == packet[:20]


def test_a_damaged_header_is_seen():
    """The comparison above can fail."""
    content = superpacket(bytes(3000), flags="A")
    first, *_ = tunnelled(IpInIp, content, 1000)
    damaged = first[:24] + bytes((first[24] ^ 1,)) + first[25:]
    assert finished(damaged, IpInIp) != next(segments(content, 20, 1000))


def test_the_identification_of_an_outer_header_stays_0():
    packets = [inet.IP(each) for each in tunnelled(IpInIp, superpacket(bytes(3000), flags="A"), 1000)]
    assert [packet.id for packet in packets] == [0, 0, 0]
    assert [packet[inet.IP].payload.id for packet in packets] == [65530, 65531, 65532]


def test_the_header_of_nothing():
    assert inet.TCP(TCP_HEADER).dataofs == tcp_header_size(TCP_HEADER, 0) // 4 == 5
