"""Packets of a running lab as the rows of a message ladder: one for each message, one for each stream.

The report makes the same rows of a run's captures once it has ended. Here they grow: a message gains the
networks that it crosses, a stream its packets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from testbed.lab.passages import Passage
from testbed.packet.decode import Packet, decode
from testbed.packet.layers import Ipv4
from testbed.packet.names import Names
from testbed.report.ladder import Header, headers
from testbed.report.messages import Message, dull, identity

PAUSE: Final = 1.5
"""Seconds of silence after which a stream begins anew."""
KEPT: Final = 200
"""Rows that are remembered."""


@dataclass(slots=True)
class LiveRow:
    """One message, or a stream of packets that differ in nothing but numbers."""

    number: int
    time: float
    """When it began, in s since the epoch."""
    until: float
    sender: str
    receiver: str
    """A node, or "" for everybody on the link."""
    parts: tuple[tuple[str, str], ...]
    """The headers from the outermost on: kind and text."""
    turning: bool
    """Whether protocols turn on it: registration, IKE, DHCP, ICMP errors."""
    hops: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    """The networks it crossed (of a stream: the last packet): network, who sent it there, who received it."""
    count: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "number": self.number,
            "time": self.time,
            "until": self.until,
            "sender": self.sender,
            "receiver": self.receiver,
            "parts": self.parts,
            "turning": self.turning,
            "hops": self.hops,
            "count": self.count,
        }


class Rows:
    """The last rows of a lab. Passages come in the order of time."""

    def __init__(self, names: Names) -> None:
        self.rows: dict[int, LiveRow] = {}
        self._names = names
        self._number = 0
        self._messages: dict[bytes, int] = {}
        self._streams: dict[tuple[str, ...], int] = {}

    def take(self, passage: Passage) -> LiveRow | None:
        """Add a passage; return the row that it began or made grow. None for ARP, routing and the like."""
        frame = passage.frame
        packet = decode(frame.data, frame.linktype, frame.length)
        if passage.tunnel or dull(packet):
            return None
        when = frame.time / 1e9
        hop = (frame.interface, passage.sender or "", tuple(passage.receivers))
        key = identity(frame, packet)
        if (row := self.rows.get(self._messages.get(key, -1))) and when - row.until < 2:
            row.hops.append(hop)
            return row
        turning = Message(frame.time, packet, [], "", "").turning
        flow = packet.flow(self._names)
        row = None if turning else self.rows.get(self._streams.get(flow, -1))
        if row and when - row.until < PAUSE:
            row.count += 1
            row.until = when
            row.hops = [hop]
        else:
            row = self._begin(packet, when, hop, turning=turning)
            if not turning:
                self._streams[flow] = row.number
        self._messages[key] = row.number
        self._forget()
        return row

    def _begin(
        self, packet: Packet, when: float, hop: tuple[str, str, tuple[str, ...]], *, turning: bool
    ) -> LiveRow:
        self._number += 1
        ip = packet.first(Ipv4)
        row = LiveRow(
            number=self._number,
            time=when,
            until=when,
            sender=(self._names.node(ip.source) if ip else None) or hop[1],
            receiver=(self._names.node(ip.destination) if ip else None) or "",
            parts=tuple(_parts(headers(packet.above_link, self._names, flowing=not turning))),
            turning=turning,
            hops=[hop],
        )
        self.rows[row.number] = row
        return row

    def _forget(self) -> None:
        while len(self.rows) > KEPT:
            del self.rows[next(iter(self.rows))]
        if len(self._messages) > 20 * KEPT:
            kept = list(self._messages.items())[-10 * KEPT :]
            self._messages = {key: number for key, number in kept if number in self.rows}
            self._streams = {flow: number for flow, number in self._streams.items() if number in self.rows}


def _parts(header: Header | None) -> list[tuple[str, str]]:
    parts = []
    while header:
        parts.append((header.kind, header.text))
        header = header.inside
    return parts
