"""A task carried out from Python: claims decided or hand-offs measured, in labs that come and go with it.

    from testbed.api import HandOff, Task, run

    done = run(Task("plain-mip", HandOff(rtts=(0, 40), moves=3), sets=("network.internet.loss=1%",)), folder)
    print([move.outage_ms for measured in done.handoffs.runs for move in measured.moves])

It may be called in any thread. No lab outlives the process that called it: what a killed one leaves is
removed by the next task on the same engine.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from testbed.engine import names
from testbed.engine.channel import ChannelEngine
from testbed.engine.connect import connect
from testbed.engine.image import ensure_node_image
from testbed.engine.labelled import labelled
from testbed.errors import TestbedError
from testbed.evidence.folder import EvidenceFolder
from testbed.evidence.handoff import HandOffs
from testbed.evidence.verdicts import Verdicts
from testbed.evidence.versions import Versions
from testbed.experiment.claims.plan import Scenario, choose_claims, plan_stages, share_labs
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.experiment.handoff.measure import Measurement, StackPlan, plan_stacks
from testbed.lab.addresses import choose_pool
from testbed.lab.down import Removed, remove_labs
from testbed.lab.interrupt import Stopping, never, stoppable
from testbed.lab.leftovers import Owner, remove_dead
from testbed.lab.processes import Process
from testbed.lab.progress import Progress, Silent
from testbed.topology.load import load_topology


@dataclass(frozen=True, slots=True)
class Claims:
    """Decide claims, by names and shell patterns (`2.1-fa-*`), each of which meets a claim; none: all."""

    names: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    """Only those that speak of one of these stacks; none: all."""
    retries: int = 0
    """How often a claim that is not reproduced is tried again."""
    jobs: int = 1
    """Labs up at the same time."""

    def plan(self, task: Task) -> Scenario:
        """The claims of the task's topology that are meant. Raises `TestbedError` for an invalid task."""
        loaded = load_topology(task.topology, sets=task.sets, templates=task.templates)
        return choose_claims(loaded, self.names, self.stacks)


@dataclass(frozen=True, slots=True)
class HandOff:
    """Measure the outage of moves to and fro."""

    rtts: tuple[float, ...] = (0.0,)
    """Round-trip times across the hub network in ms, in the order in which they are tried."""
    moves: int = 10
    """Moves at each."""
    stack: str = ""
    """The stack to measure; empty: the topology's own."""
    between: tuple[str, ...] = ()
    """The two networks; none: the first two that the stack supports."""

    def plan(self, task: Task) -> list[StackPlan]:
        """The labs to measure in, one a stack. Raises `TestbedError` for an invalid task."""
        stacks = [self.stack] if self.stack else []
        return plan_stacks(task.topology, task.sets, stacks, self.between, task.templates)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be found out in labs of one topology."""

    topology: str
    """The name of a built-in topology, or the path of a file."""
    work: Claims | HandOff
    sets: tuple[str, ...] = ()
    """Changes to the topology, as `--set` takes them."""
    templates: Path | None = None
    """A folder of roles and templates, searched before the built-in one."""
    lab: str = "task"
    """How the names of its labs begin; each gets something behind it that no other lab has."""
    study: str = ""
    """The study it belongs to: a label of its containers and networks, which `remove_study` looks for."""


@dataclass(frozen=True)
class Result:
    """What a task came to; everything it was decided from is in the evidence."""

    task: Task
    evidence: Path
    """The evidence folder: `testbed report`, `judge` and `compare` read it."""
    seconds: float
    """How long it took, labs and all."""
    verdicts: Verdicts | None = None
    """Of claims."""
    handoffs: HandOffs | None = None
    """Of hand-offs."""
    versions: Versions | None = None
    """With what it was made, and on which machine."""


@dataclass
class _Place:
    """Where a task is carried out."""

    engine: ChannelEngine
    image: str
    evidence: Evidence
    progress: Progress
    stopping: Stopping

    def decide(self, task: Task, work: Claims) -> Verdicts:
        scenario = work.plan(task)
        labs = share_labs(plan_stages([scenario], task.templates), work.jobs)
        return Verification(
            engine=self.engine,
            image=self.image,
            pool=choose_pool(),
            evidence=self.evidence,
            templates=task.templates,
            jobs=work.jobs,
            retries=work.retries,
            name=names.check_lab_name(task.lab),
            progress=self.progress,
            stopping=self.stopping,
        ).verify(scenario, labs)

    def measure(self, task: Task, work: HandOff) -> HandOffs:
        return Measurement(
            self.engine,
            self.image,
            choose_pool(),
            self.evidence,
            name=names.check_lab_name(f"{task.lab}-{secrets.token_hex(3)}"),
            progress=self.progress,
            stopping=self.stopping,
        ).measure(work.plan(task), work.rtts, work.moves)


def run(
    task: Task, evidence: Path, *, progress: Progress | None = None, stopping: Stopping = never
) -> Result:
    """Carry out a task on the engine that the `docker` command would use, and write its evidence to a folder.

    The node image is built if it is not there. Off the main thread `stopping` takes the place of Ctrl-C:
    where it says so, the labs are removed and `KeyboardInterrupt` is raised. Raises `TestbedError`.
    """
    began = time.monotonic()
    progress = progress or Silent()
    task.work.plan(task)  # an invalid task needs no engine
    written = Evidence(evidence)
    with stoppable(), closing(connect()) as bare:
        remove_dead(bare)
        image = ensure_node_image(bare, progress.say).name
        if stopping():
            raise KeyboardInterrupt
        with closing(ChannelEngine(labelled(bare, labels(task.study)))) as engine:
            place = _Place(engine, image, written, progress, stopping)
            work = task.work
            verdicts = place.decide(task, work) if isinstance(work, Claims) else None
            handoffs = place.measure(task, work) if isinstance(work, HandOff) else None
    return Result(
        task, evidence, time.monotonic() - began, verdicts, handoffs, EvidenceFolder(evidence).versions
    )


def labels(study: str) -> Mapping[str, str]:
    """The labels of the containers and networks that this process makes for a study; "" for none."""
    here = Process.here()
    return {names.SESSION: Owner(here, here).label} | ({names.STUDY: study} if study else {})


def remove_study(study: str) -> Removed:
    """Remove every lab of a study from the engine, whoever made it. Raises `TestbedError`."""
    if not study:
        raise TestbedError("remove_study needs the name of a study: every lab has the empty one")
    with closing(connect()) as engine:
        return remove_labs(engine, None, study=study)
