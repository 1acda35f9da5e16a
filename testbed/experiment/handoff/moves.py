"""The hand-off measurement: how long a move interrupts traffic, step by step, at chosen round-trip times.

In one lab and at one round-trip time: a numbered probe runs from the home address to the correspondent node
and back while the mobile node moves to and fro. The outage of a move is the gap in what comes back; the steps
are those of the connection manager; IKE and Mobile IP messages are counted in a capture on the mobile node.
All times are by the clocks of that node's host: other nodes may be on other machines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from testbed.agreed import IPSEC_DEVICE, RELAY, ROAM, STEPS, Op
from testbed.claim.probe import Outage, ProbeReport
from testbed.errors import StepError
from testbed.evidence import handoff as written
from testbed.experiment.claims.perform import settle
from testbed.experiment.traffic import Probe
from testbed.lab.access import EventLog, LabAccess
from testbed.lab.captures import Captures
from testbed.lab.daemons import ask
from testbed.lab.impairments import Wires
from testbed.lab.interrupt import Stopping, never
from testbed.lab.progress import Progress
from testbed.lab.state import find_lab
from testbed.packet.decode import decode
from testbed.packet.layers import Ike, Ipv4, MobileIp
from testbed.packet.pcap import Frame, read_capture

EVERY: Final = 5.0
"""Milliseconds between two packets of the probe: an outage is known to about as much."""

_ports = itertools.count(6005)


@dataclass(slots=True)
class Messages:
    """Messages of one protocol, sent and received, retransmissions included; bytes from the IP header on."""

    number: int = 0
    octets: int = 0


@dataclass(slots=True)
class HandOff:
    """One move; times of the monotonic clock in seconds."""

    origin: str
    target: str
    began: float
    timeline: dict[str, float | None]  # ms since it began
    state: str
    detail: str
    outage_ms: float | None = None  # None: it did not end
    lost: int = 0
    rtt_ms: float | None = None  # to the correspondent node and back, as the probe found it afterwards
    ike: Messages = field(default_factory=Messages)
    mip: Messages = field(default_factory=Messages)

    def record(self) -> written.HandOff:
        """As it stands in handoff.json."""
        return written.HandOff(
            from_=self.origin,
            to=self.target,
            outage_ms=None if self.outage_ms is None else round(self.outage_ms, 3),
            lost=self.lost,
            rtt_ms=None if self.rtt_ms is None else round(self.rtt_ms, 3),
            timeline=self.timeline,
            state=self.state,
            detail=self.detail,
            ike_messages=self.ike.number,
            ike_bytes=self.ike.octets,
            mip_messages=self.mip.number,
            mip_bytes=self.mip.octets,
        )


def set_rtt(lab: LabAccess, rtt: float, progress: Progress, stopping: Stopping = never) -> str:
    """Give every hub network a round-trip time in ms, and see it on a packet. Returns what emulates it.

    Raises `NotReadyError` where packets still cross sooner, `TestbedError` where a relay does not answer.
    """
    found = find_lab(lab.engine, lab.name)
    wires = Wires(lab.engine, found)
    backends = []
    for name, hub in lab.topology.topology.hubs.items():
        wires.see_delay(name, wires.change(name, {"delay_ms": rtt / 2}), progress, stopping)
        state = ask(lab.engine, found.running_node(hub), RELAY, {"op": Op.STATE})
        backends.append(str(state.get("backend")))
    return ", ".join(dict.fromkeys(backends))


def measure_moves(
    lab: LabAccess,
    between: tuple[str, str],
    moves: int,
    folder: Path,
    told: Callable[[HandOff], None] = lambda _: None,
) -> tuple[list[HandOff], int]:
    """Move so many times to and fro and measure each; captures go to `folder`.

    `told` is called with each move when it has settled, before its outage is known. Returns the moves and how
    many packets the captures lost. Raises `StepError`.
    """
    node = lab.mobile_node
    place = str(lab.state(node, ROAM).get("network"))
    if place not in between:
        settle(lab, {"op": Op.MOVE, "network": between[0]})
        place = between[0]
    captures = Captures(lab, taps(lab, between))
    mark = lab.log.mark()
    correspondent, address, home = _ends(lab)
    probe = Probe(lab, home, correspondent, address, next(_ports), EVERY)
    done: list[HandOff] = []
    try:
        captures.start()
        probe.start()
        for _ in range(moves):
            _await_answer(lab, home, address)
            target = between[1] if place == between[0] else between[0]
            done.append(_move(lab, place, target))
            told(done[-1])
            place = target
        report = probe.stop()
    finally:
        probe.discard()
        captures.stop()
    assign_outages(done, report)
    frames = [frame for path in captures.fetch(folder) for frame in read_capture(path)]
    count_messages(done, frames, wall_offset(lab.log, node, mark))
    return done, captures.dropped


def taps(lab: LabAccess, between: Iterable[str]) -> list[str]:
    """Where messages are counted: the mobile node's links, and what leaves them only encrypted."""
    node = lab.mobile_node
    tunnel = lab.execute(node, ["test", "-e", f"/sys/class/net/{IPSEC_DEVICE}"]).code == 0
    return [f"{node}/{network}" for network in (*between, *((IPSEC_DEVICE,) if tunnel else ()))]


