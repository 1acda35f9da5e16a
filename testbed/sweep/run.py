"""Sharing a study's tasks out: one at a time to each worker, to another where one fails, none twice."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Final, Protocol

from testbed.document.values import duration
from testbed.evidence.study import StudyTask, TaskRecord
from testbed.lab.progress import Progress
from testbed.sweep.assignment import Assignment, Outcome, Trouble
from testbed.sweep.plan import Plan, expected_seconds
from testbed.sweep.store import Store

ATTEMPTS: Final = 3
"""How often a task is tried that came to nothing because of the machine."""
_GLANCE: Final = 0.2  # seconds between two looks for new workers


class Workers(Protocol):
    """Whoever carries out tasks, each worker one at a time."""

    def names(self, kind: str) -> Collection[str]:
        """The workers that take tasks of a kind (`claim`, `handoff`), also those that are busy."""
        ...

    def submit(self, worker: str, assignment: Assignment) -> Future[Outcome]:
        """Give a worker a task. Where it dies, its task may never be done, but may be cancelled."""
        ...

    def stop(self, futures: Collection[Future[Outcome]], progress: Progress) -> None:
        """Stop tasks, and return when all that they made is removed."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that came to nothing, and why."""

    task: StudyTask
    trouble: Trouble


@dataclass(slots=True)
class _Attempt:
    assignment: Assignment
    number: int = 1
    avoided: frozenset[str] = frozenset()  # workers on which it came to nothing
    worker: str = ""
    due: float = 0.0  # about when it will end, monotonic, in s


