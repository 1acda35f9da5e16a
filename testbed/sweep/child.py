"""The process that carries out one task: `python -m testbed.sweep.child PARENT`.

It reads an `Assignment` from standard input and writes an `Outcome` to standard output. Asked to stop, and
when the worker that started it dies, however that dies, it removes its lab and ends; asked again it goes on
with that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, Final

from testbed.api import Result, run
from testbed.engine.image import node_image_name
from testbed.errors import DISK_FULL, ErrorGroup, ExitCode, TestbedError, TopologyError, UsageError
from testbed.evidence.archive import pack
from testbed.evidence.handoff import HandOffs
from testbed.evidence.health import Health, worst
from testbed.evidence.study import Row, TaskRecord
from testbed.evidence.verdicts import Verdicts
from testbed.experiment.versions import own_version
from testbed.lab.interrupt import Stopping
from testbed.sweep.assignment import Assignment, Outcome, Trouble

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_GLANCE: Final = 0.2  # seconds in which a signal is heard


def main() -> int:
    """Carry out one task; returns the exit code."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if not die_with(int(sys.argv[1])):
        return ExitCode.INTERRUPTED
    assignment = Assignment.model_validate_json(sys.stdin.read())
    results = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no result
    with ThreadPoolExecutor(1) as thread:  # the main thread has to hear signals
        try:
            outcome = await_outcome(thread.submit(carry_out, assignment, stop.is_set))
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
    with os.fdopen(results, "w", encoding="utf-8") as out:
        out.write(outcome.model_dump_json())
    return ExitCode.OK


def await_outcome(future: Future[Outcome]) -> Outcome:
    """Wait for what a task comes to, and hear signals meanwhile. Raises what carrying it out raised."""
    while not future.done():
        wait([future], _GLANCE)
    return future.result()


def die_with(parent: int) -> bool:
    """Be sent SIGTERM when the thread that started this process ends; False where it has ended already."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def carry_out(assignment: Assignment, stopping: Stopping, run: Callable[..., Result] = run) -> Outcome:
    """Carry out a task where it is asked for by a testbed like this one. Raises `KeyboardInterrupt`."""
    if trouble := _differs(assignment):
        return Outcome(trouble=trouble)
    with TemporaryDirectory(prefix="testbed-sweep-") as scratch:
        folder = Path(scratch)
        try:
            task = assignment.api_task(folder / "topology")
            result = run(task, folder / "evidence", progress=_Log(), stopping=stopping)
            archive = folder / "evidence.tar.zst"
            pack(result.evidence, archive, folder / "part")
            evidence = b64encode(archive.read_bytes()).decode()
        except (TestbedError, OSError) as error:
            return Outcome(trouble=_trouble(error))
    if result.verdicts and (why := _not_tried(result.verdicts)):
        return Outcome(trouble=Trouble(message=why, elsewhere=True))
    return Outcome(record=record(assignment, result), evidence=evidence)


def _not_tried(verdicts: Verdicts) -> str | None:
    """Why a run did not take place at all, as where its lab did not come up; None where all did."""
    for claim in verdicts.claims:
        for facts in (claim.run, claim.control):
            if facts and facts.error and not facts.lab:
                return facts.error
    return None


def _differs(assignment: Assignment) -> Trouble | None:
    """Why this testbed would not find out what the study's would."""
    here = own_version()
    if here == assignment.version and node_image_name() == assignment.image:
        return None
    return Trouble(
        message=f"the worker has another testbed ({here or 'unknown'}) than the study ({assignment.version})",
        hint="install the same version on every worker",
        elsewhere=True,
    )


def _trouble(error: TestbedError | OSError) -> Trouble:
    if isinstance(error, OSError):
        full = error.errno in DISK_FULL
        return Trouble(message=str(error), hint="the worker's disk is full" if full else None, elsewhere=True)
    first = error.errors[0] if isinstance(error, ErrorGroup) else error
    own = isinstance(first, (UsageError, TopologyError))  # it would be the same everywhere
    return Trouble(message=error.message, hint=error.hint, elsewhere=not own)


def record(assignment: Assignment, result: Result) -> TaskRecord:
    """What a task came to, as its record has it."""
    made = result.versions
    assert made is not None  # it was written with the evidence
    found = _claims(result.verdicts) if result.verdicts else []
    found += _moves(result.handoffs) if result.handoffs else []
    return TaskRecord(
        task=assignment.task,
        seconds=round(result.seconds, 3),
        finished=made.finished,
        testbed=made.testbed,
        host=made.engine.host,
        engine=f"{made.engine.name} {made.engine.version}",
        kernel=made.engine.kernel,
        cpu=made.machine.cpu if made.machine else "",
        load=made.machine.load if made.machine else None,
        image=made.image,
        image_id=made.image_id,
        rows=found,
    )


def _claims(verdicts: Verdicts) -> list[Row]:
    found = []
    for claim in verdicts.claims:
        both = [facts.health for facts in (claim.run, claim.control) if facts and facts.health]
        row = Row(claim=claim.id, verdict=claim.verdict, reason=claim.reason)
        found.append(row.model_copy(update=_timing(worst(both))))
    return found


def _moves(handoffs: HandOffs) -> list[Row]:
    return [
        Row(
            **_timing(run.health),
            rtt_ms=run.rtt_ms,
            measured_rtt_ms=move.rtt_ms,
            move=number,
            from_network=move.from_,
            to_network=move.to,
            outage_ms=move.outage_ms,
            lost=move.lost,
            state=move.state,
            marks="; ".join(run.marks),
        )
        for run in handoffs.runs
        for number, move in enumerate(run.moves, 1)
    ]


def _timing(health: Health | None) -> dict[str, Any]:
    return {
        "late_ms": health.late_ms if health else None,
        "cpu_pressure_percent": health.cpu_pressure_percent if health else None,
    }


class _Log:
    """Progress on standard error, which is the worker's log."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """Nobody watches a log."""


if __name__ == "__main__":
    sys.exit(main())
