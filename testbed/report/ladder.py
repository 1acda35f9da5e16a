"""A message ladder: who sent what to whom, when, with every header; from captures, steps and events.

A packet seen at several taps is one message. Messages that make protocols turn (registration, IKE, DHCP,
ICMP errors, TCP's beginnings and ends) stand alone; streams of alike packets are one row.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from testbed.evidence.folder import RunFolder
from testbed.evidence.run import EventRecord, StepRecord
from testbed.packet.layers import Ipv4, Layer
from testbed.packet.names import Names
from testbed.report.messages import Counted, Message, Stack, read_messages
from testbed.report.tree import arrange
from testbed.topology.cast import Cast
from testbed.topology.model import Topology
from testbed.topology.names import topology_names
from testbed.topology.roles import Role

_PAUSE = 1.0  # seconds: after it a stream begins anew
_QUIET_EVENTS = frozenset(
    ("configured", "ready", "request-sent", "reply", "agent-advertisement", "exit", "stopped")
)
"""Events that say what the packets beside them say, or nothing about the run."""


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
    result: str = ""
    counted: tuple[int, ...] = ()  # numbers of the expectations that counted it


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
class Ladder:
    """All rows with the nodes they are about, and what each tap saw."""

    nodes: tuple[str, ...]
    rows: tuple[Row, ...]
    taps: dict[str, tuple[Stack, ...]]
    begin: float
    skipped: int  # packets of ARP, OSPF and the like
    unreadable: dict[str, str]  # captures that cannot be read, and why


EMPTY = Ladder((), (), {}, 0.0, 0, {})
"""Of a run that is shown elsewhere."""


def build_ladder(
    run: RunFolder,
    topology: Topology | None,
    counted: Counted | None = None,
    roles: Mapping[str, Role] | None = None,
) -> Ladder:
    """The ladder of one run; its nodes stand side by side as in the drawing of the topology.

    `roles` are the manifests of its roles; without, the built-in ones are known.
    """
    cast = Cast.of(topology, roles) if topology else None
    names = topology_names(cast) if cast else Names({})
    order = node_order(topology) if topology else []
    seen = read_messages(run, cast, names, counted or {})
    turns = sorted(step.began for step in run.steps)
    rows = [*_message_rows(seen.messages, names, turns), *map(_step_row, run.steps), *_event_rows(run.events)]
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
    return Ladder(tuple(nodes), tuple(rows), seen.taps, begin, seen.skipped, seen.unreadable)


def node_order(topology: Topology) -> list[str]:
    """The nodes of a topology from outside to inside, the mobile ones first."""
    layers = {item.name: item.layer for item in arrange(topology).items if item.kind == "node"}
    mobile = [name for name, node in topology.nodes.items() if node.attaches]
    rest = [name for name in topology.nodes if name not in mobile]
    return [*mobile, *sorted(rest, key=lambda name: layers.get(name, 0))]


def _message_rows(messages: Iterable[Message], names: Names, turns: Sequence[float]) -> list[Row]:
    """A row for each message that turns something, one for each stream between two steps."""
    rows: list[Row] = []
    streams: dict[tuple[str, ...], Row] = {}
    for message in messages:
        seconds = message.time / 1e9
        flow = message.packet.flow(names)
        if not message.turning:
            row = streams.get(flow)
            pause = 6 * _PAUSE if message.kind == "mobileip" else _PAUSE  # advertisements are rare
            same_step = row is not None and bisect(turns, row.time) == bisect(turns, seconds)
            if row is not None and same_step and seconds - row.until < pause:
                row.count += 1
                row.until = seconds
                row.size += message.packet.length
                row.seen = tuple(dict.fromkeys([*row.seen, *(node for node, _ in message.taps)]))
                row.lost += bool(message.missing)
                row.missing = row.missing or message.missing
                row.counted = tuple(sorted({*row.counted, *message.counted}))
                continue
        row = Row(
            what="message",
            time=seconds,
            until=seconds,
            kind=message.kind,
            headers=headers(message.packet.above_link, names, flowing=not message.turning),
            sender=message.sender,
            receiver=message.receiver,
            seen=tuple(dict.fromkeys(node for node, _ in message.taps)),
            size=message.packet.length,
            missing=message.missing,
            lost=int(bool(message.missing)),
            counted=tuple(sorted(message.counted)),
        )
        rows.append(row)
        if not message.turning:
            streams[flow] = row
    return rows


def headers(layers: Sequence[Layer], names: Names, *, flowing: bool) -> Header | None:
    """The headers of a packet, each with what it encloses; `flowing`: without what a stream counts on."""
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


def _step_row(step: StepRecord) -> Row:
    return Row("step", step.began, text=step.text, until=step.ended, result=step.result)


def _event_rows(events: Iterable[EventRecord]) -> Iterable[Row]:
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
