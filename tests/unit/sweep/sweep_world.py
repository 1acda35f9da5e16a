"""Studies in files, and workers that carry out nothing but say what they were asked for."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from testbed.evidence.study import Row, TaskRecord
from testbed.lab.progress import Progress
from testbed.sweep.assignment import Assignment, Outcome, Trouble

STUDY = """
name: loss
topologies: [plain-mip, attacked]
options:
  network.internet.loss: {from: 0%, to: 1%, step: 0.5%}
  network.internet.delay: [10ms, 20ms]
handoff: {rtt: [0ms, 40ms, 100ms], moves: 2}
repetitions: 2
"""


def study_file(folder: Path, text: str = STUDY) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def outcome(assignment: Assignment, worker: str = "here") -> Outcome:
    rows = [Row(rtt_ms=40.0, move=number, outage_ms=80.0 + number) for number in (1, 2)]
    if assignment.task.kind == "claim":
        rows = [Row(claim=assignment.task.claim, verdict="reproduced")]
    record = TaskRecord(task=assignment.task, seconds=2.0, worker=worker, host="lab-1", rows=rows)
    return Outcome(record=record, evidence=b64encode(b"evidence").decode())


class Played:
    """Workers in threads; `play` decides what comes of a task."""

    def __init__(self, *names: str, play: Callable[[str, Assignment], Outcome] | None = None) -> None:
        self.workers = list(names)
        self.play = play or (lambda worker, assignment: outcome(assignment, worker))
        self.asked: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most = 0
        self.stopped: list[str] = []
        self._threads = ThreadPoolExecutor(8)
        self._lock = threading.Lock()

    def names(self, kind: str) -> Collection[str]:
        return self.workers

    def submit(self, worker: str, assignment: Assignment) -> Future[Outcome]:
        def work() -> Outcome:
            with self._lock:
                self.asked[assignment.task.key] += 1
                self.at_once[worker] += 1
                self.most = max(self.most, *self.at_once.values())
            try:
                return self.play(worker, assignment)
            finally:
                with self._lock:
                    self.at_once[worker] -= 1

        return self._threads.submit(work)

    def stop(self, futures: Collection[Future[Outcome]], progress: Progress) -> None:
        self.stopped += [str(future) for future in futures]


def full_disk() -> Outcome:
    return Outcome(trouble=Trouble(message="No space left on device", elsewhere=True))