@dataclass
class Sweep:
    """A study that is being carried out."""

    plan: Plan
    store: Store
    workers: Workers
    progress: Progress
    failures: list[Failure] = field(default_factory=list)
    _running: dict[Future[Outcome], _Attempt] = field(default_factory=dict)
    _earlier: list[TaskRecord] = field(default_factory=list)  # by which it is known how long tasks take
    _ahead: tuple[tuple[int, int], float] = ((0, 0), 0.0)  # how much there was of both; seconds for the rest

    def carry_out(self) -> list[TaskRecord]:
        """Carry out what is not finished; returns the records of all finished tasks, in the plan's order.

        Interrupted, it stops what runs, and waits until nothing of that is left before KeyboardInterrupt goes
        on.
        """
        study = self.plan.record
        finished = {one.task.key: one for one in self.store.finished(study)}
        waiting = deque(_Attempt(one) for one in self.plan.assignments if one.task.key not in finished)
        self._earlier, total = self.store.everything(), len(study.tasks)
        try:
            while waiting or self._running:
                self._share_out(waiting)
                self._show(waiting, len(finished), total)
                self._abandon()
                for future in self._done():
                    attempt = self._running.pop(future)
                    record = self._take(attempt, future, waiting)
                    if record is not None:
                        finished[record.task.key] = record
                        self._earlier.append(record)
                        self._say(record, len(finished), total)
        except KeyboardInterrupt:
            self.workers.stop(list(self._running), self.progress)
            raise
        return [finished[task.key] for task in study.tasks if task.key in finished]

    def _share_out(self, waiting: deque[_Attempt]) -> None:
        """Give each idle worker the first task that it takes; one that it failed, only where no other may."""
        busy = {attempt.worker for attempt in self._running.values()}
        kinds = {attempt.assignment.task.kind for attempt in waiting}
        takers = {kind: set(self.workers.names(kind)) for kind in kinds}
        for attempt in list(waiting):
            # A study may have a hundred thousand tasks, and this machine may be one that measures.
            if not any(workers - busy for workers in takers.values()):
                return
            able = takers[attempt.assignment.task.kind]
            idle = able - busy
            if not idle or (able - attempt.avoided and not idle - attempt.avoided):
                continue
            attempt.worker = min(idle - attempt.avoided or idle)
            attempt.due = time.monotonic() + expected_seconds(attempt.assignment, self._earlier)
            waiting.remove(attempt)
            busy.add(attempt.worker)
            self._running[self.workers.submit(attempt.worker, attempt.assignment)] = attempt

    def _abandon(self) -> None:
        """Cancel what workers had that are gone, so that others take it."""
        for future, attempt in self._running.items():
            if attempt.worker not in self.workers.names(attempt.assignment.task.kind):
                future.cancel()

    def _done(self) -> set[Future[Outcome]]:
        """Wait a little; what has ended, also by being cancelled."""
        if not self._running:
            time.sleep(_GLANCE)
        ended = wait(self._running, _GLANCE, FIRST_COMPLETED).done
        return ended | {one for one in self._running if one.cancelled()}

    def _take(
        self, attempt: _Attempt, future: Future[Outcome], waiting: deque[_Attempt]
    ) -> TaskRecord | None:
        """Keep what came of a task; what may come to something elsewhere waits for another attempt."""
        trouble = None
        try:
            outcome = future.result()
        except CancelledError:
            self.workers.names(attempt.assignment.task.kind)  # raises where the scheduler is to blame
            trouble = Trouble(message=f"worker {attempt.worker} is gone", elsewhere=True)
        except Exception as error:  # the worker has no testbed
            trouble = Trouble(message=f"worker {attempt.worker}: {error}", elsewhere=True)
        else:
            if outcome.record is not None and outcome.record.task == attempt.assignment.task:
                return self.store.keep(outcome)
            # The key of a record names files: a worker has only those of the task that it was given.
            other = "nothing" if outcome.record is None else "another task"
            trouble = outcome.trouble or Trouble(message=f"the worker returned {other}")
        task = attempt.assignment.task
        if trouble.elsewhere and attempt.number < ATTEMPTS:
            self.progress.say(f"{task.what}: {trouble.message}; trying again")
            avoided = attempt.avoided | {attempt.worker}
            waiting.appendleft(_Attempt(attempt.assignment, attempt.number + 1, avoided))
        else:
            self.progress.say(f"{task.what}: failed: {trouble.message}")
            self.failures.append(Failure(task, trouble))
        return None

    def _show(self, waiting: Sequence[_Attempt], done: int, total: int) -> None:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        text = f"{done} of {total} tasks finished{failed}, {len(self._running)} under way"
        if not self._running:
            kinds = dict.fromkeys(attempt.assignment.task.kind for attempt in waiting)
            text += f"; no worker takes tasks of the kind {' or '.join(kinds)}"
        else:
            many = (len(waiting), len(self._earlier))
            if self._ahead[0] != many:
                self._ahead = many, remaining([one.assignment for one in waiting], self._earlier)
            now = time.monotonic()
            seconds = self._ahead[1] + sum(max(0.0, one.due - now) for one in self._running.values())
            text += f", about {duration(seconds / len(self._running))} left"
        self.progress.show(text)

    def _say(self, record: TaskRecord, done: int, total: int) -> None:
        found = [str(row.verdict) for row in record.rows if row.verdict]
        outages = [row.outage_ms for row in record.rows if row.outage_ms is not None]
        if outages:
            found.append(f"{len(record.rows)} moves, outages {min(outages):.0f} to {max(outages):.0f} ms")
        after = f"after {record.seconds:.0f} s on {record.host}"
        self.progress.say(f"{done} of {total}: {record.task.what}: {', '.join(found)} {after}")


def remaining(left: Iterable[Assignment], earlier: Sequence[TaskRecord]) -> float:
    """About how many seconds a worker needs for tasks that have not begun."""
    alike: dict[tuple[str, ...], list[Assignment]] = {}
    for one in left:
        task = one.task
        key = (task.kind, task.topology, task.claim, task.stack, *task.options.values())
        alike.setdefault(key, []).append(one)
    return sum(len(these) * expected_seconds(these[0], earlier) for these in alike.values())
