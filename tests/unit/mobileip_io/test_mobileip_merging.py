"""Superpackets on their way to the kernel that merges them: a socket stands for its VXLAN port."""

import socket
from pathlib import Path
from socket import inet_aton

import pytest

from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.tunnel import merging
from testbed.mobileip.tunnel.merging import Frames, Merger, make_merging_device
from testbed.mobileip.wire.encapsulation import outer_header
from testbed.mobileip.wire.tcp_segments import TCP_HEADER

inet = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")
l2 = pytest.importorskip("scapy.layers.l2")

FRAMES = Frames(0x123456, bytes.fromhex("02aabbccddee"))
ENDS = inet_aton("203.0.113.2"), inet_aton("198.51.100.70")
HEADERS = outer_header(4, *ENDS) + outer_header(6, *ENDS[::-1]) + TCP_HEADER


@pytest.fixture
def port(monkeypatch):
    """A socket where the kernel's would be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.bind(("127.0.0.1", 0))
        kernel.settimeout(5)
        monkeypatch.setattr(merging, "PORT", kernel.getsockname()[1])
        yield kernel


def test_the_kernel_cuts_what_is_sent_into_frames(port):
    merger = Merger(FRAMES)
    data = bytes(n % 251 for n in range(100_500))
    assert merger.send(HEADERS, 40, memoryview(data), 1000) == 101
    carried = b""
    for _ in range(101):
        header, frame = (content := port.recv(2000))[:8], l2.Ether(content[8:])
        assert (header[0], header[4:7].hex(), frame.dst) == (0x08, "123456", "02:aa:bb:cc:dd:ee")
        outer = frame[inet.IP]
        assert (outer.src, outer.dst, outer.ttl, outer.proto) == ("203.0.113.2", "198.51.100.70", 65, 4)
        carried += bytes(outer)[60:]
    assert carried == data
    merger.close()


def test_a_frame_says_where_the_checksum_is():
    header = int.from_bytes(FRAMES.before(40)[:8], "big")
    assert header >> 32 == 0x08200000
    assert (header & 0x7F) << 1 == 14 + 40  # VXLAN_RCO_MASK, VXLAN_RCO_SHIFT of Linux; no VXLAN_RCO_UDP
    assert not header & 0x80


class Kernel:
    """One that has VXLAN, or has not."""

    def __init__(self, refuses=False):
        self.refuses = refuses
        self.devices = []

    def add_vxlan(self, interface, _identifier, _port, _address):
        if self.refuses:
            raise NodeError("vxlan mipmerge0: Operation not supported")
        self.devices.append(interface)

    def delete_link(self, interface):
        if interface in self.devices:
            self.devices.remove(interface)


@pytest.mark.parametrize("arrived", [2, 1])
def test_it_is_tried_whether_the_kernel_can(port, monkeypatch, arrived):
    """A kernel that cuts nothing has received one packet."""
    counts = iter(["7\n", f"{7 + arrived}\n"])
    monkeypatch.setattr(Path, "read_text", lambda _: next(counts))
    kernel = Kernel()
    frames = make_merging_device(kernel, "mipmerge0")
    assert (frames is not None) == (arrived == 2) == (kernel.devices == ["mipmerge0"])


def test_a_kernel_without_vxlan():
    assert make_merging_device(Kernel(refuses=True), "mipmerge0") is None
