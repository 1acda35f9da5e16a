"""The encapsulations: what one end makes the other reads, as scapy builds and reads it, as tshark does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from socket import inet_aton

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.l2 import GRE
from scapy.packet import Raw
from scapy.utils import checksum, wrpcap

from testbed.mobileip.wire.encapsulation import ROOM, Carrier
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal, is_fragment

MN, CN, HA, COA = "192.0.2.100", "192.0.2.10", "203.0.113.2", "198.51.100.70"
CARRIERS: tuple[type[Carrier], ...] = (IpInIp, Gre, Minimal)

few = settings(max_examples=30)  # scapy takes a millisecond for a packet
addresses = st.integers(0, 0xFFFFFFFF).map(lambda number: ".".join(map(str, number.to_bytes(4, "big"))))
datagrams = st.builds(
    lambda source, destination, tos, ttl, number, flags, protocol, options, payload: bytes(
        IP(
            src=source,
            dst=destination,
            tos=tos,
            ttl=ttl,
            id=number,
            flags=flags,
            proto=protocol,
            options=[IPOption(b"\x94\x04\0\0")] * options,
        )
        / Raw(payload)
    ),
    addresses,
    addresses.filter(lambda address: address != HA),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(1, 0xFFFF),
    st.sampled_from(["", "DF"]),
    # Where a test has loaded scapy's IGMP, that adds an option to each datagram of IGMP it reads.
    st.integers(0, 255).filter(lambda protocol: protocol != 2),
    st.integers(0, 2),
    st.binary(max_size=200),
)


def finished(packet: memoryview | bytes) -> IP:
    """The packet after the kernel has written its total length and checksum (raw(7))."""
    data = bytearray(packet)
    size = (data[0] & 15) * 4
    data[2:4], data[10:12] = len(data).to_bytes(2, "big"), bytes(2)
    data[10:12] = checksum(bytes(data[:size])).to_bytes(2, "big")
    return IP(bytes(data))


def carried(carrier: type[Carrier], datagram: bytes, local: str = HA, remote: str = COA) -> IP:
    buffer = bytearray(ROOM) + datagram
    packet = finished(
        carrier(inet_aton(local), inet_aton(remote)).encode(memoryview(buffer), ROOM, len(datagram))
    )
    assert buffer[ROOM:] == datagram
    return packet


def taken_out(carrier: type[Carrier], packet: IP | bytes) -> bytes:
    return bytes(carrier.decode(memoryview(bytes(packet))))


@pytest.mark.parametrize("carrier", CARRIERS)
@few
@given(datagram=datagrams)
def test_what_goes_in_comes_out(carrier: type[Carrier], datagram: bytes) -> None:
    packet = carried(carrier, datagram)
    assert (packet.src, packet.dst, packet.proto) == (HA, COA, carrier.protocol)
    assert (packet.tos, packet.flags) == (IP(datagram).tos, IP(datagram).flags)
    assert len(packet) <= len(datagram) + carrier.overhead
    assert taken_out(carrier, packet) == datagram
    with_options = packet.copy()
    del with_options.len, with_options.chksum, with_options.ihl
    if carrier is not Minimal:  # there the options are the datagram's
        with_options.options = [IPOption(b"\x94\x04\0\0")]
        assert taken_out(carrier, with_options) == datagram


@few
@given(datagrams)
def test_gre_as_scapy_builds_it(datagram: bytes) -> None:
    packet = carried(Gre, datagram)
    inner = IP(datagram)
    assert bytes(packet) == bytes(
        IP(src=HA, dst=COA, tos=inner.tos, flags=inner.flags, ttl=64, id=0, proto=47) / GRE() / inner
    )
    assert packet[GRE].proto == 0x0800


@few
@given(datagrams)
def test_a_gre_checksum_is_verified(datagram: bytes) -> None:
    packet = bytes(IP(src=HA, dst=COA) / GRE(chksum_present=1, proto=0x0800) / Raw(datagram))
    wrong = bytearray(packet)
    wrong[-1] ^= 1
    assert packet[20:24] == b"\x80\0\x08\0" and taken_out(Gre, packet) == datagram
    with pytest.raises(WireError, match="checksum wrong"):
        taken_out(Gre, wrong)


@pytest.mark.parametrize(
    ("flags", "kind", "taken"),
    [
        *((0x8000 >> bit, 0x0800, False) for bit in range(1, 6)),  # §2.3: the flags of RFC 1701
        *((0x8000 >> bit, 0x0800, True) for bit in range(6, 13)),  # §2.3: reserved, ignored on receipt
        *((version, 0x0800, False) for version in range(1, 8)),  # §2.3.1
        (0, 0x86DD, False),
        (0, 0x0801, False),
        (0, 0x0800, True),
    ],
)
def test_which_gre_headers_are_taken(flags: int, kind: int, taken: bool) -> None:
    datagram = bytes(IP(src=CN, dst=MN) / UDP() / b"data")
    packet = IP(src=HA, dst=COA, proto=47) / Raw(
        flags.to_bytes(2, "big") + kind.to_bytes(2, "big") + datagram
    )
    if taken:
        assert taken_out(Gre, packet) == datagram
    else:
        with pytest.raises(WireError, match="malformed"):
            taken_out(Gre, packet)


def test_key_and_sequence_number_as_scapy_has_them_are_refused() -> None:
    for field in ("key_present", "seqnum_present", "routing_present"):
        with pytest.raises(WireError, match="GRE flags"):
            taken_out(Gre, IP(src=HA, dst=COA) / GRE(**{field: 1}) / IP(src=CN, dst=MN))


def test_gre_never_returns_a_datagram_into_its_tunnel() -> None:
    with pytest.raises(WireError, match="loop"):  # §3.1
        taken_out(Gre, IP(src=HA, dst=COA) / GRE() / IP(src=CN, dst=HA))


@few
@given(datagrams)
def test_the_minimal_header_field_by_field(datagram: bytes) -> None:
    """RFC 2004 §3, with scapy's checksum as oracle."""
    inner, packet = IP(datagram), carried(Minimal, datagram)
    size = inner.ihl * 4
    assert (packet.ttl, packet.id, packet.ihl) == (inner.ttl, inner.id, inner.ihl)
    assert packet.len == len(datagram) + 12
    forwarding, payload = bytes(packet)[size : size + 12], bytes(packet)[size + 12 :]
    assert forwarding[:2] == bytes((inner.proto, 0x80))
    assert checksum(forwarding) == 0
    assert forwarding[4:] == inet_aton(inner.dst) + inet_aton(inner.src)
    assert payload == datagram[size:]


