import socket
import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mobileip.io import home_link, packet
from testbed.mobileip.wire import ipv4

scapy = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")
layers_l2 = pytest.importorskip("scapy.layers.l2", reason="NOT RUN: needs scapy")

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
PORTS = st.integers(0, 65535)


@given(st.binary(max_size=100), ADDRESSES, PORTS, ADDRESSES, PORTS, st.integers(1, 255), st.integers(0, 255))
def test_udp_as_scapy_builds_it(payload, source, source_port, destination, destination_port, ttl, tos):
    ours = ipv4.udp(payload, (source, source_port), (destination, destination_port), ttl, tos)
    ip = scapy.IP(src=str(source), dst=str(destination), ttl=ttl, tos=tos, flags="DF", id=0)
    assert ours == bytes(ip / scapy.UDP(sport=source_port, dport=destination_port) / payload)


@pytest.mark.parametrize(
    ("destination", "link_address"),
    [
        ("224.0.0.11", "01:00:5e:00:00:0b"),
        ("239.129.2.3", "01:00:5e:01:02:03"),
        ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ("192.0.2.1", None),
    ],
)
def test_link_addresses_of_groups(destination, link_address):
    found = packet.multicast_link_address(IPv4Address(destination))
    assert (found.hex(":") if found else None) == link_address


def passes(data: bytes) -> bool:
    """Whether the kernel's filter lets `data` through; on a socket whose data begin where AF_PACKET's do."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        packet.attach_filter(receiver, packet.AGENT_DISCOVERY)
        receiver.setblocking(False)
        sender.send(data)
        try:
            return receiver.recv(0x10000) == data
        except BlockingIOError:
            return False


def test_agent_discovery_filter():
    def ip(**fields):
        return scapy.IP(src="192.0.2.1", dst="224.0.0.1", **fields)

    options = scapy.IPOption(b"\x94\x04\0\0")
    assert passes(bytes(ip() / scapy.ICMP(type=9)))
    assert passes(bytes(ip() / scapy.ICMP(type=10)))
    assert passes(bytes(ip(options=[options]) / scapy.ICMP(type=9)))
    assert not passes(bytes(ip() / scapy.ICMP(type=8)))
    assert not passes(bytes(ip() / scapy.UDP(sport=0x0900)))
    assert not passes(bytes(ip(frag=1) / scapy.ICMP(type=9)))
    assert not passes(bytes(ip(flags="MF") / scapy.ICMP(type=9)))
    assert not passes(b"\x45")


# What IP keeps from a UDP socket: requests from 0.0.0.0 to one address


class Link:
    """A packet socket to which a test puts what arrives."""

    def __init__(self):
        self.arriving = []

    def recvmsg(self, *_):
        if not self.arriving:
            raise BlockingIOError
        data, status = self.arriving.pop(0)
        ancillary = [(263, 8, struct.pack("=I16x", status))]
        return bytes(data), ancillary, 0, ("hotspot", 0x0800, 0, 1, bytes(range(6)))


@pytest.fixture
def watch(monkeypatch):
    link = Link()
    monkeypatch.setattr(packet, "open_listener", lambda *_: link)
    monkeypatch.setattr(packet, "add_checksum_state", lambda _: None)
    made = packet.SenderWatch("hotspot")
    made.link = link
    return made


def request(source="0.0.0.0", destination="198.51.100.1", **fields):
    return (
        scapy.IP(src=source, dst=destination, ttl=255) / scapy.UDP(sport=5434, dport=434, **fields) / b"\x01"
    )


def test_requests_without_an_address_are_heard(watch):
    watch.link.arriving = [(request(), 0), (request(), 0)]
    watch.update()
    first, second = watch.unheard()
    assert first == second
    assert (str(first.source), first.source_port, str(first.destination)) == ("0.0.0.0", 5434, "198.51.100.1")
    assert (first.payload, first.ttl, first.link_address) == (b"\x01", 255, bytes(range(6)))
    assert watch.unheard() == []


@pytest.mark.parametrize(
    ("data", "status", "heard"),
    [
        (request(chksum=0x1234), 0, 0),  # RFC 5944 §3.7.2.1
        (request(chksum=0x1234), 8, 1),  # left to hardware, by a neighbour on the same machine
        (request(chksum=0), 0, 1),
        (request(len=9), 0, 1),
        (request(len=7), 0, 0),
        (request(len=100), 0, 0),
        (request(destination="224.0.0.11"), 0, 0),  # these a UDP socket hears
        (request(destination="255.255.255.255"), 0, 0),
        (request(source="192.0.2.100"), 0, 0),
    ],
)
def test_and_no_others(watch, data, status, heard):
    watch.link.arriving = [(data, status)]
    watch.update()
    assert len(watch.unheard()) == heard


def test_a_checksum_that_was_left_to_hardware_is_filled_in(watch):
    whole = bytes(request("192.0.2.10", "192.0.2.255"))
    bare = bytes(request("192.0.2.10", "192.0.2.255", chksum=0x5678))
    watch.link.arriving = [(bare, 8), (whole, 0)]
    assert [each.complete() for each in packet.packets(watch.link)] == [whole, whole]


def test_arp_filters_and_packets():
    probe = layers_l2.ARP(op=1, hwsrc="02:00:00:00:00:07", psrc="0.0.0.0", pdst="192.0.2.100")
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        packet.attach_filter(receiver, home_link.ARP_PROBES)
        receiver.setblocking(False)
        others = [probe.copy(), probe.copy()]
        others[0].psrc, others[1].op = "192.0.2.10", 2
        for each in (*others, probe):
            sender.send(bytes(each))
        assert receiver.recv(100) == bytes(probe)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
    ours, theirs = bytes(range(6)), bytes(range(6, 12))
    reply = packet.arp(2, ours, IPv4Address("192.0.2.100"), theirs, IPv4Address(0))
    expected = layers_l2.ARP(
        op=2, hwsrc=ours.hex(":"), psrc="192.0.2.100", hwdst=theirs.hex(":"), pdst="0.0.0.0"
    )
    assert reply == bytes(expected)


def test_a_gratuitous_arp_is_broadcast(monkeypatch):
    """RFC 5944 §4.6: with the announced link address as both, in a frame to everybody."""
    frames = []
    monkeypatch.setattr(packet.LinkSender, "__init__", lambda self: None)
    monkeypatch.setattr(packet.LinkSender, "_send", lambda self, *frame: frames.append(frame))
    link_address = bytes(range(6))
    packet.LinkSender().send_gratuitous_arp(IPv4Address("192.0.2.100"), "home", link_address)
    expected = layers_l2.ARP(
        op=2, hwsrc=link_address.hex(":"), psrc="192.0.2.100", hwdst=link_address.hex(":"), pdst="192.0.2.100"
    )
    assert frames == [(bytes(expected), "home", 0x0806, b"\xff" * 6)]


@given(st.binary(max_size=60), st.booleans(), st.integers(0, 255), st.integers(0, 65535))
def test_ip_in_ip_as_scapy_builds_it(payload, whole, tos, number):
    inner = bytes(
        scapy.IP(src="192.0.2.10", dst="192.0.2.255", tos=tos, flags="DF" if whole else 0) / payload
    )
    home_agent, home = IPv4Address("203.0.113.2"), IPv4Address("192.0.2.100")
    outer = scapy.IP(
        src=str(home_agent), dst=str(home), proto=4, tos=tos, ttl=64,
        flags="DF" if whole else 0, id=0 if whole else number,
    )  # fmt: skip
    assert ipv4.ip_in_ip(inner, home_agent, home, number) == bytes(outer / inner)
