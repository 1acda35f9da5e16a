"""The evidence folder as a report reads it: verdicts, runs with their events and captures, hand-offs.

What a newer writer adds is ignored; what this reader needs and does not find is an error that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.claim.claims import Shows
from testbed.document.read import load_document, validate_model
from testbed.errors import Source, TestbedError, UsageError
from testbed.packet.pcap import CaptureError, Frame, read_capture
from testbed.topology.model import Topology

Verdict = Literal["reproduced", "refuted", "inconclusive"]
Side = Literal["main", "control"]
SIDES: tuple[Side, ...] = ("main", "control")


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Finding(_Read):
    """One expectation, and what was observed."""

    run: str = Field(pattern=r"^(main|control)(-\d+)?$")  # main-2: the second of several
    expectation: str
    held: bool | None
    observed: str = ""
    excuse: str | None = None
    """Why it decides nothing although it did not hold: the machine alone may be the reason."""
    files: list[str] = []
    matched: dict[str, list[str]] = {}
    """Capture file → marks (`pcap.packet_mark`) of the first packets that it counted there."""

    @property
    def side(self) -> str:
        """Whether the run or the control found it."""
        return self.run.partition("-")[0]


class Health(_Read):
    """How healthy the machine was during a run."""

    late_ms: float
    """How late a timer on the mobile node was, at most."""
    cpu_pressure_percent: float | None = None
    """Share of the time in which something waited for a processor; None where the kernel does not say."""
    clock_step_ms: float = 0.0
    """By how much the time of day was set, at most."""
    dropped: int = 0
    """Packets that captures lost."""


class RunFacts(_Read):
    """What a run or a control came to."""

    verdict: str
    lab: str = ""
    seconds: float = 0.0
    notes: list[str] = []
    error: str | None = None
    health: Health | None = None


class Claim(_Read):
    """One claim with its verdict and what decided it."""

    id: str
    scenario: str = ""
    verdict: Verdict
    says: str = ""
    source: str = ""
    shows: Shows | None = None
    problem: str | None = None
    drawback: str | None = None
    configuration: dict[str, str | None] | None = None
    run: RunFacts | None = None
    control: RunFacts | None = None
    evidence: list[Finding] = []
    reason: str | None = None

    def facts(self, side: Side) -> RunFacts | None:
        """What the run or the control came to."""
        return self.run if side == "main" else self.control

    def findings(self, side: Side) -> list[Finding]:
        """The findings of the run or the control."""
        return [finding for finding in self.evidence if finding.side == side]


class Verdicts(_Read):
    """verdicts.json; that of a matrix has no scenario of its own, but each claim has one."""

    schema_version: int
    scenario: str = ""
    backends: dict[str, Any] = {}
    claims: list[Claim]

    @property
    def by_scenario(self) -> dict[str, list[Claim]]:
        """The claims of each scenario, in their order."""
        found: dict[str, list[Claim]] = {}
        for claim in self.claims:
            found.setdefault(claim.scenario or self.scenario, []).append(claim)
        return found


class HandOff(_Read):
    """One move: its outage, and when since it began each step was reached (ms)."""

    from_: str = ""
    to: str = ""
    outage_ms: float | None = None
    lost: int | None = None
    timeline: dict[str, float | None] = {}
    ike_messages: int = 0
    ike_bytes: int = 0
    mip_messages: int = 0
    mip_bytes: int = 0

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=lambda n: "from" if n == "from_" else n
    )


class HandOffRun(_Read):
    """Moves of one stack between the same networks at one round-trip time."""

    stack: str
    topology: str = ""
    """Where it was measured; empty: in the scenario itself."""
    between: list[str] | str = ""
    rtt_ms: float
    measured_rtt_ms: float | None = None
    round_trips: int | None = None
    reaction_ms: float | None = None
    """What the median outage has beyond the round trips, at the round-trip time that was measured."""
    budget_ms: float | None = None
    health: Health | None = None
    marks: list[str] = []
    """What speaks against its numbers."""
    moves: list[HandOff]

    @property
    def places(self) -> str:
        """The networks, as `--between` takes them."""
        return self.between if isinstance(self.between, str) else ",".join(self.between)


class Fit(_Read):
    """outage = k × RTT + constant."""

    k: float
    constant_ms: float
    r2: float | None = None
    marks: list[str] = []


class HandOffs(_Read):
    """handoff.json."""

    schema_version: int
    scenario: str
    runs: list[HandOffRun]
    fit: dict[str, Fit] = {}


@dataclass(frozen=True)
class Event:
    """What a node reported; `wall` in seconds since the epoch."""

    node: str
    name: str
    source: str
    wall: float
    fields: dict[str, Any]


@dataclass(frozen=True)
class StepTaken:
    """One step of a run; times in seconds since the epoch."""

    text: str
    began: float
    ended: float
    result: str  # what came of it, in words


@dataclass(frozen=True)
class Run:
    """The folder of one run of one claim."""

    folder: Path

    @cached_property
    def events(self) -> list[Event]:
        """Every event of the nodes, in order of time."""
        found = [
            Event(
                str(line.get("node", "")),
                str(line.get("event", "")),
                str(line.get("source", "")),
                _seconds(line.get("wall")),
                {k: v for k, v in line.items() if k not in ("node", "event", "source", "wall", "monotonic")},
            )
            for line in _lines(self.folder / "events.jsonl")
        ]
        return sorted(found, key=lambda event: event.wall)

    @cached_property
    def steps(self) -> list[StepTaken]:
        """The steps taken."""
        return [
            StepTaken(
                str(line.get("text") or line.get("step", "")),
                _seconds(line.get("began")),
                _seconds(line.get("ended")),
                str(line.get("result", "")),
            )
            for line in _lines(self.folder / "steps.jsonl")
        ]

    def captures(self) -> Iterator[tuple[Path, list[Frame] | CaptureError]]:
        """The file (NODE-NETWORK.pcap) and the frames of every capture, or why it cannot be read."""
        for file in sorted(self.folder.glob("captures/*.pcap*")):
            try:
                yield file, read_capture(file)
            except CaptureError as error:
                yield file, error

    @property
    def path(self) -> list[str]:
        """The networks the mobile node went to, in order."""
        places = [
            str(e.fields["network"]) for e in self.events if e.source == "roam" and "network" in e.fields
        ]
        return [place for before, place in zip([None, *places], places, strict=False) if place != before]


@dataclass(frozen=True)
class Evidence:
    """An evidence folder."""

    folder: Path

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """What `verify` found, if it ran."""
        return _model(Verdicts, self.folder / "verdicts.json")

    @cached_property
    def handoffs(self) -> HandOffs | None:
        """What `measure handoff` found, if it ran."""
        return _model(HandOffs, self.folder / "handoff.json")

    @cached_property
    def versions(self) -> dict[str, Any]:
        """versions.json."""
        data = _json(self.folder / "versions.json")
        return data if isinstance(data, dict) else {}

    @property
    def written(self) -> datetime | None:
        """When the experiment ended; without `finished` in versions.json the time of its file."""
        try:
            return datetime.fromisoformat(str(self.versions.get("finished")))
        except ValueError:
            pass
        for name in ("verdicts.json", "handoff.json"):
            if (file := self.folder / name).is_file():
                return datetime.fromtimestamp(file.stat().st_mtime).astimezone()
        return None

    @cached_property
    def topology(self) -> Topology | None:
        """topology.yaml; None where the folder has none."""
        return _topology(self.folder / "topology.yaml")

    @cached_property
    def scenarios(self) -> dict[str, Topology]:
        """The topology of each scenario that claims were decided of, as far as the folder has it."""
        verdicts = self.verdicts
        found = {
            name: self.topology if verdicts and name == verdicts.scenario else self._named(name)
            for name in (verdicts.by_scenario if verdicts else ())
        }
        return {name: topology for name, topology in found.items() if topology}

    @cached_property
    def _named(self) -> Callable[[str], Topology | None]:
        """Reads a topology by its name, once for this reading of the folder: a later one may find another."""
        return cache(lambda name: _topology(self.folder / "topologies" / f"{name}.yaml"))

    def topology_of(self, lab: str) -> Topology | None:
        """The topology a lab was brought up from: the scenario's own, or another that a run needed.

        Of several labs that of the first. What a matrix left of the scenario in the same folder is not meant.
        """
        verdicts = self.verdicts
        about = verdicts.backends.get(lab.partition(", ")[0]) if verdicts else None
        name = about.get("topology") if isinstance(about, dict) else None
        if verdicts is None or name in (None, verdicts.scenario):
            return self.topology
        return self._named(str(name)) or self.topology

    def run(self, claim: str, side: Side) -> Run:
        """The folder of a run, which may be missing: then it has no events and no captures."""
        return Run(self.folder / "claims" / claim / side)


def read_evidence(folder: Path) -> Evidence:
    """Open an evidence folder. Raises `UsageError` if there is nothing in it to report."""
    evidence = Evidence(folder)
    if not folder.is_dir():
        there = f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}"
        raise UsageError(there, hint="testbed verify NAME --evidence DIR writes one")
    if evidence.verdicts is None and evidence.handoffs is None:
        raise UsageError(
            f"{folder} has neither verdicts.json nor handoff.json",
            hint="name the folder that verify or measure wrote its evidence to",
        )
    return evidence


def _topology(path: Path) -> Topology | None:
    if not path.is_file():
        return None
    return validate_model(Topology, *load_document(path, str(path)))


M = TypeVar("M", bound=BaseModel)


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TestbedError(f"not JSON: {error}", source=Source(str(path))) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON lines; a missing file has none. What is no object, as a last line cut short, is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            yield data


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _model(kind: type[M], path: Path) -> M | None:
    data = _json(path)
    if data is None:
        return None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise TestbedError(f"{where}: {first['msg']}", source=Source(str(path))) from error
