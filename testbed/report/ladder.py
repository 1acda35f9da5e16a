"""A message ladder: who sent what to whom, when, with every header; from captures, steps and events.

A packet seen at several taps is one message. Messages that make protocols turn (registration, IKE, DHCP,
ICMP errors, TCP's beginnings and ends) stand alone; streams of alike packets are one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from testbed.experiment.decode import Packet, decode
from testbed.experiment.layers import (
    AgentMessage,
    Arp,
    Dhcp,
    Esp,
    IcmpError,
    Ike,
    Ipv4,
    Layer,
    Link,
    MobileIp,
    Other,
    Tcp,
)
from testbed.experiment.names import Names
from testbed.experiment.pcap import Frame
from testbed.report.evidence import Event, Run, StepTaken
from testbed.topology.model import Topology

_SAME_WITHIN = 2 * 10**9  # ns: the longest a packet is under way from tap to tap
_PAUSE = 10**9  # ns: after it a stream begins anew
_QUIET_EVENTS = frozenset(
    ("configured", "ready", "request-sent", "reply", "agent-advertisement", "exit", "stopped")
)
"""Events that say what the packets beside them say, or nothing about the run."""


@dataclass
class Message:
    """One packet, seen at one or several taps."""

    time: int  # ns since the epoch, where it was seen first
    packet: Packet
    taps: list[tuple[str, str]]  # (node, network), in order of time
    sender: str
    receiver: str  # "" for everybody on the link
    missing: str = ""  # the tap where it should have arrived and did not

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
class Header:
    """One header of a row's messages, with what it encloses."""

    kind: str
    text: str
    inside: Header | None


@dataclass
class Row:
    """One line of a ladder; times in seconds since its beginning."""

    what: Literal["message", "event", "step"]
    time: float
    text: str = ""
    kind: str = ""
    headers: Header | None = None
    sender: str = ""
    receiver: str = ""
    seen: tuple[str, ...] = ()  # nodes
    count: int = 1
    until: float = 0.0
    size: int = 0  # bytes of all its packets
    missing: str = ""
    lost: int = 0
    ok: bool = True


def arrow_ends(row: Row, nodes: Sequence[str]) -> tuple[float, float]:
    """Where a row's arrow begins and ends, in lifelines from the left.

    A packet that did not arrive ends between the last node it was seen at and the receiver; one to nobody in
    particular is a stub.
    """
    begin = float(nodes.index(row.sender)) if row.sender in nodes else 0.0
    if row.receiver not in nodes or row.receiver == row.sender:
        return begin, begin + 0.35
    end = float(nodes.index(row.receiver))
    if row.lost < row.count:
        return begin, end
    way = 1 if end > begin else -1
    passed = [nodes.index(n) for n in row.seen if n in nodes and (end - nodes.index(n)) * way > 0]
    last = max([begin, *passed], key=lambda x: x * way)
    return begin, last + (end - last) * 0.55


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
class Ladder:
    """All rows with the nodes they are about, and what each tap saw."""

    nodes: tuple[str, ...]
    rows: tuple[Row, ...]
    taps: dict[str, tuple[Stack, ...]]
    begin: float
    skipped: int  # packets of ARP, OSPF and the like


@dataclass
class _Hardware:
    """Who has which hardware address, learnt from packets that come straight from their sender."""

    names: Names
    known: dict[bytes, str] = field(default_factory=dict)

    def learn(self, node: str, packet: Packet, subnet: object) -> None:
        link, ip, arp = packet.first(Link), packet.first(Ipv4), packet.first(Arp)
        if link is None or not link.source:
            return
        if link.outgoing:
            self.known[link.source] = node
            return
        address = arp.sender if arp else ip.source if ip else None
        if address is not None and subnet is not None and address in subnet:  # type: ignore[operator]
            owner = self.names.node(address)
            if owner:
                self.known.setdefault(link.source, owner)


def build_ladder(run: Run, topology: Topology | None, names: Names, *, order: Sequence[str] = ()) -> Ladder:
    """The ladder of one run; `order` is in which order its nodes stand side by side."""
    messages, taps, skipped = _messages(run, topology, names)
    rows = [*_message_rows(messages, names), *map(_step_row, run.steps), *_event_rows(run.events)]
    rows = [row for row in rows if row.time > 0]
    begin = min((row.time for row in rows), default=0.0)
    for row in rows:
        row.time -= begin
        row.until -= begin
    rows.sort(key=lambda row: row.time)
    met = dict.fromkeys(
        node
        for row in rows
        for node in (row.sender, row.receiver, *row.seen)
        if node and (topology is None or node in topology.nodes or row.what == "event")
    )
    nodes = [node for node in order if node in met] + [node for node in met if node not in order]
    return Ladder(tuple(nodes), tuple(rows), taps, begin, skipped)


def _split(stem: str, topology: Topology | None) -> tuple[str, str]:
    """NODE and NETWORK of a capture's name; both may have hyphens in them."""
    parts = stem.split("-")
    splits = [("-".join(parts[:i]), "-".join(parts[i:])) for i in range(1, len(parts))]
    if topology:
        for node, network in splits:
            if node in topology.nodes and network in topology.networks:
                return node, network
    return splits[-1] if splits else (stem, "")


