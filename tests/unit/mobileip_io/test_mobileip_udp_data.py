"""Tunnel data in UDP (RFC 3519): the tunnel process's part, the filters that share port 434, fragments."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address
from socket import inet_aton

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, defragment
from test_mobileip_worker import CN, COA, HA, MN, inner, make  # noqa: F401

from testbed.mobileip.core.keepalive import IDENTIFIER
from testbed.mobileip.io.bpf import attach_filter
from testbed.mobileip.io.udp import ANSWERS, keepalives
from testbed.mobileip.tunnel.endpoint import tunnel_data
from testbed.mobileip.wire.encapsulation import ROOM
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.fragments import fragments
from testbed.mobileip.wire.in_udp import CARRIERS, IpInUdp
from testbed.mobileip.wire.udp_tunnel import GRE, MINIMAL, TunnelData

NAT = "203.0.113.50"
PORT, OTHER = 40001, 40002
SECOND = "192.0.2.101"


def udp_end(address: str, port: int) -> dict:
    return {"address": address, "encapsulations": ["udp"], "local_port": 434, "remote_port": port}


def ask(bench, mobile: str, local: str, *ends: dict) -> None:
    bench.ask(set=[mobile], local=local, ends=ends, broadcasts=[])


def finished(packet: bytes) -> bytes:
    """With the total length that the kernel writes."""
    return packet[:2] + len(packet).to_bytes(2, "big") + packet[4:]


def in_udp(packet, source=NAT, destination=HA, sport=PORT, dport=434, head=b"\4\4\0\0", **fields):
    return IP(src=source, dst=destination, **fields) / UDP(sport=sport, dport=dport) / (head + bytes(packet))


@pytest.fixture
def home(make):  # noqa: F811
    bench = make(home_side=True)
    ask(bench, MN, HA, udp_end(NAT, PORT))
    return bench


@given(st.binary(max_size=64), st.integers(0, 255), st.sampled_from(["", "DF"]))
def test_a_packet_is_one_that_scapy_builds(data, tos, flags):
    """§4.2: outer IP, UDP and message header; the checksum is the one that UDP requires."""
    datagram = bytes(IP(src=CN, dst=MN, tos=tos, flags=flags) / UDP() / data)
    buffer = memoryview(bytearray(ROOM) + datagram)
    packet = bytes(IpInUdp(inet_aton(HA), inet_aton(NAT), 434, PORT).encode(buffer, ROOM, len(datagram)))
    expected = bytes(in_udp(datagram, HA, NAT, 434, PORT, tos=tos, flags="DF", id=0))
    # Length and checksum of the outer header are left to the kernel.
    assert (packet[:2], packet[4:10], packet[12:]) == (expected[:2], expected[4:10], expected[12:])
    assert bytes(IpInUdp.decode(memoryview(expected))) == datagram


def test_a_checksum_of_zero_means_that_there_is_none():
    """RFC 768: where it comes to zero, all ones are sent."""
    for number in range(0x10000):
        datagram = b"\x45" + bytes(19) + number.to_bytes(2, "big")
        buffer = memoryview(bytearray(ROOM) + datagram)
        packet = IpInUdp(inet_aton(HA), inet_aton(NAT), 434, PORT).encode(buffer, ROOM, 22)
        assert packet[26:28] != b"\0\0"


def test_into_the_tunnel_by_the_port_of_each_mobile_node(home):
    """Two behind one NAT."""
    ask(home, SECOND, HA, udp_end(NAT, OTHER))
    home.put(inner())
    home.put(inner(destination=SECOND))
    assert [IP(data)[UDP].dport for data, _ in home.raw(HA, "udp").sent] == [PORT, OTHER]
    assert home.count["encapsulated"] == 2
    home.ask(remove=MN)
    home.put(inner(destination=SECOND))
    assert len(home.raw(HA, "udp").sent) == 3


def test_out_of_the_tunnel_only_from_its_ends(home):
    """§4.3: outer addresses and ports "exactly match the values used for the tunnel"."""
    packet = bytes(inner(MN, CN))
    assert home.arrive(in_udp(packet), HA, "udp") == packet
    assert home.arrive(in_udp(packet, options=IPOption(b"\x94\x04\0\0")), HA, "udp") == packet
    for wrong in (
        in_udp(packet, sport=OTHER),
        in_udp(packet, dport=435),
        in_udp(packet, source=COA),
        in_udp(inner(SECOND, CN)),
    ):
        assert home.arrive(wrong, HA, "udp") is None
    assert home.count["refused"] == 4
    assert home.arrive(IP(src=NAT, dst=HA, proto=4) / packet, HA) is None  # §4.7: never but in UDP
    assert home.count["refused"] == 5


@pytest.mark.parametrize(
    "packet",
    [
        in_udp(inner(MN, CN), head=b"\4\x2f\0\0"),  # §3.3: not the mode that was established
        in_udp(inner(MN, CN), head=b"\1\4\0\0"),
        in_udp(b"\x60" + bytes(40)),
        in_udp(b"\x45"),
        b"\x45",
        b"",
    ],
)
def test_what_is_no_ip_in_udp_is_dropped(home, packet):
    assert home.arrive(packet, HA, "udp") is None
    assert home.count == {"malformed": 1}


def test_reserved_bits_are_ignored(home):
    packet = bytes(inner(MN, CN))
    assert home.arrive(in_udp(packet, head=b"\4\4\xff\xff"), HA, "udp") == packet


OTHERS = {"gre-in-udp": GRE, "minimal-in-udp": MINIMAL}


@pytest.mark.parametrize("name", OTHERS)
def test_other_encapsulations_in_udp_both_ways(make, name):  # noqa: F811
    """§4.1, §3.3: the Next Header has to be that of the binding."""
    home, visited = make(home_side=True), make(home_side=False)
    encapsulations = [name, "udp"] if name == "minimal-in-udp" else [name]
    ask(home, MN, HA, udp_end(NAT, PORT) | {"encapsulations": encapsulations})
    ask(visited, MN, COA, udp_end(HA, 434) | {"encapsulations": encapsulations, "local_port": PORT})
    packet = bytes(inner(ttl=9))
    home.put(packet)
    ((sent, to),) = home.raw(HA, "udp").sent
    assert (to, sent[28:30]) == (NAT, bytes((4, OTHERS[name])))
    translated = IP(finished(sent))
    translated.dst = COA
    del translated.chksum
    assert visited.arrive(translated, COA, "udp") == packet
    reverse = bytes(inner(MN, CN))
    visited.put(reverse)
    ((sent, _),) = visited.raw(COA, "udp").sent
    translated = IP(finished(sent))
    translated.src = NAT
    del translated.chksum
    assert home.arrive(translated, HA, "udp") == reverse
    assert home.arrive(in_udp(reverse), HA, "udp") == (reverse if len(encapsulations) > 1 else None)
    other = next(each for each in CARRIERS if each.next_header not in (4, OTHERS[name]))
    assert home.arrive(in_udp(TunnelData.around(other.next_header, reverse).payload,
                              head=bytes((4, other.next_header, 0, 0))), HA, "udp") is None  # fmt: skip
    assert home.count["refused"] == (1 if len(encapsulations) > 1 else 2)


def test_fragments_are_in_ip_in_udp_where_the_encapsulation_is_minimal(make):  # noqa: F811
    """§4.1: "in the same cases as minimal encapsulation according to RFC 2004" (§3)."""
    home = make(home_side=True)
    ask(home, MN, HA, udp_end(NAT, PORT) | {"encapsulations": ["minimal-in-udp", "udp"]})
    home.put(inner(flags="MF"))
    home.end(HA, "udp").paths[NAT, 434, PORT, MINIMAL].learn(600)
    home.put(inner(payload=bytes(1400), id=7))
    sent = [data for data, _ in home.raw(HA, "udp").sent]
    assert {data[29] for data in sent} == {4} and len(sent) > 3
    assert all(len(data) <= 600 for data in sent)
    pieces = [IP(bytes(IpInUdp.decode(memoryview(data)))) for data in sent[1:]]
    assert bytes(defragment(pieces)[0].payload)[8:] == bytes(1400)


def too_big(packet: bytes, mtu: int, origin: int = 2):
    """An entry of the error queue: Fragmentation Needed, as the kernel hands it out."""
    error = struct.pack("=IBBBxII", errno.EMSGSIZE, origin, 3, 4, mtu, 0)
    return packet, [(socket.IPPROTO_IP, 11, error)], 0, (NAT, 0)


def test_where_the_path_is_narrow_it_is_the_datagram_inside_that_is_fragmented(home):
    """§4.8; what may not be fragmented is refused."""
    raw = home.raw(HA, "udp")
    large = bytes(inner(payload=bytes(1400), id=7))
    raw.fail = [OSError(errno.EMSGSIZE, "")]
    raw.errors = [too_big(b"", 600, origin=1)]  # the kernel's own: it quotes nothing
    home.put(large)
    sent = [data for data, _ in raw.sent]
    assert len(sent) > 2
    assert all(len(data) <= 600 and IP(data).flags == "DF" and IP(data).frag == 0 for data in sent)
    pieces = [IP(bytes(IpInUdp.decode(memoryview(data)))) for data in sent]
    assert all(piece.chksum == IP(bytes(piece.copy())).chksum for piece in pieces)
    assert bytes(defragment(pieces)[0].payload) == bytes(IP(large).payload)
    assert home.count["fragmented"] == 1
    home.put(inner(payload=bytes(1400), flags="DF"))
    assert home.count["too-big"] == 1
    assert len(raw.sent) == len(sent)


def test_an_error_is_about_the_path_to_its_port(home):
    ask(home, SECOND, HA, udp_end(NAT, OTHER))
    paths = {path.key[2]: path for path in home.end(HA, "udp").paths.values()}
    home.put(inner(flags="DF"))
    ((packet, _),) = home.raw(HA, "udp").sent
    home.raw(HA, "udp").errors = [too_big(packet, 1000)]
    home.worker.failures.read_errors(home.end(HA, "udp"))
    assert (paths[PORT].mtu, paths[OTHER].mtu) == (1000 - 32, 0xFFFF - 32)
    assert home.count["relayed-errors"] == 1
    home.raw(HA, "udp").errors = [too_big(bytes(in_udp(inner(), HA, NAT, 434, PORT)), 900)]
    home.worker.failures.read_errors(home.end(HA, "udp"))
    assert paths[PORT].mtu == 900 - 32
    assert home.count["relayed-errors"] == 1  # the sender did not forbid fragments, the tunnel did


# The fragments.


OPTIONS = [IPOption(b"\x94\x04\0\0"), IPOption(b"\x07\x07\x04\0\0\0\0\0")]
"""The first of them is in every fragment."""


@given(st.integers(68, 1500), st.integers(0, 3000), st.sampled_from([[], OPTIONS]))
def test_fragments_are_put_together_by_scapy(mtu, size, options):
    data = bytes(number % 251 for number in range(size))
    whole = IP(bytes(IP(src=CN, dst=MN, id=9, options=options, proto=17) / data))
    pieces = list(fragments(bytes(whole), mtu))
    assert all(len(piece) <= mtu for piece in pieces)
    read = [IP(piece) for piece in pieces]
    for piece in read:
        again = piece.copy()
        del again.chksum
        assert IP(bytes(again)).chksum == piece.chksum
        assert [option.option for option in piece.options if option.copy_flag] == ([20] if options else [])
    assert [len(piece.options) > 2 for piece in read[1:]] == [False] * (len(read) - 1)
    if data:
        assert bytes(defragment(read)[0].payload) == data


def test_a_fragment_is_fragmented_further():
    middle = IP(bytes(IP(src=CN, dst=MN, id=9, flags="MF", frag=10, proto=17) / bytes(400)))
    pieces = [IP(piece) for piece in fragments(bytes(middle), 220)]
    assert [(piece.frag, str(piece.flags), piece.len) for piece in pieces] == [
        (10, "MF", 220), (35, "MF", 220),
    ]  # fmt: skip


# The filters.


def passes(program, data: bytes) -> bool:
    """Whether the kernel hands out `data`, on a socket whose data begin where the other's do."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        attach_filter(receiver, program)
        receiver.setblocking(False)
        sender.send(data)
        try:
            return receiver.recv(0x10000) == data
        except BlockingIOError:
            return False


