"""The results of studies in a folder: a record and the evidence of each finished task, by the task's key.

A task is finished as soon as its record is there, which is written last and whole. Several studies may share
a folder: equal tasks are carried out once.
"""

from __future__ import annotations

from base64 import b64decode
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
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / STUDY).is_file():
            raise UsageError(f"{self.root} is not empty and holds no study", hint="choose another: --results")
        with writing(self.root):
            (self.root / TASKS).mkdir(parents=True, exist_ok=True)
        self._whole(self.root / STUDY, study)

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
        with writing(evidence):
            part = evidence.with_name(f"{evidence.name}.part")
            part.write_bytes(b64decode(outcome.evidence))
            part.replace(evidence)
        self._whole(self._record(record.task.key), record)
        return record

    def _record(self, key: str) -> Path:
        return self.root / TASKS / f"{key}.json"

    @staticmethod
    def _whole(file: Path, record: StudyRecord | TaskRecord) -> None:
        part = file.with_name(f"{file.name}.part")
        write_record(part, record)
        with writing(file):
            part.replace(file)
