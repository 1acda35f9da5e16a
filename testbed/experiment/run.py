"""One run in one lab: the defined state, captures, steps, expectations, evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from testbed.claim.claims import Experiment
from testbed.claim.expectations import Counter
from testbed.claim.phrases import step_text
from testbed.claim.steps import Step
from testbed.errors import TestbedError
from testbed.evidence.folder import run_path
from testbed.evidence.run import RunRecord, StepRecord
from testbed.evidence.verdicts import run_name
from testbed.experiment.captures import Captures
from testbed.experiment.evidence import Evidence
from testbed.experiment.observe import Observer, Traffic, needed_taps
from testbed.experiment.perform import Performer
from testbed.experiment.plan import PlannedRun
from testbed.experiment.pulse import Pulse
from testbed.experiment.reset import reset
from testbed.experiment.verdict import Finding, RunResult
from testbed.lab.access import LabAccess, StepError, Stopped


def carry_out(lab: LabAccess, pulse: Pulse, planned: PlannedRun, evidence: Evidence) -> RunResult:
    """Carry out one run and write its evidence. Errors of the lab are in the result; raises `Stopped`."""
    began, wall = time.monotonic(), time.time()
    result = RunResult(lab=lab.name)
    experiment = planned.experiment
    folder = evidence.run_folder(planned.claim, planned.kind, planned.number)
    captures = Captures(lab, run_taps(lab, experiment))
    steps: list[StepRecord] = []
    traffic = Traffic()
    counters: dict[str, Mapping[str, int]] = {}
    mark = lab.log.mark()
    try:
        pulse.begin()
        reset(lab)
        mark = lab.log.mark()
        path = run_path(planned.claim, planned.kind, planned.number)
        observer = Observer(lab, captures, mark, path, traffic, counters)
        performer = Performer(lab, observer)
        result.notes = performer.notes
        for _, expectation in experiment.expectations():
            if isinstance(expectation.part, Counter):
                observer.remember_counters(expectation.part.node)
        captures.start()
        try:
            if all(_take(step, observer, performer, result, steps) for step in experiment.steps):
                _judge(experiment, observer, captures, result)
        finally:
            problems = performer.undo()
        if problems:
            raise StepError(f"the lab could not be put right: {'; '.join(problems)}")
    except Stopped:
        raise
    except TestbedError as error:
        result.error = result.error or error.message
    _keep(captures, folder, result)
    _examine(pulse, captures, traffic, result)
    evidence.write_steps(folder, steps)
    evidence.write_events(folder, lab.log.since(mark))
    evidence.write_captured(folder, captures.record())
    result.seconds = time.monotonic() - began
    record = RunRecord(
        claim=planned.claim,
        run=run_name(planned.kind, planned.number),
        lab=lab.name,
        topology=evidence.keep_topology(lab.topology),
        began=wall,
        ended=wall + result.seconds,
        marked=traffic.marked,
        counters={node: dict(numbers) for node, numbers in counters.items()},
        logs_ended=sorted(lab.log.ended),
        health=result.health,
        error=result.error,
        notes=result.notes,
    )
    evidence.write_run(folder, record)
    return result


def run_taps(lab: LabAccess, experiment: Experiment) -> Iterator[str]:
    """Where a run is captured: wherever an expectation needs it, and wherever the mobile node goes."""
    for _, expectation in experiment.expectations():
        yield from needed_taps(lab.topology, expectation)
    for step in experiment.steps:
        if step.move or step.carry:
            networks = step.move.to if step.move else [step.part.to]
            for network in networks:
                yield f"{step.part.node or lab.mobile_node}/{network}"


def _take(
    step: Step, observer: Observer, performer: Performer, result: RunResult, records: list[StepRecord]
) -> bool:
    """Carry out one step and write down what came of it, its failure too.

    False after an expectation that did not hold: what would follow builds upon it, and the run is decided.
    """
    began = time.time()
    text = "interrupted"
    try:
        if step.expect:
            finding = observer.judge(step.expect)
            result.findings.append(finding)
            text = f"{_held(finding)}: {finding.observed}"
            return finding.held is True
        text = performer.perform(step)
        return True
    except StepError as error:
        text = f"could not be done: {error.message}"
        result.error = f"{step_text(step)}: {error.message}"
        raise
    finally:
        records.append(
            StepRecord(step=step.word, text=step_text(step), began=began, ended=time.time(), result=text)
        )


def _judge(experiment: Experiment, observer: Observer, captures: Captures, result: RunResult) -> None:
    """State and traffic first, as they are now; then the captures, once they are whole."""
    findings: dict[int, Finding] = {}
    for index, expectation in enumerate(experiment.expect):
        if not expectation.taps:
            findings[index] = observer.judge(expectation)
        elif expectation.within:
            observer.judge(expectation)  # waits; what counts is the whole capture
    captures.stop()
    for index, expectation in enumerate(experiment.expect):
        if expectation.taps:
            findings[index] = observer.judge(expectation, 0)
    result.findings += [findings[index] for index in sorted(findings)]


def _examine(pulse: Pulse, captures: Captures, traffic: Traffic, result: RunResult) -> None:
    """Take down how healthy the machine was; what it alone may have spoiled decides nothing."""
    try:
        health = pulse.end()
    except StepError as error:
        # What no slowness explains needs no measure of it.
        if not any(one.held is False and one.bound is None for one in result.findings):
            result.error = result.error or error.message
        return
    late = max(health.late_ms, traffic.probe.late if traffic.probe else 0.0)
    result.health = health = health.model_copy(
        update={"late_ms": round(late, 3), "dropped": captures.dropped}
    )
    result.findings = [finding.excused(health) for finding in result.findings]


def _keep(captures: Captures, folder: Path, result: RunResult) -> None:
    """Fetch the captures; a run whose captures are lost decides nothing."""
    try:
        captures.stop()
        captures.fetch(folder / "captures")
    except Stopped:
        raise
    except TestbedError as error:
        result.error = result.error or error.message


def _held(finding: Finding) -> str:
    return {True: "yes", False: "no", None: "cannot tell"}[finding.held]
