"""A lab to look at that is not there: news without a feed, and packets as taps see them."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from testbed.lab.passages import Passage
from testbed.packet.names import Names
from testbed.packet.pcap import ETHERNET, Frame
from testbed.topology.load import load_topology
from testbed.watch.news import News
from testbed.watch.picture import Mobile, Picture
from testbed.watch.rows import Rows

NAMES = Names(
    {IPv4Address("10.0.1.100"): "mn", IPv4Address("10.0.4.10"): "cn", IPv4Address("10.0.1.2"): "ha"},
    [(IPv4Network("198.51.100.64/26"), "mn@hotel")],
)
NETWORKS = ("hotel", "airport", "hotspot", "office", "campus", "home")
ROAM: dict[str, Any] = {
    "ok": True, "network": "hotel", "state": "registered", "detail": "co-located, care-of 10.0.250.1",
    "moving": False, "how": "dhcp", "address": "198.51.100.97/26", "agent": None, "inside": False,
    "ipsec": {"enabled": True, "up": True, "inner": "10.0.250.1"},
}  # fmt: skip
MOBILE_NODE = {"ok": True, "role": "mobile-node", "state": "registered", "lifetime_left": 600.0}
HOME_AGENT = {
    "ok": True, "role": "home-agent",
    "bindings": [{"home_address": "10.0.1.100", "care_of_addresses": ["10.0.250.1"], "lifetime_left": 599.5}],
}  # fmt: skip
FOREIGN_AGENT = {
    "ok": True, "role": "foreign-agent",
    "visitors": [{"home_address": "10.0.1.100", "nai": "mn@x", "interface": "office", "lifetime_left": 9.0}],
}  # fmt: skip


def news() -> News:
    """Scenario 2.1 with the mobile node in the hotel."""
    picture = Picture("lab", {"mn": Mobile("mn", NETWORKS)})
    picture.daemon("mn", "roam", ROAM, 100.0)
    picture.daemon("mn", "mobile-node", MOBILE_NODE, 100.0)
    picture.daemon("ha", "home-agent", HOME_AGENT, 100.0)
    return News(load_topology("scenario-2.1"), picture, Rows(NAMES))


def passage(packet: Packet, at: float, network: str, sender: str, *receivers: str) -> Passage:
    """A packet on a network, `at` seconds."""
    data = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
    frame = Frame(int(at * 1e9), ETHERNET, data, len(data), network)
    return Passage(frame, sender, list(receivers))


def ping(number: int, ttl: int = 64) -> Packet:
    """An echo request of the mobile node."""
    return IP(src="10.0.1.100", dst="10.0.4.10", ttl=ttl) / ICMP(seq=number) / Raw(b"x" * 48)


def request(ttl: int = 255) -> Packet:
    """A registration request of the mobile node at the hotel."""
    message = bytes([1, 0b00100010]) + (600).to_bytes(2, "big")
    message += b"".join(IPv4Address(one).packed for one in ("10.0.1.100", "10.0.1.2", "198.51.100.97"))
    return (
        IP(src="198.51.100.97", dst="10.0.1.2", ttl=ttl) / UDP(sport=434, dport=434) / Raw(message + bytes(8))
    )