def _ends(lab: LabAccess) -> tuple[str, str, str]:
    """The correspondent node and its address, and the mobile node's home address."""
    name = lab.topology.correspondent(lab.mobile_node)
    address = lab.topology.primary_address(name) if name else None
    if name is None or address is None:
        raise StepError(f"{lab.mobile_node} has no `probe` node with an address to talk to")
    return name, str(address), str(lab.topology.home_address(lab.mobile_node))


def _await_answer(lab: LabAccess, home: str, address: str) -> None:
    """Before a move traffic flows: else its outage would begin with that of the move before."""
    command = ["ping", "-n", "-q", "-c", "1", "-w", "5", "-i", "0.2", "-I", home, address]
    if lab.execute(lab.mobile_node, command).code != 0:
        raise StepError(f"{lab.mobile_node} does not reach {address} from {home}: nothing to interrupt")


def _move(lab: LabAccess, origin: str, target: str) -> HandOff:
    started, settled = settle(lab, {"op": Op.MOVE, "network": target})
    reached = settled.get("timeline") or {}
    return HandOff(
        origin,
        target,
        float(started["monotonic"]),
        {step: reached.get(step) for step in STEPS},
        str(settled.get("state")),
        str(settled.get("detail")),
    )


def windows(moves: Sequence[HandOff]) -> list[tuple[HandOff, float, float]]:
    """Each move with the time that is its own: from its beginning to that of the next."""
    ends = [move.began for move in moves[1:]] + [float("inf")]
    return [(move, move.began, end) for move, end in zip(moves, ends, strict=True)]


def assign_outages(moves: Sequence[HandOff], report: ProbeReport) -> None:
    """Give each move the longest gap that is its own (without one it cost nothing), and its round-trip time.

    A gap begins with the last packet before the move, so it belongs to the move that began in it; one in
    which none began, to the move before it.
    """
    gaps: dict[int, list[Outage]] = {}
    for gap in report.outages():
        end = float("inf") if gap.ended is None else gap.ended
        inside = [index for index, move in enumerate(moves) if gap.began < move.began < end]
        before = [index for index, move in enumerate(moves) if move.began <= gap.began]
        for index in inside or before[-1:]:
            gaps.setdefault(index, []).append(gap)
    for index, move in enumerate(moves):
        longest = max(gaps.get(index, ()), key=_length, default=None)
        move.outage_ms = 0.0 if longest is None else longest.ms
        move.lost = 0 if longest is None else longest.lost
    for move, began, end in windows(moves):
        times = report.round_trips(began, end)
        move.rtt_ms = median(times) if times else None


def _length(gap: Outage) -> float:
    return float("inf") if gap.ms is None else gap.ms


def wall_offset(log: EventLog, node: str, mark: int) -> float:
    """What to add to a node's monotonic clock to have the time of day on its host, both in seconds.

    Nodes stamp monotonic time, the engine the time of day; the least-delayed event gives the best offset.
    """
    offsets = [
        entry.event.time - float(entry.event.fields["monotonic"])
        for entry in log.since(mark)
        if entry.node == node and "monotonic" in entry.event.fields
    ]
    if not offsets:
        raise StepError("no event says what time it is")
    return min(offsets)


def count_messages(moves: Sequence[HandOff], frames: Iterable[Frame], offset: float) -> None:
    """Count the IKE and Mobile IP messages among captured frames, each for the move in whose time it fell."""
    times = windows(moves)
    for frame in frames:
        now = frame.time / 1e9 - offset
        move = next((one for one, began, end in times if began <= now < end), None)
        if move is None:
            continue
        packet = decode(frame.data, frame.linktype, frame.length)
        kind = move.ike if packet.first(Ike) else move.mip if packet.first(MobileIp) else None
        header = packet.first(Ipv4)
        if kind is not None and header is not None:
            kind.number += 1
            kind.octets += header.length
