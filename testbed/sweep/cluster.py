"""Dask's workers: one in this process, or those of a scheduler.

A worker takes one task at a time, as it says with the resource `LAB=1`; hand-offs, which are timed, only
where it says `TIMING=1` too, as one of the workers on a machine should.
"""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from testbed.data import checkout
from testbed.errors import MachineError, UsageError
from testbed.lab.interrupt import Interrupted
from testbed.lab.progress import Progress
from testbed.sweep import worker
from testbed.sweep.assignment import Assignment, Outcome

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

RESOURCES: Final = {"claim": ("LAB",), "handoff": ("LAB", "TIMING")}
"""What a worker has to offer, by the kind of task."""
EXTRA: Final = ("distributed", "pyarrow")
_ANSWERS_WITHIN: Final = 10.0  # seconds for a scheduler
_STOPPED_WITHIN: Final = 120.0  # seconds for labs to be removed, more than a worker waits for a task
_NOWHERE_ELSE: Final = "127.0.0.1:0"
"""Where Dask's pages of a cluster in this process are served: by default they are on every interface."""
_NEWS: Final = 1.0  # seconds for which what is known of the workers is believed


def check_extra() -> None:
    """Raise `MachineError` with the command that helps where the packages of the extra are missing."""
    from importlib.util import find_spec

    if missing := [name for name in EXTRA if find_spec(name) is None]:
        root = checkout()
        what = f"-e {shlex.quote(f'{root}[sweep]')}" if root else "'testbed[sweep]'"
        raise MachineError(
            f"sweeps need the Python packages {' and '.join(missing)}",
            hint=f"{sys.executable} -m pip install {what}",
        )


@contextmanager
def dask_workers(scheduler: str | None) -> Iterator[DaskWorkers]:
    """The workers of a scheduler (`tcp://HOST:8786`), or one worker in this process with this engine.

    Raises `UsageError` where no scheduler answers.
    """
    from distributed import Client, LocalCluster

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it says is said here
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_ANSWERS_WITHIN)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {scheduler}", hint="dask scheduler starts one, and says where"
            ) from error
        with client:
            yield DaskWorkers(client)
        return
    logging.getLogger("distributed").setLevel(logging.ERROR)  # its heartbeats are late on a busy machine
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,
            dashboard_address=_NOWHERE_ELSE,
            worker_dashboard_address=_NOWHERE_ELSE,
            resources=dict.fromkeys(RESOURCES["handoff"], 1),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskWorkers(client)


class DaskWorkers:
    """`run.Workers` of a Dask client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, dict[str, float]] = {}
        self._asked = float("-inf")
        self._given: set[str] = set()  # Dask's keys of tasks that have not come back

    def names(self, kind: str) -> Collection[str]:
        """The workers that offer what tasks of a kind need. Raises `MachineError` without a scheduler."""
        if time.monotonic() - self._asked > _NEWS:
            with suppress(OSError, TimeoutError):
                # Not `scheduler_info`, which at times returns what the client asked about no worker at all.
                found = self._client.sync(self._client.scheduler.identity, n_workers=-1)["workers"]
                self._known = {address: dict(facts["resources"]) for address, facts in found.items()}
            self._asked = time.monotonic()
        if self._client.status != "running":  # found again, it knows nothing of what was under way
            raise MachineError(
                "the Dask scheduler is gone, and with it what was under way",
                hint="start it and its workers again; --resume goes on with the rest",
            )
        needed = RESOURCES[kind]
        return [
            name for name, offers in self._known.items() if all(offers.get(one, 0) >= 1 for one in needed)
        ]

    def submit(self, name: str, assignment: Assignment) -> Future[Outcome]:
        """Give a worker a task, and no other: Dask would take it to one that lacks what the task needs."""
        task = self._client.submit(
            worker.carry_out,
            assignment.model_dump_json(),
            pure=False,
            workers=[name],
            resources=dict.fromkeys(RESOURCES[assignment.task.kind], 1),
        )
        self._given.add(task.key)
        made: Future[Outcome] = Future()
        made.add_done_callback(lambda one: one.cancelled() and task.cancel())

        def pass_on(one: DaskFuture[str]) -> None:
            with suppress(InvalidStateError):  # nobody waits for it any more
                if one.cancelled():
                    made.cancel()
                    return
                self._given.discard(one.key)
                try:
                    if error := one.exception():
                        raise error
                    outcome = Outcome.model_validate_json(one.result())
                except Exception as error:  # the worker has no testbed, or another
                    made.set_exception(error)
                else:
                    one.release()  # what a worker still has when it dies, Dask would have carried out again
                    made.set_result(outcome)

        task.add_done_callback(pass_on)
        return made

    def stop(self, futures: Collection[Future[Outcome]], progress: Progress) -> None:
        """Cancel tasks, and wait until the workers have removed their labs.

        Raises `Interrupted` where this is interrupted too, or takes too long.
        """
        for future in futures:
            future.cancel()
        give_up = time.monotonic() + _STOPPED_WITHIN
        hint = "a worker removes what it has under way even now; testbed status shows the labs of an engine"
        try:
            while busy := self._busy():
                progress.show(f"removing labs; tasks that have not stopped yet: {busy}")
                if time.monotonic() > give_up:
                    within = f"within {_STOPPED_WITHIN:.0f} s"
                    raise Interrupted(f"tasks that did not stop {within}: {busy}", hint=hint)
                time.sleep(0.2)
        except KeyboardInterrupt:
            raise Interrupted("interrupted again; labs may still be up", hint=hint) from None
        progress.say("stopped; the labs of this sweep are removed")

    def _busy(self) -> int:
        with suppress(OSError, TimeoutError):  # a scheduler that is lost knows of no worker
            return sum(self._client.run(worker.running, self._given).values())
        return 0
