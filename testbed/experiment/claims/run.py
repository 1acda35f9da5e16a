"""One run in one lab: the defined state, captures, steps, expectations, evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed.claim.claims import Experiment, place
from testbed.claim.steps import Step
from testbed.errors import StepError, TestbedError
from testbed.evidence.folder import CAPTURES, RunFolder, run_path
from testbed.evidence.health import Health
from testbed.evidence.run import Observation, RunRecord, StepRecord
from testbed.evidence.verdicts import run_name
from testbed.experiment.claims.judge import Recording, begin_of, judge_run
from testbed.experiment.claims.observer import Observer, Traffic
from testbed.experiment.claims.perform import Performer
from testbed.experiment.claims.plan import PlannedRun
from testbed.experiment.claims.reset import reset
from testbed.experiment.claims.verdict import RunResult
from testbed.experiment.evidence import Evidence, event_record
from testbed.experiment.pulse import Pulse
from testbed.lab.access import LabAccess, Stopped
from testbed.lab.captures import Captures
from testbed.topology.names import host_addresses


def carry_out(
    lab: LabAccess, label: str, pulse: Pulse, planned: PlannedRun, evidence: Evidence
) -> list[RunResult]:
    """Carry out one run, write its evidence and judge it, for each claim that shares it (`planned.all`).

    Errors of the lab are in the results. `label` is what the evidence calls the lab. Raises `Stopped`.
    """
    began, clock = time.time(), time.monotonic()
    experiment = planned.whole
    folder = evidence.run_folder(planned.claim, planned.kind, planned.number)
    captures = Captures(lab, run_taps(lab, experiment))
    observer = Observer(lab, captures, lab.log.mark())
    performer = Performer(lab, observer)
    steps: list[StepRecord] = []
    error: str | None = None
    try:
        pulse.begin()
        reset(performer)
        observer.mark = lab.log.mark()
        for where, expectation in experiment.expectations():
            observer.begin(place(where), expectation)
        captures.start()
        try:
            if all(_take(index, step, performer, steps) for index, step in enumerate(experiment.steps)):
                _observe(experiment, observer, captures)
        finally:
            problems = performer.undo()
        if problems:
            raise StepError(f"the lab could not be put right: {'; '.join(problems)}")
    except Stopped:
        raise
    except TestbedError as failed:
        error = failed.message
    lost = _keep(captures, folder)
    health, unknown = _health(pulse, captures, observer.traffic)
    record = RunRecord(
        claim=planned.claim,
        run=run_name(planned.kind, planned.number),
        lab=label,
        topology=evidence.keep_topology(lab.topology),
        began=began,
        ended=began + time.monotonic() - clock,
        health=health,
        health_error=unknown,
        error=error or lost,
        notes=performer.notes,
    )
    evidence.write_steps(folder, steps)
    evidence.write_events(folder, map(event_record, lab.log.since(observer.mark)))
    evidence.write_captured(folder, captures.record())
    path = run_path(planned.claim, planned.kind, planned.number)
    hosts = host_addresses(lab.topology)
    results = []
    for run in planned.all:
        own = folder if run is planned else evidence.run_folder(run.claim, run.kind, run.number)
        shared = "" if run is planned else path
        facts = {"claim": run.claim, "run": run_name(run.kind, run.number), "recorded": shared}
        its = record.model_copy(update=facts)
        evidence.write_run(own, its)
        evidence.write_observations(own, looks_of(run.experiment, experiment, observer.observations))
        results.append(judge_run(run.experiment, Recording(RunFolder(own), its, path, lab.topology, hosts)))
    return results


def looks_of(
    one: Experiment, whole: Experiment, observations: Mapping[str, Observation]
) -> Iterator[Observation]:
    """The looks that decide one of several runs carried out as one, at the places that it has for them."""
    own = [(place(("expect", whole.expect.index(each))), number) for number, each in enumerate(one.expect)]
    for where, look in observations.items():
        if where.startswith("steps/"):
            yield look
        for there, number in own:
            if where in (there, begin_of(there)):
                here = place(("expect", number))
                yield look.model_copy(update={"place": here + where.removeprefix(there)})


def run_taps(lab: LabAccess, experiment: Experiment) -> Iterator[str]:
    """Where a run is captured: wherever an expectation needs it, and wherever the mobile node goes."""
    for _, expectation in experiment.expectations():
        yield from expectation.part.taps(lab.topology)
    for step in experiment.steps:
        yield from step.part.taps(lab.topology)


def _take(index: int, step: Step, performer: Performer, records: list[StepRecord]) -> bool:
    """Carry out one step and write down what came of it, its failure too; False where it decided the run."""
    began = time.time()
    text = "interrupted"
    try:
        text = performer.perform(step, place(("steps", index, step.word)))
        return not performer.decided
    except StepError as error:
        text = f"could not be done: {error.message}"
        raise StepError(f"{step.phrase()}: {error.message}") from error
    finally:
        records.append(
            StepRecord(step=step.word, text=step.phrase(), began=began, ended=time.time(), result=text)
        )


def _observe(experiment: Experiment, observer: Observer, captures: Captures) -> None:
    """State and traffic first, as they are now; then the captures, once they are whole."""
    since = time.monotonic()
    for index, expectation in enumerate(experiment.expect):
        if not expectation.part.BY_CAPTURES or expectation.within:
            observer.observe(place(("expect", index)), expectation, since=since)
    captures.stop()
    for index, expectation in enumerate(experiment.expect):
        if expectation.part.BY_CAPTURES:
            observer.note(place(("expect", index)), expectation)


def _keep(captures: Captures, folder: Path) -> str | None:
    """Fetch the captures; returns why that failed: a run whose captures are lost decides nothing."""
    try:
        captures.stop()
        captures.fetch(folder / CAPTURES)
    except Stopped:
        raise
    except TestbedError as error:
        return error.message
    return None


def _health(pulse: Pulse, captures: Captures, traffic: Traffic) -> tuple[Health | None, str | None]:
    """How healthy the machine was, or why that is not known."""
    try:
        health = pulse.end()
    except StepError as error:
        return None, error.message
    late = max(health.late_ms, traffic.probe.late if traffic.probe else 0.0)
    return health.model_copy(update={"late_ms": round(late, 3), "dropped": captures.dropped}), None
