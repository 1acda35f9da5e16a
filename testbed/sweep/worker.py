"""What runs in a Dask worker: it starts a process for each task, and nothing of that process is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Final

from testbed.engine.connect import connect
from testbed.errors import ExitCode, TestbedError
from testbed.evidence.study import TaskRecord
from testbed.lab.leftovers import remove_dead
from testbed.sweep.assignment import Outcome, Trouble

_GLANCE: Final = 0.5  # seconds between two looks whether the task is still wanted
_PATIENCE: Final = 90.0  # seconds for a process that was asked to stop: it removes a lab
_CHILD: Final = (sys.executable, "-m", "testbed.sweep.child")

_running: set[str] = set()  # Dask's keys


def carry_out(assignment: str) -> str:
    """Carry out an `Assignment` on the Dask worker of this thread; returns an `Outcome`, both as JSON.

    A task that nobody wants any more, because it was cancelled or its client is gone, is stopped.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        state = worker.state.tasks.get(key)
        return state is None or state.state == "cancelled"

    _running.add(key)
    try:
        outcome = in_process(assignment, unwanted)
    finally:
        _running.discard(key)
    if isinstance(outcome.record, TaskRecord):
        record = outcome.record.model_copy(update={"worker": worker.address})
        outcome = outcome.model_copy(update={"record": record})
    return outcome.model_dump_json()


def running(keys: Collection[str]) -> int:
    """How many of some tasks, by Dask's keys, this process carries out."""
    return len(_running.intersection(keys))


def in_process(assignment: str, unwanted: Callable[[], bool], command: tuple[str, ...] = _CHILD) -> Outcome:
    """Carry out a task in a process of its own, which ends with this thread at the latest.

    Where it dies, what it left in the engine is removed.
    """
    process = subprocess.Popen(
        [*command, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at a terminal is for whoever waits, not for this
    )
    try:
        output = _converse(process, assignment.encode(), unwanted)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == ExitCode.OK:
        return Outcome.model_validate_json(output)
    if process.returncode == ExitCode.INTERRUPTED:
        return Outcome(trouble=Trouble(message="stopped", elsewhere=True))
    left = clear_up()
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    return Outcome(trouble=Trouble(message=f"the process of the task ended with {how}{left}", elsewhere=True))


def _converse(process: subprocess.Popen[bytes], given: bytes, unwanted: Callable[[], bool]) -> bytes:
    """Give a process its input and return its output; ask it to stop where it is unwanted."""
    waited = 0.0
    first: bytes | None = given  # it is to be given once
    while True:
        try:
            return process.communicate(first, timeout=_GLANCE)[0]
        except subprocess.TimeoutExpired:
            first = None

            if waited or unwanted():
                if not waited:
                    process.terminate()
                waited += _GLANCE
            if waited > _PATIENCE:
                process.kill()


def clear_up() -> str:
    """Remove what dead processes left in this worker's engine; returns what went wrong, if anything."""
    try:
        with closing(connect()) as engine:
            problems = remove_dead(engine)
    except TestbedError as error:
        problems = [error.message]
    return f"; not removed: {'; '.join(problems)}" if problems else ""
