"""Runs many small jobs in threads, each as soon as what it needs is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from testbed.engine.api import NotFoundError
from testbed.errors import TestbedError, raise_errors
from testbed.lab.interrupt import Deferred, Stopping, never

WORKERS: Final = 8


@dataclass(frozen=True, slots=True)
class Task:
    """A job with a name; `needs` names jobs that come before it (names nobody has are no obstacle).

    Two jobs that have something of `alone` in common never run at the same time.
    """

    name: str
    action: Callable[[], None]
    needs: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()


def run_tasks(tasks: Sequence[Task], workers: int = WORKERS, stopping: Stopping = never) -> None:
    """Run all tasks, of those that may run the first in the list first.

    When one fails, or this thread is interrupted or `stopping`, no other is begun; those that run are waited
    for. Raises what the failed ones raised, several at once as an `ErrorGroup`.
    """
    waiting = list(tasks)
    undone = {task.name for task in tasks}
    running: dict[Future[None], Task] = {}
    errors: list[TestbedError] = []
    threads = ThreadPoolExecutor(workers, thread_name_prefix="lab")
    try:
        # Interrupted in the middle of `submit`, a thread would run that nobody waits for.
        with Deferred() as interrupts:
            while True:
                while not (errors or stopping()) and len(running) < workers:
                    task = _next(waiting, undone, running.values())
                    if task is None:
                        break
                    waiting.remove(task)
                    running[threads.submit(task.action)] = task
                if not running:
                    break
                for future in interrupts.open(lambda: wait(running, return_when=FIRST_COMPLETED)).done:
                    undone.discard(running.pop(future).name)
                    error = future.exception()
                    if isinstance(error, TestbedError):
                        errors.append(error)
                    elif error is not None:
                        raise error
    finally:
        threads.shutdown()
    if stopping():
        raise KeyboardInterrupt
    raise_errors(_causes(errors))
    assert not waiting, f"tasks that need each other: {waiting}"


def _next(waiting: Iterable[Task], undone: set[str], running: Iterable[Task]) -> Task | None:
    busy = {name for task in running for name in task.alone}
    return next(
        (task for task in waiting if undone.isdisjoint(task.needs) and busy.isdisjoint(task.alone)), None
    )


def _causes(errors: Sequence[TestbedError]) -> Sequence[TestbedError]:
    """Leave out what is missing only because another job failed, and what another has said already."""
    causes = [error for error in errors if not isinstance(error, NotFoundError)] or errors[:1]
    return list({str(error): error for error in causes}.values())
