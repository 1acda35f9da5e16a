"""From the captures of a run to messages: one packet seen at several taps is one message."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from testbed.evidence.folder import RunFolder
from testbed.packet.decode import Packet, decode
from testbed.packet.layers import (
    AgentMessage,
    Arp,
    Dhcp,
    Esp,
    IcmpError,
    Ike,
    Ipv4,
    Layer,
    Link,
    Minimal,
    MobileIp,
    Other,
    Tcp,
)
from testbed.packet.names import Names
from testbed.packet.pcap import CaptureError, Frame, packet_mark
from testbed.topology.cast import Cast
from testbed.topology.model import Topology

_SAME_WITHIN = 2 * 10**9  # ns: the longest a packet is under way from tap to tap


@dataclass
class Message:
    """One packet, seen at one or several taps."""

    time: int  # ns since the epoch, where it was seen first
    packet: Packet
    taps: list[tuple[str, str]]  # (node, network), in order of time
    sender: str
    receiver: str  # "" for everybody on the link
    missing: str = ""  # the tap where it should have arrived and did not
    counted: set[int] = field(default_factory=set)  # numbers of the expectations that counted it

    @property
    def kind(self) -> str:
        """The kind of the innermost layer."""
        return self.packet.layers[-1].kind if self.packet.layers else "data"

    @property
    def turning(self) -> bool:
        """Whether it is worth a row of its own."""
        layer = self.packet.layers[-1]
        if isinstance(layer, AgentMessage):
            return layer.advertisement is None
        if isinstance(layer, Tcp):
            return bool(set(layer.flag_names.split()) & {"SYN", "FIN", "RST"})
        return isinstance(layer, MobileIp | Ike | Dhcp | IcmpError)


@dataclass(frozen=True)
class Stack:
    """Packets with the same nesting of headers at one tap."""

    protocols: tuple[str, ...]
    packets: int
    size: int

    @property
    def mean(self) -> float:
        """Bytes of a packet from its first IP header on, on average."""
        return self.size / self.packets


@dataclass(frozen=True)
class Seen:
    """What the captures of a run hold."""

    messages: tuple[Message, ...]
    taps: dict[str, tuple[Stack, ...]]
    skipped: int  # packets of ARP, routing and the like, which are no messages
    unreadable: dict[str, str]  # captures that cannot be read, and why


@dataclass
class _Hardware:
    """Who has which hardware address, learnt from packets that come straight from their sender."""

    names: Names
    known: dict[bytes, str] = field(default_factory=dict)

    def learn(self, node: str, packet: Packet, subnet: IPv4Network | None) -> None:
        link, ip, arp = packet.first(Link), packet.first(Ipv4), packet.first(Arp)
        if link is None or not link.source:
            return
        if link.outgoing:
            self.known[link.source] = node
            return
        address = arp.sender if arp else ip.source if ip else None
        if address is not None and subnet is not None and address in subnet:
            owner = self.names.node(address)
            if owner:
                self.known.setdefault(link.source, owner)


Counted = Mapping[tuple[str, str], Collection[int]]
"""Capture file's name and packet's mark → numbers of the expectations that counted the packet."""


def read_messages(run: RunFolder, cast: Cast | None, names: Names, counted: Counted) -> Seen:
    """The messages of a run in order of time, and what each tap saw."""
    topology = cast.topology if cast else None
    sightings: list[tuple[Frame, Packet, tuple[str, str]]] = []
    counters: dict[int, Collection[int]] = {}  # by the frame's identity in memory
    hardware = _Hardware(names)
    taps: dict[str, tuple[Stack, ...]] = {}
    tapped: set[tuple[str, str]] = set()
    unreadable: dict[str, str] = {}
    for file, frames in run.captures():
        if isinstance(frames, CaptureError):
            unreadable[file.name] = frames.message
            continue  # no tap: what is missing there may well have been seen
        node, network = _split(file.stem, topology)
        tapped.add((node, network))
        subnet = topology.networks[network].subnet if topology and network in topology.networks else None
        decoded = [(frame, decode(frame.data, frame.linktype, frame.length)) for frame in frames]
        for frame, packet in decoded:
            hardware.learn(node, packet, subnet)
            sightings.append((frame, packet, (node, network)))
            if counted:
                link = packet.first(Link)
                mark = packet_mark(frame.data[link.size if link else 0 :])
                counters[id(frame)] = counted.get((file.name, mark), ())
        taps[f"{node}/{network}"] = _stacks(packet for _, packet in decoded)
    sightings.sort(key=lambda one: one[0].time)

    last: dict[bytes, Message] = {}
    messages: list[Message] = []
    skipped = 0
    for frame, packet, tap in sightings:
        if dull(packet):
            skipped += 1
            continue
        key = identity(frame, packet)
        message = last.get(key)
        if message and tap not in message.taps and frame.time - message.time < _SAME_WITHIN:
            message.taps.append(tap)
            message.counted.update(counters.get(id(frame), ()))
            continue
        message = last[key] = Message(frame.time, packet, [tap], "", "")
        message.counted.update(counters.get(id(frame), ()))
        messages.append(message)
    for message in messages:
        _ends(message, names, hardware.known, tapped, cast)
    return Seen(tuple(messages), taps, skipped, unreadable)


def _split(stem: str, topology: Topology | None) -> tuple[str, str]:
    """NODE and NETWORK of a capture's name; both may have hyphens in them."""
    parts = stem.split("-")
    splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    if topology:
        for node, network in splits:
            if node in topology.nodes and network in topology.networks:
                return node, network
    return splits[-1] if splits else (stem, "")


