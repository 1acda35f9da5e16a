"""The results of studies in a folder: a record and the evidence of each finished task, by the task's key.

A task is finished as soon as its record is there, which is written last and whole. Several studies may share
a folder: equal tasks are carried out once.
"""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import UsageError, writing
from testbed.evidence.record import read_record, write_record
from testbed.evidence.study import STUDY, TASKS, StudyRecord, TaskRecord
from testbed.sweep.assignment import Outcome


class Store:
    """One folder of results."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, study: StudyRecord) -> None:
        """Make the folder, or take up one that is there; say what study it belongs to now.

        Raises `UsageError` where it holds something else.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is not a folder")
        there = {one.name for one in self.root.iterdir()} if self.root.is_dir() else set()
        # Workflow systems make the folders of what they wait for, others may just be writing study.json.
        if any(name != TASKS and not name.startswith(STUDY) for name in there) and STUDY not in there:
            raise UsageError(f"{self.root} is not empty and holds no study", hint="choose another: --results")
        with writing(self.root):
            (self.root / TASKS).mkdir(parents=True, exist_ok=True)
        _write(self.root / STUDY, study)

    def study(self) -> StudyRecord:
        """What the results belong to. Raises `UsageError` where there are none."""
        found = read_record(StudyRecord, self.root / STUDY)
        if found is None:
            raise UsageError(f"{self.root} holds no results", hint="testbed sweep run STUDY makes some")
        return found

    def finished(self, study: StudyRecord) -> list[TaskRecord]:
        """The records of the tasks of a study that are finished, in the order of the study.

        Raises `UsageError` for a record that cannot be read.
        """
        found = (read_record(TaskRecord, self._record(task.key)) for task in study.tasks)
        return [one for one in found if one]

    def everything(self) -> list[TaskRecord]:
        """The records of all finished tasks, also of other studies: what is known of how long tasks take."""
        files = sorted(self.root.glob(f"{TASKS}/*.json"))
        return [one for file in files if (one := read_record(TaskRecord, file))]

    def keep(self, outcome: Outcome) -> TaskRecord:
        """Keep what came of a task: first its evidence, then the record that makes it finished."""
        record = outcome.record
        assert record is not None
        evidence = self.root / record.task.evidence
        with _whole(evidence) as part:
            part.write_bytes(b64decode(outcome.evidence))
        _write(self._record(record.task.key), record)
        return record

    def _record(self, key: str) -> Path:
        return self.root / TASKS / f"{key}.json"


def _write(file: Path, record: StudyRecord | TaskRecord) -> None:
    with _whole(file) as part:
        write_record(part, record)


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """Where to write a file, which is there as soon as it is whole; another process may write it as well."""
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    with writing(file):
        try:
            yield part
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