def _messages(
    run: Run, topology: Topology | None, names: Names
) -> tuple[list[Message], dict[str, tuple[Stack, ...]], int]:
    sightings: list[tuple[Frame, Packet, tuple[str, str]]] = []
    hardware = _Hardware(names)
    taps: dict[str, tuple[Stack, ...]] = {}
    tapped: set[tuple[str, str]] = set()
    for stem, frames in run.captures():
        node, network = _split(stem, topology)
        tapped.add((node, network))
        subnet = topology.networks[network].subnet if topology and network in topology.networks else None
        decoded = [(frame, decode(frame.data, frame.linktype, frame.length)) for frame in frames]
        for frame, packet in decoded:
            hardware.learn(node, packet, subnet)
            sightings.append((frame, packet, (node, network)))
        taps[f"{node}/{network}"] = _stacks(packet for _, packet in decoded)
    sightings.sort(key=lambda one: one[0].time)

    last: dict[bytes, Message] = {}
    messages: list[Message] = []
    skipped = 0
    for frame, packet, tap in sightings:
        if _dull(packet):
            skipped += 1
            continue
        key = _identity(frame, packet)
        message = last.get(key)
        if message and tap not in message.taps and frame.time - message.time < _SAME_WITHIN:
            message.taps.append(tap)
            continue
        message = last[key] = Message(frame.time, packet, [tap], "", "")
        messages.append(message)
    for message in messages:
        _ends(message, names, hardware.known, tapped, topology)
    return messages, taps, skipped


def _dull(packet: Packet) -> bool:
    """ARP, IPv6's noise and routing protocols: counted only."""
    layer = packet.layers[-1]
    return packet.first(Ipv4) is None or (isinstance(layer, Other) and layer.what in ("OSPF", "IGMP"))


def _identity(frame: Frame, packet: Packet) -> bytes:
    """The bytes of the outermost datagram without what routers change on its way."""
    link = packet.first(Link)
    data = bytearray(frame.data[link.size if link else 0 :])
    data[8:9] = b"\0"  # time to live
    data[10:12] = b"\0\0"  # checksum
    ip = packet.first(Ipv4)
    return bytes(data[: ip.length] if ip else data)


def _ends(
    message: Message,
    names: Names,
    hardware: dict[bytes, str],
    tapped: set[tuple[str, str]],
    topology: Topology | None,
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
    if topology is None:
        return
    for node, network in tapped:
        expected = node == message.receiver and network in topology.networks
        if expected and ip.destination in topology.networks[network].subnet:
            own = topology.nodes[node].links.get(network)
            here = own == ip.destination if own else node != message.sender
            if here and (node, network) not in message.taps:
                message.missing = f"{node}/{network}"


def _message_rows(messages: Iterable[Message], names: Names) -> list[Row]:
    rows: list[Row] = []
    streams: dict[tuple[str, ...], Row] = {}
    for message in messages:
        seconds = message.time / 1e9
        flow = message.packet.flow(names)
        if not message.turning:
            row = streams.get(flow)
            pause = 6 * _PAUSE if message.kind == "mobileip" else _PAUSE
            if row is not None and seconds - row.until < pause / 1e9:
                row.count += 1
                row.until = seconds
                row.size += message.packet.length
                row.seen = tuple(dict.fromkeys([*row.seen, *(node for node, _ in message.taps)]))
                row.lost += bool(message.missing)
                row.missing = row.missing or message.missing
                continue
        row = Row(
            what="message",
            time=seconds,
            until=seconds,
            kind=message.kind,
            headers=_headers(message.packet.above_link, names, flowing=not message.turning),
            sender=message.sender,
            receiver=message.receiver,
            seen=tuple(dict.fromkeys(node for node, _ in message.taps)),
            size=message.packet.length,
            missing=message.missing,
            lost=int(bool(message.missing)),
        )
        rows.append(row)
        if not message.turning:
            streams[flow] = row
    return rows


def _headers(layers: Sequence[Layer], names: Names, *, flowing: bool) -> Header | None:
    made: Header | None = None
    depth = sum(isinstance(layer, Ipv4) for layer in layers)
    for layer in reversed(layers):
        kind = layer.kind
        if isinstance(layer, Ipv4):
            depth -= 1
            kind = "ip" if depth == 0 else "inner"
        # A single packet of a stream keeps its text: what counts on is cut from streams only.
        made = Header(kind, layer.flow(names) if flowing else layer.text(names), made)
    return made


def _step_row(step: StepTaken) -> Row:
    return Row("step", step.began, text=step.text, until=step.ended, ok=step.result in ("", "ok", "done"))


def _event_rows(events: Iterable[Event]) -> Iterable[Row]:
    for event in events:
        if event.name in _QUIET_EVENTS or event.source == "init":
            continue
        shown = [_said(key, value) for key, value in event.fields.items() if _worth(key, value)]
        yield Row(
            "event",
            event.wall,
            text=f"{event.source} {event.name}",
            headers=Header("event", ", ".join(shown[:4]), None) if shown else None,
            sender=event.node,
            until=event.wall,
        )


def _worth(key: str, value: object) -> bool:
    """Whether a field of an event is worth the room."""
    return key not in ("id", "stack") and value not in (None, "") and not isinstance(value, dict | list)


def _said(key: str, value: object) -> str:
    if key == "ms" and isinstance(value, int | float):
        return f"after {value:.0f} ms"
    if key in ("network", "detail", "state"):
        return str(value)
    return (
        f"{key.replace('_', '-')} {value:g}"
        if isinstance(value, float)
        else f"{key.replace('_', '-')} {value}"
    )


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
