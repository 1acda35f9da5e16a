import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mobileip.io import packet
from testbed.mobileip.wire import ipv4

scapy = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")

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