def echo(
    kind: int = 8, identifier: int = 1, destination: str = HA, head: bytes = b"\4\4\0\0", **fields
) -> bytes:
    packet = IP(src=MN, dst=destination, **fields) / ICMP(type=kind, id=identifier)
    return bytes(UDP(sport=PORT, dport=434) / (head + bytes(packet)))


def keepalive(encapsulation: int, kind: int, destination: str = HA, identifier: int = IDENTIFIER) -> bytes:
    inner = bytes(IP(src=MN, dst=destination) / ICMP(type=kind, id=identifier))
    return bytes(UDP(sport=PORT, dport=434)) + TunnelData.around(encapsulation, inner).encode()


def from_home_agent(encapsulation: int) -> bytes:
    """An answer as the home agent's data plane sends it, for minimal encapsulation without the source."""
    inner = bytes(IP(src=HA, dst=MN) / ICMP(type=0, id=IDENTIFIER))
    carrier = next(each for each in CARRIERS if each.next_header == encapsulation)
    buffer = memoryview(bytearray(ROOM) + inner)
    packet = carrier(inet_aton(HA), inet_aton(NAT), 434, PORT).encode(buffer, ROOM, len(inner))
    return bytes(packet[20:])


def test_the_daemon_is_handed_registrations_and_keepalives():
    """At UDP sockets a filter sees the UDP header first."""
    home = keepalives(IPv4Address(HA))
    for program in (home, ANSWERS):
        for kind in (1, 3, 7, 16):
            assert passes(program, bytes(UDP(dport=434) / (bytes((kind,)) + bytes(30))))
        assert not passes(program, bytes(UDP(dport=434) / (b"\4\4\0\0" + bytes(IP(dst=HA) / TCP()))))
        assert not passes(program, bytes(UDP(dport=434) / b"\4\4\0\0"))
        assert not passes(program, echo(head=b"\4\x2f\0\0"))
        assert not passes(program, echo(flags="MF"))
    for kind in (GRE, MINIMAL):  # in each encapsulation, and nothing but keepalives
        assert passes(home, keepalive(kind, 8))
        assert not passes(home, keepalive(kind, 8, CN))
        assert not passes(home, keepalive(kind, 0))
        assert passes(ANSWERS, keepalive(kind, 0))
        assert not passes(ANSWERS, keepalive(kind, 0, identifier=1))
        assert not passes(ANSWERS, keepalive(kind, 8))
        assert passes(ANSWERS, from_home_agent(kind))
    assert passes(home, echo())
    assert not passes(home, echo(destination=CN))
    assert not passes(home, echo(kind=0, identifier=IDENTIFIER))
    assert passes(ANSWERS, echo(kind=0, identifier=IDENTIFIER))
    assert not passes(ANSWERS, echo(kind=0))
    assert not passes(ANSWERS, echo(identifier=IDENTIFIER))


def test_the_tunnel_process_is_handed_tunnel_data():
    """At raw sockets a filter sees the IP header first."""
    packet = inner(MN, CN)
    assert passes(tunnel_data(434), bytes(in_udp(packet)))
    assert passes(tunnel_data(434), bytes(in_udp(packet, options=IPOption(b"\x94\x04\0\0"))))
    assert not passes(tunnel_data(434), bytes(in_udp(packet, head=b"\1\4\0\0")))
    assert not passes(tunnel_data(434), bytes(in_udp(packet, dport=4500)))
    assert not passes(tunnel_data(434), bytes(IP() / UDP(dport=434)))


def test_only_wire_errors_for_whatever_comes():
    for size in range(60):
        with pytest.raises(WireError):
            IpInUdp.decode(memoryview(b"\x45" * size))
