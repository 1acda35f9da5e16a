"""A whole measurement: a lab per stack, its runs at each round-trip time, and handoff.json."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from statistics import median

from testbed.engine.api import Engine
from testbed.errors import StepError, UsageError, did_you_mean
from testbed.evidence import folder
from testbed.evidence.handoff import Fit, HandOffRun, HandOffs
from testbed.evidence.health import Health
from testbed.evidence.record import read_record
from testbed.evidence.versions import Machine, Versions
from testbed.experiment.carriers import read_carriers
from testbed.experiment.evidence import Evidence
from testbed.experiment.handoff.fit import fit_line
from testbed.experiment.handoff.marks import BUDGET_MS, line_marks, run_marks
from testbed.experiment.handoff.moves import HandOff, measure_moves, set_rtt
from testbed.experiment.pulse import Pulse
from testbed.experiment.versions import read_machine, read_programs, versions
from testbed.lab.access import LabAccess, Stopped
from testbed.lab.down import remove_labs
from testbed.lab.interrupt import Stopping, never, stopped_by
from testbed.lab.progress import Progress, Silent
from testbed.lab.state import find_lab, read_labs
from testbed.lab.up import bring_up
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import option_texts


@dataclass(frozen=True, slots=True)
class StackPlan:
    """One stack to measure: its lab's topology, and the two networks to move between."""

    stack: str
    between: tuple[str, str]
    topology: LoadedTopology

    @property
    def solution(self) -> str:
        """The solution that is measured; empty where the topology is none."""
        return self.topology.name if self.topology.topology.guidelines else ""


def plan_stacks(
    ref: str,
    sets: Sequence[str],
    stacks: Sequence[str],
    between: Sequence[str],
    templates: Path | None = None,
) -> list[StackPlan]:
    """The labs that a measurement needs, one a stack; by default the topology's own.

    By default the moves are between the first two networks where the topology tries the stack co-located,
    else with a foreign agent. Raises `UsageError` and `TopologyError`.
    """
    first = load_topology(ref, sets=sets, templates=templates)
    if not first.mobile_nodes:
        raise UsageError(f"{first.name} has no mobile node")
    if not first.topology.hubs:
        raise UsageError(f"{first.name} has no network with a hub, so there is no round-trip time to set")
    plans = []
    for stack in dict.fromkeys(stacks or [str(first.options.get("stack", ""))]):
        option = first.topology.options.get("stack")
        if option and not option.allows(stack):
            raise UsageError(f"there is no stack {stack}", hint=did_you_mean(stack, option.choices or ()))
        places = tuple(between) or default_places(first, stack)
        _check_places(first, places)
        own = {"stack": stack, "attach": places[0]}
        chosen = option_texts({name: value for name, value in own.items() if name in first.options})
        loaded = load_topology(ref, sets=(*sets, *chosen), templates=templates)
        plans.append(StackPlan(stack, (places[0], places[1]), loaded))
    return plans


def default_places(loaded: LoadedTopology, stack: str) -> tuple[str, ...]:
    """The first two networks where a stack is tried, those of a co-located care-of address first."""
    tried = [one for one in loaded.topology.configurations if one.stack == stack]
    tried.sort(key=lambda one: one.attachment != "co-located")
    places = tuple(dict.fromkeys(network for one in tried for network in one.networks))[:2]
    if len(places) < 2:
        raise UsageError(f"{loaded.name} does not try {stack} on two networks", hint="say --between A,B")
    return places


def _check_places(loaded: LoadedTopology, places: Sequence[str]) -> None:
    known = loaded.node(loaded.mobile_nodes[0]).attaches
    if len(places) != 2 or places[0] == places[1]:
        raise UsageError(f"--between {','.join(places)}: expected two different networks")
    for place in places:
        if place not in known:
            raise UsageError(
                f"{loaded.mobile_nodes[0]} has no network {place} to attach to",
                hint=did_you_mean(place, known),
            )