def test_a_source_that_is_the_tunnels_end_is_left_out() -> None:
    datagram = bytes(IP(src=HA, dst=MN) / ICMP())
    packet = carried(Minimal, datagram)
    assert bytes(packet)[20:22] == b"\x01\x00" and len(packet) == len(datagram) + 8
    assert taken_out(Minimal, packet) == datagram


@few
@given(datagrams, st.integers(0, 95))
def test_a_damaged_minimal_header_is_noticed(datagram: bytes, bit: int) -> None:
    packet = bytearray(bytes(carried(Minimal, datagram)))
    at = IP(datagram).ihl * 4
    packet[at + bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError, match="malformed"):
        taken_out(Minimal, bytes(packet))


def test_reserved_bits_of_the_minimal_header_are_ignored() -> None:
    datagram = bytes(IP(src=CN, dst=MN) / UDP() / b"data")
    packet = bytearray(bytes(carried(Minimal, datagram)))
    packet[21] |= 0x55
    packet[22:24] = bytes(2)
    packet[22:24] = checksum(bytes(packet[20:32])).to_bytes(2, "big")
    assert taken_out(Minimal, bytes(packet)) == datagram


def test_fragments_are_known() -> None:
    for whole in (IP(), IP(flags="DF")):
        assert not is_fragment(bytearray(bytes(whole)), 0)
    for part in (IP(flags="MF"), IP(frag=1), IP(frag=0x100)):
        assert is_fragment(bytearray(bytes(part)), 0)


@pytest.mark.parametrize("carrier", CARRIERS)
@given(data=st.binary(max_size=80))
def test_nothing_else_is_raised(carrier: type[Carrier], data: bytes) -> None:
    for packet in (data, b"\x45" + data[1:], bytes(carried(carrier, bytes(IP())))[:20] + data):
        if packet:
            try:
                datagram = taken_out(carrier, packet)
            except WireError as error:
                assert error.reason in ("malformed", "loop")
            else:
                assert len(datagram) >= 20


def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    """tshark does not know minimal encapsulation; tcpdump does, in tests/integration."""
    datagram = bytes(IP(src=CN, dst=MN) / UDP(sport=7, dport=7) / b"data")
    file = tmp_path / "tunnels.pcap"
    wrpcap(str(file), [carried(IpInIp, datagram), carried(Gre, datagram)])
    fields = ["-e", "frame.protocols", "-e", "ip.checksum.status", "-e", "_ws.malformed", "-e", "ip.dst"]
    command = ["tshark", "-n", "-r", str(file), "-o", "ip.check_checksum:TRUE", "-T", "fields", *fields]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    assert [line.split("\t") for line in lines] == [
        ["ip:ip:udp:echo", "1,1", "", f"{COA},{MN}"],
        ["ip:gre:ip:udp:echo", "1,1", "", f"{COA},{MN}"],
    ]
