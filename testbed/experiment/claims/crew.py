"""Labs brought up, their runs carried out, several labs at once, and taken down again."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from testbed.engine.api import Engine, EngineError
from testbed.errors import StepError, TestbedError, UsageError
from testbed.evidence.folder import run_path
from testbed.evidence.run import RunRecord
from testbed.evidence.verdicts import LabFacts, run_name
from testbed.evidence.versions import Machine
from testbed.experiment.carriers import read_carriers
from testbed.experiment.claims.perform import set_service
from testbed.experiment.claims.plan import PlannedLab, PlannedRun, Stage
from testbed.experiment.claims.run import carry_out
from testbed.experiment.claims.verdict import RunKey, RunResult
from testbed.experiment.evidence import Evidence
from testbed.experiment.pulse import Pulse
from testbed.experiment.versions import read_machine, read_programs
from testbed.lab.access import LabAccess, Stopped
from testbed.lab.choices import up_command
from testbed.lab.down import remove_labs
from testbed.lab.impairments import Wires
from testbed.lab.interrupt import Interrupted, Stopping, never
from testbed.lab.plan import make_plan
from testbed.lab.progress import Progress, Silent
from testbed.lab.secrets import lab_secrets
from testbed.lab.session_keys import read_session_keys
from testbed.lab.state import ActualLab, find_lab, read_labs
from testbed.lab.up import bring_up
from testbed.render import REDACTED, RenderedLab, Secrets, render_lab
from testbed.topology.loaded import LoadedTopology

_GLANCE: Final = 0.2  # seconds between two looks whether to stop


@dataclass
class Surroundings:
    """What a verification needs to know of its surroundings."""

    engine: Engine
    image: str
    pool: IPv4Network
    evidence: Evidence
    templates: Path | None = None
    jobs: int = 2
    keep: bool = False  # leave the labs up
    retries: int = 0  # how often a claim that is not reproduced is tried again
    fail_fast: bool = False  # begin no run after the first that did not hold
    existing: str | None = None  # the name of a lab to use where it is what a run needs
    name: str = "verify"  # how the names of its labs begin
    progress: Progress = field(default_factory=Silent)
    stopping: Stopping = never  # whether to stop, as if interrupted, off the main thread


class Crew:
    """Works off the labs in threads, `jobs` of them at once."""

    def __init__(self, surroundings: Surroundings, labs: Sequence[PlannedLab], *, attempt: int = 1) -> None:
        self._job = surroundings
        self._attempt = attempt
        self._labs = labs
        self._lock = threading.Lock()
        self._open: set[LabAccess] = set()
        self._stopping = threading.Event()
        self._futures: set[Future[None]] = set()
        self._enough: str | None = None  # why the runs that are left do not take place
        self._names = f"{surroundings.name}-{secrets.token_hex(3)}"  # how those of its labs begin
        self.results: dict[RunKey, RunResult] = {}
        self.backends: dict[str, LabFacts] = {}
        self.programs: dict[str, str] = {}
        self.machine: Machine | None = None

    def work(self) -> None:
        """Until all runs are done; the first error that is not a lab's own ends everything."""
        existing, labs = self._find_existing()
        threads = ThreadPoolExecutor(self._job.jobs, thread_name_prefix="verify")
        futures = self._futures
        try:
            if existing:  # whose runs come one after the other, like those of any lab
                futures.add(threads.submit(self._lab, PlannedLab(existing), str(self._job.existing), True))
            for number, lab in enumerate(labs, 1):
                futures.add(threads.submit(self._lab, lab, f"{self._names}-{number}", False))
            self._await()
        except BaseException:
            self._stop()
            raise
        finally:
            self._end(threads)
        for lab in self._labs if self._enough else ():
            for stage in lab.stages:
                self._fail(stage.runs, stage.topology, self._enough or "")

    def _await(self) -> None:
        """Wait for every future. Raises the first error, and `KeyboardInterrupt` where it has to stop."""
        left = set(self._futures)
        while left:
            done, left = wait(left, _GLANCE, FIRST_COMPLETED)
            if self._job.stopping():
                raise KeyboardInterrupt
            for future in done:
                if not future.cancelled():
                    future.result()

    def _stop(self) -> None:
        """Wake up every thread; each takes down its own lab before it ends."""
        self._stopping.set()
        for future in list(self._futures):
            future.cancel()
        with self._lock:
            for lab in self._open:
                lab.stop()
        self._job.progress.say("taking down the labs")

    def _end(self, threads: ThreadPoolExecutor) -> None:
        """Wait for the threads; asked to stop once more, say what is left."""
        try:
            threads.shutdown()
        except KeyboardInterrupt:
            mine = [name for name in read_labs(self._job.engine) if name.startswith(f"{self._names}-")]
            raise Interrupted(
                f"interrupted again; left behind: {', '.join(mine) or 'nothing'}",
                hint="; ".join(f"testbed down {name}" for name in mine) or None,
            ) from None

    def _find_existing(self) -> tuple[list[Stage], list[PlannedLab]]:
        """The stages that the user's existing lab is equal to (topology, options, changes), and the rest."""
        job = self._job
        if job.existing is None:
            return [], list(self._labs)
        actual = find_lab(job.engine, job.existing)
        stages = [stage for lab in self._labs for stage in lab.stages]
        found = [stage for stage in stages if self._is(actual, stage.topology)]
        taken = {id(stage) for stage in found}
        if not found and self._attempt == 1:
            ways = [up_command(stage.topology, job.existing) for stage in stages]
            raise UsageError(
                f"no run can take place in lab {job.existing} as it is", hint=f"needed: {'; or '.join(ways)}"
            )
        left = [PlannedLab([one for one in lab.stages if id(one) not in taken]) for lab in self._labs]
        return found, [lab for lab in left if lab.stages]

    def _is(self, actual: ActualLab, topology: LoadedTopology) -> bool:
        """Whether a lab is what a topology says."""
        if topology.name != actual.topology:
            return False
        engine = self._job.engine
        rendered = self._rendered(topology, actual.name, lab_secrets(engine, actual.containers))
        same = make_plan(rendered, actual, self._job.image).empty
        return same and not Wires(engine, actual).differing(topology)

    def _rendered(
        self, topology: LoadedTopology, name: str, keys: Secrets, *, session_keys: bool = False
    ) -> RenderedLab:
        templates = self._job.templates
        return render_lab(topology, lab=name, secrets=keys, templates=templates, session_keys=session_keys)

    def _lab(self, lab: PlannedLab, name: str, existing: bool) -> None:
        """Bring one lab up, carry out the runs of each stage, take it down.

        An existing lab is what each of its stages needs, and stays as it is.
        """
        job = self._job
        there = existing
        try:
            for number, stage in enumerate(lab.stages, 1):
                if self._stopping.is_set():
                    return
                label = name if existing or number == 1 else f"{name}.{number}"
                if not existing:
                    try:
                        there = self._ready(stage, name, label)
                    except KeyboardInterrupt:  # stopping, it has removed what it made of a new lab
                        return
                if there:
                    self._runs(stage, name, label, last=existing or stage is lab.stages[-1])
        except Stopped:
            pass
        finally:
            if there and not existing and not job.keep:
                if not self._open:  # else what still takes place is shown
                    job.progress.show("removing the labs")
                remove_labs(job.engine, name)

    def _ready(self, stage: Stage, name: str, label: str) -> bool:
        """Make a lab what a stage needs, from nothing or from what the stage before needed.

        Where that fails its runs decide nothing, and the lab is removed unless labs are kept: the next stage
        begins with another.
        """
        job = self._job
        job.progress.show(f"bringing up {stage.topology.name} as {label}")
        try:
            bring_up(
                job.engine, stage.topology, lab=name, image=job.image, pool=job.pool,
                session_keys=job.evidence.keys, stopping=self._stopping.is_set,
            )  # fmt: skip
        except TestbedError as error:
            self._fail(stage.runs, stage.topology, f"lab {label} did not come up: {error.message}")
            if not job.keep:
                remove_labs(job.engine, name)
            return False
        return True

    def _runs(self, stage: Stage, name: str, label: str, *, last: bool) -> None:
        """Carry out the runs of a stage, which the evidence calls `label`."""
        job = self._job
        actual = find_lab(job.engine, name)
        access = LabAccess(
            job.engine, name, stage.topology, {node: each.id for node, each in actual.nodes.items()}
        )
        keys = lab_secrets(job.engine, actual.containers) if job.evidence.keys else REDACTED
        logged = job.evidence.keys and name != job.existing
        rendered = self._rendered(stage.topology, name, keys, session_keys=logged)
        job.evidence.write_rendered(replace(rendered, name=label))
        with self._lock:
            self._open.add(access)
        try:
            if self._stopping.is_set():
                return
            access.open()
            pulse = Pulse(access)
            for planned in stage.runs:
                run = planned.kind + (f" {planned.number}" if planned.number > 1 else "")
                job.progress.show(f"{planned.claim}: {run} in {label}")
                if label not in self.backends:
                    try:
                        self._describe(access, label)
                    except StepError as error:  # the next run asks again
                        self._fail(
                            [planned], stage.topology, f"lab {label} could not be asked: {error.message}"
                        )
                        continue
                results = carry_out(access, label, pulse, planned, job.evidence)
                if logged:
                    self._keep_session_keys(actual, stage.topology, planned)
                for one, result in zip(planned.all, results, strict=True):
                    job.progress.say(f"{one.claim}: {run} {result.verdict} after {result.seconds:.1f} s")
                    self._took_place(one, result)
            if not last:
                _leave(access)
        finally:
            with self._lock:
                self._open.discard(access)
            access.stop()

    def _took_place(self, planned: PlannedRun, result: RunResult) -> None:
        with self._lock:
            self.results[planned.claim, planned.kind, planned.number] = result
        if self._job.fail_fast and result.verdict != "held":
            self._end_early(f"not tried: --fail-fast, and {planned.claim} did not hold")

    def _keep_session_keys(self, lab: ActualLab, topology: LoadedTopology, run: PlannedRun) -> None:
        """Write the keys of every IKE and ESP association that the lab has had until the end of a run."""
        nodes = {
            name: container
            for name, container in lab.nodes.items()
            if any(service.ike_sas for service in topology.daemons(name))
        }
        folder = self._job.evidence.root / run_path(run.claim, run.kind, run.number)
        try:
            self._job.evidence.write_session_keys(folder, read_session_keys(self._job.engine, nodes))
        except EngineError as error:
            self._job.progress.say(f"no session keys of {run.claim}: {error.message}")

    def _fail(self, runs: Sequence[PlannedRun], topology: LoadedTopology, why: str) -> None:
        """Take down that those of these runs that have not taken place decide nothing, and why."""
        now = time.time()
        for planned in (one for run in runs for one in run.all):
            if (planned.claim, planned.kind, planned.number) in self.results:
                continue
            record = RunRecord(
                claim=planned.claim,
                run=run_name(planned.kind, planned.number),
                lab="",
                topology=self._job.evidence.keep_topology(topology),
                began=now,
                ended=now,
                error=why,
            )
            folder = self._job.evidence.run_folder(planned.claim, planned.kind, planned.number)
            self._job.evidence.write_run(folder, record)
            with self._lock:
                self.results[planned.claim, planned.kind, planned.number] = RunResult(error=why)
        if not self._enough:
            self._job.progress.say(why)
            if self._job.fail_fast:
                self._end_early(f"not tried: --fail-fast, and {why}")

    def _end_early(self, why: str) -> None:
        """End the runs that take place elsewhere, too, and begin no other."""
        with self._lock:
            first, self._enough = self._enough is None, self._enough or why
        if first and not self._stopping.is_set():
            self._stop()

    def _describe(self, access: LabAccess, label: str) -> None:
        """Which way of carrying packets each daemon found on this machine, and the programs' versions."""
        carriers = read_carriers(access)
        about = {
            "topology": access.topology.name,
            "sets": " ".join(access.topology.sets),
            "file": self._job.evidence.keep_topology(access.topology),
        }
        with self._lock:
            self.backends[label] = LabFacts.model_validate(carriers | about)
        if not self.programs:
            self.programs = read_programs(access)
            with suppress(StepError):  # without it the verdicts are the same
                self.machine = read_machine(access)


def _leave(access: LabAccess) -> None:
    """End the mobile node's IPsec sessions before the next stage, which may replace it: a gateway that still
    has them would go on asking for a peer that is no more, and be seen doing so in the runs of that stage.
    """
    node = access.mobile_node
    for role in access.topology.node_roles(node):
        for name, service in role.services.items():
            if service.ike_sas:
                with suppress(StepError):  # `up` replaces the node, or starts the service again
                    set_service(access, node, name, "down")