@dataclass
class Measurement:
    """What a measurement needs to know of its surroundings."""

    engine: Engine
    image: str
    pool: IPv4Network
    evidence: Evidence
    name: str | None = None  # of the lab; several get the stack's name behind it
    keep: bool = False  # leave the labs up
    progress: Progress = field(default_factory=Silent)
    stopping: Stopping = never  # whether to stop, as if interrupted, off the main thread
    labs: list[str] = field(default_factory=list)  # those that were brought up
    _programs: dict[str, str] = field(default_factory=dict)
    _machine: Machine | None = None

    def measure(self, plans: Sequence[StackPlan], rtts: Sequence[float], moves: int) -> HandOffs:
        """Measure every stack at every round-trip time (ms); returns handoff.json.

        The file is written after each stack. Labs are taken down whatever happens, unless they are to stay.
        Raises `KeyboardInterrupt` where it is `stopping`.
        """
        document = read_handoffs(self.evidence.root / folder.HANDOFF, plans[0].topology.name)
        token = secrets.token_hex(3)
        for number, plan in enumerate(plans, 1):
            lab = self.name or f"measure-{token}-{number}"
            if self.name and len(plans) > 1:
                lab = f"{self.name}-{plan.stack}"
            self._keep_topology(plan.topology)
            runs = self._stack(plan, lab, rtts, moves)
            document = merged(document, runs)
            self.evidence.write(folder.HANDOFF, document)
        self._write_versions()
        return document

    def _write_versions(self) -> None:
        """With what it was made; what an earlier verification says of its own labs stays."""
        earlier = None
        with suppress(UsageError):  # an unreadable file is replaced
            earlier = read_record(Versions, self.evidence.root / folder.VERSIONS)
        made = versions(
            self.engine,
            self.image,
            keys=self.evidence.has_keys,
            programs=self._programs,
            machine=self._machine,
            backends=earlier.backends if earlier else None,
        )
        self.evidence.write(folder.VERSIONS, made)

    def _keep_topology(self, loaded: LoadedTopology) -> None:
        text = loaded.text()
        self.evidence.keep_roles(loaded, again=False)  # verdicts that are there were decided with theirs
        self.evidence.write_topology(text, loaded.name)
        if not (self.evidence.root / "topology.yaml").exists():
            self.evidence.write_topology(text)

    def _stack(self, plan: StackPlan, lab: str, rtts: Sequence[float], moves: int) -> list[HandOffRun]:
        self.progress.show(f"bringing up {plan.topology.name} as {lab}")
        keep = self.keep or lab in read_labs(self.engine, lab)  # somebody's, whatever becomes of this
        try:
            bring_up(
                self.engine, plan.topology, lab=lab, image=self.image, pool=self.pool,
                progress=self.progress, stopping=self.stopping,
            )  # fmt: skip
            self.labs.append(lab)
            nodes = find_lab(self.engine, lab).nodes
            access = LabAccess(
                self.engine, lab, plan.topology, {node: each.id for node, each in nodes.items()}
            )
            try:
                access.open()
                with stopped_by(self.stopping, access.stop):
                    with suppress(StepError):  # without them the numbers are the same
                        self._programs, self._machine = read_programs(access), read_machine(access)
                    pulse, carriers = Pulse(access), read_carriers(access)
                    runs = [self._run(access, pulse, plan, rtt, moves) for rtt in rtts]
                return [run.model_copy(update={"carriers": carriers}) for run in runs]
            except Stopped:
                raise KeyboardInterrupt from None
            finally:
                access.stop()
        finally:
            if not keep:
                remove_labs(self.engine, lab)

    def _run(self, access: LabAccess, pulse: Pulse, plan: StackPlan, rtt: float, moves: int) -> HandOffRun:
        what = f"{plan.solution or plan.stack}, RTT {rtt:g} ms"
        counter = iter(range(1, moves + 1))
        self.progress.show(f"{what}: first of {moves} moves")
        backend = set_rtt(access, rtt, self.progress, self.stopping)
        pulse.begin()
        done, dropped = measure_moves(
            access,
            plan.between,
            moves,
            self.evidence.root / "handoff" / (plan.solution or plan.stack) / f"{rtt:g}ms",
            lambda move: self.progress.show(f"{what}: {next(counter)} of {moves}, now at {move.target}"),
        )
        health = pulse.end().model_copy(update={"dropped": dropped})
        run = run_record(plan, rtt, backend, done, health)
        outages = [move.outage_ms for move in done if move.outage_ms is not None]
        middle = f"median outage {median(outages):.0f} ms" if outages else "no outage ended"
        self.progress.say(f"{what}: {len(done)} moves, {middle}")
        return run


