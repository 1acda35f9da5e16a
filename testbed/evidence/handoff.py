"""handoff.json: what moves between networks cost."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from pydantic import AliasChoices, Field

from testbed.agreed import STEPS
from testbed.evidence.health import Health
from testbed.evidence.record import Record, Versioned


class HandOff(Record):
    """One move: its outage, and when since it began each step was reached."""

    from_: str = Field(default="", validation_alias=AliasChoices("from", "from_"), serialization_alias="from")
    """The network it left."""
    to: str = ""
    """The network it joined."""
    outage_ms: float | None = None
    """The gap in the probe's packets in ms; null: it did not end."""
    lost: int = 0
    """Packets of the probe that were lost in it."""
    rtt_ms: float | None = None
    """The round-trip time to the correspondent node in ms, as the probe found it afterwards."""
    timeline: dict[str, float | None] = Field(default_factory=dict)
    """Step → when it was reached, in ms since the move began; null: it was not."""
    state: str = ""
    """The state the mobile node settled in."""
    detail: str = ""
    """What its connection manager added to that."""
    ike_messages: int = 0
    """IKE messages, sent and received, with retransmissions."""
    ike_bytes: int = 0
    """Their bytes, from the IP header on."""
    mip_messages: int = 0
    """Mobile IP messages, sent and received, with retransmissions."""
    mip_bytes: int = 0
    """Their bytes, from the IP header on."""


class HandOffRun(Record):
    """Moves of one stack between the same networks at one round-trip time."""

    stack: str
    """The stack of the mobile node."""
    topology: str = ""
    """Where it was measured; empty: in the scenario itself."""
    solution: str = ""
    """The solution that was measured, where the topology is one."""
    between: list[str] = Field(default_factory=list)
    """The two networks."""
    rtt_ms: float
    """The round-trip time that was set, in ms."""
    delay: str = ""
    """What emulated it."""
    carriers: dict[str, str] = Field(default_factory=dict)
    """NODE/SERVICE → what carried its packets: the kernel or a process."""
    measured_rtt_ms: float | None = None
    """The round-trip time that packets had, in ms (median)."""
    round_trips: int | None = None
    """Round trips of a move: those of its IKE and Mobile IP messages, and one of data."""
    reaction_ms: float | None = None
    """What the median outage has beyond the round trips, at the round-trip time that was measured."""
    budget_ms: float | None = None
    """What the reaction may take, in ms."""
    health: Health | None = None
    """What the machine was like."""
    marks: list[str] = Field(default_factory=list)
    """What speaks against its numbers."""
    moves: list[HandOff]
    """The moves, in order."""

    @property
    def series(self) -> str:
        """What is compared with others: a solution, else a stack."""
        return self.solution or self.stack

    @property
    def places(self) -> str:
        """The networks, as `--between` takes them."""
        return ",".join(self.between)

    @property
    def outages(self) -> list[float]:
        """The outages that ended, in ms."""
        return [move.outage_ms for move in self.moves if move.outage_ms is not None]

    @property
    def step_lengths(self) -> dict[str, float]:
        """How long each step took that was reached, in ms: the median of the moves."""
        lengths: dict[str, list[float]] = {}
        for move in self.moves:
            before = 0.0
            reached = [(move.timeline.get(step), step) for step in STEPS]
            for at, step in sorted((at, step) for at, step in reached if at is not None):
                lengths.setdefault(step, []).append(at - before)
                before = at
        return {step: median(values) for step, values in lengths.items()}


class Fit(Record):
    """outage = k × RTT + constant, through the medians of a stack's runs."""

    k: float
    """Round trips."""
    constant_ms: float
    """What does not depend on the round-trip time, in ms."""
    r2: float | None = None
    """The share of the outages' variation that the line has (the coefficient of determination)."""
    marks: list[str] = Field(default_factory=list)
    """What speaks against the line."""


class HandOffs(Versioned):
    """handoff.json."""

    scenario: str
    """The topology that was measured."""
    runs: list[HandOffRun]
    """The runs, by stack and round-trip time."""
    fit: dict[str, Fit] = Field(default_factory=dict)
    """Solution or stack → the line through its runs."""

    @property
    def by_setting(self) -> dict[tuple[str, str, str, float], HandOffRun]:
        """The runs by what other evidence may have, too: stack, topology, networks, round-trip time in ms."""
        return {(run.stack, run.topology or self.scenario, run.places, run.rtt_ms): run for run in self.runs}

    @property
    def marks(self) -> Iterator[str]:
        """Every mark, with what it is on."""
        for run in self.runs:
            for mark in run.marks:
                yield f"{run.series}, RTT {run.rtt_ms:g} ms: {mark}"
        for series, fit in self.fit.items():
            for mark in fit.marks:
                yield f"{series}, line: {mark}"