def dull(packet: Packet) -> bool:
    """ARP, IPv6's noise and routing protocols: counted only."""
    layer = packet.layers[-1]
    return packet.first(Ipv4) is None or (isinstance(layer, Other) and layer.what in ("OSPF", "IGMP"))


def identity(frame: Frame, packet: Packet) -> bytes:
    """The bytes of the outermost datagram without what changes on its way.

    Routers change the time to live; checksums are filled in only when a packet leaves the machine it was made
    on, so a capture at the sender shows them wrong.
    """
    link = packet.first(Link)
    data = bytearray(frame.data[link.size if link else 0 :])
    begin = 0
    for ip in packet.above_link:
        if isinstance(ip, Ipv4):
            if begin == 0:
                del data[ip.length :]  # padding
                data[8:9] = b"\0"
            if not isinstance(ip, Minimal):  # which has no time to live, and a checksum of its own
                data[begin + 10 : begin + 12] = bytes(2)
            end = begin + ip.size
            if (
                ip.protocol in _CHECKSUMS
                and ip.offset == 0
                and len(data) >= end + 20 - 12 * (ip.protocol == 17)
            ):
                at = end + _CHECKSUMS[ip.protocol]
                data[at : at + 2] = bytes(2)
        begin += ip.size
    return bytes(data)


_CHECKSUMS = {6: 16, 17: 6}
"""IP protocol (TCP, UDP) → where the checksum stands in its header."""


def _ends(
    message: Message,
    names: Names,
    hardware: dict[bytes, str],
    tapped: set[tuple[str, str]],
    cast: Cast | None,
) -> None:
    """Who sent it to whom, and whether it arrived where it was to be seen."""
    ip, link = message.packet.first(Ipv4), message.packet.first(Link)
    if ip is None:
        return
    near = message.taps[0][0] if link and link.outgoing else hardware.get(link.source, "") if link else ""
    message.sender = names.node(ip.source) or near or message.taps[0][0]
    message.receiver = names.node(ip.destination) or ""
    if not message.receiver:
        other = [node for node, _ in message.taps if node != message.sender]
        # To everybody, or to an address we do not know: as far as it was seen.
        message.receiver = other[-1] if other else ""
        return
    if cast and message.receiver in cast.topology.nodes:
        message.missing = _missing(message, ip.destination, tapped, cast)


def _missing(message: Message, address: IPv4Address, tapped: set[tuple[str, str]], cast: Cast) -> str:
    """The receiver's tap where the message should have been seen and was not; "" if there is none.

    A mobile node's home address says nothing about where the mobile node is.
    """
    topology = cast.topology
    node = topology.nodes[message.receiver]
    if message.receiver in {name for name, _ in message.taps}:
        return ""
    if node.attaches and address == cast.home_address(message.receiver):
        return ""
    for name, network in sorted(tapped):
        if name == message.receiver and network in topology.networks:
            own = node.links.get(network)
            if own == address or (own is None and address in topology.networks[network].subnet):
                return f"{name}/{network}"
    return ""


_PROTOCOLS = {"ip": "IP", "udp": "UDP", "esp": "ESP", "ike": "IKE", "tcp": "TCP", "icmp": "ICMP"}
_PROTOCOLS |= {"mobileip": "Mobile IP", "dhcp": "DHCP", "arp": "ARP", "icmp-error": "ICMP error"}


def _stacks(packets: Iterable[Packet]) -> tuple[Stack, ...]:
    """How often each nesting of headers was seen, the most frequent first."""
    counts: dict[tuple[str, ...], list[int]] = {}
    for packet in packets:
        layers = packet.above_link
        words = tuple(_PROTOCOLS.get(layer.kind) or _word(layer) for layer in layers)
        link = packet.first(Link)
        count = counts.setdefault(words, [0, 0])
        count[0] += 1
        count[1] += packet.length - (link.size if link else 0)
    stacks = [Stack(words, packets, size) for words, (packets, size) in counts.items()]
    return tuple(sorted(stacks, key=lambda stack: -stack.packets))


def _word(layer: Layer) -> str:
    if isinstance(layer, Other):
        return layer.what if layer.what in ("OSPF", "IGMP", "IPv6", "NAT keep-alive", "fragment") else "data"
    return "ESP" if isinstance(layer, Esp) else layer.kind