def run_record(
    plan: StackPlan, rtt: float, backend: str, moves: Sequence[HandOff], health: Health
) -> HandOffRun:
    """One run as it stands in handoff.json.

    Its round trips are those of the messages that the median move exchanged, and one of data. What is left of
    the outage is the reaction: the mobile node's own, and half a packet's distance at either end of the gap.
    It is unknown where the outage is shorter than that: then messages did not wait for one another.
    """
    ended = [move.outage_ms for move in moves if move.outage_ms is not None]
    found = [move.rtt_ms for move in moves if move.rtt_ms is not None]
    trips = round(median(move.ike.number + move.mip.number for move in moves) / 2) + 1
    measured = median(found) if found else None
    left = median(ended) - trips * measured if ended and measured is not None else None
    reaction = None if left is None or left < 0 else left
    return HandOffRun(
        stack=plan.stack,
        topology=plan.topology.name,
        solution=plan.solution,
        between=list(plan.between),
        rtt_ms=rtt,
        delay=backend,
        measured_rtt_ms=None if measured is None else round(measured, 3),
        round_trips=trips,
        reaction_ms=None if reaction is None else round(reaction, 3),
        budget_ms=BUDGET_MS,
        health=health,
        marks=run_marks(reaction, health),
        moves=[move.record() for move in moves],
    )


def read_handoffs(file: Path, scenario: str) -> HandOffs:
    """What an earlier measurement left in the evidence, else nothing. Raises `TestbedError`."""
    return read_record(HandOffs, file) or HandOffs(scenario=scenario, runs=[])


def merged(document: HandOffs, runs: Sequence[HandOffRun]) -> HandOffs:
    """The document with runs added; they replace those of the same solution or stack at the same RTT.

    Its runs elsewhere go as well: a line through both would say nothing.
    """
    where = {run.series: (run.topology, run.between) for run in runs}
    new = {(run.series, run.rtt_ms) for run in runs}
    kept = [
        run
        for run in document.runs
        if (run.series, run.rtt_ms) not in new
        and where.get(run.series) in (None, (run.topology, run.between))
    ]
    every = sorted([*kept, *runs], key=lambda run: (run.series, run.rtt_ms))
    return HandOffs(scenario=document.scenario, runs=every, fit=fits(every))


def fits(runs: Sequence[HandOffRun]) -> dict[str, Fit]:
    """The line of each solution or stack that was measured at two round-trip times at least.

    It goes through the medians: a machine that was busy for a moment does not bend it.
    """
    found = {}
    for series in dict.fromkeys(run.series for run in runs):
        measured = [run for run in runs if run.series == series and run.outages]
        if line := fit_line([(run.rtt_ms, median(run.outages)) for run in measured]):
            found[series] = Fit(
                k=round(line.k, 4),
                constant_ms=round(line.constant, 3),
                r2=round(line.r2, 4),
                marks=line_marks(
                    line,
                    [run.round_trips for run in measured if run.round_trips is not None],
                    serial=not any(run.solution for run in measured),
                ),
            )
    return found
